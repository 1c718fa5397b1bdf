//! What the head of an answer says about the bytes that follow. Pure.

use reqwest::{
    StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, LAST_MODIFIED,
        TRANSFER_ENCODING,
    },
};

use super::{fault::Fault, partial::Version};

/// The longest file. The largest images of the Image Factory have a few hundred megabytes.
pub(super) const FILE_LIMIT: u64 = 4 << 30;

/// The meaning of an answer's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The whole file follows.
    Whole(Version),
    /// The rest of the file follows, from the byte that was asked for.
    Rest(Version),
    /// There is no rest: all bytes are there.
    Nothing,
}

/// Judges the head of an answer. `had` is the version of which `offset` bytes are there, if the rest was asked for.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    url: &str,
    offset: u64,
    had: Option<&Version>,
) -> Result<Head, Fault> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(Fault::Answer(format!("the file is encoded ({encoding}), which nobody asked for")));
    }
    let length = text(CONTENT_LENGTH).and_then(|length| length.trim().parse().ok());
    let etag = text(ETAG).filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
    let modified = text(LAST_MODIFIED).map(str::to_owned);
    let version = |total| Version { url: url.to_owned(), etag, modified, total };
    let head = match (status, had) {
        (StatusCode::PARTIAL_CONTENT, Some(had)) => {
            let range = text(CONTENT_RANGE).unwrap_or_default();
            let wrong = || Fault::WrongRange { wanted: offset, answer: range.to_owned() };
            let (first, last, total) = parse_range(range).ok_or_else(wrong)?;
            let is_the_rest = first == offset && last.checked_add(1) == Some(total);
            if !is_the_rest || length.is_some_and(|length: u64| length != total - offset) {
                return Err(wrong());
            }
            let version = version(Some(total));
            // Some servers ignore If-Range. A file without a published checksum would be put together of two versions.
            let differs = |new: &Option<String>, had: &Option<String>| new.is_some() && had.is_some() && new != had;
            let is_the_same = version.etag.is_some() && version.etag == had.etag;
            let is_other = had.total.is_some_and(|had| had != total)
                || differs(&version.etag, &had.etag)
                || (!is_the_same && differs(&version.modified, &had.modified));
            if is_other {
                return Err(Fault::Changed);
            }
            // Answers to a range may leave the validators out.
            Head::Rest(Version {
                etag: version.etag.or_else(|| had.etag.clone()),
                modified: version.modified.or_else(|| had.modified.clone()),
                ..version
            })
        }
        (StatusCode::PARTIAL_CONTENT, None) => {
            return Err(Fault::Answer("it is a part of the file, which nobody asked for".to_owned()));
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
            let total =
                text(CONTENT_RANGE).and_then(|range| range.trim().strip_prefix("bytes */")?.trim().parse().ok());
            if total != Some(offset) {
                return Err(Fault::Changed);
            }
            Head::Nothing
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, None) => {
            return Err(Fault::Answer("it is 416 (Range Not Satisfiable), but no range was asked for".to_owned()));
        }
        _ => Head::Whole(version(length)),
    };
    let total = match &head {
        Head::Whole(version) | Head::Rest(version) => version.total,
        Head::Nothing => None,
    };
    if total.is_some_and(|total| total > FILE_LIMIT) {
        return Err(Fault::OverLimit { limit: FILE_LIMIT });
    }
    Ok(head)
}

/// Returns whether the end of the answer can be told from a broken connection.
pub(super) fn has_an_end(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}

/// Returns whether the answer is declared to be a web page.
pub(super) fn is_declared_a_page(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let declared = declared.trim_start().to_ascii_lowercase();
    declared.starts_with("text/html") || declared.starts_with("application/xhtml")
}

/// The first bytes of a file that tell whether it is a web page.
pub(super) const PAGE_START: usize = 64;

/// Returns whether a file that begins like this is a web page.
pub(super) fn is_a_page(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    [&b"<!doctype html"[..], b"<html", b"<head", b"<?xml"]
        .iter()
        .any(|begin| text.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin)))
}

/// Returns the title of a web page, for a message.
pub(super) fn page_title(page: &[u8]) -> String {
    let text = String::from_utf8_lossy(page);
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let start = at + lower.get(at..)?.find('>')? + 1;
        let end = start + lower.get(start..)?.find('<')?;
        text.get(start..end)
    });
    let words = title.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|char| !char.is_control()).take(80).collect()
}

/// Returns first byte, last byte and length of a `Content-Range`.
fn parse_range(range: &str) -> Option<(u64, u64, u64)> {
    let (bytes, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = bytes.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    (first <= last && last < total).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    const URL: &str = "https://m.example/k";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            (name.parse().unwrap(), value.parse().unwrap())
        };
        lines.iter().map(parse).collect()
    }

    fn version(etag: Option<&str>, total: Option<u64>) -> Version {
        Version { url: URL.into(), etag: etag.map(str::to_owned), modified: None, total }
    }

    fn rest(lines: &[(&str, &str)]) -> Result<Head, Fault> {
        judge(StatusCode::PARTIAL_CONTENT, &headers(lines), URL, 4, Some(&version(Some("\"1\""), Some(10))))
    }

    #[test]
    fn whole_file_has_its_length_and_strong_validator() {
        let whole = |lines: &[(&str, &str)]| judge(StatusCode::OK, &headers(lines), URL, 0, None);
        assert_eq!(
            whole(&[("content-length", "10"), ("etag", "\"1\"")]),
            Ok(Head::Whole(version(Some("\"1\""), Some(10))))
        );
        assert_eq!(whole(&[("etag", "W/\"1\"")]), Ok(Head::Whole(version(None, None))), "a weak one proves nothing");
        assert_eq!(whole(&[("content-length", "4294967297")]), Err(Fault::OverLimit { limit: FILE_LIMIT }));
        assert!(matches!(whole(&[("content-encoding", "gzip")]), Err(Fault::Answer(_))));
        assert!(whole(&[("content-encoding", "identity")]).is_ok());
    }

    #[test]
    fn rest_of_the_same_version_goes_on() {
        let same = Ok(Head::Rest(version(Some("\"1\""), Some(10))));
        assert_eq!(rest(&[("content-range", "bytes 4-9/10"), ("etag", "\"1\""), ("content-length", "6")]), same);
        assert_eq!(rest(&[("content-range", "bytes 4-9/10")]), same);
    }

    #[test]
    fn rest_of_another_version_is_told() {
        assert_eq!(rest(&[("content-range", "bytes 4-9/10"), ("etag", "\"2\"")]), Err(Fault::Changed));
        assert_eq!(rest(&[("content-range", "bytes 4-10/11"), ("etag", "\"1\"")]), Err(Fault::Changed));
    }

    #[test]
    fn rest_with_another_date_is_of_another_version() {
        let (old, new) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        let had = |etag| Version { modified: Some(old.to_owned()), ..version(etag, Some(10)) };
        let judge = |had: &Version, lines: &[(&str, &str)]| {
            let lines = [&[("content-range", "bytes 4-9/10")], lines].concat();
            judge(StatusCode::PARTIAL_CONTENT, &headers(&lines), URL, 4, Some(had))
        };
        assert_eq!(judge(&had(None), &[("last-modified", new)]), Err(Fault::Changed));
        assert_eq!(judge(&had(Some("\"1\"")), &[("last-modified", new)]), Err(Fault::Changed), "without its tag");
        assert!(judge(&had(None), &[("last-modified", old)]).is_ok());
        // Servers of one name may have stored the same file at different times.
        let same_tag = judge(&had(Some("\"1\"")), &[("last-modified", new), ("etag", "\"1\"")]);
        assert!(same_tag.is_ok(), "{same_tag:?}");
    }

    #[test]
    fn wrong_range_is_an_error_that_shows_it() {
        for range in [
            "bytes 0-9/10",
            "bytes 5-9/10",
            "bytes 4-8/10",
            "bytes 4-10/10",
            "bytes 4-9/*",
            "bytes 9-4/10",
            "bytes */10",
            "4-9/10",
            "bytes 4-9",
            "bytes 4-18446744073709551615/18446744073709551615",
            "",
        ] {
            let answer = range.to_owned();
            assert_eq!(rest(&[("content-range", range)]), Err(Fault::WrongRange { wanted: 4, answer }), "{range}");
        }
        let lies = [("content-range", "bytes 4-9/10"), ("content-length", "7")];
        assert!(matches!(rest(&lies), Err(Fault::WrongRange { .. })));
    }

    #[test]
    fn unsatisfiable_range_means_complete_or_changed() {
        let had = version(Some("\"1\""), None);
        let judge = |range: &str, had| {
            judge(StatusCode::RANGE_NOT_SATISFIABLE, &headers(&[("content-range", range)]), URL, 10, had)
        };
        assert_eq!(judge("bytes */10", Some(&had)), Ok(Head::Nothing));
        assert_eq!(judge("bytes */9", Some(&had)), Err(Fault::Changed));
        assert_eq!(judge("", Some(&had)), Err(Fault::Changed));
        assert!(matches!(judge("bytes */10", None), Err(Fault::Answer(_))));
    }

    #[test]
    fn part_that_nobody_asked_for_is_an_error() {
        let part = judge(StatusCode::PARTIAL_CONTENT, &headers(&[("content-range", "bytes 0-9/10")]), URL, 0, None);
        assert!(matches!(part, Err(Fault::Answer(_))));
    }

    #[test]
    fn web_page_is_told_from_a_file() {
        for page in
            ["<!DOCTYPE html>\n<html>", "  \r\n<HTML lang=en>", "\u{feff}<!doctype HTML>", "<head>", "<?xml version"]
        {
            assert!(is_a_page(page.as_bytes()), "{page}");
        }
        for file in [&b"MZ\x90\0"[..], b"\xfd7zXZ\0", b"", b"<", b"#!ipxe", b"\x28\xb5\x2f\xfd"] {
            assert!(!is_a_page(file), "{}", file.escape_ascii());
        }
        assert!(is_declared_a_page(&headers(&[("content-type", "Text/HTML; charset=utf-8")])));
        assert!(!is_declared_a_page(&headers(&[("content-type", "application/octet-stream")])));
        assert_eq!(page_title(b"<html><TITLE lang=en>Guest\n  login</title>"), "Guest login");
        for odd in [&b"<title"[..], b"<title>", b"", b"<title>\xff<", "<title>İ</title>".as_bytes()] {
            let _ = page_title(odd);
        }
    }

    proptest! {
        #[test]
        fn head_never_panics_and_only_the_wanted_rest_is_taken(range in "(bytes )?[0-9]{0,20}-?[0-9]{0,20}/?[0-9*]{0,20}", offset in 1..u64::MAX) {
            let had = version(Some("\"1\""), None);
            let head = judge(StatusCode::PARTIAL_CONTENT, &headers(&[("content-range", &range)]), URL, offset, Some(&had));
            if let Ok(Head::Rest(version)) = head {
                let expected = format!("bytes {offset}-");
                prop_assert!(range.starts_with(&expected) && version.total > Some(offset));
            }
        }

        #[test]
        fn page_title_never_panics(page in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(page_title(&page).chars().count() <= 80);
        }
    }
}
