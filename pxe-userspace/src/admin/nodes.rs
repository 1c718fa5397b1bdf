//! The nodes that share the fleet.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::context::Admin;
use crate::model::nodes::{Node, Owner, Sites, Source};

/// All nodes, this one first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodesJson<'n> {
    /// The way in which this node knows the others: `alone`, `by-hand` or `leases`.
    known_by: &'static str,
    /// The reason why nothing new is known of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'n str>,
    nodes: Vec<NodeJson<'n>>,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeJson<'n> {
    name: &'n str,
    /// Set for the node that answers this request.
    this: bool,
    alive: bool,
    /// The sites that it serves: from the address in the spec to its own.
    #[schema(value_type = BTreeMap<String, String>)]
    sites: &'n Sites,
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    problems: &'n [String],
    /// The machines that it answers first.
    machines: usize,
}

impl<'n> NodeJson<'n> {
    fn of(node: &'n Node, this: bool, machines: usize) -> Self {
        let Node { name, sites, is_alive, problems, formerly: _ } = node;
        Self { name, this, alive: *is_alive, sites, problems, machines }
    }
}

/// `GET /api/v1/nodes`.
#[utoipa::path(get, path = "/api/v1/nodes", operation_id = "list_nodes", tag = "pxed", responses(
    (status = 200, description = "The nodes that share the fleet, this one first", body = NodesJson),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Response {
    let nodes = admin.context.nodes.load_full();
    let inventory = admin.context.journal.inventory();
    let mut owned = vec![0; nodes.peers().len()];
    let mut own = 0;
    for machine in inventory.machines() {
        match nodes.owner(machine.site.address, machine.mac) {
            Owner::This => own += 1,
            Owner::Peer(peer, _) => {
                let index = nodes.peers().iter().position(|other| Arc::ptr_eq(&other.name, &peer.name));
                if let Some(count) = index.and_then(|index| owned.get_mut(index)) {
                    *count += 1;
                }
            }
        }
    }
    let peers = nodes.peers().iter().zip(owned).map(|(peer, machines)| NodeJson::of(peer, false, machines));
    let (known_by, trouble) = match nodes.source() {
        Source::Alone => ("alone", None),
        Source::ByHand => ("by-hand", None),
        Source::Leases { trouble } => ("leases", trouble.as_deref()),
    };
    let all = std::iter::once(NodeJson::of(nodes.this(), true, own)).chain(peers).collect();
    Json(NodesJson { known_by, trouble, nodes: all }).into_response()
}
