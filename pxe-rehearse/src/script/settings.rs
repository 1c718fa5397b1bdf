//! iPXE's settings: `${name}`, `${net0/name}`, `${name:type}`.

use std::collections::BTreeMap;

/// The values of settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
}

/// The length at which an expansion is cut, because scripts come from outside and must not exhaust memory.
const MAX_LINE: usize = 64 * 1024;

impl Settings {
    /// Sets a setting, or clears it if the value is empty.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let name = base_name(name);
        if value.is_empty() {
            self.values.remove(name);
        } else {
            self.values.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Returns the value of a setting, which is empty if it is not set.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.values.get(base_name(name)).map_or("", String::as_str)
    }

    /// Replaces every `${…}`, innermost first, as iPXE does.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Values are expanded again, so a value that names itself needs a bound.
        for _ in 0..1000 {
            let Some(open) = text.find("${") else { break };
            let Some(close) = text[open..].find('}').map(|at| open + at) else { break };
            let Some(start) = text[..close].rfind("${") else { break };
            let value = self.value_of(&text[start + 2..close]);
            text.replace_range(start..=close, &value);
            if text.len() > MAX_LINE {
                break;
            }
        }
        text
    }

    fn value_of(&self, reference: &str) -> String {
        let (name, kind) = reference.split_once(':').unwrap_or((reference, ""));
        let value = self.get(name);
        match kind {
            "hexhyp" => value.replace(':', "-"),
            "hexraw" => value.chars().filter(char::is_ascii_hexdigit).collect(),
            "uristring" => percent_encode(value),
            _ => value.to_owned(),
        }
    }
}

/// Returns the name of a setting without its scope and its type. There is one network card, so `net0/mac`, `netX/mac` and
/// `mac` are the same. A type in the name of a `set` only says how the text is read.
fn base_name(name: &str) -> &str {
    let name = name.split(':').next().unwrap_or_default();
    name.rsplit('/').next().unwrap_or_default()
}

/// Escapes the characters that are not unreserved in URLs (RFC 3986 §2.3).
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_expand_as_in_ipxe() {
        let mut settings = Settings::default();
        for (name, value) in [
            ("mac", "52:54:00:aa:bb:cc"),
            ("which", "mac"),
            ("hostname", "a b/c"),
            ("net0/ip", "10.0.0.7"),
            ("loop", "${loop}"),
        ] {
            settings.set(name, value);
        }
        for (text, expected) in [
            ("${mac}", "52:54:00:aa:bb:cc"),
            ("${net0/mac}", "52:54:00:aa:bb:cc"),
            ("m=${mac:hexhyp}&h=${hostname:uristring}", "m=52-54-00-aa-bb-cc&h=a%20b%2Fc"),
            ("${mac:hexraw}", "525400aabbcc"),
            ("${${which}}", "52:54:00:aa:bb:cc"),
            ("${ip}", "10.0.0.7"),
            ("a${nothing}b", "ab"),
            ("a${open", "a${open"),
            ("}${ip}", "}10.0.0.7"),
            ("${loop}", "${loop}"),
        ] {
            assert_eq!(settings.expand(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in "[${}:/a\\PC]*", value in "[${}a]*") {
            let mut settings = Settings::default();
            settings.set("a", &value);
            let _ = settings.expand(&text);
        }
    }
}
