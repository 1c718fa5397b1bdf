//! Files from another node's boot HTTP, which has them at hand.
//!
//! A peer is no authority: whoever is on the boot network can answer for it. So its bytes are taken only if their hash is known from
//! elsewhere, and it gets one attempt with little time. Whatever it does, the upstream is asked next.

use std::{sync::Arc, time::Duration};

use reqwest::Url;

use super::{
    client::{Client, ClientError, Timeouts},
    upstreams::{BaseUrlError, base_url},
};

/// The longest times without an answer from a peer, which is near and has the file or has not.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(3),
    answer: Duration::from_secs(10),
    idle: Duration::from_secs(10),
    slow: Duration::from_secs(10),
};

/// The fewest bytes per second from a peer. The upstream may be faster than less.
pub(super) const SLOWEST: u64 = 64 << 10;

/// The peers, and how they are asked.
#[derive(Debug)]
pub(super) struct Peers {
    roots: Vec<Arc<str>>,
    pub(super) client: Client,
}

impl Peers {
    /// Creates the client for peers at these addresses. Times that are shorter for upstreams are shorter for peers, too.
    pub(super) fn new(
        roots: Vec<Arc<str>>,
        ca_certificates: Option<&std::path::Path>,
        upstream: Timeouts,
    ) -> Result<Self, ClientError> {
        let timeouts = Timeouts {
            connect: TIMEOUTS.connect.min(upstream.connect),
            answer: TIMEOUTS.answer.min(upstream.answer),
            idle: TIMEOUTS.idle.min(upstream.idle),
            slow: TIMEOUTS.slow.min(upstream.slow),
        };
        Ok(Self { roots, client: Client::without_proxy(ca_certificates, timeouts)? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Returns the URLs of an artifact, one at each peer.
    pub(super) fn urls(&self, path: &str) -> Vec<Url> {
        let url = |root: &Arc<str>| url(root, path).ok();
        self.roots.iter().filter_map(url).collect()
    }
}

/// Returns the URL of an artifact at a peer.
fn url(root: &str, path: &str) -> Result<Url, BaseUrlError> {
    let root = base_url(root)?;
    let not_a_url = |reason: String| BaseUrlError::NotAUrl { text: root.to_string(), reason };
    let mut url = Url::parse(&root).map_err(|error| not_a_url(error.to_string()))?;
    let mut segments = url.path_segments_mut().map_err(|()| not_a_url("it has no path".to_owned()))?;
    segments.pop_if_empty().push("assets").extend(path.split('/'));
    drop(segments);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_is_below_the_assets_of_the_peer() {
        for (root, path, expected) in [
            ("http://10.0.0.2:8000", "vmlinuz-v1.13.0-amd64", "http://10.0.0.2:8000/assets/vmlinuz-v1.13.0-amd64"),
            ("http://10.0.0.2:8000/", "ab12/vmlinuz", "http://10.0.0.2:8000/assets/ab12/vmlinuz"),
            ("https://node-2/pxed", "a b?c#d%", "https://node-2/pxed/assets/a%20b%3Fc%23d%25"),
        ] {
            assert_eq!(url(root, path).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn peer_gets_no_more_time_than_an_upstream() {
        let short = Timeouts { answer: Duration::from_millis(200), ..Timeouts::default() };
        let peers = Peers::new(vec!["http://10.0.0.2:8000".into()], None, short).unwrap();
        assert_eq!(*peers.client.timeouts(), Timeouts { answer: short.answer, ..TIMEOUTS });
    }
}
