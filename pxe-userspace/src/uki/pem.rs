//! PEM: blocks of base64 between lines that say what they are.

use thiserror::Error;

/// A block.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Its label: `CERTIFICATE`, `PRIVATE KEY`.
    pub(super) label: String,
    /// Its headers say that it is encrypted (RFC 1421).
    pub(super) is_encrypted: bool,
    /// The contents.
    pub(super) bytes: Vec<u8>,
}

/// A mistake in a PEM file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PemError {
    /// A block has no end.
    #[error("line {line}: the block \"{label}\" does not end: the file was cut off")]
    NoEnd {
        /// The line on which the block begins.
        line: usize,
        /// The label of the block.
        label: String,
    },
    /// A line is not base64.
    #[error("line {line}: not base64, in the block \"{label}\"")]
    NotBase64 {
        /// The line; that of the block's end if its length is wrong.
        line: usize,
        /// The label of the block.
        label: String,
    },
}

/// Reads all blocks. Text around them is ignored, as openssl does.
pub(super) fn read(file: &[u8]) -> Result<Vec<Block>, PemError> {
    let text = String::from_utf8_lossy(file);
    let mut lines = (1..).zip(text.lines().map(str::trim));
    let mut blocks = Vec::new();
    while let Some((begin, line)) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut decoder = Base64::default();
        let mut is_encrypted = false;
        let not_base64 = |line| PemError::NotBase64 { line, label: label.to_owned() };
        loop {
            let Some((number, line)) = lines.next().filter(|(_, line)| !line.starts_with("-----BEGIN ")) else {
                return Err(PemError::NoEnd { line: begin, label: label.to_owned() });
            };
            if line == end {
                let bytes = decoder.finish().ok_or_else(|| not_base64(number))?;
                blocks.push(Block { label: label.to_owned(), is_encrypted, bytes });
                break;
            }
            if line.contains(':') {
                is_encrypted |= line.contains("ENCRYPTED");
            // The line behind it belongs to the header that names the cipher.
            } else if decoder.add(line).is_none() {
                return Err(not_base64(number));
            }
        }
    }
    Ok(blocks)
}

/// Decodes base64 in lines.
#[derive(Default)]
struct Base64 {
    bytes: Vec<u8>,
    bits: u32,
    digits: usize,
    padding: usize,
}

impl Base64 {
    fn add(&mut self, line: &str) -> Option<()> {
        for byte in line.bytes() {
            if byte == b'=' {
                self.padding += 1;
                continue;
            }
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            if self.padding > 0 {
                return None;
            }
            self.bits = self.bits << 6 | u32::from(value);
            self.digits += 1;
            if self.digits.is_multiple_of(4) {
                self.bytes.extend_from_slice(&self.bits.to_be_bytes()[1..]);
            }
        }
        Some(())
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        match (self.digits % 4, self.padding) {
            (0, 0) => {}
            (2, 2) => self.bytes.push((self.bits >> 4) as u8),
            (3, 1) => self.bytes.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => return None,
        }
        Some(self.bytes)
    }
}
