//! The values of options about downloads, which the command line, the environment and the file share.

use std::{num::NonZeroU64, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::fetch::{BaseUrlError, base_url};

/// The address of an upstream or of its mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseUrl(pub(super) Arc<str>);

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        base_url(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A number of bytes per second: `500k`, `20M`, `1.5G`, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(pub(super) NonZeroU64);

/// The text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: write bytes per second, as in 500k, 20M or 1.5G")]
pub(super) struct NotARate(String);

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let error = || NotARate(text.to_owned());
        let trimmed = text.trim();
        let (number, unit) = match trimmed.char_indices().last() {
            Some((at, 'k' | 'K')) => (&trimmed[..at], 1_000),
            Some((at, 'M')) => (&trimmed[..at], 1_000_000),
            Some((at, 'G')) => (&trimmed[..at], 1_000_000_000),
            _ => (trimmed, 1_u64),
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(error());
        }
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(unit).ok_or_else(error)?,
            Err(_) => (number.parse::<f64>().map_err(|_| error())? * unit as f64) as u64,
        };
        NonZeroU64::new(bytes).map(Self).ok_or_else(error)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Text(String),
            Number(u64),
        }
        let text = match Text::deserialize(deserializer)? {
            Text::Text(text) => text,
            Text::Number(number) => number.to_string(),
        };
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_read_with_its_unit() {
        for (text, expected) in [
            ("1", Some(1)),
            ("500k", Some(500_000)),
            ("500K", Some(500_000)),
            ("20M", Some(20_000_000)),
            ("1.5G", Some(1_500_000_000)),
            (" 2M ", Some(2_000_000)),
            ("0", None),
            ("0k", None),
            ("0.0001k", None),
            ("", None),
            ("k", None),
            ("20m", None),
            ("-1", None),
            ("+1", None),
            ("1e9", None),
            ("inf", None),
            ("20 MB", None),
            ("1.2.3M", None),
            ("99999999999999999999", Some(u64::MAX)),
            ("99999999999G", None),
        ] {
            assert_eq!(text.parse::<Rate>().ok().map(|Rate(rate)| rate.get()), expected, "{text:?}");
        }
    }
}
