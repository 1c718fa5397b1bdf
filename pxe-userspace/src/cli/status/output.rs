//! Standard output.

use std::io::{self, Write as _};

use anyhow::Context as _;

use crate::{
    cli::shown::{harmless, harmless_json},
    logging,
};

/// Prints to standard output. Returns whether somebody still reads it: a closed pipe, as in `pxed status | head`, is not an error.
pub(super) fn print(text: &str) -> anyhow::Result<bool> {
    let mut output = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(output, "{text}{end}").and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("standard output"),
    }
}

/// Prints the API's JSON, likewise.
pub(super) fn print_json(json: &str) -> anyhow::Result<bool> {
    print(&harmless_json(json))
}

/// Says something on standard error.
pub(super) fn complain(line: &str) {
    logging::say(&line.lines().map(harmless).collect::<Vec<_>>().join("\n"));
}
