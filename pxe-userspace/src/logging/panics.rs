//! Panics as log lines.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic, thread,
};

use crate::mistakes;

/// Makes a panic a line of the log from now on. The standard library's own report waits for whoever reads standard error, with a
/// lock held.
pub fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let current = thread::current();
        let thread = current.name().unwrap_or("unnamed");
        mistakes::note(thread, info.location());
        let at = info.location().map(tracing::field::display);
        let message = info.payload_as_str().unwrap_or("no message");
        // Only with RUST_BACKTRACE=1, and in one line.
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::debug(backtrace));
        tracing::error!(thread, at, backtrace, "panicked: {message}. This is a defect of pxed: please report it");
    }));
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn panic_is_a_line_with_its_place() {
        let lines = Lines::default();
        let output = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || output.clone()).with_ansi(false).finish();
        let former = panic::take_hook();
        log_panics();
        tracing::subscriber::with_default(subscriber, || {
            assert!(panic::catch_unwind(|| panic!("on purpose")).is_err());
        });
        panic::set_hook(former);
        let line = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in ["ERROR", "panicked: on purpose", "panics.rs", "thread="] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
    }
}
