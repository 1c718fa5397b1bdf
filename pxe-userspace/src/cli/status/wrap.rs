//! Sentences in lines of a terminal's width.

/// The narrowest width that is taken seriously.
const NARROWEST: usize = 20;

/// The width of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Lines are as long as they are, for pipes.
    Unbounded,
    Columns(usize),
}

impl Width {
    /// Returns the width of standard output.
    pub(super) fn of_stdout() -> Self {
        match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_col > 0 => Self::Columns(usize::from(size.ws_col)),
            _ => Self::Unbounded,
        }
    }

    /// Returns a text behind its label. All lines but the first begin with as many spaces. A word that is too long has a line of its own.
    pub(super) fn wrap(self, label: &str, text: &str) -> String {
        let indent = label.chars().count();
        let columns = match self {
            Self::Unbounded => return format!("{label}{text}\n"),
            Self::Columns(columns) => columns.max(NARROWEST).max(indent + NARROWEST / 2),
        };
        let (mut wrapped, mut used) = (label.to_owned(), indent);
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if used > indent && used + 1 + length > columns {
                wrapped.push('\n');
                wrapped.extend(std::iter::repeat_n(' ', indent));
                used = indent;
            }
            if used > indent {
                wrapped.push(' ');
                used += 1;
            }
            wrapped.push_str(word);
            used += length;
        }
        wrapped.push('\n');
        wrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words() {
        let text = "It asks again and again for thelongestwordofalltimes, twice.";
        let expected =
            "so far  It asks again\n        and again for\n        thelongestwordofalltimes,\n        twice.\n";
        assert_eq!(Width::Columns(22).wrap("so far  ", text), expected);
        assert_eq!(Width::Columns(0).wrap("so far  ", text), Width::Columns(20).wrap("so far  ", text));
        assert_eq!(Width::Columns(200).wrap("- ", text), format!("- {text}\n"));
        assert_eq!(Width::Unbounded.wrap("- ", text), format!("- {text}\n"));
        assert_eq!(Width::Columns(30).wrap("- ", ""), "- \n");
    }
}
