//! What every port needs to know.

use std::sync::Arc;

use pxe_common::layout::Settings;

use super::{counters::ReplyCounters, datapath::Datapath, duplicate_answers::DuplicateAnswers};
use crate::{
    dhcp::Mode,
    model::{event::EventSink, inventory::SharedInventory, policy_book::SharedPolicies},
};

/// What every port needs to know.
#[derive(Clone)]
pub struct Context {
    /// How frames are to reach us.
    pub datapath: Datapath,
    /// What the XDP program does with unknown machines, and the rate that it holds each machine to.
    pub settings: Settings,
    /// Server or proxy.
    pub mode: Mode,
    /// The port of boot HTTP.
    pub http_port: u16,
    /// The lease time in seconds.
    pub lease_seconds: u32,
    /// The machines.
    pub inventory: SharedInventory,
    /// Where each machine is sent.
    pub policies: SharedPolicies,
    /// Where events go.
    pub events: EventSink,
    /// What is counted about replies.
    pub counters: Arc<ReplyCounters>,
    /// What was asked last.
    pub duplicate_answers: Arc<DuplicateAnswers>,
}
