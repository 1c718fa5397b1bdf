//! What a command that failed says last.

use std::{fmt::Write as _, io};

/// Returns the error with its causes, from the outermost to the first. A cause that the text before it contains already is left out: some
/// errors name theirs themselves, because others print them without causes.
pub(super) fn text_of(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
        text
    })
}

/// Returns whether a command failed only because nobody reads its output any more, as in `pxed validate | head`.
pub(super) fn is_unread_output(error: &anyhow::Error) -> bool {
    // An error with context is one of something else than the output.
    error.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
        && error.chain().len() == 1
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::{Context as _, anyhow};

    use super::*;
    use crate::artifacts::StoreError;

    fn missing() -> io::Error {
        io::ErrorKind::NotFound.into()
    }

    #[test]
    fn cause_is_named_once() {
        let root = StoreError::Root { root: PathBuf::from("/a"), source: missing() };
        let expected = "artifacts directory /a: entity not found; create it, or name another one with --artifacts";
        assert_eq!(text_of(&root.into()), expected);
        let causes = anyhow!(missing()).context("opening").context("no manifest");
        assert_eq!(text_of(&causes), "no manifest: opening: entity not found");
        assert_eq!(text_of(&anyhow!("only this")), "only this");
    }

    #[test]
    fn closed_pipe_of_the_output_is_told_from_other_connections() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_unread_output(&closed().into()));
        assert!(!is_unread_output(&missing().into()));
        assert!(!is_unread_output(&Err::<(), _>(closed()).context("admin listener").unwrap_err()));
        assert!(!is_unread_output(&anyhow!("Broken pipe")));
    }
}
