//! The descriptor of standard error, without the lock and the conveniences of [`std::io::Stderr`].

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Standard error. A write returns when the kernel has taken some bytes, even if somebody else has made the descriptor
/// non-blocking.
#[derive(Debug)]
pub(super) struct Raw(io::Stderr);

impl Default for Raw {
    fn default() -> Self {
        Self(io::stderr())
    }
}

impl Raw {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl io::Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.descriptor(), bytes) {
                Err(rustix::io::Errno::AGAIN) => {
                    let mut writable = [PollFd::new(self.descriptor(), PollFlags::POLLOUT)];
                    poll(&mut writable, PollTimeout::NONE)?;
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
