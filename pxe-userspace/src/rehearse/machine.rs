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
    exchange::{Event, Exchange, Lease, Manner},
    firmware::{Client, Firmware, Platform},
    frame,
    report::{Again, Bytes, Direction, MachineReport, Milestone, Note, Outcome, Stage, StageTime, Step as Timed},
    script::{
        self, Image, Interpreter, Step,
        url::{Scheme, Url},
    },
    tftp::{Action, Style, Transfer},
};

mod neighbours;
mod script_run;

use neighbours::Neighbours;

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

/// One HTTP request. The body is counted; its first `keep` bytes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpRequest {
    pub(super) head_only: bool,
    pub(super) host: SocketAddrV4,
    /// As it is written into the `Host` header.
    pub(super) host_header: String,
    pub(super) path: String,
    pub(super) user_agent: &'static str,
    pub(super) keep: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct HttpResponse {
    pub(super) status: u16,
    pub(super) content_length: Option<u64>,
    pub(super) location: Option<String>,
    pub(super) bytes: u64,
    pub(super) kept: Vec<u8>,
}

/// Why a file is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// UEFI HTTP boot asks for the size first.
    LoaderSize,
    Loader,
    /// iPXE looks for a script beside its own binary.
    Autoexec,
    /// What DHCP named to iPXE: a script, as a rule.
    BootFile,
    /// What a script asks for.
    Image(Image),
}

impl Want {
    /// How many bytes of the file somebody will read.
    const fn keeps(self) -> usize {
        match self {
            Self::Autoexec | Self::BootFile | Self::Image(Image::Script) => script::MAX_SCRIPT,
            Self::LoaderSize | Self::Loader | Self::Image(_) => 0,
        }
    }

    const fn step(self) -> Timed {
        match self {
            Self::LoaderSize | Self::Loader => Timed::Loader,
            Self::Autoexec => Timed::Autoexec,
            Self::BootFile | Self::Image(Image::Script) => Timed::Script,
            Self::Image(Image::Kernel) => Timed::Kernel,
            Self::Image(Image::Initramfs) => Timed::Initramfs,
        }
    }
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

const IPXE_AGENT: &str = "iPXE/1.21.1";
const EDK_AGENT: &str = "UefiHttpBoot/1.0";

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

    /// Ends the boot from outside.
    pub(super) fn give_up(&mut self, now: Duration, reason: impl Into<String>) {
        if self.outcome.is_none() {
            self.fail(now, reason.into());
        }
    }

    /// The text is made only when somebody watches.
    fn note<T: Into<String>>(&mut self, now: Duration, direction: Direction, text: impl FnOnce(&Self) -> T) {
        if self.setup.manner.watched {
            let text = text(self).into();
            self.outputs.push(Output::Note(Note { at: now, mac: self.setup.mac, stage: self.stage, direction, text }));
        }
    }

    /// Takes down how far the boot has come. Returns whether it ends here.
    fn reach(&mut self, now: Duration, milestone: Milestone) -> bool {
        if self.milestone < Some(milestone) {
            self.milestone = Some(milestone);
            self.outputs.push(Output::Reached(milestone));
        }
        let is_over = milestone == self.setup.until && milestone != Milestone::Booted;
        if is_over {
            self.note(now, Direction::Said, |_| format!("REACHED: {milestone}"));
            self.end(now, Outcome::Reached);
        }
        is_over
    }

    fn enter(&mut self, now: Duration, stage: Stage) {
        self.leave_stage(now);
        self.stage = stage;
        self.stages.push(StageTime { stage, started: now, took: Duration::ZERO, bytes: 0 });
    }

    fn leave_stage(&mut self, now: Duration) {
        if let Some(last) = self.stages.last_mut()
            && last.took.is_zero()
        {
            last.took = now.saturating_sub(last.started);
        }
    }

    fn end(&mut self, now: Duration, outcome: Outcome) {
        self.leave_stage(now);
        self.ended = now;
        self.activity = Activity::Over;
        self.outcome = Some(outcome);
        self.neighbours.forget_pending();
    }

    fn fail(&mut self, now: Duration, reason: String) {
        self.note(now, Direction::Said, |_| format!("FAILED: {reason}"));
        self.end(now, Outcome::Failed { stage: self.stage, reason });
    }

    // DHCP

    fn begin_dhcp(&mut self, now: Duration, client: Client, stage: Stage) {
        self.client = client;
        self.enter(now, stage);
        self.exchanges += 1;
        // Any odd multiplier spreads the identifiers of neighbours and of one machine's exchanges.
        let xid = self.setup.seed.wrapping_mul(2_654_435_761).wrapping_add(self.exchanges.wrapping_mul(0x9e37_79b1));
        let identity = (self.setup.mac, uuid(self.setup.mac));
        let (exchange, events) = Exchange::begin(now, client, identity, xid, self.setup.manner);
        self.activity = Activity::Dhcp(Box::new(exchange));
        self.handle(now, events);
    }

    fn handle(&mut self, now: Duration, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Broadcast(request, text) => {
                    self.note(now, Direction::Asked, |_| text);
                    let link = (self.setup.mac, MacAddr::BROADCAST);
                    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT);
                    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, dhcp::SERVER_PORT);
                    self.outputs.push(Output::Frame(frame::udp(link, from, to, &request.encode())));
                }
                Event::ToBootServer(server, request, text) => {
                    self.note(now, Direction::Asked, |_| text);
                    let to = SocketAddrV4::new(server, dhcp::PROXY_PORT);
                    self.send(now, dhcp::PROXY_PORT, to, &request.encode());
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
                Event::Failed(reason) if self.script_configures => {
                    self.script_configures = false;
                    self.note(now, Direction::Said, |_| reason.clone());
                    self.run_script(now, script::Answer::Failed(reason));
                }
                Event::Failed(reason) => self.fail(now, reason),
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
                self.enter(now, Stage::Loader);
                let want = if matches!(self.client, Client::EdkHttp { .. }) { Want::LoaderSize } else { Want::Loader };
                self.fetch(now, url, want);
            }
        }
    }

    // Files

    fn fetch(&mut self, now: Duration, url: Url, want: Want) {
        self.fetching = now;
        let is_firmware = matches!(want, Want::LoaderSize | Want::Loader);
        match url.scheme {
            Scheme::Tftp => {
                let style = match self.client {
                    Client::EdkPxe { .. } | Client::EdkHttp { .. } if is_firmware => Style::Edk,
                    Client::BootAgent if is_firmware => Style::BootAgent,
                    _ => Style::Ipxe,
                };
                // EDK2 and iPXE leave the leading slash of a DHCP file name where it is; ours has been added.
                let file = url.path.trim_start_matches('/');
                self.note(now, Direction::Asked, |_| format!("TFTP {}:{file}", url.host));
                let ports = [self.port(), self.port()];
                let (transfer, actions) = Transfer::begin(now, url.host, file, style, ports, want.keeps());
                let server = url.host;
                self.url = Some(url);
                self.activity = Activity::Tftp { transfer: Box::new(transfer), want };
                self.act(now, want, server, actions);
            }
            Scheme::Http => self.request_http(now, url, want, 0, None),
        }
    }

    /// The next of the simulator's ports.
    fn port(&mut self) -> u16 {
        self.next_port += 1;
        let ports = &self.setup.ports;
        ports.get(self.next_port % ports.len().max(1)).copied().unwrap_or(1580)
    }

    fn request_http(&mut self, now: Duration, url: Url, want: Want, redirects: u32, content_length: Option<u64>) {
        let is_firmware = matches!(want, Want::LoaderSize | Want::Loader);
        let head_only = want == Want::LoaderSize;
        self.note(now, Direction::Asked, |_| format!("{} {url}", if head_only { "HEAD" } else { "GET" }));
        // EDK2 omits the port, iPXE the default one.
        let host_header =
            if is_firmware || url.port == 80 { url.host.to_string() } else { format!("{}:{}", url.host, url.port) };
        self.outputs.push(Output::Http(Box::new(HttpRequest {
            head_only,
            host: SocketAddrV4::new(url.host, url.port),
            host_header,
            path: url.path.clone(),
            user_agent: if is_firmware { EDK_AGENT } else { IPXE_AGENT },
            keep: want.keeps(),
        })));
        self.url = Some(url);
        self.activity = Activity::Http { want, redirects, content_length };
    }

    /// The answer to the request that is under way.
    pub(super) fn on_http(&mut self, now: Duration, result: Result<HttpResponse, String>) {
        let Activity::Http { want, redirects, content_length } = self.activity else { return };
        let Some(url) = self.url.clone() else { return };
        let response = match result {
            Ok(response) => response,
            Err(reason) => return self.on_file(now, want, Err(reason)),
        };
        self.note(now, Direction::Answered, |_| match response.content_length {
            Some(length) => format!("{} {}", response.status, Bytes(length)),
            None => format!("{} no Content-Length", response.status),
        });
        match (response.status, &response.location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) if redirects < 5 => match url.resolve(location) {
                Ok(url) if url.scheme == Scheme::Http => {
                    self.request_http(now, url, want, redirects + 1, content_length);
                }
                Ok(url) => self.on_file(now, want, Err(format!("redirected to {url}"))),
                Err(reason) => self.on_file(now, want, Err(reason)),
            },
            (200, _) if want == Want::LoaderSize => {
                self.request_http(now, url, Want::Loader, 0, response.content_length);
            }
            (200, _) => {
                let promised = response.content_length.or(content_length);
                let result = match promised.filter(|promised| *promised != response.bytes) {
                    Some(promised) => Err(format!("{url}: {promised} bytes promised, {} sent", response.bytes)),
                    None => Ok((response.bytes, response.kept)),
                };
                self.on_file(now, want, result);
            }
            (status, _) => self.on_file(now, want, Err(format!("{url}: HTTP status {status}"))),
        }
    }

    fn act(&mut self, now: Duration, want: Want, server: Ipv4Addr, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { from, to, bytes } => self.send(now, from, SocketAddrV4::new(server, to), &bytes),
                Action::Done(received) => {
                    self.note(now, Direction::Answered, |_| format!("{} received", Bytes(received.bytes)));
                    self.on_file(now, want, Ok((received.bytes, received.kept)));
                }
                Action::Failed(reason) => {
                    self.note(now, Direction::Answered, |_| reason.clone());
                    self.on_file(now, want, Err(reason));
                }
            }
        }
    }

    fn on_file(&mut self, now: Duration, want: Want, result: Result<(u64, Vec<u8>), String>) {
        if let (Ok((bytes, _)), Some(stage)) = (&result, self.stages.last_mut()) {
            stage.bytes += bytes;
        }
        // The file that iPXE looks for beside itself is missing as a rule: that takes its time too.
        if result.is_ok() || want == Want::Autoexec {
            self.outputs.push(Output::Took(want.step(), now.saturating_sub(self.fetching)));
        }
        match (want, result) {
            (Want::LoaderSize | Want::Loader | Want::BootFile, Err(reason)) => self.fail(now, reason),
            (Want::LoaderSize | Want::Loader, Ok(_)) => self.start_loader(now),
            (Want::Autoexec, Ok((_, text))) if Interpreter::is_script(&text) => self.begin_script(now, &text),
            (Want::Autoexec, _) => self.begin_ipxe(now),
            (Want::BootFile, Ok((_, text))) if Interpreter::is_script(&text) => self.begin_script(now, &text),
            (Want::BootFile, Ok(_)) => {
                // iPXE was sent to another loader, which is usual for a ROM and an endless loop otherwise.
                self.loaders += 1;
                if self.loaders > 2 {
                    let reason = "iPXE is given a loader again and again: the server does not recognise it (option 77)";
                    return self.fail(now, reason.to_owned());
                }
                self.begin_ipxe(now);
            }
            (Want::Image(_), Ok((_, body))) => self.run_script(now, script::Answer::Fetched(body)),
            (Want::Image(_), Err(reason)) => {
                self.note(now, Direction::Said, |_| reason.clone());
                self.run_script(now, script::Answer::Failed(reason));
            }
        }
    }

    /// The loader, taken to be iPXE, starts.
    fn start_loader(&mut self, now: Duration) {
        if self.reach(now, Milestone::Loader) {
            return;
        }
        let is_efi = matches!(self.setup.firmware.platform(), Platform::Efi { .. });
        let autoexec = self.url.as_ref().and_then(|url| url.resolve("autoexec.ipxe").ok());
        match autoexec.filter(|_| is_efi) {
            Some(url) => {
                self.enter(now, Stage::Script);
                self.fetch(now, url, Want::Autoexec);
            }
            None => self.begin_ipxe(now),
        }
    }

    fn begin_ipxe(&mut self, now: Duration) {
        self.begin_dhcp(now, Client::Ipxe(self.setup.firmware.platform()), Stage::IpxeDhcp);
    }

    // The link

    fn send(&mut self, now: Duration, from: u16, to: SocketAddrV4, payload: &[u8]) {
        let Some(lease) = &self.lease else { return };
        let from = SocketAddrV4::new(lease.address, from);
        let hop = next_hop(lease, *to.ip());
        let datagram = |hardware| frame::udp((self.setup.interface, hardware), from, to, payload);
        match self.neighbours.get(hop) {
            Some(hardware) => self.outputs.push(Output::Frame(datagram(hardware))),
            None => {
                self.neighbours.ask(now, hop, datagram(MacAddr::BROADCAST));
                self.outputs.push(Output::Frame(frame::arp_request(self.setup.interface, *from.ip(), hop)));
            }
        }
    }

    /// Somebody on the link answered our ARP request.
    pub(super) fn on_arp(&mut self, address: Ipv4Addr, hardware: MacAddr) {
        for mut frame in self.neighbours.learn(address, hardware) {
            if let Some(destination) = frame.get_mut(..6) {
                destination.copy_from_slice(&hardware.0);
            }
            self.outputs.push(Output::Frame(frame));
        }
    }

    /// A datagram that concerns this machine.
    pub(super) fn on_udp(&mut self, now: Duration, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        match &mut self.activity {
            Activity::Dhcp(exchange) if matches!(to.port(), dhcp::CLIENT_PORT | dhcp::PROXY_PORT) => {
                match Reply::decode(payload) {
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

/// Where on the link a packet for this address goes.
fn next_hop(lease: &Lease, to: Ipv4Addr) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(lease.prefix_length.min(32))).unwrap_or(0);
    let is_near = (to.to_bits() ^ lease.address.to_bits()) & mask == 0;
    if is_near { to } else { lease.router.unwrap_or(to) }
}

/// SMBIOS' identifier of the machine: made from its MAC, and not the same for all.
pub(super) fn uuid(mac: MacAddr) -> [u8; 16] {
    let mut uuid = [0x50, 0x58, 0x45, 0x44, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    uuid[10..].copy_from_slice(&mac.0);
    uuid
}

#[cfg(test)]
mod tests;
