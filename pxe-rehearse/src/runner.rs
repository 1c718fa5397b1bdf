//! Runs a fleet of simulated machines on an interface: the I/O around [`crate::machine`].

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pxe_common::MacAddr;

use crate::{
    dhcp,
    exchange::Manner,
    frame::{self, Protocol, Received},
    http::{Client, HttpRequest, HttpResponse, Progress, Scratch},
    link::{BATCH, Incoming, Link},
    losses::Lossy,
    machine::{Machine, Output, Setup},
    plan::Rehearsal,
    poll::{self, Poll, Ready},
    report::{MachineReport, Note},
    summary::Summary,
    tally::Tally,
};

/// An event that a watcher sees.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A step of a machine.
    Step(&'a Note),
    /// The boot of a machine has ended.
    Done(&'a MachineReport),
}

/// The number of downloads at the same time. Others wait for their turn.
const MAX_DOWNLOADS: usize = 16 * 1024;
/// The number of batches of frames that are handled before anything else.
const BATCHES_A_TURN: usize = 8;

/// The streams of random numbers that the two directions of the link draw from.
const FROM_MACHINES: u64 = 2;
const TO_MACHINES: u64 = 3;

/// Boots all machines and sums up the results.
///
/// # Errors
///
/// Fails if the interface cannot be used. The failure of a machine is in its report.
pub fn rehearse(rehearsal: &Rehearsal, watch: &mut dyn FnMut(Seen<'_>)) -> anyhow::Result<Summary> {
    let link = Link::open(&rehearsal.interface)?;
    let poll = Poll::new(&link).context("cannot wait for frames")?;
    Runner::new(rehearsal, link, poll, watch).run()
}

/// A datagram on its way to a machine.
#[derive(Clone, Debug)]
struct Datagram {
    index: usize,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: Vec<u8>,
}

/// A fast hash of addresses, for a table that is read for every packet. The server under test chooses them, not an attacker.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0.rotate_left(8) ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0.rotate_left(8) ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

struct Slot {
    machine: Machine,
    /// The earliest timer of this machine.
    scheduled: Option<Duration>,
    http: Option<Client>,
    is_downloading: bool,
    is_reported: bool,
}

struct Runner<'a> {
    rehearsal: &'a Rehearsal,
    watch: &'a mut dyn FnMut(Seen<'_>),
    link: Link,
    poll: Poll,
    began: Instant,
    slots: Vec<Slot>,
    by_mac: HashMap<MacAddr, usize>,
    by_address: HashMap<Ipv4Addr, usize, BuildHasherDefault<Spread>>,
    timers: BinaryHeap<Reverse<(Duration, usize)>>,
    arrivals: VecDeque<(Duration, usize)>,
    outward: Lossy<Vec<u8>>,
    inward: Lossy<Datagram>,
    /// Connections that may have more to read.
    busy: VecDeque<usize>,
    /// Machines that wait for their turn to download, with their requests.
    waiting: VecDeque<(usize, Box<HttpRequest>)>,
    downloading: usize,
    max_downloads: usize,
    scratch: Scratch,
    outputs: Vec<Output>,
    tally: Tally,
    running: usize,
}

impl<'a> Runner<'a> {
    fn new(rehearsal: &'a Rehearsal, link: Link, poll: Poll, watch: &'a mut dyn FnMut(Seen<'_>)) -> Self {
        let Rehearsal { machines, hurry, watched, until, losses, seed, .. } = rehearsal;
        let slots: Vec<Slot> = (0_u32..)
            .zip(machines)
            .map(|(index, &(mac, firmware))| {
                let setup = Setup {
                    mac,
                    firmware,
                    manner: Manner { hurry: *hurry, watched: *watched },
                    until: *until,
                    seed: (*seed as u32).wrapping_add(index),
                    interface: link.hardware(),
                    ports: link.ports().clone(),
                };
                let machine = Machine::new(setup);
                Slot { machine, scheduled: None, http: None, is_downloading: false, is_reported: false }
            })
            .collect();
        let arrivals = rehearsal.arrival.times(slots.len(), rehearsal.over, *seed);
        Self {
            rehearsal,
            watch,
            link,
            poll,
            began: Instant::now(),
            by_mac: slots.iter().enumerate().map(|(index, slot)| (slot.machine.mac(), index)).collect(),
            by_address: HashMap::with_capacity_and_hasher(slots.len(), BuildHasherDefault::default()),
            running: slots.len(),
            timers: BinaryHeap::with_capacity(slots.len()),
            arrivals: arrivals.into_iter().zip(0..).collect(),
            outward: Lossy::new(*losses, *seed, FROM_MACHINES),
            inward: Lossy::new(*losses, *seed, TO_MACHINES),
            busy: VecDeque::new(),
            waiting: VecDeque::new(),
            downloading: 0,
            max_downloads: poll::allow_connections(slots.len().min(MAX_DOWNLOADS)),
            slots,
            scratch: Scratch::new(),
            outputs: Vec::new(),
            tally: Tally::new(),
        }
    }

    fn run(mut self) -> anyhow::Result<Summary> {
        let mut incoming = Incoming::new();
        let mut ready = Vec::new();
        self.began = Instant::now();
        while self.running > 0 {
            self.power_on();
            self.fire_timers();
            self.release();
            self.read_on();
            self.link.flush();
            let now = self.began.elapsed();
            if now >= self.rehearsal.limit {
                self.give_up(&format!("not done after {} s", self.rehearsal.limit.as_secs()));
                break;
            }
            let next = self.next().unwrap_or(self.rehearsal.limit).min(self.rehearsal.limit);
            self.poll.wait(next.saturating_sub(now), &mut ready).context("cannot wait for frames")?;
            for ready in ready.drain(..) {
                match ready {
                    Ready::Link => self.receive(&mut incoming)?,
                    Ready::Connection(index) => self.advance(index),
                    Ready::Signal => {
                        let reason = self.poll.signal();
                        self.give_up(reason);
                    }
                }
            }
        }
        self.tally.traffic.unsent_frames = self.link.unsent();
        let losses = [self.outward.done, self.inward.done];
        let reports = self.slots.iter().filter_map(|slot| slot.machine.report());
        Ok(Summary::of(self.rehearsal, reports, self.tally, losses))
    }

    /// Returns when there is something to do even if nothing happens.
    fn next(&self) -> Option<Duration> {
        if !self.busy.is_empty() {
            return Some(Duration::ZERO);
        }
        let arrival = self.arrivals.front().map(|(at, _)| *at);
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        [arrival, timer, self.outward.deadline(), self.inward.deadline()].into_iter().flatten().min()
    }

    /// Powers on machines whose time has come: one batch at most, so that answers are handled in between.
    fn power_on(&mut self) {
        let now = self.began.elapsed();
        for _ in 0..BATCH {
            let Some((_, index)) = self.arrivals.pop_front_if(|(at, _)| *at <= now) else { break };
            self.with(index, Machine::power_on);
        }
    }

    fn give_up(&mut self, reason: &str) {
        for index in 0..self.slots.len() {
            self.with(index, |machine, now| machine.give_up(now, reason));
        }
    }

    fn fire_timers(&mut self) {
        let now = self.began.elapsed();
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            let slot = &mut self.slots[index];
            if slot.scheduled == Some(at) {
                slot.scheduled = None;
                if let Some(reason) = slot.http.as_mut().and_then(|http| http.on_timer(now)) {
                    self.downloaded(index, Err(reason));
                } else {
                    self.with(index, Machine::on_timer);
                }
            }
        }
    }

    // The link

    fn receive(&mut self, incoming: &mut Incoming) -> anyhow::Result<()> {
        for _ in 0..BATCHES_A_TURN {
            let count = self.link.receive(incoming);
            let count = count.with_context(|| format!("cannot receive on {}", self.rehearsal.interface))?;
            for number in 0..count {
                self.on_frame(incoming.frame(number));
            }
            self.link.flush();
            if count < BATCH {
                break;
            }
        }
        Ok(())
    }

    /// Delivers a frame to its machine.
    fn on_frame(&mut self, frame: &[u8]) {
        match frame::parse(frame) {
            Some(Received::Udp { from, to, payload, .. }) => {
                let index = match to.port() {
                    dhcp::CLIENT_PORT | dhcp::PROXY_PORT => {
                        dhcp::addressee(payload).and_then(|mac| self.by_mac.get(&mac))
                    }
                    _ => self.by_address.get(to.ip()),
                };
                if let Some(&index) = index {
                    let protocol = match to.port() {
                        dhcp::CLIENT_PORT | dhcp::PROXY_PORT => Protocol::Dhcp,
                        _ => Protocol::Tftp,
                    };
                    self.tally.traffic.received(protocol, frame.len());
                    if self.inward.is_lossless() {
                        self.with(index, |machine, now| machine.on_udp(now, from, to, payload));
                    } else {
                        self.on_lossy(index, from, to, payload);
                    }
                }
            }
            Some(Received::ArpReply { hardware, address, asked_by }) => {
                if let Some(&index) = self.by_address.get(&asked_by) {
                    self.tally.traffic.received(Protocol::Arp, frame.len());
                    self.with(index, |machine, _| machine.on_arp(address, hardware));
                }
            }
            None => {}
        }
    }

    /// Passes datagrams over the lossy link. Several that arrived as one are lost independently.
    fn on_lossy(&mut self, index: usize, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        let length = self.slots[index].machine.datagram_length().unwrap_or(payload.len()).max(1);
        for piece in payload.chunks(length) {
            let datagram = Datagram { index, from, to, payload: piece.to_vec() };
            let arrived: Vec<Datagram> = self.inward.pass(self.began.elapsed(), datagram).collect();
            for datagram in arrived {
                self.deliver(&datagram);
            }
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let Datagram { index, from, to, payload } = datagram;
        self.with(*index, |machine, now| machine.on_udp(now, *from, *to, payload));
    }

    /// Passes on frames that waited to be overtaken.
    fn release(&mut self) {
        let now = self.began.elapsed();
        if let Some(frame) = self.outward.release(now) {
            self.link.send(&frame);
        }
        if let Some(datagram) = self.inward.release(now) {
            self.deliver(&datagram);
        }
    }

    fn send(&mut self, now: Duration, frame: Vec<u8>) {
        let protocol = Protocol::of(&frame);
        self.tally.traffic.sent(protocol, frame.len());
        if self.outward.is_lossless() || protocol == Protocol::Arp {
            self.link.send(&frame);
        } else {
            for frame in self.outward.pass(now, frame) {
                self.link.send(&frame);
            }
        }
    }

    // HTTP

    fn read_on(&mut self) {
        for _ in 0..self.busy.len() {
            let Some(index) = self.busy.pop_front() else { break };
            self.advance(index);
        }
    }

    fn download(&mut self, index: usize, request: Box<HttpRequest>) {
        if self.downloading >= self.max_downloads {
            self.waiting.push_back((index, request));
            return;
        }
        let now = self.began.elapsed();
        self.downloading += 1;
        self.tally.traffic.http.requests += 1;
        let slot = &mut self.slots[index];
        slot.is_downloading = true;
        let source = slot.machine.address().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let begun = slot.http.get_or_insert_with(|| Client::new(source)).begin(now, request);
        let begun = begun.and_then(|fresh| {
            let Some(stream) = fresh else { return Ok(false) };
            self.tally.traffic.http.connections += 1;
            self.poll.watch(index, stream).map_err(|error| format!("cannot wait for a connection: {error}"))?;
            Ok(true)
        });
        match begun {
            Ok(true) => {}
            Ok(false) => self.busy.push_back(index),
            Err(reason) => self.downloaded(index, Err(reason)),
        }
    }

    fn advance(&mut self, index: usize) {
        let now = self.began.elapsed();
        let slot = &mut self.slots[index];
        let Some(http) = slot.http.as_mut().filter(|_| slot.is_downloading) else { return };
        let progress = http.advance(now, &mut self.scratch, |stream| {
            self.tally.traffic.http.connections += 1;
            // If this fails, the request ends at its time limit.
            let _ = self.poll.watch(index, stream);
        });
        match progress {
            Progress::Waits => {}
            Progress::HasMore => self.busy.push_back(index),
            Progress::Over(result) => self.downloaded(index, result),
        }
    }

    fn downloaded(&mut self, index: usize, result: Result<HttpResponse, String>) {
        self.downloading -= 1;
        self.slots[index].is_downloading = false;
        if let Ok(response) = &result {
            self.tally.traffic.http.received_bytes += response.bytes;
        }
        self.with(index, |machine, now| machine.on_http(now, result));
        while self.downloading < self.max_downloads
            && let Some((index, request)) = self.waiting.pop_front()
        {
            if !self.slots[index].is_reported {
                self.download(index, request);
            }
        }
    }

    // Machines

    /// Calls a machine and does what its outputs say.
    fn with(&mut self, index: usize, work: impl FnOnce(&mut Machine, Duration)) {
        let now = self.began.elapsed();
        work(&mut self.slots[index].machine, now);
        // This may cause more outputs: giving up adds a last step.
        let mut outputs = std::mem::take(&mut self.outputs);
        loop {
            self.slots[index].machine.swap_outputs(&mut outputs);
            if outputs.is_empty() {
                break;
            }
            for output in outputs.drain(..) {
                self.put_out(index, now, output);
            }
        }
        self.outputs = outputs;
        let slot = &mut self.slots[index];
        if !slot.is_reported
            && let Some(report) = slot.machine.report()
        {
            slot.is_reported = true;
            slot.http = None;
            self.downloading -= usize::from(std::mem::take(&mut slot.is_downloading));
            self.running -= 1;
            (self.watch)(Seen::Done(&report));
        }
        let deadlines = [slot.machine.deadline(), slot.http.as_ref().and_then(Client::deadline)];
        if let Some(deadline) = deadlines.into_iter().flatten().min()
            && slot.scheduled.is_none_or(|scheduled| deadline < scheduled)
        {
            slot.scheduled = Some(deadline);
            self.timers.push(Reverse((deadline, index)));
        }
    }

    fn put_out(&mut self, index: usize, now: Duration, output: Output) {
        match output {
            Output::Frame(frame) => self.send(now, frame),
            Output::Note(note) => (self.watch)(Seen::Step(&note)),
            Output::Took(step, time) => self.tally.took(step, time),
            Output::Reached(milestone) => self.tally.reached(milestone, now),
            Output::Again(what) => *self.tally.again.entry(what).or_default() += 1,
            Output::Configure(lease) => {
                let mac = self.slots[index].machine.mac();
                let other = *self.by_address.entry(lease.address).or_insert(index);
                let problem = if other != index {
                    let other = self.slots[other].machine.mac();
                    Some(format!("{} was given to {other} as well as to {mac}", lease.address))
                } else {
                    let result = self.link.configure(lease.address, lease.prefix_length);
                    result.err().map(|error| format!("cannot use {} on this host: {error}", lease.address))
                };
                if let Some(problem) = problem {
                    self.slots[index].machine.give_up(now, problem);
                }
            }
            Output::Http(request) => self.download(index, request),
        }
    }
}
