//! The nodes that share the fleet, below the table of machines.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Deserialize;

use crate::cli::shown::Shown;

/// The fields of `GET /api/v1/nodes` that are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Nodes {
    known_by: Shown,
    trouble: Option<Shown>,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    name: Shown,
    this: bool,
    alive: bool,
    sites: BTreeMap<Shown, Shown>,
    #[serde(default)]
    problems: Vec<Shown>,
    machines: usize,
}

/// Formats one line for each node and each of its problems; nothing if there is one node only, and no others are looked for.
pub(super) fn render(nodes: &Nodes) -> String {
    let Nodes { known_by, trouble, nodes } = nodes;
    if **known_by == *"alone" {
        return String::new();
    }
    let alive = nodes.iter().filter(|node| node.alive).count();
    let how = if **known_by == *"by-hand" { ", taken to live (--peers)" } else { "" };
    let mut text = format!("nodes: {alive} of {} alive{how}\n", nodes.len());
    for Node { name, this, alive, sites, problems, machines } in nodes {
        let state = match (this, alive) {
            (true, _) => " (this node)",
            (false, true) => "",
            (false, false) => " is dead",
        };
        let served: Vec<_> = sites
            .iter()
            .map(|(site, own)| if site == own { own.to_string() } else { format!("{own} for {site}") })
            .collect();
        let served = match &served[..] {
            [] => "serves no site".to_owned(),
            served => format!("serves {}", served.join(", ")),
        };
        let machines = if *machines == 1 { "1 machine".to_owned() } else { format!("{machines} machines") };
        // Writing to a string cannot fail.
        let _ = match *alive || *this {
            true => writeln!(text, "  {name}{state}: {served}, answers {machines} first"),
            false => writeln!(text, "  {name}{state}"),
        };
        if !this {
            for problem in problems {
                let _ = writeln!(text, "    {problem}");
            }
        }
    }
    if let Some(trouble) = trouble {
        let _ = writeln!(text, "  nothing new is known of the others: {trouble}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(json: &str) -> String {
        render(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn nodes_are_listed_with_their_addresses_and_machines() {
        let json = r#"{"known_by":"leases","later":1,"nodes":[
            {"name":"a","this":true,"alive":true,"sites":{"10.0.0.254":"10.0.0.2"},"machines":7,"problems":["shown elsewhere"]},
            {"name":"b","this":false,"alive":true,"sites":{"10.0.0.254":"10.0.0.254"},"machines":1},
            {"name":"c","this":false,"alive":true,"sites":{},"machines":0,"problems":["interface eth1 is down"]},
            {"name":"d","this":false,"alive":false,"sites":{},"machines":0}],"trouble":"no answer within 4 s"}"#;
        let expected = "nodes: 3 of 4 alive\n  a (this node): serves 10.0.0.2 for 10.0.0.254, answers 7 machines first\n  \
                        b: serves 10.0.0.254, answers 1 machine first\n  c: serves no site, answers 0 machines first\n    \
                        interface eth1 is down\n  d is dead\n  nothing new is known of the others: no answer within 4 s\n";
        assert_eq!(rendered(json), expected);
    }

    #[test]
    fn node_alone_needs_no_list() {
        let alone = r#"{"known_by":"alone","nodes":[{"name":"","this":true,"alive":true,"sites":{},"machines":7}]}"#;
        assert_eq!(rendered(alone), "");
    }
}
