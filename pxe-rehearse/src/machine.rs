//! One simulated machine, from power-on to its operating system: a state machine without I/O.
//!
//! It is told what happened ([`Machine::on_udp`], [`Machine::on_timer`], …) and leaves what it wants done in
//! its outputs. Times are durations since the rehearsal began.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use pxe_common::MacAddr;

use super::{
    dhcp::{self, Reply},
    exchange::{Exchange, Lease, Manner},
    firmware::{Client, Firmware},
    frame,
    http::HttpRequest,
    report::{Again, Direction, MachineReport, Milestone, Note, Outcome, Stage, StageTime, Step as Timed},
    script::{self, Interpreter, url::Url},
    tftp::{Action, Transfer},
};

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

/// What a machine is.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) mac: MacAddr,
    pub(super) firmware: Firmware,
    pub(super) manner: Manner,
    /// Where the boot ends.
    pub(super) until: Milestone,
    /// The transaction identifiers follow from it.
    pub(super) seed: u32,
    /// The hardware address of the interface that the simulator uses.
    pub(super) interface: MacAddr,
    /// UDP ports that the simulator keeps for TFTP, at least two.
    pub(super) ports: Arc<[u16]>,
}

/// What a machine wants done.
#[derive(Debug)]
pub(super) enum Output {
    Frame(Vec<u8>),
    /// This address is the machine's from now on.
    Configure(Box<Lease>),
    Http(Box<HttpRequest>),
    /// For whoever watches.
    Note(Note),
    /// A step was done in this time.
    Took(Timed, Duration),
    /// The boot has come this far, for the first time.
    Reached(Milestone),
    /// Something was sent once more.
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

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    setup: Setup,
    activity: Activity,
    client: Client,
    stage: Stage,
    stages: Vec<StageTime>,
    lease: Option<Lease>,
    neighbours: Neighbours,
    script: Option<Interpreter>,
    /// The script waits for the exchange that runs.
    script_configures: bool,
    /// What was fetched last.
    url: Option<Url>,
    /// How many loaders iPXE was given instead of a script.
    loaders: u32,
    started: Duration,
    ended: Duration,
    /// When the file that is on its way was asked for.
    fetching: Duration,
    milestone: Option<Milestone>,
    exchanges: u32,
    next_port: usize,
    kernel_arguments: Option<String>,
    outcome: Option<Outcome>,
    outputs: Vec<Output>,
}

impl Machine {
    pub(super) fn new(setup: Setup) -> Self {
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

    pub(super) const fn mac(&self) -> MacAddr {
        self.setup.mac
    }

    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.lease.as_ref().map(|lease| lease.address)
    }

    /// Puts what is to be done in place of an empty list.
    pub(super) const fn swap_outputs(&mut self, outputs: &mut Vec<Output>) {
        std::mem::swap(&mut self.outputs, outputs);
    }

    /// How long the datagrams are that the machine expects now. Several of them arrive uncut between network
    /// namespaces.
    pub(super) fn datagram_length(&self) -> Option<usize> {
        match &self.activity {
            Activity::Tftp { transfer, .. } => Some(transfer.datagram_length()),
            _ => None,
        }
    }

    /// When [`Self::on_timer`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
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

    /// What became of the machine, once it has an outcome.
    pub(super) fn report(&self) -> Option<MachineReport> {
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

    pub(super) fn power_on(&mut self, now: Duration) {
        self.started = now;
        let stage = match self.client {
            Client::System => Stage::System,
            Client::Ipxe(_) => Stage::IpxeDhcp,
            _ => Stage::Dhcp,
        };
        self.begin_dhcp(now, self.client, stage);
    }

    /// The text is made only when somebody watches.
    fn note<T: Into<String>>(&mut self, now: Duration, direction: Direction, text: impl FnOnce(&Self) -> T) {
        if self.setup.manner.watched {
            let text = text(self).into();
            self.outputs.push(Output::Note(Note { at: now, mac: self.setup.mac, stage: self.stage, direction, text }));
        }
    }

    /// A datagram that concerns this machine.
    pub(super) fn on_udp(&mut self, now: Duration, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        match &mut self.activity {
            Activity::Dhcp(exchange) if matches!(to.port(), dhcp::CLIENT_PORT | dhcp::PROXY_PORT) => {
                match Reply::decode(payload, self.client.reading()) {
                    Ok(reply) => {
                        let events = exchange.on_reply(now, &reply);
                        self.handle(now, events);
                    }
                    Err(reason) => {
                        self.note(now, Direction::Answered, |_| format!("a DHCP message that is broken: {reason}"));
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

    /// Time has passed.
    pub(super) fn on_timer(&mut self, now: Duration) {
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
