//! The unguessable part of a URL below which a machine finds what holds its secrets.

use std::fmt;

/// The length of a token as text.
pub const TOKEN_LENGTH: usize = 32;

/// The characters of a token as text (RFC 4648 §5), which URLs, iPXE and GRUB leave alone.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The unguessable part of a URL. It carries what it was made from, so that nothing has to be remembered.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The time at which it was made, in seconds since 1970.
    pub made: u32,
    /// Another number for each boot.
    pub nonce: u32,
    /// The proof that this node made it.
    pub tag: [u8; 16],
}

impl Token {
    /// Reads a token; `None` if the text is none. Each token has one spelling.
    ///
    /// ```
    /// use pxe_userspace::model::token::Token;
    ///
    /// let token = Token { made: 1, nonce: 2, tag: [0xff; 16] };
    /// assert_eq!(token.text(), *b"AAAAAQAAAAL_____________________");
    /// assert_eq!(Token::parse(&token.text()), Some(token));
    /// assert_eq!(Token::parse(b"config.yaml"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; TOKEN_LENGTH] = text.try_into().ok()?;
        let mut bytes = [0; 24];
        for (bytes, digits) in bytes.chunks_exact_mut(3).zip(text.chunks_exact(4)) {
            let mut value = 0;
            for &digit in digits {
                let digit = ALPHABET.iter().position(|&known| known == digit)?;
                value = value << 6 | u32::try_from(digit).ok()?;
            }
            bytes.copy_from_slice(&value.to_be_bytes()[1..]);
        }
        let [a, b, c, d, e, f, g, h, tag @ ..] = bytes;
        Some(Self { made: u32::from_be_bytes([a, b, c, d]), nonce: u32::from_be_bytes([e, f, g, h]), tag })
    }

    /// Returns the token as text.
    #[must_use]
    pub fn text(&self) -> [u8; TOKEN_LENGTH] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&self.made.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[8..].copy_from_slice(&self.tag);
        let mut text = [0; TOKEN_LENGTH];
        for (digits, bytes) in text.chunks_exact_mut(4).zip(bytes.chunks_exact(3)) {
            let value = bytes.iter().fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
            for (digit, shift) in digits.iter_mut().zip([18, 12, 6, 0]) {
                *digit = ALPHABET[value >> shift & 63];
            }
        }
        text
    }
}

/// Hides the token: it must not get into a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The tokens of the URLs in one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// That of the machine's script and of its unified kernel image. `None` if its URLs have none.
    pub boot: Option<Token>,
    /// That of its machine configuration.
    pub config: Option<Token>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn token_has_one_spelling(made: u32, nonce: u32, tag: [u8; 16], at in 0..TOKEN_LENGTH, other: u8) {
            let token = Token { made, nonce, tag };
            let text = token.text();
            prop_assert_eq!(Token::parse(&text), Some(token));
            prop_assert!(text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)));
            let mut altered = text;
            altered[at] = other;
            prop_assert_eq!(Token::parse(&altered) == Some(token), altered == text);
        }

        #[test]
        fn any_text_is_read(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(token) = Token::parse(&text) {
                prop_assert_eq!(&token.text()[..], &text[..]);
            }
        }
    }

    #[test]
    fn token_is_hidden_in_logs() {
        let token = Token { made: 1, nonce: 2, tag: [3; 16] };
        assert_eq!(format!("{token:?}"), "Token(…)");
        let tokens = Tokens { boot: Some(token), config: None };
        assert_eq!(format!("{tokens:?}"), "Tokens { boot: Some(Token(…)), config: None }");
    }
}
