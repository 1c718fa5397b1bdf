//! The path below which boot HTTP has everything of one machine.

use std::{borrow::Cow, fmt};

use pxe_common::MacAddr;

use super::token::{TOKEN_LENGTH, Token};

/// The name of a machine's unified kernel image, below its [`MachinePath`].
pub const UKI_FILE: &str = "talos.efi";

/// The name of a machine's machine configuration, below its [`MachinePath`].
pub const CONFIG_FILE: &str = "config.yaml";

/// The beginning of every such path.
const PREFIX: &[u8] = b"/boot/";
/// The end of the path of a machine's iPXE script.
const SCRIPT_SUFFIX: &[u8] = b".ipxe";
/// What a token is replaced by where people read.
const MASK: &[u8] = b"***";

/// The path of a machine in URLs, `/boot/52-54-00-12-34-56`, with `/<token>` after it if the machine has secrets. Its files are below it, and
/// its iPXE script is beside it, with `.ipxe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachinePath {
    /// The machine.
    pub mac: MacAddr,
    /// The unguessable part.
    pub token: Option<Token>,
}

/// The file of a machine that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineFile<'p> {
    /// Its iPXE script.
    Script,
    /// A file of this name below its path.
    Below(&'p [u8]),
}

impl MachinePath {
    /// Returns the path of a machine without secrets.
    #[must_use]
    pub const fn plain(mac: MacAddr) -> Self {
        Self { mac, token: None }
    }

    /// Splits the path of a file of a machine. The MAC address may be spelt in any way. Returns `None` for any other path.
    ///
    /// ```
    /// use pxe_userspace::model::machine_path::{MachineFile, MachinePath};
    ///
    /// let machine = MachinePath::plain("52:54:00:12:34:56".parse()?);
    /// let split = MachinePath::split(b"/boot/52-54-00-12-34-56/talos.efi");
    /// assert_eq!(split, Some((machine, MachineFile::Below(b"talos.efi"))));
    /// assert_eq!(MachinePath::split(b"/boot/52-54-00-12-34-56.ipxe"), Some((machine, MachineFile::Script)));
    /// assert_eq!(MachinePath::split(b"/boot/52-54-00-12-34-56"), None);
    /// # Ok::<(), pxe_common::mac::ParseMacError>(())
    /// ```
    #[must_use]
    pub fn split(path: &[u8]) -> Option<(Self, MachineFile<'_>)> {
        let path = path.strip_prefix(PREFIX)?;
        let mac = |text| str::from_utf8(text).ok()?.parse().ok();
        let Some((first, rest)) = at_slash(path) else {
            return Some((Self::plain(mac(path.strip_suffix(SCRIPT_SUFFIX)?)?), MachineFile::Script));
        };
        let mac = mac(first)?;
        if let Some(token) = rest.strip_suffix(SCRIPT_SUFFIX).and_then(Token::parse) {
            return Some((Self { mac, token: Some(token) }, MachineFile::Script));
        }
        Some(match at_slash(rest).and_then(|(token, file)| Some((Token::parse(token)?, file))) {
            Some((token, file)) => (Self { mac, token: Some(token) }, MachineFile::Below(file)),
            None => (Self::plain(mac), MachineFile::Below(rest)),
        })
    }

    /// Returns a path for people to read: without a token, or what may be one.
    ///
    /// ```
    /// use pxe_userspace::model::machine_path::MachinePath;
    ///
    /// let masked = MachinePath::masked(b"/boot/52-54-00-12-34-56/AAAAAQAAAAL_____________________/config.yaml");
    /// assert_eq!(&*masked, b"/boot/52-54-00-12-34-56/***/config.yaml");
    /// assert_eq!(&*MachinePath::masked(b"/boot.ipxe"), b"/boot.ipxe");
    /// ```
    #[must_use]
    pub fn masked(path: &[u8]) -> Cow<'_, [u8]> {
        let Some(at) = path.strip_prefix(PREFIX).and_then(at_slash).map(|(mac, _)| PREFIX.len() + mac.len() + 1) else {
            return path.into();
        };
        let (machine, rest) = path.split_at(at);
        match at_slash(rest) {
            // A token that was cut off or altered may still help to guess the whole.
            Some((_, file)) => [machine, MASK, b"/", file].concat().into(),
            None if rest.ends_with(SCRIPT_SUFFIX) && rest != b"autoexec.ipxe" => {
                [machine, MASK, SCRIPT_SUFFIX].concat().into()
            }
            None if rest.len() >= TOKEN_LENGTH / 2 && !rest.contains(&b'.') => [machine, MASK].concat().into(),
            None => path.into(),
        }
    }
}

/// Splits a text at its first slash.
fn at_slash(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = text.iter().position(|&byte| byte == b'/')?;
    Some((&text[..slash], &text[slash + 1..]))
}

impl fmt::Display for MachinePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac.0;
        write!(f, "/boot/{a:02x}-{b:02x}-{c:02x}-{d:02x}-{e:02x}-{g:02x}")?;
        match self.token {
            Some(token) => write!(f, "/{}", str::from_utf8(&token.text()).unwrap_or_default()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0xab, 0xcd, 0xef]);
    const TOKEN: Token = Token { made: 0x6928_1f3a, nonce: 7, tag: *b"0123456789abcdef" };

    #[test]
    fn path_of_a_machine_is_read_in_every_spelling() {
        use MachineFile::{Below, Script};
        let plain = MachinePath::plain(MAC);
        let guarded = MachinePath { mac: MAC, token: Some(TOKEN) };
        let token = String::from_utf8(TOKEN.text().to_vec()).unwrap();
        let below = |file: &'static str| Below(file.as_bytes());
        for (path, expected) in [
            (format!("{plain}/{UKI_FILE}"), Some((plain, below("talos.efi")))),
            (format!("{guarded}/{UKI_FILE}"), Some((guarded, below("talos.efi")))),
            (format!("{guarded}.ipxe"), Some((guarded, Script))),
            (format!("/boot/02:00:00:AB:CD:EF/{token}/sub/x.efi"), Some((guarded, below("sub/x.efi")))),
            (format!("/boot/020000abcdef/{token}.ipxe"), Some((guarded, Script))),
            ("/boot/02:00:00:AB:CD:EF/talos.efi".into(), Some((plain, below("talos.efi")))),
            ("/boot/020000abcdef/sub/x.efi".into(), Some((plain, below("sub/x.efi")))),
            ("/boot/02-00-00-ab-cd-ef.ipxe".into(), Some((plain, Script))),
            ("/boot/02-00-00-ab-cd-ef/".into(), Some((plain, below("")))),
            (format!("/boot/02-00-00-ab-cd-ef/{token}/"), Some((guarded, below("")))),
            (format!("/boot/{token}.ipxe"), None),
            (format!("/boot/{token}/02-00-00-ab-cd-ef.ipxe"), None),
            ("/boot/02-00-00-ab-cd-ef".into(), None),
            ("/boot/02-00-00-ab-cd/talos.efi".into(), None),
            ("/boot//talos.efi".into(), None),
            ("/assets/02-00-00-ab-cd-ef/talos.efi".into(), None),
            ("boot/02-00-00-ab-cd-ef/talos.efi".into(), None),
        ] {
            assert_eq!(MachinePath::split(path.as_bytes()), expected, "{path}");
        }
        // What is no token is the name of a file.
        let other = &token[1..];
        for file in
            [format!("{other}/x"), format!("{token}A/x"), format!("{other}=/x"), token.clone(), format!("{other}.ipxe")]
        {
            let path = format!("/boot/02-00-00-ab-cd-ef/{file}");
            assert_eq!(MachinePath::split(path.as_bytes()), Some((plain, Below(file.as_bytes()))), "{path}");
        }
        assert_eq!(MachinePath::split(b"/boot/\xff/talos.efi"), None);
    }

    #[test]
    fn path_for_people_has_no_token() {
        let guarded = MachinePath { mac: MAC, token: Some(TOKEN) };
        let token = String::from_utf8(TOKEN.text().to_vec()).unwrap();
        for (path, expected) in [
            (format!("{guarded}.ipxe"), "/boot/02-00-00-ab-cd-ef/***.ipxe"),
            (format!("{guarded}/talos.efi"), "/boot/02-00-00-ab-cd-ef/***/talos.efi"),
            (format!("{guarded}/a/b"), "/boot/02-00-00-ab-cd-ef/***/a/b"),
            // In part, or with another machine's address.
            (format!("/boot/x/{}.ipxe", &token[3..]), "/boot/x/***.ipxe"),
            (format!("/boot/x/{}/config.yaml", &token[..20]), "/boot/x/***/config.yaml"),
            (format!("{guarded}"), "/boot/02-00-00-ab-cd-ef/***"),
            ("/boot/02-00-00-ab-cd-ef.ipxe".into(), "/boot/02-00-00-ab-cd-ef.ipxe"),
            ("/boot/02-00-00-ab-cd-ef/talos.efi".into(), "/boot/02-00-00-ab-cd-ef/talos.efi"),
            ("/boot/02-00-00-ab-cd-ef/autoexec.ipxe".into(), "/boot/02-00-00-ab-cd-ef/autoexec.ipxe"),
            ("/assets/a/b".into(), "/assets/a/b"),
        ] {
            assert_eq!(String::from_utf8_lossy(&MachinePath::masked(path.as_bytes())), expected, "{path}");
        }
    }
}
