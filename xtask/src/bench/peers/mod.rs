//! The servers that pxed is compared with. They are unpacked from Debian's packages into the target directory, not installed,
//! so that none of them starts by itself or leaves anything behind.

use std::{collections::BTreeSet, fs};

use pxe_lab::assets;

use unpacked::CONTENTS;

pub(crate) mod dhcp;
pub(crate) mod nginx;
pub(crate) mod tftp;
pub(crate) mod unpacked;

/// Returns the versions of the fetched peers, as one line.
///
/// # Errors
///
/// Fails if their folder cannot be read.
pub(crate) fn versions() -> anyhow::Result<String> {
    let mut versions = BTreeSet::from([format!("rs-tftpd {}", tftp::RS_TFTPD)]);
    for folder in fs::read_dir(assets::cache().join("peers"))? {
        let folder = folder?;
        let wanted = folder.file_name().to_string_lossy().into_owned();
        let contents = fs::read_to_string(folder.path().join(CONTENTS)).unwrap_or_default();
        let packages = contents.lines().filter_map(package);
        versions.extend(
            packages
                .filter(|(name, _)| wanted.split('+').any(|wanted| wanted == *name))
                .map(|(name, version)| format!("{name} {version}")),
        );
    }
    Ok(versions.into_iter().collect::<Vec<_>>().join(", "))
}

/// Returns name and version of `name_version_architecture.deb`, where apt escapes the colon of an epoch.
fn package(file: &str) -> Option<(&str, String)> {
    let (name, rest) = file.split_once('_')?;
    let (version, _) = rest.split_once('_')?;
    Some((name, version.replace("%3a", ":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_tells_its_version() {
        let read = package("kea-admin_1%3a2.2.0-6_amd64.deb");
        assert_eq!(read, Some(("kea-admin", "1:2.2.0-6".to_owned())));
        assert_eq!(package("readme.txt"), None);
    }
}
