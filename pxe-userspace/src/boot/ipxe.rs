//! Quotes text from outside for iPXE's script language.
//!
//! iPXE has no quoting. It splits a line at white space, ends a command at a word that is `||`, `&&` or `;`, ignores
//! everything from a word that begins with `#`, and joins a line that ends in `\` with the next. It then expands
//! `${setting}` in each word and joins the words of a kernel's arguments with single spaces. Quotes and backslashes inside a
//! line have no special meaning.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::model::{inventory::Machine, policy::BootPolicy};

/// Kernel arguments as words of a script line, with the lines that must precede it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// `set` commands, one on each line with its newline; empty if none are needed.
    pub settings: String,
    /// The words to write after the command and its URL.
    pub words: String,
}

/// Encodes `arguments` so that iPXE passes them to the kernel byte for byte, but still expands settings: `${uuid}`,
/// `${serial}`, `${mac}` and every other `${…}` in them.
///
/// A byte that the script language would interpret becomes the setting `${byteNN:string}`, which is expanded only after the
/// line has been split. A run of spaces becomes words that expand to nothing. Only NUL cannot be encoded, since it ends a
/// string, so it is dropped; a kernel would end its command line there.
#[must_use]
pub fn arguments(arguments: &str) -> Arguments {
    let mut escaped = BTreeSet::new();
    let mut words = String::with_capacity(arguments.len());
    let count = arguments.split(' ').count();
    for (index, word) in arguments.split(' ').enumerate() {
        if index > 0 {
            words.push(' ');
        }
        if word.is_empty() && count > 1 {
            words.push_str("${nothing}");
        }
        let is_last = index + 1 == count;
        let is_terminator = matches!(word, "||" | "&&" | ";");
        let last_byte = word.len().saturating_sub(1);
        if !is_terminator && !word.bytes().any(|byte| byte.is_ascii_control() || matches!(byte, b'#' | b'\\')) {
            words.push_str(word);
            continue;
        }
        for (position, character) in word.char_indices() {
            let eaten = character.is_ascii_control()
                || (position == 0 && (is_terminator || character == '#'))
                || (position == last_byte && is_last && character == '\\');
            match (character, eaten) {
                ('\0', _) => {}
                (_, true) => {
                    let byte = u32::from(character);
                    escaped.insert(byte);
                    let _ = write!(words, "${{byte{byte:02x}:string}}");
                }
                (_, false) => words.push(character),
            }
        }
    }
    let settings = escaped.iter().fold(String::new(), |mut settings, byte| {
        let _ = writeln!(settings, "set byte{byte:02x}:hex {byte:02x}");
        settings
    });
    Arguments { settings, words }
}

/// Encodes text for the console: everything that the script language or a terminal could interpret becomes `?`, so that a
/// name in the spec can never become a command.
#[must_use]
pub fn screen_text(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | ' ' | '-');
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_plain(c) { c } else { '?' }).collect()
}

/// Returns the machine's name for the screen.
#[must_use]
pub fn name_of(machine: &Machine) -> String {
    match &machine.hostname {
        Some(hostname) => format!("{} {}", screen_text(hostname), machine.mac),
        None => machine.mac.to_string(),
    }
}

/// Returns, for the screen of a machine that boots from its disk, how it comes back to the network. A hold of the spec is not ended by
/// `pxed release`.
#[must_use]
pub fn way_back(machine: &Machine) -> String {
    let mac = machine.mac;
    match machine.policy {
        BootPolicy::Hold => format!("its boot policy in the spec is hold: pxed explain {mac} says how to end that"),
        _ => format!("to boot it from the network again: pxed release {mac}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Returns the arguments that iPXE would pass for a script whose last line is `kernel URL words…`. It mimics iPXE's
    /// parser.
    fn ipxe_reads(script: &str) -> Option<String> {
        let is_space = |c: char| matches!(c, ' ' | '\x09'..='\x0d');
        let mut settings: HashMap<String, String> = HashMap::new();
        let mut line = String::new();
        for piece in script.split('\n') {
            line.push_str(piece.strip_suffix('\r').unwrap_or(piece));
            if let Some(continued) = line.strip_suffix('\\') {
                line = continued.to_owned();
                continue;
            }
            let words: Vec<&str> = line.split(is_space).filter(|word| !word.is_empty()).collect();
            let end = words.iter().position(|word| word.starts_with('#') || matches!(*word, "||" | "&&" | ";"));
            let words = &words[..end.unwrap_or(words.len())];
            let expand = |word: &str| {
                let mut word = word.to_owned();
                while let Some(close) = word.find("${").and_then(|open| word[open..].find('}').map(|at| open + at)) {
                    let open = word[..close].rfind("${").unwrap();
                    let name = word[open + 2..close].trim_end_matches(":string");
                    let value = settings.get(name).cloned().unwrap_or_default();
                    word.replace_range(open..=close, &value);
                }
                word
            };
            match words {
                ["set", name, value] => {
                    let byte = u8::from_str_radix(value, 16).unwrap();
                    settings.insert(name.trim_end_matches(":hex").to_owned(), char::from(byte).to_string());
                }
                ["kernel", _, arguments @ ..] => {
                    return Some(arguments.iter().map(|word| expand(word)).collect::<Vec<_>>().join(" "));
                }
                _ => {}
            }
            line.clear();
        }
        None
    }

    fn round_trip(text: &str) -> String {
        let Arguments { settings, words } = arguments(text);
        let script = format!("#!ipxe\n{settings}kernel http://10.0.0.1/vmlinuz first {words}\nboot\n");
        let read = ipxe_reads(&script).unwrap_or_else(|| panic!("no kernel line in {script:?}"));
        read.strip_prefix("first").and_then(|rest| rest.strip_prefix(' ')).unwrap_or_default().to_owned()
    }

    #[test]
    fn arguments_survive_the_script_language() {
        for text in [
            "talos.config.inline=eJwrSS0uAQAEXQHB+/==",
            r#"dyndbg="file drivers/net/* +p" x='y z' a\b"#,
            "a  b   c",
            " leading and trailing ",
            "#comment a #b c#d",
            "a || b && c ; d ;e &&f",
            "tab\there",
            "two\nlines\r\n",
            "ends in a backslash\\",
            "back\\ slash",
            "&lt;not escaped&gt; <>&",
            "$notasetting ${ }",
            "ünïcode=✓",
            "--flag -x",
        ] {
            assert_eq!(round_trip(text), text, "{text:?}");
        }
    }

    #[test]
    fn plain_arguments_are_written_as_they_are() {
        let text = "console=ttyS1,115200n8 talos.config=http://10.0.0.1/c?u=${uuid}&m=${mac} a+b/c=";
        assert_eq!(arguments(text), Arguments { settings: String::new(), words: text.to_owned() });
    }

    #[test]
    fn name_cannot_become_a_command() {
        assert_eq!(screen_text("node-1.lab ${x}; reboot || #\n"), "node-1.lab ??x?? reboot ?? ??");
    }

    proptest! {
        #[test]
        fn any_arguments_survive(text in "[ -#&-~a;|\\\\\t\r\n\u{b}é]{0,40}") {
            prop_assert_eq!(round_trip(&text), text);
        }
    }
}
