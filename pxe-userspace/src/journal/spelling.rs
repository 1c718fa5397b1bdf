//! The differences between the file name that a machine was told and the one that its firmware asks for, and their causes.

use crate::model::{
    artifact_names::{END_MARKER_TEXT, without_end_marker_text},
    loader::LoaderFile,
};

/// A name that firmware changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    /// The cause, as a sentence about the machine.
    pub(super) cause: String,
    /// The name of the file that is meant.
    pub(super) meant: String,
    /// The name that was asked for means the same file to pxed.
    pub(super) is_understood: bool,
}

/// Compares the name that a machine asked for with the one that it was `told`, or with the usual loaders' if that is not known. Returns
/// `None` if nothing is odd about it.
pub(super) fn examine(asked: &str, told: Option<&str>) -> Option<Spelling> {
    let name = without_end_marker_text(asked);
    let by_rest = match told {
        Some(told) => compare(name, told),
        None => LoaderFile::ALL.iter().find_map(|loader| compare(name, loader.name())),
    };
    if name.len() == asked.len() {
        return by_rest;
    }
    let cause = if name.is_empty() {
        "Its firmware asked for a file without a name, and took the byte behind it (255, the end of the DHCP options) for the name"
    } else {
        "Its firmware reads option 67 as a C string, and took the byte behind it (255, the end of the DHCP options) for a part of \
         the name"
    };
    let cause = format!("{cause} ({END_MARKER_TEXT}).");
    Some(match by_rest {
        Some(rest) => Spelling { cause: format!("{cause} {}", rest.cause), ..rest },
        None => Spelling { cause, meant: name.to_owned(), is_understood: !name.is_empty() },
    })
}

/// Compares a name with that of one file.
fn compare(asked: &str, told: &str) -> Option<Spelling> {
    if asked == told {
        return None;
    }
    let spelling = |is_understood, cause: String| Some(Spelling { cause, meant: told.to_owned(), is_understood });
    let (name, meant) = (components(asked), components(told));
    if name == meant {
        let what = if asked.contains('\\') { "backslashes for slashes" } else { "a slash before the name" };
        return spelling(true, format!("Its firmware writes {what}."));
    }
    if name.is_empty() {
        return None;
    }
    if name.eq_ignore_ascii_case(&meant) {
        return spelling(false, format!("Its firmware changes upper and lower case: it was told {told}."));
    }
    if name == format!("{meant}{meant}") || name == format!("{meant}/{meant}") {
        return spelling(false, "Its firmware names the file twice.".to_owned());
    }
    if let Some((before, _)) = asked.split_once("://") {
        return name
            .ends_with(&meant)
            .then(|| spelling(false, format!("Its firmware asks TFTP for a URL ({before}://…).")))
            .flatten();
    }
    if let Some(directory) = name.strip_suffix(&format!("/{meant}")) {
        return spelling(false, format!("Its firmware puts a directory before the name: {directory}/."));
    }
    if let Some(before) = name.strip_suffix(&format!(":{meant}")) {
        return spelling(false, format!("Its firmware puts an address before the name: {before}:."));
    }
    if name.trim() == meant {
        return spelling(false, "Its firmware adds blanks to the name.".to_owned());
    }
    if let Some(added) = name.strip_prefix(&meant) {
        return spelling(false, format!("Its firmware adds “{added}” to the name."));
    }
    // Half of a name at least: a short name that another server told it may be the beginning of ours by chance.
    if meant.starts_with(&name) && name.len() * 2 >= meant.len() {
        return spelling(false, format!("Its firmware cuts the name off after {} bytes.", name.len()));
    }
    None
}

/// Returns a path as the artifacts directory reads it.
fn components(path: &str) -> String {
    let components: Vec<_> =
        path.split(['/', '\\']).filter(|component| !component.is_empty() && *component != ".").collect();
    components.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_what_firmware_made_of_them() {
        let told = "undionly.kpxe";
        // The name that was asked for, words of the cause, and whether the file is found.
        let cases: &[(&str, &str, bool)] = &[
            ("undionly.kpxe\\xff", "C string", true),
            ("undionly.kpxe\\xff\\xff", "C string", true),
            ("\\undionly.kpxe\\xff", "C string", true),
            ("UNDIONLY.KPXE\\xff", "upper and lower case", false),
            ("\\xff", "without a name", false),
            ("/undionly.kpxe", "a slash before", true),
            ("\\undionly.kpxe", "backslashes", true),
            ("Undionly.KPXE", "upper and lower case: it was told undionly.kpxe", false),
            ("undionly.kpxeundionly.kpxe", "twice", false),
            ("/undionly.kpxe/undionly.kpxe", "twice", false),
            ("tftpboot/undionly.kpxe", "a directory before the name: tftpboot/", false),
            ("tftp://10.0.0.1/undionly.kpxe", "a URL (tftp://…)", false),
            ("10.0.0.1:undionly.kpxe", "an address before the name: 10.0.0.1:", false),
            ("undionly.kpxe ", "blanks", false),
            (" undionly.kpxe", "blanks", false),
            ("undionly.kpxe.0", "adds “.0”", false),
            ("undionly.kpx", "cuts the name off after 12 bytes", false),
        ];
        for (asked, cause, is_understood) in cases {
            for told in [Some(told), None] {
                let spelling = examine(asked, told).unwrap_or_else(|| panic!("{asked}"));
                assert!(spelling.cause.contains(cause), "{asked}: {}", spelling.cause);
                assert_eq!(spelling.is_understood, *is_understood, "{asked}");
                let meant = if *asked == "\\xff" { "" } else { "undionly.kpxe" };
                assert_eq!(spelling.meant, meant, "{asked}");
            }
        }
        for fine in ["undionly.kpxe", "u", "", "/", "autoexec.ipxe", "pxelinux.cfg/default", "undionly-kpxe"] {
            assert_eq!(examine(fine, Some(told)), None, "{fine}");
        }
        assert_eq!(examine("boot.0\\xff", None).map(|spelling| spelling.meant).as_deref(), Some("boot.0"));
    }

    #[test]
    fn own_loader_in_a_directory_is_compared_as_a_path() {
        let told = Some("loaders/snp.efi");
        assert!(examine("\\loaders\\snp.efi", told).is_some_and(|spelling| spelling.is_understood));
        assert!(examine("snp.efi", told).is_none(), "another file");
    }
}
