//! The names under which GRUB and U-Boot look for their configuration, and for files that they need not find.
//!
//! Both try a list of names, from the machine's own to one for everybody, and take the first that the server has:
//!
//! | program | names, each behind the directory of its prefix |
//! |---|---|
//! | GRUB | `grub.cfg-01-<MAC>`, `grub.cfg-<address>`, shortened digit by digit, `grub.cfg`; older builds the last alone |
//! | U-Boot | `pxelinux.cfg/01-<MAC>`, `pxelinux.cfg/<address>`, shortened likewise, `pxelinux.cfg/default-…`, `pxelinux.cfg/default` |

use std::net::Ipv4Addr;

use pxe_common::MacAddr;

/// A program that reads its configuration from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigReader {
    /// GRUB 2.
    Grub,
    /// U-Boot, in the format of PXELINUX.
    UBoot,
}

impl ConfigReader {
    /// Returns the program's name for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grub => "GRUB",
            Self::UBoot => "U-Boot",
        }
    }

    /// Returns the program that looks for a file of this name, whether it has a configuration there or not.
    #[must_use]
    pub fn of(path: &[u8]) -> Option<Self> {
        let (directory, name) = last_two(path);
        if is_grub_name(name) {
            Some(Self::Grub)
        } else if directory.eq_ignore_ascii_case(b"pxelinux.cfg") && !name.is_empty() {
            Some(Self::UBoot)
        } else {
            None
        }
    }
}

/// The machine that a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The one that asks.
    Asker,
    /// The one with this MAC address.
    Mac(MacAddr),
    /// The one with this address.
    Address(Ipv4Addr),
}

/// The name of one machine's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// The program that reads it.
    pub reader: ConfigReader,
    /// The machine.
    pub owner: Owner,
}

impl ConfigFile {
    /// Parses a path. A name for several machines, such as `pxelinux.cfg/default`, is none of one machine.
    ///
    /// ```
    /// use pxe_userspace::model::config_files::{ConfigFile, ConfigReader, Owner};
    ///
    /// let file = ConfigFile::parse(b"pxelinux.cfg/01-52-54-00-ab-cd-ef").unwrap();
    /// assert_eq!(file.reader, ConfigReader::UBoot);
    /// assert!(matches!(file.owner, Owner::Mac(_)));
    /// assert_eq!(ConfigFile::parse(b"/grub/grub.cfg").unwrap().owner, Owner::Asker);
    /// assert_eq!(ConfigFile::parse(b"pxelinux.cfg/default"), None);
    /// ```
    #[must_use]
    pub fn parse(path: &[u8]) -> Option<Self> {
        let reader = ConfigReader::of(path)?;
        let (_, name) = last_two(path);
        let owner = match reader {
            ConfigReader::Grub => match name.get(GRUB_CFG.len()..)?.strip_prefix(b"-") {
                None => Owner::Asker,
                // Configurations that people write often end in `$net_default_mac`, which has no type of hardware.
                Some(suffix) => owner(suffix).or_else(|| mac(suffix).map(Owner::Mac))?,
            },
            ConfigReader::UBoot => owner(name)?,
        };
        Some(Self { reader, owner })
    }
}

/// Returns `true` for a file that GRUB or U-Boot looks for and does without: a configuration for several machines, a list of
/// GRUB's modules, a font, U-Boot's boot script or the device tree of its board.
#[must_use]
pub fn is_probe(path: &[u8]) -> bool {
    let (_, name) = last_two(path);
    let is_known = PROBES.iter().any(|probe| name.eq_ignore_ascii_case(probe.as_bytes()));
    is_known || name.ends_with(b".dtb") || ConfigReader::of(path).is_some() && ConfigFile::parse(path).is_none()
}

const GRUB_CFG: &[u8] = b"grub.cfg";

/// Files that need not exist: the lists of a GRUB whose modules are built in, its font, and U-Boot's script.
const PROBES: &[&str] = &[
    "command.lst",
    "crypto.lst",
    "fs.lst",
    "partmap.lst",
    "parttool.lst",
    "terminal.lst",
    "video.lst",
    "unicode.pf2",
    "boot.scr.uimg",
    "boot.scr",
];

fn is_grub_name(name: &[u8]) -> bool {
    name.split_at_checked(GRUB_CFG.len())
        .is_some_and(|(begin, rest)| begin.eq_ignore_ascii_case(GRUB_CFG) && matches!(rest, [] | [b'-', ..]))
}

/// Returns the last two components of a path; the first of them is empty if there is only one.
fn last_two(path: &[u8]) -> (&[u8], &[u8]) {
    let mut components = path.rsplit(|byte| matches!(byte, b'/' | b'\\'));
    let name = components.next().unwrap_or_default();
    // GRUB and shim join paths with two slashes at times.
    (components.find(|component| !component.is_empty()).unwrap_or_default(), name)
}

/// Returns the machine of `01-<MAC>` (1 is Ethernet) or of an address in eight hexadecimal digits.
fn owner(name: &[u8]) -> Option<Owner> {
    if let Some(address) = name.strip_prefix(b"01-") {
        return mac(address).map(Owner::Mac);
    }
    let is_address = name.len() == 8 && name.iter().all(u8::is_ascii_hexdigit);
    let bits = u32::from_str_radix(str::from_utf8(name).ok().filter(|_| is_address)?, 16).ok()?;
    Some(Owner::Address(Ipv4Addr::from_bits(bits)))
}

/// Returns a MAC address whose bytes are separated.
fn mac(text: &[u8]) -> Option<MacAddr> {
    str::from_utf8(text).ok().filter(|text| text.contains(['-', ':']))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);

    #[test]
    fn name_means_one_machine() {
        let (grub, u_boot) = (ConfigReader::Grub, ConfigReader::UBoot);
        let address = Owner::Address(Ipv4Addr::new(10, 99, 0, 101));
        for (path, reader, owner) in [
            ("/grub/grub.cfg", grub, Owner::Asker),
            ("grub.cfg", grub, Owner::Asker),
            ("/grub/x86_64-efi/grub.cfg", grub, Owner::Asker),
            ("EFI/debian/grub.cfg", grub, Owner::Asker),
            ("\\EFI\\BOOT\\GRUB.CFG", grub, Owner::Asker),
            ("/grub/grub.cfg-01-52-54-00-ab-cd-ef", grub, Owner::Mac(MAC)),
            ("grub/grub.cfg-52:54:00:ab:cd:ef", grub, Owner::Mac(MAC)),
            ("grub/grub.cfg-0A630065", grub, address),
            ("pxelinux.cfg/01-52-54-00-ab-cd-ef", u_boot, Owner::Mac(MAC)),
            ("pxelinux.cfg/01-52-54-00-AB-CD-EF", u_boot, Owner::Mac(MAC)),
            ("pxelinux.cfg/0A630065", u_boot, address),
            ("pxelinux.cfg/0a630065", u_boot, address),
            ("/a/b//pxelinux.cfg//0A630065", u_boot, address),
        ] {
            assert_eq!(ConfigFile::parse(path.as_bytes()), Some(ConfigFile { reader, owner }), "{path}");
            assert!(!is_probe(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn names_for_several_machines_are_probes() {
        for path in [
            "pxelinux.cfg/0A63006",
            "pxelinux.cfg/0",
            "pxelinux.cfg/default",
            "pxelinux.cfg/default-arm-qemu-arm",
            "pxelinux.cfg/01-52-54-00-ab-cd",
            "pxelinux.cfg/06-52-54-00-ab-cd-ef",
            "pxelinux.cfg/b8945908-d6a6-41a9-611d-74a6ab80b83d",
            "pxelinux.cfg/+A630065",
            "/grub/grub.cfg-0A63",
            "/grub/grub.cfg-b8945908-d6a6-41a9-611d-74a6ab80b83d",
            "/grub/x86_64-efi/command.lst",
            "/grub/x86_64-efi/terminal.lst",
            "/grub/fonts/unicode.pf2",
            "boot.scr.uimg",
            "dtb/board.dtb",
        ] {
            assert_eq!(ConfigFile::parse(path.as_bytes()), None, "{path}");
            assert!(is_probe(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn other_files_are_neither() {
        for path in [
            "",
            "/",
            "grub.cfgx",
            "mygrub.cfg",
            "grub.cfg/vmlinuz",
            "pxelinux.cfg",
            "pxelinux.cfg/",
            "vmlinuz-v1.13.0-amd64",
            "grubx64.efi",
            "grub/x86_64-efi/normal.mod",
            "0A630065",
        ] {
            assert_eq!(ConfigReader::of(path.as_bytes()), None, "{path}");
            assert_eq!(ConfigFile::parse(path.as_bytes()), None, "{path}");
            assert!(!is_probe(path.as_bytes()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_at_most_one_of_both(path in "(pxelinux\\.cfg|grub|)/?(grub\\.cfg|01)?[-:0-9a-fA-Fx]{0,24}") {
            let path = path.as_bytes();
            prop_assert!(!(is_probe(path) && ConfigFile::parse(path).is_some()));
        }
    }
}
