//! The authorities that pxed trusts in the container image: Mozilla's, in the version that `Cargo.lock` names, so that two builds have the same.

use std::fmt::Write as _;

use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// The characters of base64.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes of a line of 64 characters.
const LINE: usize = 48;

/// Returns the certificates in PEM.
pub(super) fn pem() -> String {
    TLS_SERVER_ROOT_CERTS.iter().map(|certificate| block(certificate)).collect()
}

fn block(der: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in der.chunks(LINE) {
        let _ = writeln!(text, "{}", base64(line));
    }
    text + "-----END CERTIFICATE-----\n"
}

fn base64(bytes: &[u8]) -> String {
    let group = |bytes: &[u8]| {
        let bits = (0..3).fold(0, |bits, place| bits << 8 | usize::from(bytes.get(place).copied().unwrap_or(0)));
        let digit = |place: usize| match place <= bytes.len() {
            true => char::from(ALPHABET[bits >> (18 - 6 * place) & 63]),
            false => '=',
        };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}\u{3ff}", "w7/Pvw=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn certificates_are_many_blocks_of_short_lines() {
        let pem = pem();
        assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----\n").count(), TLS_SERVER_ROOT_CERTS.len());
        assert!(TLS_SERVER_ROOT_CERTS.len() > 50 && pem.lines().all(|line| line.len() <= 64));
    }
}
