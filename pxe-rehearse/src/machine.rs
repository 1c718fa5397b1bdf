//! One simulated machine, from power-on to its operating system: a state machine without I/O.
//!
//! Its owner reports events ([`Machine::on_udp`], [`Machine::on_timer`], …) and does what its outputs say. Times are
//! durations since the start of the rehearsal.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use pxe_common::MacAddr;

use crate::{
    dhcp::{self, Reply},
    exchange::{Exchange, Lease, Manner},
    firmware::{Client, Firmware},
    frame,
    http::HttpRequest,
    report::{Again, Direction, MachineReport, Milestone, Note, Outcome, Stage, StageTime, Step as Timed},
    script::{self, Interpreter, url::Url},
    tftp::{Action, Transfer},
};

mod boot_attempt;
mod failure;
mod files;
mod http;
mod lease;
mod neighbours;
mod next_hop;
mod progress;
mod script_run;
mod tftp;
mod want;

use neighbours::Neighbours;
use want::Want;

/// The identity and the plan of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) mac: MacAddr,
    pub(crate) firmware: Firmware,
    pub(crate) manner: Manner,
    /// The milestone at which the boot ends.
    pub(crate) until: Milestone,
    /// The seed of the transaction identifiers.
    pub(crate) seed: u32,
    /// The hardware address of the interface that the simulator uses.
    pub(crate) interface: MacAddr,
    /// The UDP ports that the simulator reserves for TFTP, at least two.
    pub(crate) ports: Arc<[u16]>,
}

/// An instruction or a message to the owner of a machine.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send this frame.
    Frame(Vec<u8>),
    /// The machine has this address from now on.
    Configure(Box<Lease>),
    /// Make this request.
    Http(Box<HttpRequest>),
    /// A step, for whoever watches.
    Note(Note),
    /// A step took this time.
    Took(Timed, Duration),
    /// The boot has reached this milestone.
    Reached(Milestone),
    /// A message was repeated.
    Again(Again),
}

#[derive(Debug)]
enum Activity {
    Off,
    Dhcp(Box<Exchange>),
    Tftp { transfer: Box<Transfer>, want: Want },
    Http { want: Want, redirects: u32, content_length: Option<u64> },
    Sleep { until: Duration },
    Over,
}

/// A simulated machine.
#[derive(Debug)]
pub(crate) struct Machine {
    setup: Setup,
    activity: Activity,
    client: Client,
    stage: Stage,
    stages: Vec<StageTime>,
    lease: Option<Lease>,
    neighbours: Neighbours,
    script: Option<Interpreter>,
    /// The script waits for the running exchange.
    script_configures: bool,
    /// The file that was requested last.
    url: Option<Url>,
    /// The number of loaders that iPXE was given instead of a script.
    loaders: u32,
    /// The number of times that the firmware has begun to boot.
    boot_attempts: u32,
    started: Duration,
    ended: Duration,
    /// The time at which the current file was requested.
    fetching: Duration,
    milestone: Option<Milestone>,
    exchanges: u32,
    next_port: usize,
    kernel_arguments: Option<String>,
    outcome: Option<Outcome>,
    outputs: Vec<Output>,
}

impl Machine {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            client: setup.firmware.first_client(),
            setup,
            activity: Activity::Off,
            stage: Stage::Dhcp,
            stages: Vec::new(),
            lease: None,
            neighbours: Neighbours::default(),
            script: None,
            script_configures: false,
            url: None,
            loaders: 0,
            boot_attempts: 0,
            started: Duration::ZERO,
            ended: Duration::ZERO,
            fetching: Duration::ZERO,
            milestone: None,
            exchanges: 0,
            next_port: 0,
            kernel_arguments: None,
            outcome: None,
            outputs: Vec::new(),
        }
    }

    /// Returns the hardware address.
    pub(crate) const fn mac(&self) -> MacAddr {
        self.setup.mac
    }

    /// Returns the address of the last lease.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.lease.as_ref().map(|lease| lease.address)
    }

    /// Swaps the pending outputs into `outputs`, which must be empty.
    pub(crate) const fn swap_outputs(&mut self, outputs: &mut Vec<Output>) {
        std::mem::swap(&mut self.outputs, outputs);
    }

    /// Returns the length of the datagrams that the machine expects. Between network namespaces, several of them can
    /// arrive as one.
    pub(crate) fn datagram_length(&self) -> Option<usize> {
        match &self.activity {
            Activity::Tftp { transfer, .. } => Some(transfer.datagram_length()),
            _ => None,
        }
    }

    /// Returns when [`Self::on_timer`] must be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let own = match &self.activity {
            Activity::Dhcp(exchange) => Some(exchange.deadline()),
            Activity::Tftp { transfer, .. } => Some(transfer.deadline()),
            Activity::Sleep { until } => Some(*until),
            Activity::Off | Activity::Http { .. } | Activity::Over => None,
        };
        match (own, self.neighbours.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Returns the result of the boot, once it has ended.
    pub(crate) fn report(&self) -> Option<MachineReport> {
        Some(MachineReport {
            mac: self.setup.mac,
            firmware: self.setup.firmware,
            address: self.address(),
            outcome: self.outcome.clone()?,
            took: self.ended.saturating_sub(self.started),
            stages: self.stages.clone(),
            kernel_arguments: self.kernel_arguments.clone(),
        })
    }

    /// Begins the boot.
    pub(crate) fn power_on(&mut self, now: Duration) {
        self.started = now;
        self.begin_boot(now);
    }

    /// Puts out a step. The text is only made if somebody watches.
    fn note<T: Into<String>>(&mut self, now: Duration, direction: Direction, text: impl FnOnce(&Self) -> T) {
        if self.setup.manner.watched {
            let text = text(self).into();
            self.outputs.push(Output::Note(Note { at: now, mac: self.setup.mac, stage: self.stage, direction, text }));
        }
    }

    /// Handles a datagram for this machine.
    pub(crate) fn on_udp(&mut self, now: Duration, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        match &mut self.activity {
            Activity::Dhcp(exchange) if matches!(to.port(), dhcp::CLIENT_PORT | dhcp::PROXY_PORT) => {
                match Reply::decode(payload, self.client.reading()) {
                    Ok(reply) => {
                        let events = exchange.on_reply(now, &reply);
                        self.handle(now, events);
                    }
                    Err(reason) => {
                        self.note(now, Direction::Answered, |_| format!("a malformed DHCP message: {reason}"));
                    }
                }
            }
            Activity::Tftp { transfer, want } if *from.ip() == transfer.server => {
                let (want, server) = (*want, transfer.server);
                let actions = transfer.on_datagram(now, from.port(), to.port(), payload);
                self.act(now, want, server, actions);
            }
            _ => {}
        }
    }

    /// Handles the passing of time.
    pub(crate) fn on_timer(&mut self, now: Duration) {
        if let Some(lease) = &self.lease {
            for hop in self.neighbours.due(now) {
                self.outputs.push(Output::Again(Again::Arp));
                self.outputs.push(Output::Frame(frame::arp_request(self.setup.interface, lease.address, hop)));
            }
        }
        match &mut self.activity {
            Activity::Dhcp(exchange) => {
                let events = exchange.on_timer(now);
                self.handle(now, events);
            }
            Activity::Tftp { transfer, want } => {
                let (want, server) = (*want, transfer.server);
                let again = if transfer.has_begun() { Again::TftpAcknowledgement } else { Again::TftpRequest };
                let actions = transfer.on_timer(now);
                if matches!(actions[..], [Action::Send { .. }]) {
                    self.outputs.push(Output::Again(again));
                }
                self.act(now, want, server, actions);
            }
            Activity::Sleep { until } if *until <= now => self.run_script(now, script::Answer::Done),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
