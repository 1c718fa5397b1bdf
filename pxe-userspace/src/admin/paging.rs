//! Paging of lists: `?limit=` and `?cursor=` in the request, `Link` (RFC 8288) and `X-Total-Count` in the answer.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::refusal::refuse;

/// The header with the number of entries that the filters let through, on all pages together.
pub(super) const TOTAL: &str = "x-total-count";

/// The headers of a page. They are part of the answer, and of its tag.
pub(super) const PAGE_HEADERS: [&str; 2] = ["link", TOTAL];

/// The characters that a cursor does not need to escape in a URL.
const IN_CURSOR: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The pattern of cursors: the position of the last entry, and its name.
pub(super) const CURSORS: &str = "^[0-9]{1,9}\\.[^\\n]*$";

/// The query of a list that has nothing but pages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pages {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Returns the headers of a page.
pub(super) fn headers(uri: &Uri, total: usize, next: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TOTAL, HeaderValue::from(total));
    if let Some(link) = next.and_then(|next| HeaderValue::from_str(&link(uri, next)).ok()) {
        headers.insert(header::LINK, link);
    }
    headers
}

/// Returns the link to the page that begins after this cursor. Everything else of the request stays.
fn link(uri: &Uri, cursor: &str) -> String {
    let others = uri.query().unwrap_or("").split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor="));
    let mut query: String = others.fold(String::new(), |query, part| query + part + "&");
    query.push_str("cursor=");
    query.extend(utf8_percent_encode(cursor, IN_CURSOR));
    format!("<{}?{}>; rel=\"next\"", uri.path(), utf8_percent_encode(&query, CONTROLS))
}

/// Returns a page of a list that is in memory. `name` returns what tells an entry from the others: a page begins after the entry that the
/// last one ended with, even if others have come before it.
pub(super) fn page<T: Serialize>(uri: &Uri, pages: Pages, items: &[T], name: impl Fn(&T) -> String) -> Response {
    let Pages { limit, cursor } = pages;
    let start = match cursor.as_deref().map(|cursor| cursor.split_once('.').map(|(index, name)| (index.parse(), name)))
    {
        None => 0,
        Some(Some((Ok(index), last))) => {
            let index: u32 = index;
            items.iter().position(|item| name(item) == last).unwrap_or(index as usize) + 1
        }
        Some(_) => {
            return refuse(StatusCode::BAD_REQUEST, "cursor: it is not one that this list gave out; begin without it");
        }
    };
    let rest = items.get(start..).unwrap_or_default();
    let shown = rest.get(..limit.map_or(usize::MAX, |limit| limit as usize)).unwrap_or(rest);
    let is_whole = shown.len() == rest.len();
    // An empty page has no end that another one could begin after.
    let last = shown.last().filter(|_| !is_whole);
    let next = last.map(|last| format!("{}.{}", start + shown.len() - 1, name(last)));
    (headers(uri, items.len(), next.as_deref()), Json(shown)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_without_entries_has_no_next_one() {
        let uri: Uri = "/list?limit=0".parse().unwrap();
        for (limit, items, expected) in [
            (Some(0), &["a", "b"][..], None),
            (Some(1), &["a", "b"], Some("</list?limit=0&cursor=0.a>; rel=\"next\"")),
            (Some(2), &["a", "b"], None),
            (Some(0), &[], None),
            (None, &["a", "b"], None),
        ] {
            let answer = page(&uri, Pages { limit, cursor: None }, items, |item| (*item).to_owned());
            assert_eq!(answer.headers()[TOTAL], items.len().to_string());
            let link = answer.headers().get(header::LINK).map(|link| link.to_str().unwrap());
            assert_eq!(link, expected, "{limit:?} of {items:?}");
        }
    }

    #[test]
    fn link_keeps_the_rest_of_the_request() {
        for (uri, expected) in [
            ("/list", "</list?cursor=a%3Ab>; rel=\"next\""),
            ("/list?limit=2", "</list?limit=2&cursor=a%3Ab>; rel=\"next\""),
            ("/list?cursor=old&limit=2&", "</list?limit=2&cursor=a%3Ab>; rel=\"next\""),
            ("/list?q=%22", "</list?q=%22&cursor=a%3Ab>; rel=\"next\""),
        ] {
            assert_eq!(link(&uri.parse().unwrap(), "a:b"), expected);
        }
    }
}
