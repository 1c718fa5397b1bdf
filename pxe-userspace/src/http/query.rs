//! Splits a query into pairs, as Go's `url.ParseQuery` does for Matchbox.

use percent_encoding::percent_decode;

/// The query of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The query as received. What is not UTF-8 is replaced by U+FFFD, here and in the pairs.
    pub raw: String,
    /// Its pairs, decoded and in order. Of several with the same key the first counts.
    pub pairs: Vec<(String, String)>,
}

impl Query {
    /// Splits a query. Pairs that Go does not accept are left out, the others stay: a `%` without two digits behind it and a
    /// semicolon spoil only their own pair.
    ///
    /// ```
    /// use pxe_userspace::http::query::Query;
    ///
    /// let query = Query::new(b"hostname=a+b&serial=100%&mac=52%3A54");
    /// let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    /// assert_eq!(query.pairs, [pair("hostname", "a b"), pair("mac", "52:54")]);
    /// ```
    #[must_use]
    pub fn new(raw: &[u8]) -> Self {
        let pairs = raw.split(|&byte| byte == b'&').filter_map(pair).collect();
        Self { raw: String::from_utf8_lossy(raw).into_owned(), pairs }
    }
}

fn pair(text: &[u8]) -> Option<(String, String)> {
    if text.is_empty() || text.contains(&b';') {
        return None;
    }
    let mut parts = text.splitn(2, |&byte| byte == b'=');
    let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    Some((unescaped(key)?, unescaped(value)?))
}

/// Decodes a key or a value; `None` if it has a `%` without two hexadecimal digits.
fn unescaped(text: &[u8]) -> Option<String> {
    let is_escape =
        |rest: &[u8]| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    let mut after_percents = text.split(|&byte| byte == b'%').skip(1);
    if !after_percents.all(is_escape) {
        return None;
    }
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let decoded: Vec<u8> = percent_decode(&spaced).collect();
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The expected pairs are what Go's `url.ParseQuery` returns.
    #[test]
    fn query_is_split_as_by_go() {
        for (raw, expected) in [
            (&b""[..], &[][..]),
            (b"a=1&b=2", &[("a", "1"), ("b", "2")]),
            (b"a=1&a=2", &[("a", "1"), ("a", "2")]),
            (b"a&b=", &[("a", ""), ("b", "")]),
            (b"&&a=1&", &[("a", "1")]),
            (b"=1", &[("", "1")]),
            (b"=", &[("", "")]),
            (b"a=b=c", &[("a", "b=c")]),
            (b"a+b=c+d%2Be", &[("a b", "c d+e")]),
            (b"a=%41%7a&%62=1", &[("a", "Az"), ("b", "1")]),
            (b"a=%26%3d%3B&b=1", &[("a", "&=;"), ("b", "1")]),
            // Malformed escapes and semicolons spoil their own pair.
            (b"a=100%&b=1", &[("b", "1")]),
            (b"a=%zz&b=1", &[("b", "1")]),
            (b"%4=1&b=1", &[("b", "1")]),
            (b"a=%%41&b=1", &[("b", "1")]),
            (b"a=1;b=2&c=3", &[("c", "3")]),
            // Bytes that a URL should not contain.
            (b"a=\"x\"&b=<y>", &[("a", "\"x\""), ("b", "<y>")]),
            (b"a={|}\\^`[]#?/", &[("a", "{|}\\^`[]#?/")]),
            (b"a=\xc3\xa9", &[("a", "\u{e9}")]),
            (b"a=%C3%A9", &[("a", "\u{e9}")]),
            (b"a=\xff\xff&b=%fe", &[("a", "\u{fffd}\u{fffd}"), ("b", "\u{fffd}")]),
            (b"a=%00%0a", &[("a", "\0\n")]),
        ] {
            let pairs = Query::new(raw).pairs;
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(pairs, expected, "{}", raw.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_query_is_split(raw in prop::collection::vec(prop_oneof![Just(b'%'), Just(b'&'), Just(b'='), any::<u8>()], 0..60)) {
            let query = Query::new(&raw);
            prop_assert!(query.pairs.len() <= raw.split(|&byte| byte == b'&').count());
        }

        #[test]
        fn encoded_pair_comes_back(key in ".{0,10}", value in ".{0,10}") {
            let encoded = |text: &str| percent_encoding::percent_encode(text.as_bytes(), percent_encoding::NON_ALPHANUMERIC).to_string();
            let query = Query::new(format!("{}={}", encoded(&key), encoded(&value)).as_bytes());
            prop_assert_eq!(query.pairs, [(key, value)]);
        }
    }
}
