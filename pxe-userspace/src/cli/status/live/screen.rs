//! The terminal while the live view is on it.

use std::io::{self, Stdout};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

/// The terminal in raw mode with its alternate screen. It is as before when this is dropped, and after a panic.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// If standard output is no terminal that can be drawn on.
    pub(super) fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
            // Whichever thread it was: a view without its sources would look alive.
            std::process::exit(101);
        }));
        let terminal = execute!(io::stdout(), EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())))
            .inspect_err(|_| restore())?;
        Ok(Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back. A terminal that is gone needs it no more.
fn restore() {
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::File,
        io::Read as _,
        process::{Command, Stdio},
        thread,
    };

    use nix::{
        pty::openpty,
        sys::termios::{LocalFlags, tcgetattr},
    };

    use super::*;

    /// Set in the process that is to panic.
    const PANICS: &str = "PXED_TEST_PANICS";

    /// The test runs itself once more, on a terminal: the hook ends the process.
    #[test]
    fn terminal_is_given_back_after_a_panic_in_any_thread() {
        if env::var_os(PANICS).is_some() {
            let _screen = Screen::take().unwrap();
            let settings = tcgetattr(io::stdin()).unwrap();
            assert!(!settings.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON), "not taken");
            let _ = thread::spawn(|| panic!("on purpose")).join();
            unreachable!("the hook ends the process");
        }
        let name = thread::current().name().unwrap().to_owned();
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", &name, "--nocapture"])
            .env(PANICS, "1")
            .env("TERM", "xterm")
            .env_remove("RUST_BACKTRACE");
        let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(command);
        // All of it fits into the terminal, which nobody reads yet.
        let status = child.wait().unwrap();
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        drop(pty.slave);
        let mut output = Vec::new();
        // Without another end, reading ends with an error.
        let _ = File::from(pty.master).read_to_end(&mut output);
        let output = String::from_utf8_lossy(&output);
        assert_eq!(status.code(), Some(101), "{output}");
        let at = |text: &str| output.find(text).unwrap_or_else(|| panic!("no {text:?} in {output:?}"));
        let (taken, left, shown) = (at("\x1b[?1049h"), at("\x1b[?1049l"), at("\x1b[?25h"));
        // The message is on the screen that stays.
        assert!(taken < left && left < at("on purpose") && shown < at("on purpose"), "{output:?}");
    }
}
