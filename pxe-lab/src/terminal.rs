//! A program on a terminal: what it draws, the keys that it gets, and the state in which it leaves the terminal.

use std::{
    fs::File,
    io::Write as _,
    os::fd::OwnedFd,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::{
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, Termios, tcgetattr},
};

use crate::{process::Process, suite};

const SIZE: Winsize = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };

/// The control sequences that a program takes the whole screen with, and gives it back with: `[taken, given back]`.
const SEQUENCES: [[&str; 2]; 2] = [
    // The alternate screen.
    ["\x1b[?1049h", "\x1b[?1049l"],
    // The cursor.
    ["\x1b[?25l", "\x1b[?25h"],
];

/// A program that runs on a terminal of its own. It is ended when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    /// The program, with all that it has written.
    pub process: Process,
    keys: File,
    /// The program's end. It keeps the settings of the terminal alive after the program.
    end: OwnedFd,
    settings: Termios,
}

impl Terminal {
    /// Starts the command with its standard input, output and error on a terminal.
    ///
    /// # Errors
    ///
    /// Fails if there is no terminal, or if the command cannot be started.
    pub fn start(name: &str, mut command: Command) -> anyhow::Result<Self> {
        let pty = openpty(&SIZE, None).context("no terminal")?;
        let settings = tcgetattr(&pty.slave)?;
        let end = || pty.slave.try_clone();
        command.stdin(end()?).stdout(end()?).stderr(end()?).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let keys = File::from(pty.master);
        let process = Process::spawn_on(name, &mut command, keys.try_clone()?)?;
        Ok(Self { process, keys, end: pty.slave, settings })
    }

    /// Presses keys.
    ///
    /// # Errors
    ///
    /// Fails if the terminal takes none.
    pub fn press(&self, keys: &str) -> anyhow::Result<()> {
        (&self.keys).write_all(keys.as_bytes()).context("the terminal takes no keys")
    }

    /// Returns whether the program reads each key as it is pressed, and draws on the alternate screen.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot tell.
    pub fn is_taken(&self) -> anyhow::Result<bool> {
        let is_raw = !tcgetattr(&self.end)?.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO);
        let [taken, _] = SEQUENCES[0];
        Ok(is_raw && self.process.output().contains(taken))
    }

    /// Waits for the end of the program, and checks that the terminal is as it was before. Returns the status, and what the program has
    /// written since it gave the screen back.
    ///
    /// # Errors
    ///
    /// Fails if the time is up, or with what the program has not put back.
    pub fn finish(self, within: Duration) -> anyhow::Result<(ExitStatus, String)> {
        let Self { mut process, keys, end, settings } = self;
        suite::eventually("the end of the program", within, || Ok(!process.is_running()?))
            .with_context(|| process.last_lines())?;
        let after = tcgetattr(&end)?;
        // Without another end, the output ends.
        drop(end);
        let status = process.wait(within)?;
        drop(keys);
        let output = process.output();
        ensure!(after == settings, "the settings of the terminal were {settings:?} and are {after:?}");
        for [taken, given_back] in SEQUENCES {
            ensure!(output.rfind(taken) <= output.rfind(given_back), "{taken:?} without {given_back:?}: {output:?}");
        }
        let after = SEQUENCES.iter().filter_map(|[_, given_back]| Some(output.rfind(given_back)? + given_back.len()));
        let rest = output.get(after.max().unwrap_or_default()..).unwrap_or_default().to_owned();
        Ok((status, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Terminal {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Terminal::start("sh", command).unwrap()
    }

    #[test]
    fn program_reads_keys_and_leaves_the_terminal_as_it_was() {
        let terminal = shell("test -t 0 && test -t 2 && read line && echo \"got $line\"; exit 3");
        assert!(!terminal.is_taken().unwrap());
        terminal.press("one\n").unwrap();
        terminal.process.wait_for_text("got one", SOON).unwrap();
        let (status, output) = terminal.finish(SOON).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(output.ends_with("got one\r\n"), "{output:?}");
    }

    #[test]
    fn terminal_that_is_not_given_back_is_an_error() {
        for (script, complaint) in [
            ("stty raw -echo", "the settings of the terminal"),
            ("printf '\\033[?1049h'", "1049h"),
            ("printf '\\033[?25h\\033[?25l'", "25l"),
        ] {
            let error = shell(script).finish(SOON).unwrap_err().to_string();
            assert!(error.contains(complaint), "{script}: {error}");
        }
        let taken =
            shell("printf '\\033[?1049h'; stty raw -echo; printf on; read line; stty sane; printf '\\033[?1049lend'");
        taken.process.wait_for_text("on", SOON).unwrap();
        assert!(taken.is_taken().unwrap());
    }
}
