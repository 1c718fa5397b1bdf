//! Parsers of option values.

/// Parses a percentage.
pub(super) fn percentage(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| (0.0..=100.0).contains(value)).ok_or_else(|| "not between 0 and 100".to_owned())
}

/// Parses a time of at most a day.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (0.0..=86400.0).contains(value))
        .ok_or_else(|| "not between 0 and 86400".to_owned())
}
