//! The context that all ports share.

use std::sync::Arc;

use pxe_common::{MacAddr, layout::Settings};

use super::{
    addressing::Addressing, counters::ReplyCounters, datapath::Datapath, duplicate_answers::DuplicateAnswers,
    sharing::Sharing, trace_reader::DroppedStrangers,
};
use crate::{
    capture::Tap,
    dhcp::Mode,
    guard::Guard,
    model::{event::EventSink, inventory::SharedInventory, policy_book::SharedPolicies},
};

/// The context that all ports share.
#[derive(Clone)]
pub struct Context {
    /// The way that frames are to reach us.
    pub datapath: Datapath,
    /// The addresses at which the sites are served.
    pub addressing: Addressing,
    /// The XDP program's settings: the fate of unknown machines, and each machine's rate limit.
    pub settings: Settings,
    /// The MAC addresses of relays and routers whose frames count as the machines' own.
    pub trusted_relays: Arc<[MacAddr]>,
    /// Server or proxy mode.
    pub mode: Mode,
    /// The port of the boot HTTP server.
    pub http_port: u16,
    /// The lease time in seconds.
    pub lease_seconds: u32,
    /// Makes the unguessable parts of URLs; `None` in proxy mode.
    pub guard: Option<Arc<Guard>>,
    /// The machines.
    pub inventory: SharedInventory,
    /// The destination of each machine: network or disk.
    pub policies: SharedPolicies,
    /// The way to the journal.
    pub events: EventSink,
    /// The counts of replies.
    pub counters: Arc<ReplyCounters>,
    /// The last question of each machine.
    pub duplicate_answers: Arc<DuplicateAnswers>,
    /// The turns of the nodes, if several may share the fleet.
    pub sharing: Option<Arc<Sharing>>,
    /// The place where workers show their frames to those who capture.
    pub tap: Tap,
    /// Is told of the strangers whose requests an XDP program drops.
    pub dropped_strangers: DroppedStrangers,
}
