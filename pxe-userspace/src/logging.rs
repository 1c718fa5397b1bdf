//! Output of log lines to standard error, one at a time or many with one system call.

use std::{
    cell::RefCell,
    io::{self, Write as _},
};

/// Gathered lines are written when they reach this many bytes.
const GATHERED_BYTES: usize = 64 * 1024;

thread_local! {
    /// The lines of this thread, while it gathers them.
    static GATHERED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Standard error, for a subscriber of `tracing`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

/// Gathers the lines that `work` logs on this thread, and writes them together. A system call for each line costs more than the
/// line itself.
pub fn gather(work: impl FnOnce()) {
    // There is nowhere to report that the log cannot be written.
    let _ = io::stderr().write_all(&gathered(work));
}

/// Returns the lines that `work` logged and that were not written in between.
fn gathered(work: impl FnOnce()) -> Vec<u8> {
    GATHERED.set(Some(Vec::new()));
    work();
    GATHERED.take().unwrap_or_default()
}

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        GATHERED.with_borrow_mut(|gathered| match gathered {
            Some(lines) => {
                lines.extend_from_slice(bytes);
                if lines.len() >= GATHERED_BYTES {
                    io::stderr().write_all(lines)?;
                    lines.clear();
                }
                Ok(bytes.len())
            }
            None => io::stderr().write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_thread_gather_and_those_of_others_do_not() {
        let subscriber = tracing_subscriber::fmt().with_writer(|| Stderr).without_time().with_ansi(false).finish();
        let dispatch = tracing::Dispatch::new(subscriber);
        let log = |text: &str| tracing::dispatcher::with_default(&dispatch, || tracing::info!("{text}"));
        let lines = gathered(|| {
            log("one");
            std::thread::scope(|scope| {
                scope.spawn(|| log("elsewhere"));
            });
            log("two");
        });
        let lines = String::from_utf8(lines).unwrap();
        let words: Vec<_> = lines.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(words, ["one", "two"]);
    }
}
