//! Colours of plain output.

use std::{env, ffi::OsString, io::IsTerminal as _};

/// The colours of a text, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    /// For pipes and for terminals that want none.
    Off,
    On,
}

/// The meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Busy,
    Warning,
    Bad,
    Faint,
}

impl Colours {
    /// Returns the colours of standard output.
    pub(super) fn of_stdout() -> Self {
        Self::of(|name| env::var_os(name), std::io::stdout().is_terminal())
    }

    /// Returns the colours that the environment asks for. NO_COLOR is stronger than CLICOLOR_FORCE, and this than TERM.
    fn of(variable: impl Fn(&str) -> Option<OsString>, is_terminal: bool) -> Self {
        let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let is = |name, wanted: &str| variable(name).is_some_and(|value| value == wanted);
        if is_set("NO_COLOR") {
            return Self::Off;
        }
        if is_set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") {
            return Self::On;
        }
        match is_terminal && !is("TERM", "dumb") && !is("CLICOLOR", "0") {
            true => Self::On,
            false => Self::Off,
        }
    }

    /// Returns the text in this tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Off, _) | (_, Tone::Plain) => return text.to_owned(),
            (Self::On, Tone::Heading) => "1",
            (Self::On, Tone::Good) => "32",
            (Self::On, Tone::Busy) => "36",
            (Self::On, Tone::Warning) => "33",
            (Self::On, Tone::Bad) => "31",
            (Self::On, Tone::Faint) => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        use Colours::{Off, On};
        for (variables, is_terminal, expected) in [
            (&[][..], true, On),
            (&[][..], false, Off),
            (&[("NO_COLOR", "1")], true, Off),
            (&[("NO_COLOR", "")], true, On),
            (&[("TERM", "dumb")], true, Off),
            (&[("TERM", "xterm")], true, On),
            (&[("CLICOLOR", "0")], true, Off),
            (&[("CLICOLOR_FORCE", "1")], false, On),
            (&[("CLICOLOR_FORCE", "0")], false, Off),
            (&[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], false, On),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], true, Off),
        ] {
            let variable = |name: &str| {
                variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
            };
            assert_eq!(Colours::of(variable, is_terminal), expected, "{variables:?} {is_terminal}");
        }
        assert_eq!(On.paint(Tone::Bad, "failed"), "\x1b[31mfailed\x1b[0m");
        assert_eq!((Off.paint(Tone::Bad, "x"), On.paint(Tone::Plain, "x")), ("x".to_owned(), "x".to_owned()));
    }
}
