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

/// Reads the peers. A file that is damaged or missing has none. A damaged one is set aside, and the reason is logged.
pub(super) fn load(state: &Path) -> Vec<Node> {
    let file = file(state);
    let read = match file.read() {
        Ok(Found::Nothing) => return Vec::new(),
        Ok(Found::Bytes(text, _)) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
        Ok(Found::Damaged(damage)) => Err(damage),
        Err(error) => Err(error.to_string()),
    };
    match read {
        Ok(Saved { peers }) => peers
            .into_iter()
            .map(|SavedNode { name, is_alive, sites, formerly }| Node {
                name: name.into(),
                sites,
                is_alive,
                problems: Vec::new(),
                formerly,
            })
            .collect(),
        Err(damage) => {
            let kept = own_file::kept(&file.set_aside(SystemTime::now()));
            tracing::warn!(
                "{}: {damage}; {kept}: the other nodes are not known until the API server answers",
                file.path().display()
            );
            Vec::new()
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
        assert_eq!(load(state.path()), [Node { problems: Vec::new(), ..node }]);
        for damaged in ["", "{", "[7]", r#"{"peers":[{"sites":{"a":"b"}}]}"#, r#"{"peers":7}"#] {
            fs::write(state.path().join(FILE), damaged).unwrap();
            assert_eq!(load(state.path()), Vec::new(), "{damaged}");
            assert!(!state.path().join(FILE).exists(), "{damaged}: it was not set aside");
        }
        fs::write(state.path().join(FILE), vec![b' '; MOST_BYTES as usize + 1]).unwrap();
        assert_eq!(load(state.path()), Vec::new());
    }
}
