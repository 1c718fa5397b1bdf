//! The peers that the last run knew, in the state directory: with the API server away, a node that starts again goes by them.

use std::{io, net::Ipv4Addr, path::Path, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    model::nodes::{Node, Sites},
    own_file::{self, Found, OwnFile},
};

/// The file in the state directory.
const FILE: &str = "nodes.json";
/// The most bytes that are read.
const MOST_BYTES: u64 = 4 << 20;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Saved {
    peers: Vec<SavedNode>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct SavedNode {
    name: String,
    is_alive: bool,
    sites: Sites,
    formerly: Vec<Ipv4Addr>,
}

fn file(state: &Path) -> OwnFile {
    OwnFile::new(state, FILE, MOST_BYTES)
}

/// Reads the peers, of which a damaged file has those that can still be read. It is set aside, and the reason is logged.
pub(super) fn load(state: &Path) -> Vec<Node> {
    let file = file(state);
    let (peers, damage) = match file.read() {
        Ok(Found::Nothing) => return Vec::new(),
        Ok(Found::Bytes(text, _)) => parse(&text),
        Ok(Found::Damaged(damage)) => (Vec::new(), Some(damage)),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    if let Some(damage) = damage {
        let kept = own_file::kept(&file.set_aside(SystemTime::now()));
        tracing::warn!(
            "{}: {damage}; {kept}: of the other nodes {} can still be read, and the rest are not known until the API server answers",
            file.path().display(),
            peers.len()
        );
    }
    let node = |SavedNode { name, is_alive, sites, formerly }| Node {
        name: String::into(name),
        sites,
        is_alive,
        problems: Vec::new(),
        formerly,
    };
    peers.into_iter().map(node).collect()
}

/// Returns the peers in a text, and the damage if it is damaged. Those that are whole by themselves are in it then.
fn parse(text: &[u8]) -> (Vec<SavedNode>, Option<String>) {
    match serde_json::from_slice(text) {
        Ok(Saved { peers }) => (peers, None),
        Err(error) => {
            // Every field has a default, so what has no name is something else.
            let peers = own_file::whole_objects::<SavedNode>(text).filter(|node| !node.name.is_empty());
            (peers.collect(), Some(error.to_string()))
        }
    }
}

/// Writes the peers, as a whole.
///
/// # Errors
///
/// If the disk refuses it.
pub(super) fn save(state: &Path, peers: &[Node]) -> io::Result<()> {
    let node = |node: &Node| SavedNode {
        name: node.name.to_string(),
        is_alive: node.is_alive,
        sites: node.sites.clone(),
        formerly: node.formerly.clone(),
    };
    let saved = Saved { peers: peers.iter().map(node).collect() };
    file(state).replace(|file| Ok(serde_json::to_writer_pretty(file, &saved)?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn peers_are_read_as_they_were_written_and_damage_is_survived() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(load(state.path()), Vec::new());
        let node = Node {
            name: "b".into(),
            sites: Sites::from([(Ipv4Addr::new(10, 0, 0, 254), Ipv4Addr::new(10, 0, 0, 3))]),
            is_alive: true,
            problems: vec!["not kept".to_owned()],
            formerly: vec![Ipv4Addr::new(10, 0, 0, 9)],
        };
        save(state.path(), std::slice::from_ref(&node)).unwrap();
        assert_eq!(load(state.path()), [Node { problems: Vec::new(), ..node.clone() }]);
        for damaged in ["", "{", "[7]", r#"{"peers":[{"sites":{"a":"b"}}]}"#, r#"{"peers":7}"#] {
            fs::write(state.path().join(FILE), damaged).unwrap();
            assert_eq!(load(state.path()), Vec::new(), "{damaged}");
            assert!(!state.path().join(FILE).exists(), "{damaged}: it was not set aside");
        }
        let other = Node { name: "c".into(), is_alive: false, ..node.clone() };
        save(state.path(), &[node.clone(), other]).unwrap();
        let whole = fs::read(state.path().join(FILE)).unwrap();
        let first = whole.windows(6).position(|bytes| bytes == b"\n    }").unwrap() + 6;
        for length in 0..whole.len() - 1 {
            fs::write(state.path().join(FILE), &whole[..length]).unwrap();
            let peers = load(state.path()).len();
            assert_eq!(peers >= 1, length >= first, "{length}: {peers}");
        }
        for at in 0..whole.len() {
            let mut zeroed = whole.clone();
            zeroed[at..(at + 4).min(whole.len())].fill(0);
            fs::write(state.path().join(FILE), &zeroed).unwrap();
            let peers = load(state.path()).len();
            assert!(peers >= 1, "{at}: {peers}");
        }
        fs::write(state.path().join(FILE), vec![b' '; MOST_BYTES as usize + 1]).unwrap();
        assert_eq!(load(state.path()), Vec::new());
    }
}
