//! The user that pxed becomes: how it is named, and what the host's files of accounts say about it.
//!
//! The files are read here instead of by libc, whose lookup loads the host's libraries: in a static program, those of another version
//! may crash.

use std::{fmt, fs, io, path::Path, str::FromStr};

use serde::Deserialize;

/// The user of the packaged service.
pub(super) const USUAL: &str = "pxed";

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The value of `--user`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NameOrNumber")]
pub enum UserName {
    /// A name in the host's accounts.
    Name(String),
    /// A number, which needs no account.
    Number(u32),
}

/// A value as TOML may write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrNumber {
    Name(String),
    Number(u32),
}

impl TryFrom<NameOrNumber> for UserName {
    type Error = String;

    fn try_from(given: NameOrNumber) -> Result<Self, Self::Error> {
        match given {
            NameOrNumber::Name(name) => name.parse(),
            NameOrNumber::Number(number) => number.to_string().parse(),
        }
    }
}

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return match text.parse() {
                // The kernel takes the largest number for "unchanged".
                Ok(u32::MAX) | Err(_) => Err(format!("{text} is not the number of a user")),
                Ok(number) => Ok(Self::Number(number)),
            };
        }
        let is_name =
            !text.is_empty() && !text.contains(|c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control());
        is_name.then(|| Self::Name(text.to_owned())).ok_or_else(|| "name a user, or its number".to_owned())
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// The name, or the number of a user without an account.
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The other groups that it is in.
    pub(super) groups: Vec<u32>,
}

/// The text of the host's files of accounts.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads the files of this host. A host without them, such as a container, has no accounts.
    ///
    /// # Errors
    ///
    /// If a file is there and cannot be read.
    pub(super) fn of_host() -> Result<Self, String> {
        let read = |path: &str| match fs::read(Path::new(path)) {
            // Comments of accounts may be in any encoding.
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(format!("cannot read {path}: {error}")),
        };
        Ok(Self { passwd: read(PASSWD)?, group: read(GROUP)? })
    }

    /// Returns the user of this name or number. A number without an account has the group of the same number.
    pub(super) fn find(&self, user: &UserName) -> Option<Account> {
        let mut lines = self.passwd.lines().filter_map(Self::account);
        let found = lines.find(|account| match user {
            UserName::Name(name) => account.name == *name,
            UserName::Number(number) => account.uid == *number,
        });
        match (found, user) {
            (Some(account), _) => {
                let groups = self.groups_of(&account);
                Some(Account { groups, ..account })
            }
            (None, UserName::Number(number)) => {
                Some(Account { name: number.to_string(), uid: *number, gid: *number, groups: Vec::new() })
            }
            (None, UserName::Name(_)) => None,
        }
    }

    /// Reads a line of passwd(5), without its groups.
    fn account(line: &str) -> Option<Account> {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { name: name.to_owned(), uid, gid, groups: Vec::new() })
    }

    /// Returns the groups that list the user as a member (group(5)).
    fn groups_of(&self, account: &Account) -> Vec<u32> {
        let number = |line: &str| {
            let mut fields = line.split(':');
            let (_name, _password) = (fields.next()?, fields.next()?);
            let gid: u32 = fields.next()?.parse().ok()?;
            let is_member = fields.next()?.split(',').any(|member| member == account.name);
            (is_member && gid != account.gid).then_some(gid)
        };
        self.group.lines().filter_map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken:x:no:1::\n\npxed:x:998:997:Boot:/:/bin/false\n"
                .to_owned(),
            group: "root:x:0:\nkeys:x:50:other,pxed\nnone:x:51:pxedx\npxed:x:997:pxed\nbad\nssl:x:52:pxed\n".to_owned(),
        }
    }

    #[test]
    fn account_is_found_by_name_and_number_with_its_groups() {
        let pxed = Account { name: "pxed".to_owned(), uid: 998, gid: 997, groups: vec![50, 52] };
        assert_eq!(accounts().find(&UserName::Name("pxed".to_owned())).unwrap(), pxed);
        assert_eq!(accounts().find(&UserName::Number(998)).unwrap(), pxed);
        assert_eq!(accounts().find(&UserName::Name("root".to_owned())).unwrap().uid, 0);
        assert_eq!(accounts().find(&UserName::Name("broken".to_owned())), None);
    }

    #[test]
    fn number_needs_no_account_and_a_name_does() {
        let alone = Account { name: "65532".to_owned(), uid: 65_532, gid: 65_532, groups: Vec::new() };
        assert_eq!(Accounts::default().find(&UserName::Number(65_532)).unwrap(), alone);
        assert_eq!(Accounts::default().find(&UserName::Name(USUAL.to_owned())), None);
    }

    #[test]
    fn values_that_name_no_user_are_refused() {
        for text in ["", " ", "a:b", "a/b", "a\nb", "4294967295", "99999999999", "pxed "] {
            assert!(text.parse::<UserName>().is_err(), "{text:?}");
        }
        assert_eq!("0".parse(), Ok(UserName::Number(0)));
        assert_eq!("pxed".parse(), Ok(UserName::Name("pxed".to_owned())));
        let of_toml = |text: &str| toml::from_str::<std::collections::BTreeMap<String, UserName>>(text);
        assert_eq!(of_toml("u = 5").unwrap()["u"], UserName::Number(5));
        assert_eq!(of_toml("u = \"pxed\"").unwrap()["u"], UserName::Name("pxed".to_owned()));
        assert!(of_toml("u = \"\"").is_err());
        assert!(of_toml("u = 4294967295").is_err());
    }
}
