//! The options about the privileges that pxed keeps.

use serde::Deserialize;

use crate::confine::UserName;

/// The options about privileges.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct ConfineArgs {
    /// User to become after the start as root, by name or number, with only the capabilities that pxed uses. root stays root
    /// [default: pxed, if there is such a user]
    #[arg(long, env = "PXED_USER", value_name = "USER")]
    user: Option<UserName>,
}

impl ConfineArgs {
    /// Returns the user to become, given the options of the `--config` file.
    pub(super) fn over(self, file: Self) -> Option<UserName> {
        self.user.or(file.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_of_the_command_line_replaces_that_of_the_file() {
        let args = |user: Option<&str>| ConfineArgs { user: user.map(|user| user.parse().unwrap()) };
        assert_eq!(args(Some("netboot")).over(args(Some("pxed"))), Some(UserName::Name("netboot".to_owned())));
        assert_eq!(args(None).over(args(Some("998"))), Some(UserName::Number(998)));
        assert_eq!(args(None).over(args(None)), None);
    }
}
