//! The machine's own part of an image: the section `.cmdline`.

use thiserror::Error;

/// The longest command line in bytes. Linux reads 2,048 bytes including the NUL and drops the rest silently.
pub const LIMIT: usize = 2047;

/// The length of the section in bytes, the same for every machine. EFI stubs stop at the first NUL.
pub const SECTION_LENGTH: usize = 4096;

/// A reason why a command line would not arrive at the kernel as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandLineError {
    /// It is longer than [`LIMIT`].
    #[error(
        "the kernel command line is {0} bytes long, and Linux reads {LIMIT}: shorten the arguments by {excess}; a machine \
         configuration fits by its URL (talos.config=http://…)",
        excess = .0 - LIMIT
    )]
    TooLong(usize),
    /// It has a control character, which the stub would make a space of, or at which it would end the line.
    #[error("the kernel command line has the control character U+{:04X}: remove it", u32::from(*.0))]
    Control(char),
    /// It has a character beyond U+FFFF, which the stub would leave out.
    #[error(
        "the kernel command line has the character {0:?} (U+{code:X}), and EFI stubs drop characters above U+FFFF: remove it",
        code = u32::from(*.0)
    )]
    BeyondUcs2(char),
}

/// Checks that a command line arrives at the kernel as it is written, except for spaces at its ends, which the stub cuts off.
///
/// # Errors
///
/// The stub or the kernel would change or cut it.
pub fn check(line: &str) -> Result<(), CommandLineError> {
    let line = line.trim_matches(' ');
    if let Some(control) = line.chars().find(char::is_ascii_control) {
        return Err(CommandLineError::Control(control));
    }
    if let Some(char) = line.chars().find(|&char| char > '\u{ffff}') {
        return Err(CommandLineError::BeyondUcs2(char));
    }
    if line.len() > LIMIT { Err(CommandLineError::TooLong(line.len())) } else { Ok(()) }
}

/// Returns the contents of the section for a command line. Spaces at its ends are cut off, as the stub would do.
///
/// # Errors
///
/// The stub or the kernel would change or cut the line.
pub fn encode(line: &str) -> Result<[u8; SECTION_LENGTH], CommandLineError> {
    check(line)?;
    let line = line.trim_matches(' ').as_bytes();
    let mut section = [0; SECTION_LENGTH];
    section[..line.len()].copy_from_slice(line);
    Ok(section)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what systemd's stub makes of a section: it ends at the first NUL, leaves out what UCS-2 cannot say, turns control
    /// characters into spaces and cuts both ends.
    fn as_the_stub_reads(section: &[u8]) -> String {
        let end = section.iter().position(|&byte| byte == 0).unwrap_or(section.len());
        let text = String::from_utf8_lossy(&section[..end]).into_owned();
        let spaced: String = text
            .chars()
            .filter(|&char| u32::from(char) <= 0xffff)
            .map(|char| if u32::from(char) <= 0x20 || char == '\x7f' { ' ' } else { char })
            .collect();
        spaced.trim_matches(' ').to_owned()
    }

    proptest! {
        #[test]
        fn line_that_is_accepted_arrives_as_it_is(line in "(?s).{0,300}") {
            if let Ok(section) = encode(&line) {
                prop_assert_eq!(as_the_stub_reads(&section), line.trim_matches(' '));
            } else {
                let section = [line.trim_matches(' ').as_bytes(), b"\0"].concat();
                prop_assert_ne!(as_the_stub_reads(&section), line.trim_matches(' '), "refused without a reason");
            }
        }

        #[test]
        fn printable_line_is_accepted_up_to_the_limit(line in r"[ -~äß€\u{fffd}]{0,900}") {
            prop_assert_eq!(encode(&line).is_ok(), line.trim_matches(' ').len() <= LIMIT);
        }
    }

    #[test]
    fn limit_is_in_bytes() {
        assert!(encode(&"x".repeat(LIMIT)).is_ok());
        assert_eq!(encode(&"x".repeat(LIMIT + 1)), Err(CommandLineError::TooLong(LIMIT + 1)));
        assert_eq!(encode(&"ü".repeat(1024)), Err(CommandLineError::TooLong(2048)));
        assert!(encode(&format!("  {}  ", "x".repeat(LIMIT))).is_ok(), "spaces at the ends are not counted");
    }

    #[test]
    fn error_says_what_to_do() {
        let errors = ["a\nb", "a\0b", "a😀", &"x".repeat(2050)].map(|line| check(line).unwrap_err().to_string());
        assert_eq!(
            errors,
            [
                "the kernel command line has the control character U+000A: remove it",
                "the kernel command line has the control character U+0000: remove it",
                "the kernel command line has the character '😀' (U+1F600), and EFI stubs drop characters above U+FFFF: \
                 remove it",
                "the kernel command line is 2050 bytes long, and Linux reads 2047: shorten the arguments by 3; a machine \
                 configuration fits by its URL (talos.config=http://…)",
            ]
        );
    }
}
