//! Conditional requests and ranges (RFC 9110 §13 and §14): selects the part of a file that a GET gets. Pure.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, Method, header};
use jiff::{Timestamp, fmt::rfc2822};

/// The validators of one state of a file (RFC 9110 §8.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, with its quotes.
    pub etag: String,
    /// The time at which the file was last written. `None` if it is no file that was written at some time.
    pub modified: Option<SystemTime>,
}

impl Validators {
    /// Creates the validators from inode, length and time of writing (to the nanosecond). A file that is replaced or written
    /// to changes at least one of them.
    #[must_use]
    pub fn new(inode: u64, length: u64, modified: SystemTime) -> Self {
        let nanos = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { etag: format!("\"{inode:x}-{length:x}-{nanos:x}\""), modified: Some(modified) }
    }

    /// Creates the validator of bytes that are made for the request, from a hash of all of them: the same bytes have the same one, whoever
    /// serves them.
    #[must_use]
    pub fn of_content(hash: &[u8]) -> Self {
        let mut etag = String::with_capacity(2 * hash.len() + 2);
        etag.push('"');
        // Writing to a string cannot fail.
        hash.iter().for_each(|byte| _ = write!(etag, "{byte:02x}"));
        etag.push('"');
        Self { etag, modified: None }
    }
}

/// The outcome of a conditional request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200: the whole file.
    Whole,
    /// 206: the bytes from `first` up to but not including `end`; never empty.
    Part {
        /// The first byte.
        first: u64,
        /// The position after the last byte.
        end: u64,
    },
    /// 304: the client already has the file.
    NotModified,
    /// 412: the file is not in the state that the client requires.
    PreconditionFailed,
    /// 416: the range begins after the end of the file.
    Unsatisfiable,
}

/// Returns the part of a file of `length` bytes that a GET or HEAD with these headers gets, in the order of RFC 9110
/// §13.2.2. A request for several ranges gets the whole file, as §14.2 allows.
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, Method, header::RANGE};
/// use pxe_userspace::http::range::{Selection, Validators, select};
///
/// let validators = Validators::new(1, 1000, SystemTime::UNIX_EPOCH);
/// let headers = HeaderMap::from_iter([(RANGE, "bytes=-200".parse()?)]);
/// assert_eq!(select(&Method::GET, &headers, 1000, &validators), Selection::Part { first: 800, end: 1000 });
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[must_use]
pub fn select(method: &Method, headers: &HeaderMap, length: u64, validators: &Validators) -> Selection {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let modified = validators.modified.map(whole_seconds);
    let modified_since = |date: &str| Some(modified? > parse_date(date)?);

    if let Some(tags) = text(header::IF_MATCH) {
        if !lists(tags, &validators.etag, Comparison::Strong) {
            return Selection::PreconditionFailed;
        }
    } else if text(header::IF_UNMODIFIED_SINCE).and_then(modified_since) == Some(true) {
        return Selection::PreconditionFailed;
    }
    if let Some(tags) = text(header::IF_NONE_MATCH) {
        if lists(tags, &validators.etag, Comparison::Weak) {
            return Selection::NotModified;
        }
    } else if text(header::IF_MODIFIED_SINCE).and_then(modified_since) == Some(false) {
        return Selection::NotModified;
    }
    // Ranges are defined only for GET (RFC 9110 §14.2).
    if method != Method::GET {
        return Selection::Whole;
    }
    let ranges = headers.get_all(header::RANGE).iter().count();
    let Some(range) = text(header::RANGE).filter(|_| ranges == 1) else { return Selection::Whole };
    match text(header::IF_RANGE) {
        Some(validator) if !same_state(validator, validators) => Selection::Whole,
        _ => part(range, length),
    }
}

/// Returns `true` if the validator of an `If-Range` matches this state: by its strong tag, or by exactly its date (RFC 9110
/// §13.1.5).
fn same_state(validator: &str, validators: &Validators) -> bool {
    let validator = validator.trim();
    validator == validators.etag
        || validators.modified.is_some_and(|modified| parse_date(validator) == Some(whole_seconds(modified)))
}

/// Returns the part that a `Range` header selects (RFC 9110 §14.1.2). Everything but a single well-formed byte range is
/// ignored (§14.2).
fn part(range: &str, length: u64) -> Selection {
    let Some((unit, set)) = range.split_once('=') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Selection::Whole };
    let (Some(first), Some(last)) = (position(first), position(last)) else { return Selection::Whole };
    let (first, end) = match (first, last) {
        (None, None) => return Selection::Whole,
        // The last `suffix` bytes.
        (None, Some(suffix)) => (length.saturating_sub(suffix), length),
        (Some(first), None) => (first, length),
        (Some(first), Some(last)) if first > last => return Selection::Whole,
        (Some(first), Some(last)) => (first, length.min(last.saturating_add(1))),
    };
    if first >= end { Selection::Unsatisfiable } else { Selection::Part { first, end } }
}

/// Returns a position: `Some(None)` if there are no digits, `None` if it is not a number. A number above 2^64 lies beyond
/// every file.
fn position(digits: &str) -> Option<Option<u64>> {
    let digits = digits.trim();
    if digits.is_empty() {
        return Some(None);
    }
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(digits.parse().unwrap_or(u64::MAX)))
}

#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    Strong,
    Weak,
}

/// Returns `true` if a list of entity tags contains this one or is `*`.
fn lists(tags: &str, etag: &str, comparison: Comparison) -> bool {
    tags.split(',').map(str::trim).any(|tag| match tag.strip_prefix("W/") {
        Some(weak) => comparison == Comparison::Weak && weak == etag,
        None => tag == "*" || tag == etag,
    })
}

/// Returns the time as an HTTP date (RFC 9110 §5.6.7), for example `Sun, 06 Nov 1994 08:49:37 GMT`.
#[must_use]
pub fn format_date(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .ok()
        .and_then(|time| rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok())
        .unwrap_or_else(|| "Thu, 01 Jan 1970 00:00:00 GMT".to_owned())
}

/// Parses an HTTP date in the preferred form. The two obsolete forms count as invalid.
fn parse_date(text: &str) -> Option<SystemTime> {
    let time = rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(time.into())
}

/// Truncates a time to whole seconds, as in HTTP dates.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn validators() -> Validators {
        Validators::new(1, 100, SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500))
    }

    fn selected(headers: &[(HeaderName, &str)]) -> Selection {
        selected_by(&Method::GET, headers)
    }

    fn selected_by(method: &Method, headers: &[(HeaderName, &str)]) -> Selection {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        select(method, &headers.collect(), 100, &validators())
    }

    #[test]
    fn range_header_selects_a_part() {
        for (range, expected) in [
            ("bytes=0-99", Selection::Part { first: 0, end: 100 }),
            ("bytes=0-0", Selection::Part { first: 0, end: 1 }),
            ("bytes=10-19", Selection::Part { first: 10, end: 20 }),
            ("Bytes = 10 - 19", Selection::Part { first: 10, end: 20 }),
            ("bytes=10-", Selection::Part { first: 10, end: 100 }),
            ("bytes=-10", Selection::Part { first: 90, end: 100 }),
            ("bytes=-1000", Selection::Part { first: 0, end: 100 }),
            ("bytes=99-1000", Selection::Part { first: 99, end: 100 }),
            ("bytes=5-99999999999999999999999", Selection::Part { first: 5, end: 100 }),
            ("bytes=100-", Selection::Unsatisfiable),
            ("bytes=100-200", Selection::Unsatisfiable),
            ("bytes=18446744073709551615-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=20-10", Selection::Whole),
            ("bytes=0-1,5-6", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=--1", Selection::Whole),
            ("lines=1-2", Selection::Whole),
        ] {
            assert_eq!(selected(&[(header::RANGE, range)]), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn range_is_ignored_for_head() {
        for range in ["bytes=10-19", "bytes=100-"] {
            assert_eq!(selected_by(&Method::HEAD, &[(header::RANGE, range)]), Selection::Whole, "{range}");
        }
        let condition = (header::IF_NONE_MATCH, "*");
        assert_eq!(selected_by(&Method::HEAD, &[condition, (header::RANGE, "bytes=1-1")]), Selection::NotModified);
    }

    #[test]
    fn conditions_decide_in_the_order_of_the_rfc() {
        let etag = validators().etag;
        let weak = format!("W/{etag}");
        let list = format!("\"other\", {weak}");
        let part = Selection::Part { first: 1, end: 2 };
        for (headers, expected) in [
            (vec![(header::IF_NONE_MATCH, etag.as_str())], Selection::NotModified),
            (vec![(header::IF_NONE_MATCH, &list)], Selection::NotModified),
            (vec![(header::IF_NONE_MATCH, "*")], Selection::NotModified),
            (vec![(header::IF_NONE_MATCH, "\"other\"")], Selection::Whole),
            (vec![(header::IF_MODIFIED_SINCE, DATE)], Selection::NotModified),
            (vec![(header::IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")], Selection::Whole),
            (vec![(header::IF_MODIFIED_SINCE, "yesterday")], Selection::Whole),
            // If both are there, the tag decides.
            (vec![(header::IF_NONE_MATCH, "\"other\""), (header::IF_MODIFIED_SINCE, DATE)], Selection::Whole),
            (vec![(header::IF_MATCH, "\"other\"")], Selection::PreconditionFailed),
            (vec![(header::IF_MATCH, &weak)], Selection::PreconditionFailed),
            (vec![(header::IF_MATCH, &etag)], Selection::Whole),
            (vec![(header::IF_UNMODIFIED_SINCE, DATE)], Selection::Whole),
            (vec![(header::IF_UNMODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")], Selection::PreconditionFailed),
            (vec![(header::RANGE, "bytes=1-1"), (header::IF_RANGE, &etag)], part),
            (vec![(header::RANGE, "bytes=1-1"), (header::IF_RANGE, DATE)], part),
            (vec![(header::RANGE, "bytes=1-1"), (header::IF_RANGE, &weak)], Selection::Whole),
            (vec![(header::RANGE, "bytes=1-1"), (header::IF_RANGE, "\"other\"")], Selection::Whole),
            (vec![(header::RANGE, "bytes=1-1"), (header::IF_RANGE, "Sun, 06 Nov 1994 08:49:38 GMT")], Selection::Whole),
        ] {
            assert_eq!(selected(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn made_content_is_compared_by_its_tag_alone() {
        let made = Validators::of_content(&[0x0a, 0xff]);
        assert_eq!(made.etag, "\"0aff\"");
        let part = Selection::Part { first: 1, end: 2 };
        let range = (header::RANGE, "bytes=1-1");
        for (headers, expected) in [
            (vec![(header::IF_MODIFIED_SINCE, DATE)], Selection::Whole),
            (vec![(header::IF_UNMODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")], Selection::Whole),
            (vec![(header::IF_NONE_MATCH, "\"0aff\"")], Selection::NotModified),
            (vec![(header::IF_MATCH, "\"0aff\""), range.clone()], part),
            (vec![(header::IF_MATCH, "\"0afe\""), range.clone()], Selection::PreconditionFailed),
            (vec![(header::IF_RANGE, "\"0aff\""), range.clone()], part),
            (vec![(header::IF_RANGE, DATE), range], Selection::Whole),
        ] {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
            let headers: HeaderMap = headers.collect();
            assert_eq!(select(&Method::GET, &headers, 100, &made), expected, "{headers:?}");
        }
    }

    #[test]
    fn dates_have_the_preferred_form() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(format_date(time), DATE);
        assert_eq!(parse_date(DATE), Some(time));
        assert_eq!(format_date(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "Wed, 31 Dec 1969 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn part_is_never_empty_nor_outside(range in "(bytes=)?[0-9]{0,21}-[0-9]{0,21}|.{0,20}", length in any::<u64>()) {
            if let Selection::Part { first, end } = part(&range, length) {
                prop_assert!(first < end && end <= length);
            }
        }
    }
}
