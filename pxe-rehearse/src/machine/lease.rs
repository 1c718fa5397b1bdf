//! Getting a lease, and going on to the boot file that it names.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use pxe_common::MacAddr;

use super::{Activity, Machine, Output, failure::Failure, want::Want};
use crate::{
    dhcp,
    exchange::{Event, Exchange, Lease},
    firmware::{Client, uuid},
    frame,
    report::{Direction, Milestone, Outcome, Stage, Step as Timed},
    script::{self, url::Url},
};

impl Machine {
    /// Begins an exchange of this client.
    pub(super) fn begin_dhcp(&mut self, now: Duration, client: Client, stage: Stage) {
        self.client = client;
        self.enter(now, stage);
        self.exchanges += 1;
        // Odd multipliers spread the identifiers, both of neighbours and of the exchanges of one machine.
        let xid = self.setup.seed.wrapping_mul(2_654_435_761).wrapping_add(self.exchanges.wrapping_mul(0x9e37_79b1));
        let identity = (self.setup.mac, uuid(self.setup.mac));
        let (exchange, events) = Exchange::begin(now, client, identity, xid, self.setup.manner);
        self.activity = Activity::Dhcp(Box::new(exchange));
        self.handle(now, events);
    }

    /// Handles the events of the exchange.
    pub(super) fn handle(&mut self, now: Duration, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Broadcast(payload, text) => {
                    self.note(now, Direction::Asked, |_| text);
                    let link = (self.setup.mac, MacAddr::BROADCAST);
                    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT);
                    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, dhcp::SERVER_PORT);
                    self.outputs.push(Output::Frame(frame::udp(link, from, to, &payload)));
                }
                Event::ToBootServer(server, payload, text) => {
                    self.note(now, Direction::Asked, |_| text);
                    self.send(now, dhcp::PROXY_PORT, SocketAddrV4::new(server, dhcp::PROXY_PORT), &payload);
                }
                Event::Heard(text) => self.note(now, Direction::Answered, |_| text),
                Event::Again(what) => self.outputs.push(Output::Again(what)),
                Event::Offered(took) => {
                    self.outputs.push(Output::Took(Timed::Offer, took));
                    self.reach(now, Milestone::Offer);
                }
                Event::Acknowledged(took) => self.outputs.push(Output::Took(Timed::Acknowledgement, took)),
                Event::Bound(lease) => {
                    let announcement = frame::arp_request(self.setup.interface, lease.address, lease.address);
                    self.lease = Some(lease.clone());
                    self.outputs.push(Output::Configure(Box::new(lease)));
                    self.outputs.push(Output::Frame(announcement));
                }
                Event::Done(lease) => self.on_lease(now, lease),
                Event::Failed(reason) | Event::Lost(reason) if self.script_configures => {
                    self.script_configures = false;
                    self.note(now, Direction::Said, |_| reason.clone());
                    self.run_script(now, script::Answer::Failed(reason));
                }
                Event::Failed(reason) => self.fail(now, reason),
                Event::Lost(reason) => self.end_attempt(now, Failure::Lost(reason)),
            }
            if self.outcome.is_some() {
                return;
            }
        }
    }

    fn on_lease(&mut self, now: Duration, lease: Lease) {
        let boot_file = lease.boot_file.clone();
        let next_server = lease.next_server;
        self.note(now, Direction::Said, |_| {
            let seconds = lease.seconds.map_or_else(String::new, |seconds| format!(" for {seconds} s"));
            format!("has {}/{}{seconds}", lease.address, lease.prefix_length)
        });
        self.lease = Some(lease);
        if self.reach(now, Milestone::Lease) {
            return;
        }
        if self.client == Client::System {
            self.reach(now, Milestone::Booted);
            self.note(now, Direction::Said, |_| "BOOTED: the operating system runs");
            return self.end(now, Outcome::Booted);
        }
        if self.script_configures {
            self.script_configures = false;
            self.refresh_settings();
            return self.run_script(now, script::Answer::Done);
        }
        let Some(file) = boot_file else { return self.fail(now, "the lease names no boot file".to_owned()) };
        let url = match Url::of_boot_file(&file, next_server) {
            Ok(url) => url,
            Err(reason) => return self.fail(now, reason),
        };
        match self.client {
            Client::Ipxe(_) => {
                self.enter(now, Stage::Script);
                self.fetch(now, url, Want::BootFile);
            }
            _ => {
                self.enter(now, if url.is_kernel_image() { Stage::Kernel } else { Stage::Loader });
                let want = if matches!(self.client, Client::EdkHttp { .. }) { Want::LoaderSize } else { Want::Loader };
                self.fetch(now, url, want);
            }
        }
    }
}
