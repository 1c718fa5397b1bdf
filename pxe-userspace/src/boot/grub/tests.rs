use std::{path::Path, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::model::{
    inventory::{Site, Source},
    testing::{assert_golden, machine},
};

/// Returns the words of a command line. It mimics GRUB's `yylex.l`, without its variables.
fn shell_reads(line: &str) -> Vec<String> {
    let (mut words, mut word, mut characters) = (Vec::new(), None::<String>, line.chars());
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let quoted: String = characters.by_ref().take_while(|&character| character != '\'').collect();
                *word.get_or_insert_default() += &quoted;
            }
            '\\' => word.get_or_insert_default().push(characters.next().unwrap()),
            '{' | '}' | '|' | '&' | '$' | ';' | '<' | '>' | '"' | '\n' | '#' | '*' | '?' => {
                panic!("{character} has a meaning in {line:?}")
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Returns the kernel command line that GRUB makes of words (`grub_create_loader_cmdline`).
fn grub_joins(words: &[String]) -> String {
    let one = |word: &String| {
        let escaped: String = word
            .chars()
            .flat_map(|character| matches!(character, '\\' | '\'' | '"').then_some('\\').into_iter().chain([character]))
            .collect();
        if word.contains(' ') { format!("\"{escaped}\"") } else { escaped }
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Returns the parameters that Linux makes of a command line (`next_arg` in `lib/cmdline.c`).
fn linux_reads(line: &str) -> Vec<(String, Option<String>)> {
    let (mut parameters, mut rest) = (Vec::new(), line.as_bytes());
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return parameters;
        }
        let quoted = rest[0] == b'"';
        rest = &rest[usize::from(quoted)..];
        let (mut in_quote, mut equals, mut end) = (quoted, 0, 0);
        while end < rest.len() {
            if rest[end].is_ascii_whitespace() && !in_quote {
                break;
            }
            if equals == 0 && rest[end] == b'=' {
                equals = end;
            }
            in_quote ^= rest[end] == b'"';
            end += 1;
        }
        let mut word = &rest[..end];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ends_quoted = word.last() == Some(&b'"');
        if equals == 0 {
            if quoted && ends_quoted {
                word = &word[..end - 1];
            }
            parameters.push((text(word), None));
        } else {
            let mut value = &word[equals + 1..];
            let value_quoted = value.first() == Some(&b'"');
            if value_quoted {
                value = &value[1..];
            }
            if (quoted || value_quoted) && ends_quoted && !value.is_empty() {
                value = &value[..value.len() - 1];
            }
            parameters.push((text(&word[..equals]), Some(text(value))));
        }
        rest = &rest[end..];
    }
}

/// Returns the kernel command line for these arguments.
fn booted_with(arguments: &str) -> String {
    grub_joins(&shell_reads(&quoted(arguments)))
}

#[test]
fn arguments_arrive_byte_for_byte() {
    for text in [
        "talos.config.inline=eJwrSS0uAQAEXQHB+/== quiet",
        "talos.config=http://10.0.0.1/c?u=${uuid}&m=${mac}#x",
        "a;b && c || d # e {f} $g $(h) `i` <j> * ? [k] ~ !l if then fi done } {",
        "two  spaces   stay",
        " and at both ends ",
        "ünïcode=✓",
        "\"the whole is quoted\"",
    ] {
        assert_eq!(booted_with(text), text, "{text}");
        assert!(!is_altered(text), "{text}");
    }
}

/// The command line has other quotes, but the kernel's parameters are the same.
#[test]
fn quoted_values_have_the_same_meaning() {
    for (text, line) in [
        (r#"dyndbg="file drivers/net/* +p" x"#, r#""dyndbg=file drivers/net/* +p" x"#),
        (r#"a="b""#, "a=b"),
        (r#"a="" b"#, "a= b"),
        (r#"a="b  c=d" e"#, r#""a=b  c=d" e"#),
        (r#"a="not closed at all"#, r#""a=not closed at all""#),
        ("a=\"two\nlines\"\nb\tc", "\"a=two lines\" b c"),
    ] {
        assert_eq!(booted_with(text), line);
        assert_eq!(linux_reads(line), linux_reads(&text.replace('\n', " ")), "{text}");
        assert!(!is_altered(text), "{text}");
    }
}

#[test]
fn quotes_and_backslashes_that_grub_escapes_are_reported() {
    for (text, line) in [
        ("x='y'", r"x=\'y\'"),
        (r"C:\dir", r"C:\\dir"),
        (r#"a"b c"d"#, r#""a\"b c\"d""#),
        (r#"a="b"c"#, r#"a=\"b\"c"#),
        ("a=\"b\tc\"", "a=\\\"b\tc\\\""),
    ] {
        assert_eq!(booted_with(text), line);
        assert!(is_altered(text), "{text}");
    }
}

proptest! {
    #[test]
    fn any_arguments_without_backslashes_keep_their_meaning(text in "[ -&(-\\[\\]-~=\" \t\n\u{e9}]{0,40}") {
        if !is_altered(&text) {
            // A line break cannot be passed on. A pair of quotes alone is a parameter without a name, which means nothing.
            let text = text.replace('\n', " ");
            let parameters = |line: &str| {
                linux_reads(line).into_iter().filter(|(name, value)| !(name.is_empty() && value.is_none())).collect::<Vec<_>>()
            };
            prop_assert_eq!(parameters(&booted_with(&text)), parameters(&text));
        }
    }

    #[test]
    fn any_word_is_one_word_to_the_shell(word in "\\PC{0,20}") {
        prop_assert_eq!(shell_reads(&quoted_word(&word)), [word]);
    }
}

/// The server that the machine asks, which is not at the address of its site.
const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn network(machine: &Machine, root: &str) -> String {
    config(machine, SERVER, root, Disposition::Network).unwrap()
}

#[test]
fn configs_match_the_goldens() {
    let node = |architecture| Machine {
        site: Arc::new(Site { interface: "lo".into(), address: Ipv4Addr::new(127, 0, 0, 250) }),
        hostname: Some("node-1".into()),
        kernel_args: "talos.config=http://10.5.0.2/c?u=${uuid} x='y'".into(),
        ..(*machine(1, architecture, "v1.13.0", None)).clone()
    };
    let (amd64, arm64) = (node(Architecture::Amd64), node(Architecture::Arm64));
    golden("amd64.cfg", &network(&amd64, "(tftp,127.0.0.1)"));
    golden("arm64-http.cfg", &network(&arm64, "(http,127.0.0.1:8000)/assets"));
    for (name, disk_route) in
        [("disk.cfg", DiskRoute::Auto), ("disk-exit.cfg", DiskRoute::Exit), ("disk-sanboot.cfg", DiskRoute::Sanboot)]
    {
        golden(name, &config(&Machine { disk_route, ..amd64.clone() }, SERVER, "", Disposition::Disk).unwrap());
    }
    let not_found = Machine { disk_route: DiskRoute::NotFound, ..arm64 };
    assert_eq!(config(&not_found, SERVER, "", Disposition::Disk), None);
    assert!(config(&not_found, SERVER, "", Disposition::Network).is_some());
}

fn golden(name: &str, config: &str) {
    assert_golden(&format!("src/boot/grub/golden/{name}"), config);
}

/// Every text of the spec stands in single quotes or as one word.
#[test]
fn text_of_the_spec_never_becomes_a_command() {
    let hostile = Machine {
        kernel_args: "a\nreboot; 'halt' \"$(reboot)\" `x` }".into(),
        hostname: Some("x'; reboot; '\n".into()),
        cluster: "${cls}'\nhalt".into(),
        version: "v1'; halt".into(),
        source: Source { file: Arc::from(Path::new("a' b\nhalt.yaml")), line: 1 },
        ..(*machine(1, Architecture::Amd64, "v1.13.0", None)).clone()
    };
    let (config, plain) =
        (network(&hostile, "(tftp,1)"), network(&machine(1, Architecture::Amd64, "v1.13.0", None), "(tftp,1)"));
    let lines = |text: &str| text.lines().count();
    assert_eq!(lines(&config), lines(&plain) + 1, "only the note about backslashes is more:\n{config}");
    let linux = config.lines().find_map(|line| line.trim().strip_prefix("if linux ")?.strip_suffix("; then")).unwrap();
    let words = shell_reads(linux);
    assert_eq!(words[0], "(tftp,1)/vmlinuz-v1'; halt-amd64");
    assert!(words.iter().any(|word| word == "reboot;"), "{words:?}");
    for line in config.lines().filter(|line| line.trim().starts_with("echo '")) {
        assert_eq!(shell_reads(line.trim()).len(), 2, "{line}");
    }
}
