//! Runs a fleet of simulated machines on an interface: the I/O around [`super::machine`].

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pxe_common::MacAddr;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc},
};

use super::{
    dhcp,
    firmware::Firmware,
    frame::{self, Received},
    http::{self, Connection},
    link::Link,
    machine::{HttpResponse, Machine, Output, Setup},
    report::{MachineReport, Note},
};

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The interface that the simulated machines are on.
    pub interface: String,
    /// Who they are.
    pub machines: Vec<(MacAddr, Firmware)>,
    /// Take the first good offer instead of waiting for others as the firmware does.
    pub hurry: bool,
    /// What has not booted after this time has failed.
    pub limit: Duration,
}

/// What a watcher sees.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A step of a machine.
    Step(&'a Note),
    /// A machine is done, one way or the other.
    Done(&'a MachineReport),
}

/// So many downloads are open at once; the others wait for their turn, as connections do on a switch.
const MAX_DOWNLOADS: usize = 16 * 1024;

/// Powers all machines on and returns what became of each, in their order.
///
/// # Errors
///
/// When the interface cannot be used. What goes wrong with a machine is in its report.
pub fn rehearse(rehearsal: &Rehearsal, watch: &mut dyn FnMut(Seen<'_>)) -> anyhow::Result<Vec<MachineReport>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads that download")?;
    let reports = runtime.block_on(async {
        let link = Link::open(&rehearsal.interface)?;
        Runner::new(rehearsal, link).run(watch).await
    });
    runtime.shutdown_background();
    reports
}

/// The end of a download.
struct Download {
    index: usize,
    result: Result<HttpResponse, String>,
    connection: Option<Connection>,
}

struct Slot {
    machine: Machine,
    /// The earliest entry of the timers for this machine.
    scheduled: Option<Duration>,
    connection: Option<Connection>,
    is_reported: bool,
}

struct Runner<'a> {
    rehearsal: &'a Rehearsal,
    link: Link,
    began: Instant,
    slots: Vec<Slot>,
    by_mac: HashMap<MacAddr, usize>,
    by_address: HashMap<Ipv4Addr, usize>,
    timers: BinaryHeap<Reverse<(Duration, usize)>>,
    downloads: (mpsc::UnboundedSender<Download>, mpsc::UnboundedReceiver<Download>),
    turns: Arc<Semaphore>,
    running: usize,
}

impl<'a> Runner<'a> {
    fn new(rehearsal: &'a Rehearsal, link: Link) -> Self {
        let seed: u32 = rand::random();
        let slots: Vec<Slot> = (0_u32..)
            .zip(&rehearsal.machines)
            .map(|(index, &(mac, firmware))| {
                let setup = Setup {
                    mac,
                    firmware,
                    hurry: rehearsal.hurry,
                    seed: seed.wrapping_add(index),
                    interface: link.hardware(),
                    ports: link.ports().to_vec(),
                };
                Slot { machine: Machine::new(setup), scheduled: None, connection: None, is_reported: false }
            })
            .collect();
        Self {
            rehearsal,
            link,
            began: Instant::now(),
            by_mac: slots.iter().enumerate().map(|(index, slot)| (slot.machine.mac(), index)).collect(),
            by_address: HashMap::new(),
            running: slots.len(),
            slots,
            timers: BinaryHeap::new(),
            downloads: mpsc::unbounded_channel(),
            turns: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
        }
    }

    async fn run(mut self, watch: &mut dyn FnMut(Seen<'_>)) -> anyhow::Result<Vec<MachineReport>> {
        self.began = Instant::now();
        for index in 0..self.slots.len() {
            self.with(index, watch, Machine::power_on);
        }
        let mut frames = Vec::new();
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        while self.running > 0 {
            let now = self.began.elapsed();
            if now >= self.rehearsal.limit {
                let reason = format!("not done after {} s", self.rehearsal.limit.as_secs());
                self.give_up(&reason, watch);
                break;
            }
            let next =
                self.timers.peek().map_or(self.rehearsal.limit, |Reverse((at, _))| *at).min(self.rehearsal.limit);
            tokio::select! {
                received = self.link.receive(|frame| frames.push(frame.to_vec())) => {
                    received.with_context(|| format!("cannot receive on {}", self.rehearsal.interface))?;
                    for frame in frames.drain(..) {
                        self.on_frame(&frame, watch);
                    }
                }
                Some(download) = self.downloads.1.recv() => {
                    self.slots[download.index].connection = download.connection;
                    self.with(download.index, watch, |machine, now| machine.on_http(now, download.result));
                }
                () = tokio::time::sleep_until((self.began + next).into()) => {}
                _ = interrupted.recv() => {
                    self.give_up("interrupted", watch);
                    break;
                }
                _ = terminated.recv() => {
                    self.give_up("terminated", watch);
                    break;
                }
            }
            self.fire_timers(watch);
        }
        Ok(self.slots.iter().filter_map(|slot| slot.machine.report()).collect())
    }

    fn give_up(&mut self, reason: &str, watch: &mut dyn FnMut(Seen<'_>)) {
        for index in 0..self.slots.len() {
            self.with(index, watch, |machine, now| machine.give_up(now, reason));
        }
    }

    fn fire_timers(&mut self, watch: &mut dyn FnMut(Seen<'_>)) {
        let now = self.began.elapsed();
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            let slot = &mut self.slots[index];
            if slot.scheduled == Some(at) {
                slot.scheduled = None;
                self.with(index, watch, Machine::on_timer);
            }
        }
    }

    /// Finds the machine that a frame concerns.
    fn on_frame(&mut self, frame: &[u8], watch: &mut dyn FnMut(Seen<'_>)) {
        match frame::parse(frame) {
            Some(Received::Udp { from, to, payload, .. }) => {
                let index = match to.port() {
                    // chaddr (RFC 2131 §2).
                    dhcp::CLIENT_PORT | dhcp::PROXY_PORT => payload
                        .get(28..34)
                        .and_then(|bytes| bytes.try_into().ok())
                        .and_then(|bytes| self.by_mac.get(&MacAddr(bytes))),
                    _ => self.by_address.get(to.ip()),
                };
                if let Some(&index) = index {
                    self.with(index, watch, |machine, now| machine.on_udp(now, from, to, payload));
                }
            }
            Some(Received::ArpReply { hardware, address, asked_by }) => {
                if let Some(&index) = self.by_address.get(&asked_by) {
                    self.with(index, watch, |machine, _| machine.on_arp(address, hardware));
                }
            }
            None => {}
        }
    }

    /// Lets a machine work and does what it wants done.
    fn with(&mut self, index: usize, watch: &mut dyn FnMut(Seen<'_>), work: impl FnOnce(&mut Machine, Duration)) {
        let now = self.began.elapsed();
        work(&mut self.slots[index].machine, now);
        for output in self.slots[index].machine.take_outputs() {
            match output {
                Output::Frame(frame) => self.link.send(&frame),
                Output::Note(note) => watch(Seen::Step(&note)),
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
                Output::Http(request) => {
                    let slot = &mut self.slots[index];
                    let source = slot.machine.address().unwrap_or(Ipv4Addr::UNSPECIFIED);
                    let (last, done, turns) =
                        (slot.connection.take(), self.downloads.0.clone(), Arc::clone(&self.turns));
                    tokio::spawn(async move {
                        let _turn = turns.acquire().await;
                        let (result, connection) = http::request(source, &request, last).await;
                        let _ = done.send(Download { index, result, connection });
                    });
                }
            }
        }
        // Giving up leaves a last note.
        for output in self.slots[index].machine.take_outputs() {
            if let Output::Note(note) = output {
                watch(Seen::Step(&note));
            }
        }
        let slot = &mut self.slots[index];
        if !slot.is_reported
            && let Some(report) = slot.machine.report()
        {
            slot.is_reported = true;
            slot.connection = None;
            self.running -= 1;
            watch(Seen::Done(&report));
        }
        if let Some(deadline) = slot.machine.deadline()
            && slot.scheduled.is_none_or(|scheduled| deadline < scheduled)
        {
            slot.scheduled = Some(deadline);
            self.timers.push(Reverse((deadline, index)));
        }
    }
}
