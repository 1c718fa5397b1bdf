//! The configuration and the shared state that every port needs.

use std::sync::Arc;

use pxe_common::layout::Settings;

use super::{counters::ReplyCounters, datapath::Datapath, duplicate_answers::DuplicateAnswers};
use crate::{
    dhcp::Mode,
    model::{event::EventSink, inventory::SharedInventory, policy_book::SharedPolicies},
};

/// The configuration and the shared state that every port needs.
#[derive(Clone)]
pub struct Context {
    /// The datapath that the operator chose.
    pub datapath: Datapath,
    /// The XDP program's settings: its treatment of unknown machines, and the rate limit of each machine.
    pub settings: Settings,
    /// Server or proxy mode.
    pub mode: Mode,
    /// The port of the boot HTTP server.
    pub http_port: u16,
    /// The lease time in seconds.
    pub lease_seconds: u32,
    /// The machines.
    pub inventory: SharedInventory,
    /// The boot target of each machine.
    pub policies: SharedPolicies,
    /// The sink for events.
    pub events: EventSink,
    /// The counters of replies.
    pub counters: Arc<ReplyCounters>,
    /// The last question of each machine.
    pub duplicate_answers: Arc<DuplicateAnswers>,
}
