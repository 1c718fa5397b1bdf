//! Standard output.

use std::{
    io::{self, Write as _},
    os::fd::AsFd,
    thread,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    cli::{
        exit::Exit,
        shown::{harmless, harmless_json},
    },
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

/// Ends the process as soon as nobody can read its standard output any more, even if it has nothing to print: `pxed watch | head -1` would
/// otherwise wait for an event that may come tomorrow.
pub(super) fn end_when_unread() {
    thread::spawn(|| {
        if wait_until_unread(io::stdout()) {
            // As if the next line had found it out.
            std::process::exit(Exit::Success.code().into());
        }
    });
}

/// Waits until a pipe or a socket has no reader, for ever if it is something else. Returns `false` if the kernel cannot tell.
fn wait_until_unread(output: impl AsFd) -> bool {
    // An error is reported without being asked for.
    let mut descriptors = [PollFd::new(output.as_fd(), PollFlags::empty())];
    loop {
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) => {
                let found = descriptors[0].revents().unwrap_or(PollFlags::empty());
                return found.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
            }
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Says something on standard error.
pub(super) fn complain(line: &str) {
    logging::say(&line.lines().map(harmless).collect::<Vec<_>>().join("\n"));
}
