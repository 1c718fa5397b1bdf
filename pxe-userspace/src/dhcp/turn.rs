//! The turns of the nodes that share a fleet: which of them answers a question.

use std::net::Ipv4Addr;

use super::answer::Question;

/// The node whose turn it is to answer a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This node.
    Ours,
    /// This node, under the server identifier of another one: the client chose that one, and expects it in the answer.
    InPlaceOf(Ipv4Addr),
    /// Another node, at this address of its own.
    Peers(Ipv4Addr),
    /// None: the server that the client names is not a node of the fleet.
    Foreign,
}

/// Returns the turn of a node that is the only one.
#[must_use]
pub const fn alone(_: &Question<'_>, named: Option<Ipv4Addr>) -> Turn {
    match named {
        None => Turn::Ours,
        Some(_) => Turn::Foreign,
    }
}
