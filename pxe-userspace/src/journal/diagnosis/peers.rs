//! What another node of the fleet does about a machine.

use std::time::SystemTime;

use super::{
    super::{
        machine_record::MachineRecord,
        words::{elapsed, human},
    },
    finding::Diagnosis,
};
use crate::model::{
    event::EventKind,
    nodes::{Node, Nodes, Owner},
};

/// Returns the diagnosis with what the nodes add to it: a machine that another node answers is explained there.
#[must_use]
pub fn among_nodes(diagnosis: Diagnosis, record: &MachineRecord, nodes: &Nodes, now: SystemTime) -> Diagnosis {
    let last = record.events.iter().rev().find(|event| concerns_a_node(&event.kind));
    let mac = record.machine.mac;
    if let Some((event, address, chosen)) = last.and_then(|event| match event.kind {
        EventKind::LeftToPeer { address, chosen, .. } => Some((event, address, chosen)),
        _ => None,
    }) {
        let peer = nodes.peer_at(address);
        let (name, ago) = (named(peer, address), human(elapsed(event.at, now)));
        let did =
            if chosen { format!("It chose the offer of {name}") } else { format!("It asked, and {name} answers it") };
        let is_dead = peer.is_none_or(|peer| !peer.is_alive);
        let advice = if is_dead {
            format!(
                "{name} does not live as far as this node knows. This node answers as soon as the machine asks again, at the latest when it is \
                 restarted."
            )
        } else {
            format!(
                "How far it came is known there: pxed explain {mac} on {name}. If that host is dead, this node answers as soon as the machine asks \
                 again, at the latest when it is restarted."
            )
        };
        return Diagnosis {
            reached: format!("{did}, {ago} ago. This node stays silent meanwhile."),
            waits_for: "Nothing from this node.".to_owned(),
            advice: vec![advice],
        };
    }
    if last.is_none()
        && let Owner::Peer(peer, Some(address)) = nodes.owner(record.machine.site.address, mac)
    {
        let name = named(Some(peer), address);
        return Diagnosis { reached: format!("{} If it asks, {name} answers first.", diagnosis.reached), ..diagnosis };
    }
    diagnosis
}

/// Returns `true` if the event shows which node the machine deals with.
fn concerns_a_node(event: &EventKind) -> bool {
    !matches!(event, EventKind::OtherVlan { .. } | EventKind::ForeignRelay { .. } | EventKind::Ignored { .. })
}

fn named(peer: Option<&Node>, address: std::net::Ipv4Addr) -> String {
    match peer {
        Some(peer) if *peer.name != *address.to_string() => format!("{} ({address})", peer.name),
        _ => format!("the pxed at {address}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;
    use crate::{
        journal::{Stage, policy::Cycle},
        model::{
            architecture::Architecture,
            event::{BootEvent, ClientKind},
            inventory::Machine,
            nodes::Sites,
            origin::Origin,
            policy::{BootPolicy, Disposition},
            testing,
        },
    };

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    fn machine() -> Arc<Machine> {
        testing::machine(1, Architecture::Amd64, "v1.13.0", None)
    }

    fn record(events: Vec<EventKind>) -> MachineRecord {
        let machine = machine();
        let event = |kind| BootEvent { mac: machine.mac, at: UNIX_EPOCH, origin: Origin::Machine, kind };
        let events = events.into_iter().map(event).collect();
        MachineRecord {
            machine,
            policy: BootPolicy::Auto,
            boots_from: Disposition::Network,
            stage: Stage::NeverSeen,
            stage_since: UNIX_EPOCH,
            deadline: Default::default(),
            boots: 0,
            attempt: 0,
            last_error: None,
            asked_too_often: None,
            booted: false,
            cycle: Cycle::Unknown,
            verifies_up: true,
            progress: None,
            astray: None,
            near_misses: Vec::new(),
            others: None,
            events,
            restored: 0,
            is_decided_here: true,
            reached_disk: false,
            server: Ipv4Addr::LOCALHOST,
        }
    }

    fn nodes(name: &str, is_alive: bool) -> Nodes {
        let site = machine().site.address;
        let peer = Node { name: name.into(), sites: Sites::from([(site, PEER)]), is_alive, ..Node::default() };
        Nodes::new(Node::default(), [peer])
    }

    fn explained(events: Vec<EventKind>, nodes: &Nodes) -> Diagnosis {
        let own = Diagnosis { reached: "Own.".to_owned(), waits_for: "Own.".to_owned(), advice: Vec::new() };
        among_nodes(own, &record(events), nodes, UNIX_EPOCH + Duration::from_secs(12))
    }

    #[test]
    fn machine_of_another_node_is_explained_with_its_name_and_address() {
        let left = |chosen| EventKind::LeftToPeer { client: ClientKind::Pxe, address: PEER, chosen };
        let turn = explained(vec![left(false)], &nodes("node-b", true));
        assert!(turn.reached.starts_with("It asked, and node-b (10.0.0.3) answers it, 12 s ago."), "{turn:?}");
        let chosen = explained(vec![left(false), left(true)], &nodes("node-b", true));
        assert!(chosen.reached.starts_with("It chose the offer of node-b (10.0.0.3), 12 s ago."), "{chosen:?}");
        assert!(chosen.advice[0].contains("on node-b (10.0.0.3)"), "{chosen:?}");
        let by_hand = explained(vec![left(true)], &nodes("10.0.0.3", true));
        assert!(by_hand.reached.contains("the pxed at 10.0.0.3"), "{by_hand:?}");
        for dead in [nodes("node-b", false), Nodes::default()] {
            let dead = explained(vec![left(true)], &dead);
            assert!(dead.advice[0].contains("does not live"), "{dead:?}");
        }
    }

    #[test]
    fn machine_that_came_back_to_this_node_is_its_own() {
        let left = EventKind::LeftToPeer { client: ClientKind::Pxe, address: PEER, chosen: true };
        let discover = EventKind::Discover { client: ClientKind::Pxe, client_architecture: None };
        assert_eq!(explained(vec![left, discover], &nodes("node-b", true)).reached, "Own.");
    }

    #[test]
    fn silent_machine_is_told_with_the_node_that_would_answer() {
        assert_eq!(
            explained(vec![], &nodes("node-b", true)).reached,
            "Own. If it asks, node-b (10.0.0.3) answers first."
        );
        assert_eq!(explained(vec![], &nodes("node-b", false)).reached, "Own.");
    }
}
