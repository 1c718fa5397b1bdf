//! Makes and checks the unguessable parts of URLs ([`Token`]): keyed hashes, so that nothing has to be remembered.
//!
//! A token belongs to a machine, to the address of this node that the URL names, and to a purpose. It carries the time at which it was made
//! and a number for each boot. Who knows one for a machine's script can make none for its configuration, nor for another machine, nor
//! one that lives longer.

use std::{
    fmt,
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use pxe_common::MacAddr;
use ring::hmac;
use subtle::ConstantTimeEq as _;

use crate::model::token::{Token, Tokens};

/// The length of the key in bytes.
pub const KEY_LENGTH: usize = 32;

/// The name of what is hashed, so that the key is good for nothing else.
const CONTEXT: &[u8] = b"pxed URL 1";

/// The purpose of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The machine's script and its unified kernel image.
    Boot,
    /// Its machine configuration.
    Config,
}

impl Purpose {
    /// Returns the time for which a token is good. iPXE fetches its script within seconds; firmware may load an image for long, and resume a
    /// download that broke off. Talos asks for its configuration for three hours.
    #[must_use]
    pub const fn life(self) -> Duration {
        match self {
            Self::Boot => Duration::from_secs(3600),
            Self::Config => Duration::from_secs(4 * 3600),
        }
    }
}

/// The reason why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// It was made by somebody else, or for another machine, address or purpose.
    Foreign,
    /// It is too old.
    Expired,
}

impl Refusal {
    /// Returns the reason as a clause.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missing => "this URL lacks the unguessable part",
            Self::Foreign => "the unguessable part of this URL is wrong",
            Self::Expired => "this URL has expired",
        }
    }
}

/// The key of this node.
#[derive(Clone)]
pub struct Guard {
    key: hmac::Key,
    /// Tells keys apart.
    id: [u8; 8],
}

impl Guard {
    /// Creates the guard with this key.
    #[must_use]
    pub fn new(key: &[u8; KEY_LENGTH]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut id = [0; 8];
        id.copy_from_slice(&hmac::sign(&key, b"pxed key 1").as_ref()[..8]);
        Self { key, id }
    }

    /// Makes a token for a machine's files at `server`, an address of this node. `made` is the time, in seconds since 1970.
    #[must_use]
    pub fn token(&self, purpose: Purpose, mac: MacAddr, server: Ipv4Addr, made: u32, nonce: u32) -> Token {
        let mut text = [0; CONTEXT.len() + 19];
        let (context, fields) = text.split_at_mut(CONTEXT.len());
        context.copy_from_slice(CONTEXT);
        fields[0] = purpose as u8;
        fields[1..7].copy_from_slice(&mac.0);
        fields[7..11].copy_from_slice(&server.octets());
        fields[11..15].copy_from_slice(&made.to_be_bytes());
        fields[15..].copy_from_slice(&nonce.to_be_bytes());
        let mut tag = [0; 16];
        tag.copy_from_slice(&hmac::sign(&self.key, &text).as_ref()[..16]);
        Token { made, nonce, tag }
    }

    /// Makes the tokens for an answer with this time and nonce.
    #[must_use]
    pub fn tokens(&self, mac: MacAddr, server: Ipv4Addr, made: u32, nonce: u32) -> Tokens {
        let token = |purpose| Some(self.token(purpose, mac, server, made, nonce));
        Tokens { boot: token(Purpose::Boot), config: token(Purpose::Config) }
    }

    /// Checks a token that a request for the machine's files at `server` has. The comparison takes the same time for every tag.
    ///
    /// A clock that was set back makes tokens come from the future: they are good for as long.
    ///
    /// # Errors
    ///
    /// The reason, if the request is not to be answered.
    pub fn check(
        &self,
        purpose: Purpose,
        token: Option<Token>,
        mac: MacAddr,
        server: Ipv4Addr,
        now: u32,
    ) -> Result<Token, Refusal> {
        let token = token.ok_or(Refusal::Missing)?;
        let expected = self.token(purpose, mac, server, token.made, token.nonce);
        if !bool::from(expected.tag.ct_eq(&token.tag)) {
            return Err(Refusal::Foreign);
        }
        let age = Duration::from_secs(now.abs_diff(token.made).into());
        if age <= purpose.life() { Ok(token) } else { Err(Refusal::Expired) }
    }
}

/// Returns a time as tokens carry it, in seconds since 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The difference of two times is right beyond 2106, too.
    since.as_secs() as u32
}

/// Hides the key.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard(…)")
    }
}

impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Guard {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const NOW: u32 = 1_795_000_000;
    const NONCE: u32 = 0xdead_beef;

    fn guard() -> Guard {
        Guard::new(&[7; KEY_LENGTH])
    }

    fn flipped<const N: usize>(bytes: [u8; N], bit: usize) -> [u8; N] {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    }

    /// Every bit of everything that a token depends on, one by one.
    #[test]
    fn any_changed_bit_is_refused() {
        let guard = guard();
        for purpose in [Purpose::Boot, Purpose::Config] {
            let token = guard.token(purpose, MAC, SERVER, NOW, NONCE);
            let check = |token, mac, server| guard.check(purpose, Some(token), mac, server, NOW);
            assert_eq!(check(token, MAC, SERVER), Ok(token));
            for bit in 0..128 {
                assert_eq!(check(Token { tag: flipped(token.tag, bit), ..token }, MAC, SERVER), Err(Refusal::Foreign));
            }
            for bit in 0..32 {
                let (made, nonce) = (token.made ^ 1 << bit, token.nonce ^ 1 << bit);
                assert_eq!(check(Token { made, ..token }, MAC, SERVER), Err(Refusal::Foreign), "time {bit}");
                assert_eq!(check(Token { nonce, ..token }, MAC, SERVER), Err(Refusal::Foreign), "nonce {bit}");
                let server = flipped(SERVER.octets(), bit).into();
                assert_eq!(check(token, MAC, server), Err(Refusal::Foreign), "server {bit}");
            }
            for bit in 0..48 {
                assert_eq!(check(token, MacAddr(flipped(MAC.0, bit)), SERVER), Err(Refusal::Foreign), "mac {bit}");
            }
            for bit in 0..8 * KEY_LENGTH {
                let other = Guard::new(&flipped([7; KEY_LENGTH], bit));
                assert_eq!(other.check(purpose, Some(token), MAC, SERVER, NOW), Err(Refusal::Foreign), "key {bit}");
                assert_ne!(other, guard);
            }
        }
    }

    #[test]
    fn token_is_good_for_its_purpose_alone() {
        let guard = guard();
        let Tokens { boot, config } = guard.tokens(MAC, SERVER, NOW, NONCE);
        assert_eq!(guard.check(Purpose::Config, boot, MAC, SERVER, NOW), Err(Refusal::Foreign));
        assert_eq!(guard.check(Purpose::Boot, config, MAC, SERVER, NOW), Err(Refusal::Foreign));
        assert_eq!(guard.check(Purpose::Boot, None, MAC, SERVER, NOW), Err(Refusal::Missing));
    }

    #[test]
    fn token_lives_for_a_bounded_time_in_both_directions_of_the_clock() {
        let guard = guard();
        for purpose in [Purpose::Boot, Purpose::Config] {
            let life = u32::try_from(purpose.life().as_secs()).unwrap();
            let token = guard.token(purpose, MAC, SERVER, NOW, NONCE);
            for (now, is_good) in [
                (NOW, true),
                (NOW + life, true),
                (NOW + life + 1, false),
                (NOW - life, true),
                (NOW - life - 1, false),
                (0, false),
                (u32::MAX, false),
            ] {
                let expected = if is_good { Ok(token) } else { Err(Refusal::Expired) };
                assert_eq!(guard.check(purpose, Some(token), MAC, SERVER, now), expected, "{purpose:?} at {now}");
            }
        }
    }

    #[test]
    fn time_is_one_of_the_clock_whatever_it_says() {
        assert_eq!(seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.into())), NOW);
        assert_eq!(seconds(SystemTime::UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32)), 0);
    }

    proptest! {
        #[test]
        fn token_of_another_boot_is_another(made: u32, nonce: u32, later in 1..u32::MAX, key: [u8; KEY_LENGTH]) {
            let guard = Guard::new(&key);
            let token = guard.token(Purpose::Boot, MAC, SERVER, made, nonce);
            prop_assert_ne!(token.tag, guard.token(Purpose::Boot, MAC, SERVER, made, nonce.wrapping_add(later)).tag);
            prop_assert_ne!(token.tag, guard.token(Purpose::Boot, MAC, SERVER, made.wrapping_add(later), nonce).tag);
        }

        #[test]
        fn forged_token_is_refused(made: u32, nonce: u32, tag: [u8; 16], now: u32) {
            let refused = guard().check(Purpose::Boot, Some(Token { made, nonce, tag }), MAC, SERVER, now);
            prop_assert_eq!(refused, Err(Refusal::Foreign));
        }
    }
}
