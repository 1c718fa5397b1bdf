//! The heads of requests, and the ranges in them.

use std::{
    io::{BufRead as _, BufReader, Read},
    ops::Range,
};

use anyhow::{Context as _, bail, ensure};

use super::log::Request;

/// The largest head.
const LIMIT: u64 = 1 << 16;

/// The first part of the storage server's paths; the public path follows.
pub(super) const STORAGE: &str = "/storage";

/// Reads the head of a request, or `None` at the end of the connection.
pub(super) fn read(stream: &mut BufReader<impl Read>) -> anyhow::Result<Option<Request>> {
    let mut lines = Vec::new();
    let mut limited = stream.take(LIMIT);
    loop {
        let mut line = String::new();
        if limited.read_line(&mut line)? == 0 {
            ensure!(lines.is_empty(), "a head ends in the middle");
            return Ok(None);
        }
        match line.trim_end_matches(['\r', '\n']) {
            "" if lines.is_empty() => {}
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    parse(&lines).map(Some)
}

fn parse(lines: &[String]) -> anyhow::Result<Request> {
    let (first, headers) = lines.split_first().context("no request")?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        bail!("not a request: {first:?}")
    };
    let (by_proxy, target) = match target.split_once("://") {
        Some((_, rest)) => (true, rest.find('/').map_or("/", |at| &rest[at..])),
        None => (false, target),
    };
    let path = target.split('?').next().unwrap_or(target).to_owned();
    let headers = headers.iter().map(|line| {
        let (name, value) = line.split_once(':').with_context(|| format!("not a header: {line:?}"))?;
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Ok(Request {
        method: method.to_owned(),
        path,
        headers: headers.collect::<anyhow::Result<_>>()?,
        by_proxy,
        status: 0,
        sent: 0,
        stalled: false,
        ended: false,
    })
}

/// The part of the content that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// These bytes.
    Some(Range<u64>),
    /// Nothing that is there.
    Beyond,
}

/// Returns the part that a request asks for: one range, if `If-Range` names this ETag or is not there.
pub(super) fn part(request: &Request, length: u64, etag: &str) -> Part {
    let Some(range) = request.header("range").and_then(|value| value.strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    if request.header("if-range").is_some_and(|tag| tag != etag) {
        return Part::Whole;
    }
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    let wanted = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(count)) if first.is_empty() => length.saturating_sub(count)..length,
        _ => return Part::Whole,
    };
    if wanted.is_empty() { Part::Beyond } else { Part::Some(wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[&str]) -> Request {
        let lines: Vec<_> =
            std::iter::once("GET /a?b=c HTTP/1.1").chain(headers.iter().copied()).map(str::to_owned).collect();
        parse(&lines).unwrap()
    }

    #[test]
    fn request_is_parsed() {
        let of = |first: &str| parse(&[first.to_owned(), "Host: a:1".to_owned()]);
        let parsed = of("GET http://talos.test:8/a/b?c HTTP/1.1").unwrap();
        assert_eq!((parsed.path.as_str(), parsed.by_proxy, parsed.header("host")), ("/a/b", true, Some("a:1")));
        assert_eq!(request(&[]).path, "/a");
        assert!(of("GET /a HTTP/1.0").is_err() && of("GET").is_err() && parse(&[]).is_err());
    }

    #[test]
    fn part_is_that_of_the_range_under_its_condition() {
        for (headers, expected) in [
            (&["Range: bytes=2-"][..], Part::Some(2..10)),
            (&["Range: bytes=2-3"], Part::Some(2..4)),
            (&["Range: bytes=2-99"], Part::Some(2..10)),
            (&["Range: bytes=-3"], Part::Some(7..10)),
            (&["Range: bytes=10-"], Part::Beyond),
            (&["Range: bytes=2-", "If-Range: \"tag\""], Part::Some(2..10)),
            (&["Range: bytes=2-", "If-Range: \"other\""], Part::Whole),
            (&["Range: lines=2-"], Part::Whole),
            (&[], Part::Whole),
        ] {
            assert_eq!(part(&request(headers), 10, "\"tag\""), expected, "{headers:?}");
        }
    }
}
