//! A range of ports, as an option names it.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::Deserialize;

/// Ports from a first to a last one, written `FIRST-LAST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text names no range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a range of ports: write the first and the last one, as in 40000-48000; both are from 1 to 65535")]
pub struct NoPortRange(String);

impl PortRange {
    /// Returns the ports.
    #[must_use]
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Returns the number of ports.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }
}

impl FromStr for PortRange {
    type Err = NoPortRange;

    fn from_str(text: &str) -> Result<Self, NoPortRange> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first != 0 && first <= last).then_some(Self { first, last })
        });
        parsed.ok_or_else(|| NoPortRange(text.to_owned()))
    }
}

impl TryFrom<String> for PortRange {
    type Error = NoPortRange;

    fn try_from(text: String) -> Result<Self, NoPortRange> {
        text.parse()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_read_as_it_is_written() {
        for (text, count) in [("40000-48000", 8_001), ("1-65535", 65_535), ("7-7", 1), (" 40000 - 40001 ", 2)] {
            let range: PortRange = text.parse().unwrap();
            assert_eq!(range.count(), count, "{text}");
            assert_eq!(range.to_string().parse(), Ok(range));
            assert_eq!(range.ports().count(), count as usize);
        }
    }

    #[test]
    fn texts_that_name_no_range_are_refused() {
        for text in ["", "-", "40000", "40000-", "-40000", "40001-40000", "0-5", "1-65536", "1-2-3", "a-b", "+1--2"] {
            let error = text.parse::<PortRange>().unwrap_err().to_string();
            assert!(error.contains("as in 40000-48000"), "{text}: {error}");
        }
    }
}
