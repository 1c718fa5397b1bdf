//! The XDP program in the kernel: `BPF_PROG_TEST_RUN` runs it on frames, without a link.

use std::{env, iter, net::Ipv4Addr, os::fd::AsRawFd as _, path::PathBuf, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf, XskMap},
    programs::Xdp,
    util::nr_cpus,
};
use nix::sched::{CloneFlags, unshare};
use pxe_common::{
    Action, Bucket, Counter, MacAddr, MachineKey, SenderKey, Settings, layout,
    testing::{FrameBuilder, KNOWN, OTHER, OURS, Rules, SERVER, UNKNOWN, VLANS},
};
use xdp::{
    RingConfigBuilder, Umem,
    nic::NicIndex,
    socket::{XdpSocket, XdpSocketBuilder},
    umem::UmemCfgBuilder,
};

/// The environment variable that names an object to test instead of the checked-in one.
pub const OBJECT_VARIABLE: &str = "PXED_BPF_OBJECT";

const QUEUE: u32 = 0;

/// The loaded program, its maps, and an AF_XDP socket as the target of redirects.
pub struct Classifier {
    ebpf: Ebpf,
    socket: XdpSocket,
}

impl Classifier {
    /// Loads the checked-in object, or the one that [`OBJECT_VARIABLE`] names, with room for a full fleet.
    ///
    /// # Errors
    ///
    /// Fails if the object cannot be read, the verifier refuses it, or the process may not create a network namespace,
    /// a veth pair or a socket.
    pub fn load() -> Result<Self> {
        Self::load_remarking(layout::LOG_SILENT)
    }

    /// Loads like [`Self::load`], with this `LOG_LEVEL`.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::load`].
    pub fn load_remarking(level: u8) -> Result<Self> {
        let path = env::var_os(OBJECT_VARIABLE)
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../pxe-ebpf/pxed.bpf.o")), Into::into);
        let mut ebpf = EbpfLoader::new()
            .override_global(layout::LOG_LEVEL, &level, true)
            .load_file(&path)
            .with_context(|| path.display().to_string())?;
        let program: &mut Xdp =
            ebpf.program_mut(layout::PROGRAM).context("the object has no program `pxed`")?.try_into()?;
        program.load().context("the verifier refuses the program")?;
        Ok(Self { ebpf, socket: bind_socket()? })
    }

    /// Sets the maps to the initial state of the host's model of the maps.
    ///
    /// # Errors
    ///
    /// Fails if a map is missing or its layout is not that of `pxe_common::layout`.
    pub fn prepare(&mut self, rules: Rules) -> Result<()> {
        for mac in [KNOWN, OTHER] {
            self.machines()?.insert(MachineKey::from(mac), Bucket::default(), 0)?;
        }
        let mut senders: HashMap<_, SenderKey, Bucket> = self.map(layout::SENDERS)?.try_into()?;
        for sender in senders.keys().collect::<Result<Vec<_>, _>>()? {
            senders.remove(&sender)?;
        }
        let mut elsewhere: PerCpuArray<_, Bucket> = self.map(layout::ELSEWHERE)?.try_into()?;
        let full = vec![Bucket::default(); nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?];
        elsewhere.set(0, full.clone().try_into()?, 0)?;
        let mut unseen: PerCpuArray<_, Bucket> = self.map(layout::UNSEEN)?.try_into()?;
        unseen.set(0, full.try_into()?, 0)?;
        let mut addresses: HashMap<_, [u8; 4], u8> = self.map(layout::ADDRESSES)?.try_into()?;
        for address in OURS {
            addresses.insert(address.octets(), 1, 0)?;
        }
        let mut vlans: Array<_, u8> = self.map(layout::VLANS)?.try_into()?;
        for vlan in VLANS {
            vlans.set(vlan.into(), 1, 0)?;
        }
        let mut strays = self.strays()?;
        for machine in strays.keys().collect::<Result<Vec<_>, _>>()? {
            strays.remove(&machine)?;
        }
        self.set(rules.settings)?;
        let socket = self.socket.as_raw_fd();
        let mut sockets: XskMap<_> = self.map(layout::XSKS)?.try_into()?;
        if rules.no_socket {
            // Emptying an empty slot fails.
            let _ = sockets.unset(QUEUE);
        } else {
            sockets.set(QUEUE, socket, 0)?;
        }
        Ok(())
    }

    /// Runs the program on one frame.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to run it: it accepts no frame below 14 bytes.
    pub fn run(&self, frame: &[u8]) -> Result<Action> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        // linux/bpf.h: enum xdp_action
        match self.program()?.test_run(options)?.return_value {
            1 => Ok(Action::Drop),
            2 => Ok(Action::Pass),
            4 => Ok(Action::Redirect),
            other => bail!("the program returned {other}"),
        }
    }

    /// Returns every counter, summed over the CPUs, in the order of [`Counter::ALL`].
    ///
    /// # Errors
    ///
    /// Fails if the map is missing or too small.
    pub fn counters(&self) -> Result<Vec<u64>> {
        let map = self.ebpf.map(layout::COUNTERS).context("no map COUNTERS")?;
        let counters: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        Counter::ALL.iter().map(|&counter| Ok(counters.get(&(counter as u32), 0)?.iter().sum())).collect()
    }

    /// Returns the number of remarks that the program has made since the last call.
    ///
    /// # Errors
    ///
    /// Fails if aya-log's map is missing.
    pub fn remarks(&mut self) -> Result<usize> {
        let mut remarks = RingBuf::try_from(self.map("AYA_LOGS")?)?;
        Ok(iter::from_fn(|| remarks.next().map(drop)).count())
    }

    /// Lets the program trace these cards, and no others.
    ///
    /// # Errors
    ///
    /// Fails if a map is missing, or too small for the cards.
    pub fn trace(&mut self, cards: &[MacAddr]) -> Result<()> {
        let mut traced: HashMap<_, MachineKey, u8> = self.map(layout::TRACED)?.try_into()?;
        for card in traced.keys().collect::<Result<Vec<_>, _>>()? {
            traced.remove(&card)?;
        }
        for &card in cards {
            traced.insert(MachineKey::from(card), 1, 0)?;
        }
        let mut tracing: Array<_, u32> = self.map(layout::TRACING)?.try_into()?;
        Ok(tracing.set(0, u32::try_from(cards.len())?, 0)?)
    }

    /// Takes the records that the program has written since the last call, and returns the number for which there was no room so far.
    ///
    /// # Errors
    ///
    /// Fails if a map is missing.
    pub fn traces(&mut self) -> Result<(Vec<Vec<u8>>, u64)> {
        let mut ring = RingBuf::try_from(self.map(layout::TRACES)?)?;
        let records = iter::from_fn(|| ring.next().map(|record| record.to_vec())).collect();
        let lost: PerCpuArray<_, u64> = self.map(layout::TRACES_LOST)?.try_into()?;
        Ok((records, lost.get(&0, 0)?.iter().sum()))
    }

    /// Returns the known machines that asked on a VLAN that is not served, and that VLAN.
    ///
    /// # Errors
    ///
    /// Fails if the map is missing or cannot be read.
    pub fn strayed(&mut self) -> Result<std::collections::HashMap<MachineKey, u16>> {
        Ok(self.strays()?.iter().collect::<Result<_, _>>()?)
    }

    /// Adds machines until there are `count` of them.
    ///
    /// # Errors
    ///
    /// Fails if the map is full.
    pub fn fill(&mut self, count: u32) -> Result<()> {
        let mut machines = self.machines()?;
        for index in 1..count {
            let [a, b, c, d] = index.to_be_bytes();
            machines.insert(MachineKey::from(MacAddr([0x02, 0, a, b, c, d])), Bucket::default(), 0)?;
        }
        Ok(())
    }

    /// Returns the program's mean time for this frame over `repeat` runs.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::run`].
    pub fn time(&self, frame: &[u8], repeat: u32) -> Result<Duration> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        Ok(self.program()?.test_run(options)?.duration)
    }

    fn set(&mut self, settings: Settings) -> Result<()> {
        let mut map: Array<_, Settings> = self.map(layout::SETTINGS)?.try_into()?;
        Ok(map.set(0, settings, 0)?)
    }

    fn strays(&mut self) -> Result<HashMap<&mut MapData, MachineKey, u16>> {
        Ok(self.map(layout::STRAYS)?.try_into()?)
    }

    fn machines(&mut self) -> Result<HashMap<&mut MapData, MachineKey, Bucket>> {
        Ok(self.map(layout::MACHINES)?.try_into()?)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }

    fn program(&self) -> Result<&Xdp> {
        Ok(self.ebpf.program(layout::PROGRAM).context("the object has no program `pxed`")?.try_into()?)
    }
}

/// Returns an AF_XDP socket on one end of a veth pair, in a network namespace that lives as long as the socket.
///
/// Nothing is ever received from the socket, so its rings and memory need not stay mapped.
fn bind_socket() -> Result<XdpSocket> {
    // The namespace belongs to the thread: the caller must not enter it.
    let bound = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("no network namespace")?;
        ip("link add ebpf0 type veth peer name ebpf1")?;
        ip("link set ebpf0 up")?;
        let interface = NicIndex::lookup_by_name(c"ebpf0")?.context("the veth pair has no ebpf0")?;
        let umem = Umem::map(UmemCfgBuilder { frame_count: 64, ..UmemCfgBuilder::default() }.build()?)?;
        let rings = RingConfigBuilder { rx_count: 64, tx_count: 0, fill_count: 64, completion_count: 64 }.build()?;
        let mut builder = XdpSocketBuilder::new()?;
        let (_rings, mut flags) = builder.build_wakable_rings(&umem, rings)?;
        flags.force_copy();
        Ok(builder.bind(interface, QUEUE, flags)?)
    });
    bound.join().map_err(|_| anyhow!("the thread that binds the socket panicked"))?
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip(8), of iproute2")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The program's time for one kind of frame.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The kind of frame.
    pub name: &'static str,
    /// The mean of a run, in nanoseconds: the best of several rounds, since a busy machine only adds time.
    pub nanoseconds: u64,
}

/// Measures the program with this many machines in its map, by `repeat` runs for each kind of frame.
///
/// # Errors
///
/// Fails like [`Classifier::load`] and [`Classifier::fill`].
pub fn measure(machines: u32, repeat: u32) -> Result<Vec<Measurement>> {
    const ROUNDS: u32 = 20;

    let mut classifier = Classifier::load()?;
    // A bucket that works but never becomes empty.
    let settings = Settings { refill_ns: 1, tolerance_ns: u64::from(u32::MAX), ..Settings::default() };
    classifier.prepare(Rules { settings, no_socket: false })?;
    classifier.fill(machines)?;

    let frame = FrameBuilder::default;
    let unicast = FrameBuilder {
        ethernet_destination: MacAddr([2, 0, 0, 0, 0, 1]),
        source: Ipv4Addr::new(10, 0, 0, 77),
        destination: SERVER,
        ..frame()
    };
    let relayed = FrameBuilder { ethernet_source: UNKNOWN, giaddr: Ipv4Addr::new(192, 0, 2, 1), ..unicast.clone() };
    let kinds = [
        ("known machine, broadcast, redirected", Counter::Redirected, frame()),
        ("known machine, unicast to us, redirected", Counter::Redirected, unicast),
        (
            "known machine in a VLAN, redirected",
            Counter::Redirected,
            FrameBuilder { tags: vec![(0x8100, VLANS[0])], ..frame() },
        ),
        (
            "known machine on another VLAN, passed",
            Counter::OtherVlan,
            FrameBuilder { tags: vec![(0x8100, 7)], ..frame() },
        ),
        ("known machine, by a relay, redirected", Counter::Redirected, relayed),
        (
            "known machine, from another MAC, redirected",
            Counter::Redirected,
            FrameBuilder { ethernet_source: UNKNOWN, ..frame() },
        ),
        ("unknown machine, passed", Counter::UnknownPassed, FrameBuilder { chaddr: UNKNOWN, ..frame() }),
        ("TCP", Counter::NotUdp, FrameBuilder { protocol: 6, ..frame() }),
        ("UDP to another port", Counter::OtherPort, FrameBuilder { ports: (53, 53), ..frame() }),
        ("ARP", Counter::NotIpv4, FrameBuilder { ethertype: 0x0806, ..frame() }),
    ];
    let mut measurements = Vec::new();
    for (name, expected, builder) in kinds {
        let frame = builder.build();
        let before = classifier.counters()?;
        let times: Result<Vec<Duration>> = (0..ROUNDS).map(|_| classifier.time(&frame, repeat)).collect();
        let after = classifier.counters()?;
        let counted = after[expected as usize] - before[expected as usize];
        ensure!(counted == u64::from(repeat) * u64::from(ROUNDS), "{name}: counted {counted} times");
        let best = times?.into_iter().min().unwrap_or_default();
        measurements.push(Measurement { name, nanoseconds: u64::try_from(best.as_nanos())? });
    }
    Ok(measurements)
}
