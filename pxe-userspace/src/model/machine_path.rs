//! The path below which boot HTTP has everything of one machine.

use std::fmt;

use pxe_common::MacAddr;

/// The name of a machine's unified kernel image, below its [`MachinePath`].
pub const UKI_FILE: &str = "talos.efi";

/// The name of a machine's machine configuration, below its [`MachinePath`].
pub const CONFIG_FILE: &str = "config.yaml";

/// The path of a machine in URLs, `/boot/52-54-00-12-34-56`. Its files are below it, and its iPXE script is beside it, with `.ipxe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachinePath(pub MacAddr);

impl MachinePath {
    /// Splits the path of a file of a machine into the machine and the name of the file. The MAC address may be spelt in any way. Returns
    /// `None` for any other path.
    ///
    /// ```
    /// use pxe_userspace::model::machine_path::MachinePath;
    ///
    /// let mac = "52:54:00:12:34:56".parse()?;
    /// assert_eq!(MachinePath::split(b"/boot/52-54-00-12-34-56/talos.efi"), Some((mac, &b"talos.efi"[..])));
    /// assert_eq!(MachinePath::split(b"/boot/52-54-00-12-34-56.ipxe"), None);
    /// # Ok::<(), pxe_common::mac::ParseMacError>(())
    /// ```
    #[must_use]
    pub fn split(path: &[u8]) -> Option<(MacAddr, &[u8])> {
        let path = path.strip_prefix(b"/boot/")?;
        let slash = path.iter().position(|&byte| byte == b'/')?;
        let (mac, file) = path.split_at_checked(slash)?;
        let mac = str::from_utf8(mac).ok()?.parse().ok()?;
        Some((mac, file.strip_prefix(b"/")?))
    }
}

impl fmt::Display for MachinePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.0;
        write!(f, "/boot/{a:02x}-{b:02x}-{c:02x}-{d:02x}-{e:02x}-{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_a_machine_is_read_in_every_spelling() {
        let mac = MacAddr([2, 0, 0, 0xab, 0xcd, 0xef]);
        let own = format!("{}/{UKI_FILE}", MachinePath(mac));
        for (path, expected) in [
            (own.as_str(), Some("talos.efi")),
            ("/boot/02:00:00:AB:CD:EF/talos.efi", Some("talos.efi")),
            ("/boot/020000abcdef/sub/x.efi", Some("sub/x.efi")),
            ("/boot/02-00-00-ab-cd-ef/", Some("")),
            ("/boot/02-00-00-ab-cd-ef", None),
            ("/boot/02-00-00-ab-cd/talos.efi", None),
            ("/boot//talos.efi", None),
            ("/assets/02-00-00-ab-cd-ef/talos.efi", None),
            ("boot/02-00-00-ab-cd-ef/talos.efi", None),
        ] {
            let expected = expected.map(|file| (mac, file.as_bytes()));
            assert_eq!(MachinePath::split(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(MachinePath::split(b"/boot/\xff/talos.efi"), None);
    }
}
