//! Removes secrets from texts that people pass on. Pure.
//!
//! | in a text | becomes |
//! |---|---|
//! | a known secret, as it is and in every encoding below | `***` |
//! | kernel arguments whose values may be secrets ([`secrets`](super::secrets)) | `name=***` |
//! | the value of a key such as `password`, `token`, `…secret…`, `…key`, in YAML, JSON, TOML, options and variables, also over several lines and within `{…}` | `***` |
//! | user and password of a URL, the values of its query | `***@`, `name=***` |
//! | the unguessable part of a machine's path ([`MachinePath`]) | `***` |
//! | what follows `Bearer` and `Basic` | `***` |
//! | a PEM block | its first line |
//! | a long word that looks like Base64 or like a number in base 16, unless it is a hash of 64 digits | `***` |

use std::fmt::Write as _;

mod flow;

use super::{machine_path::MachinePath, secrets};

/// What stands for a secret.
const MASK: &str = "***";
/// The shortest secret that is looked for everywhere.
const SHORTEST: usize = 4;
/// The shortest word that may be an encoded secret.
const LONG_WORD: usize = 24;
/// The digits of a hash, and of a schematic of the Image Factory.
const HASH: usize = 64;

/// Parts of names whose values are secrets, without `-`, `_` and `.`.
const SECRET_NAMES: [&str; 10] =
    ["apikey", "auth", "cookie", "credential", "passphrase", "passw", "privatekey", "secret", "session", "token"];
/// Names that contain such a part, and whose values are none.
const HARMLESS_NAMES: [&str; 3] = ["pxeddev/secrets", "secrets", "author"];

/// The secrets that are known.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    /// In every encoding, the longest first.
    known: Vec<String>,
}

/// The lines that belong to a key above them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    /// They are as any other.
    Nothing,
    /// Kernel arguments, as far as they are indented by more than this.
    Arguments(usize),
    /// A secret, likewise.
    Secret(usize),
    /// A PEM block, up to its end.
    Pem,
}

impl Redaction {
    /// Removes this secret, too, wherever it stands.
    pub fn learn(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        self.known.extend(encodings(secret));
        self.known.sort_by_key(|known| std::cmp::Reverse(known.len()));
        self.known.dedup();
    }

    /// Learns the kernel arguments in a spec whose values may be secrets.
    pub fn learn_arguments_of(&mut self, spec: &str) {
        let mut outer = None;
        for line in spec.lines() {
            let indent = indent_of(line);
            for flow::Value { name, value, .. } in flow::values(line) {
                if is_arguments(name) {
                    self.learn_arguments(value.trim_matches(['"', '\'']));
                }
            }
            let arguments = match key_of(line) {
                Some((name, rest)) if is_arguments(name) => {
                    outer = Some(indent);
                    rest.trim().trim_matches(['"', '\'', '|', '>', '-'])
                }
                _ if outer.is_some_and(|outer| indent > outer) => line.trim().trim_end_matches(['"', '\'']),
                _ => {
                    outer = None;
                    continue;
                }
            };
            self.learn_arguments(arguments);
        }
    }

    fn learn_arguments(&mut self, arguments: &str) {
        for value in secrets::secret_values(arguments) {
            self.learn(value);
            // Its parts may stand elsewhere by themselves: user and password, and the values of a query.
            let authority = value.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
            let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
            let query = value.split(['?', '&']).skip(1).filter_map(|part| part.split_once('='));
            user.split(':').chain(query.map(|(_, value)| value)).for_each(|part| self.learn(part));
        }
    }

    /// Returns a text without secrets. It has as many lines.
    #[must_use]
    pub fn of(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for known in &self.known {
            if text.contains(known.as_str()) {
                text = text.replace(known.as_str(), MASK);
            }
        }
        let mut below = Below::Nothing;
        let mut redacted = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
            redacted.push_str(&in_line(line, &mut below));
            redacted.push_str(end);
        }
        redacted
    }
}

/// Returns a secret in every encoding in which a report may hold it.
fn encodings(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let percent = |of: fn(u8) -> bool| {
        let mut text = String::new();
        for byte in secret.bytes() {
            // Writing to a string cannot fail, here and below.
            let _ = if of(byte) { write!(text, "{}", char::from(byte)) } else { write!(text, "%{byte:02X}") };
        }
        text
    };
    let hex = secret.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let base64 = |alphabet: &[u8; 64]| base64(secret.as_bytes(), alphabet);
    let all = [
        secret.to_owned(),
        json.trim_matches('"').to_owned(),
        secret.escape_debug().to_string(),
        secret.replace('\'', "''"),
        percent(|byte| byte.is_ascii_alphanumeric()),
        percent(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
        hex.to_uppercase(),
        hex,
        base64(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"),
        base64(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
    ];
    all.into_iter().filter(|encoded| encoded.len() >= SHORTEST).collect()
}

/// Encodes without padding (RFC 4648 §4).
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = word >> (18 - 6 * place) & 63;
            text.push(char::from(alphabet[index as usize]));
        }
    }
    text
}

fn in_line(line: &str, below: &mut Below) -> String {
    if line.contains("-----BEGIN ") {
        let begin = line.find("-----BEGIN ").unwrap_or_default();
        *below = if line.contains("-----END ") { Below::Nothing } else { Below::Pem };
        let label: String =
            line[begin..].chars().skip(11).take_while(|c| c.is_ascii_uppercase() || *c == ' ').collect();
        return format!("-----BEGIN {}----- (removed)", label.trim_end());
    }
    if *below == Below::Pem {
        if line.contains("-----END ") {
            *below = Below::Nothing;
        }
        return MASK.to_owned();
    }
    let indent = indent_of(line);
    let blank = line.trim().is_empty();
    match *below {
        Below::Arguments(outer) if indent > outer => {
            return format!("{:indent$}{}", "", secrets::masked_arguments(line));
        }
        Below::Secret(outer) if indent > outer => return format!("{:indent$}{MASK}", ""),
        Below::Arguments(_) | Below::Secret(_) if blank => return String::new(),
        _ => *below = Below::Nothing,
    }
    if let Some((name, rest)) = key_of(line) {
        let value = rest.trim();
        if is_arguments(name) {
            *below = Below::Arguments(indent);
            let end = line.len() - rest.len();
            return format!("{}{}", &line[..end], arguments_in(rest));
        }
        if is_secret(name) {
            *below = Below::Secret(indent);
            if value.is_empty() || value.starts_with(['|', '>']) {
                return line.to_owned();
            }
            let comma = if value.ends_with(',') { "," } else { "" };
            return format!("{} {MASK}{comma}", line[..line.len() - rest.len()].trim_end());
        }
    }
    words_in(&in_flow(line))
}

/// Masks the secrets of mappings that are written in one line.
fn in_flow(line: &str) -> String {
    let (mut masked, mut end) = (String::with_capacity(line.len()), 0);
    for flow::Value { name, value, range } in flow::values(line) {
        // Anything within a secret is gone with it.
        if range.start < end {
            continue;
        }
        let instead = match () {
            () if is_arguments(name) => arguments_in(value).trim_start().to_owned(),
            () if is_secret(name) => MASK.to_owned(),
            () => continue,
        };
        masked.push_str(&line[end..range.start]);
        masked.push_str(&instead);
        end = range.end;
    }
    masked + &line[end..]
}

/// Returns the column of the key in a line, also of the first one of an entry of a list.
fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// Splits a line of YAML, JSON or TOML into its key and what follows the sign behind it.
fn key_of(line: &str) -> Option<(&str, &str)> {
    let at = line.find([':', '='])?;
    let key = line[..at].trim_start_matches([' ', '-', '{', '+', '\t']).trim_matches([' ', '"', '\'']);
    let is_key = !key.is_empty() && !key.contains(char::is_whitespace) && !line[at..].starts_with("://");
    is_key.then(|| (key, &line[at + 1..]))
}

fn is_arguments(name: &str) -> bool {
    let name = plain(name);
    ["kernelcmdlineargs", "kernelargs", "kernelarguments", "cmdline"].contains(&&*name)
}

fn is_secret(name: &str) -> bool {
    let name = plain(name);
    !HARMLESS_NAMES.contains(&&*name)
        && (SECRET_NAMES.iter().any(|part| name.contains(part))
            || name.ends_with("key")
            || name == "pwd"
            || name == "pass")
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !"-_.".contains(*c)).flat_map(char::to_lowercase).collect()
}

/// Masks the value of a key with kernel arguments, which may be quoted.
fn arguments_in(value: &str) -> String {
    let trimmed = value.trim();
    let comma = if trimmed.ends_with(',') { "," } else { "" };
    let bare = trimmed.trim_end_matches(',');
    let quote = bare.chars().next().filter(|first| "'\"".contains(*first) && bare.len() > 1 && bare.ends_with(*first));
    if bare.is_empty() || bare.starts_with(['|', '>']) {
        return value.to_owned();
    }
    let quoted = quote.map(String::from).unwrap_or_default();
    let inner = if quote.is_some() { &bare[1..bare.len() - 1] } else { bare };
    format!(" {quoted}{}{quoted}{comma}", secrets::masked_arguments(&inner.replace("\\\"", "\"")))
}

/// Masks the words of a line that may hold secrets.
fn words_in(line: &str) -> String {
    let mut redacted = String::with_capacity(line.len());
    let mut is_credential = false;
    for piece in line.split_inclusive(|c: char| c.is_whitespace() || "\"'`<>()[]{}|,;".contains(c)) {
        let word = piece.trim_end_matches(|c: char| c.is_whitespace() || "\"'`<>()[]{}|,;".contains(c));
        let end = &piece[word.len()..];
        if word.is_empty() {
            redacted.push_str(end);
            continue;
        }
        if is_credential {
            redacted.push_str(MASK);
        } else {
            redacted.push_str(&in_word(word));
        }
        is_credential = ["bearer", "basic"].contains(&&*word.to_lowercase()) && end.starts_with(' ');
        redacted.push_str(end);
    }
    redacted
}

fn in_word(word: &str) -> String {
    let (mut start, mut rest) = (String::new(), word);
    if let Some(at) = rest.find("://") {
        let (scheme, behind) = rest.split_at(at + 3);
        let authority = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        start.push_str(scheme);
        rest = behind;
        if let Some(user) = behind[..authority].rfind('@') {
            start.push_str(MASK);
            rest = &behind[user..];
        }
    } else if let Some((name, value)) = word.split_once('=')
        && !name.contains(['/', '?'])
    {
        let value =
            if is_secret(name.trim_start_matches('-')) && !value.is_empty() { MASK.to_owned() } else { in_word(value) };
        return format!("{name}={value}");
    }
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let mut masked = start + &in_path(path);
    for (index, part) in query.split_inclusive(['?', '&']).enumerate() {
        let (part, end) = part.strip_suffix(['?', '&']).map_or((part, ""), |bare| (bare, &part[part.len() - 1..]));
        masked += &match part.split_once('=') {
            Some((name, _)) => format!("{name}={MASK}"),
            // Behind the sign, a part without a name may be anything.
            None if part.is_empty() || index == 0 => part.to_owned(),
            None => MASK.to_owned(),
        };
        masked.push_str(end);
    }
    masked
}

fn in_path(path: &str) -> String {
    let (front, path) = path.split_at(path.find("/boot/").unwrap_or(path.len()));
    let masked = String::from_utf8_lossy(&MachinePath::masked(path.as_bytes())).into_owned();
    let whole = format!("{front}{masked}");
    whole
        .split_inclusive('/')
        .map(|part| {
            let (part, end) = part.strip_suffix('/').map_or((part, ""), |bare| (bare, "/"));
            format!("{}{end}", if may_be_encoded(part) { MASK } else { part })
        })
        .collect()
}

/// Returns `true` for a word that looks like Base64 or like a number in base 16.
fn may_be_encoded(word: &str) -> bool {
    let bare = word.trim_end_matches('=');
    let has = |of: fn(&u8) -> bool| bare.bytes().any(|byte| of(&byte));
    let is_base64 = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_".contains(&byte));
    let is_hex = bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    bare.len() >= LONG_WORD && (is_base64 && is_mixed || is_hex && bare.len() != HASH)
}

#[cfg(test)]
mod tests;
