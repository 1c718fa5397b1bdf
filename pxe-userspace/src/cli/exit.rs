//! Exit statuses that scripts can tell apart. `docs/exit-codes.md` has the same table.

use std::process::ExitCode;

/// The exit status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Everything is as asked.
    Success,
    /// Anything that has no status of its own.
    Failure,
    /// The command line is wrong, fits several machines, or needs a confirmation that cannot be asked for.
    Usage,
    /// `--fail-on` found what it looks for.
    Found,
    /// The cluster, stage, role or machine is not there.
    NotFound,
    /// No pxed answers.
    Unreachable,
    /// Some machines were changed and others were not.
    Partial,
}

impl Exit {
    /// Returns the number that the shell sees.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Found => 3,
            Self::NotFound => 4,
            Self::Unreachable => 5,
            Self::Partial => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The table of exit statuses below the help of the commands that ask a running pxed.
pub(super) const HELP: &str = "\
Exit status:
  0  all is as asked
  1  an error that has no other number
  2  the command line is wrong, a name fits several machines, or a confirmation is missing
  3  a selected machine is in a state that --fail-on (or --exit-code) names
  4  no such cluster, stage, role or machine
  5  no pxed answers
  6  some of the machines were held or released, others were not";

/// An error with an exit status of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Ended {
    exit: Exit,
    message: String,
}

impl Ended {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// Returns the exit status of a command that failed with this error.
pub(super) fn status_of(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Ended>().map_or(Exit::Failure, |ended| ended.exit)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    const ALL: [Exit; 7] =
        [Exit::Success, Exit::Failure, Exit::Usage, Exit::Found, Exit::NotFound, Exit::Unreachable, Exit::Partial];

    #[test]
    fn status_of_an_error_survives_its_context() {
        let error = || anyhow::Error::new(Ended::new(Exit::NotFound, "no such machine"));
        assert_eq!(status_of(&error()), Exit::NotFound);
        assert_eq!(status_of(&error().context("looking for it")), Exit::NotFound);
        let cause = Err::<(), _>(std::io::Error::other("refused"));
        let error = cause.context(Ended::new(Exit::Unreachable, "no pxed answers")).unwrap_err();
        assert_eq!((status_of(&error), format!("{error:#}").as_str()), (Exit::Unreachable, "no pxed answers: refused"));
        assert_eq!(status_of(&anyhow::anyhow!("other")), Exit::Failure);
    }

    #[test]
    fn every_status_is_in_the_help_and_in_the_documentation() {
        let document = include_str!("../../../docs/exit-codes.md");
        for exit in ALL {
            let code = exit.code();
            assert!(HELP.lines().any(|line| line.starts_with(&format!("  {code}  "))), "{exit:?}");
            assert!(document.lines().any(|line| line.starts_with(&format!("| {code} | "))), "{exit:?}");
        }
        assert_eq!(HELP.lines().count(), ALL.len() + 1);
    }
}
