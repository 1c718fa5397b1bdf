//! SHA-256 of what is distributed.

use std::{collections::BTreeMap, fmt::Write as _};

use ring::digest::{SHA256, digest};

/// Returns the hash in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the text that `sha256sum --check` reads, for files by their names.
pub(super) fn list(files: &BTreeMap<String, Vec<u8>>) -> String {
    files.iter().map(|(name, content)| format!("{}  {name}\n", sha256(content))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_what_sha256sum_reads() {
        let files = BTreeMap::from([("b".to_owned(), Vec::new()), ("a".to_owned(), b"abc".to_vec())]);
        assert_eq!(
            list(&files),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"
        );
    }
}
