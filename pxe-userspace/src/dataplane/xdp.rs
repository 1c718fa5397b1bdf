//! The XDP program on one interface: loading, attaching, maps and counters.
//!
//! The kernel detaches the program when the descriptor of its link closes, which happens however this process ends.

use std::{fmt, io, net::Ipv4Addr, os::fd::RawFd, sync::Arc, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, XskMap},
    programs::{Xdp, XdpMode, xdp::XdpLinkId},
};
use aya_log::EbpfLogger;
use pxe_common::{
    Bucket, Counter, MacAddr,
    layout::{self, MachineKey, Settings},
};

use tokio::task::AbortHandle;

use super::trace_reader::{DroppedStrangers, TraceMaps, Tracing};
use crate::{
    capabilities::{self, Capabilities, FOR_XDP_PROGRAM},
    capture::Tap,
    descriptors,
    model::event::EventSink,
    net::interface::Interface,
    second_pxed::SecondPxed,
};

/// The program, compiled from `pxe-ebpf` by `cargo xtask ebpf build`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../pxe-ebpf/pxed.bpf.o"));

/// `BPF_NOEXIST`: an existing entry keeps its token bucket.
const NO_EXIST: u64 = 1;

/// The place in the kernel where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel allocates a packet for the frame.
    Driver,
    /// In the network stack, for drivers without XDP.
    Generic,
}

/// An error in loading or attaching an XDP program or in changing its maps. The message says how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// Capabilities are missing.
    #[error("interface {interface}: cannot {what} without {missing}. Grant capabilities by {}", capabilities::remedy())]
    Capabilities {
        /// The interface.
        interface: String,
        /// The step that failed.
        what: &'static str,
        /// The missing capabilities.
        missing: Capabilities,
    },
    /// The kernel refuses, although no capability is missing.
    #[error(
        "interface {interface}: no permission to {what}, although no capability is missing. A user namespace (a rootless \
         container), a seccomp filter without bpf(2) or a security module forbids it; --datapath socket works without it"
    )]
    Forbidden {
        /// The interface.
        interface: String,
        /// The step that failed.
        what: &'static str,
    },
    /// Another program is attached.
    #[error("interface {interface}: {}", occupant(interface, *.by))]
    Occupied {
        /// The interface.
        interface: String,
        /// Another pxed on this host, whose program it may be.
        by: Option<SecondPxed>,
    },
    /// Something is used up.
    #[error("interface {interface}: cannot {what}: {reason}; {remedy}. Meanwhile --datapath socket needs less")]
    UsedUp {
        /// The interface.
        interface: String,
        /// The step that failed.
        what: &'static str,
        /// The thing that there is none of.
        reason: &'static str,
        /// The way to more of it.
        remedy: &'static str,
    },
    /// The kernel or the driver does not support it.
    #[error(
        "interface {interface}: cannot {what}: {reason}. pxed needs Linux 5.11 for XDP; --datapath socket works without it"
    )]
    Unsupported {
        /// The interface.
        interface: String,
        /// The step that failed.
        what: &'static str,
        /// The reason that the kernel gave.
        reason: String,
    },
}

/// Says what occupies an interface, and what to do about it. A second pxed may serve another interface, so that the program need not be its own.
fn occupant(interface: &str, by: Option<impl fmt::Display>) -> String {
    let attached = format!("another XDP program is attached (see `ip link show dev {interface}`)");
    let detach = format!("detach it with `ip link set dev {interface} xdp off`, or use --datapath socket");
    match by {
        Some(pxed) => format!("{attached}. It may be of another pxed: {pxed}. If it is not, {detach}"),
        None => format!("{attached}; {detach}"),
    }
}

/// A loaded program with its link and the maps that change at run time.
pub struct XdpProgram {
    interface: String,
    id: u32,
    /// The number of machines that fit into its map.
    capacity: u32,
    machines: HashMap<MapData, MachineKey, Bucket>,
    addresses: HashMap<MapData, [u8; 4], u8>,
    vlans: Array<MapData, u8>,
    strays: HashMap<MapData, MachineKey, u16>,
    sockets: XskMap<MapData>,
    settings: Array<MapData, Settings>,
    counters: PerCpuArray<MapData, u64>,
    /// The link and the attach mode, if it is attached.
    link: Option<(XdpLinkId, AttachMode)>,
    // Dropping it closes the link.
    ebpf: Ebpf,
    /// The task that logs the program's messages.
    log_task: Option<AbortHandle>,
    /// The maps that trace frames, until they are read.
    trace_maps: Option<TraceMaps>,
    /// The thread that reads the traced frames.
    tracing: Option<Tracing>,
}

impl Drop for XdpProgram {
    fn drop(&mut self) {
        if let Some(log_task) = &self.log_task {
            log_task.abort();
        }
    }
}

impl XdpProgram {
    /// Loads the program for an interface, with room for at least `machines` entries, without attaching it. Must be called
    /// within a tokio runtime, which logs the program's messages.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the program or its maps.
    pub fn load(interface: &Interface, machines: usize) -> Result<Self, XdpError> {
        let what = "load the XDP program";
        // Twice the fleet leaves room to grow without loading it again.
        let capacity = u32::try_from(machines.saturating_mul(2)).unwrap_or(u32::MAX).max(layout::MACHINES_CAPACITY);
        let log_level = log_level();
        let mut ebpf = EbpfLoader::new()
            .override_global(layout::LOG_LEVEL, &log_level, true)
            .map_max_entries(layout::MACHINES, capacity)
            .load(OBJECT)
            .map_err(|error| explain(&interface.name, what, &error))?;
        let maps = maps(&mut ebpf).map_err(|error| explain(&interface.name, what, error.as_ref()))?;
        let (machines, addresses, vlans, strays, sockets, settings, counters) = maps;
        let trace_maps = trace_maps(&mut ebpf).map_err(|error| explain(&interface.name, what, error.as_ref()))?;
        let id = program(&mut ebpf)
            .and_then(|program| {
                program.load()?;
                Ok(program.info()?.id())
            })
            .map_err(|error| explain(&interface.name, what, error.as_ref()))?;
        let log_task =
            if log_level == layout::LOG_SILENT { None } else { forward_messages(&interface.name, &mut ebpf) };
        Ok(Self {
            interface: interface.name.clone(),
            id,
            capacity,
            machines,
            addresses,
            vlans,
            strays,
            sockets,
            settings,
            counters,
            link: None,
            ebpf,
            log_task,
            trace_maps: Some(trace_maps),
            tracing: None,
        })
    }

    /// Hands the frames that the program traces to captures, the strangers that it drops to whoever lists them, and the machines that ask too
    /// often to the journal. A program without it serves as
    /// well.
    pub fn start_tracing(&mut self, tap: &Tap, strangers: &DroppedStrangers, events: &EventSink) {
        let Some(maps) = self.trace_maps.take() else { return };
        match Tracing::start(&self.interface, maps, tap, Arc::clone(strangers), events.clone()) {
            Ok(tracing) => self.tracing = Some(tracing),
            Err(error) => {
                tracing::warn!(interface = self.interface, "captures lack the decisions of the XDP program: {error}");
            }
        }
    }

    /// Attaches the program. From then on it sees every frame, and passes all of them on until
    /// [`set_socket`](Self::set_socket) is called.
    ///
    /// # Errors
    ///
    /// If the driver does not support it, or another program is attached.
    pub fn attach(&mut self, mode: AttachMode) -> Result<(), XdpError> {
        let (xdp_mode, what) = match mode {
            AttachMode::Driver => (XdpMode::Driver, "attach the XDP program in the driver"),
            AttachMode::Generic => (XdpMode::Skb, "attach the XDP program in generic mode"),
        };
        let interface = self.interface.clone();
        let link = program(&mut self.ebpf)
            .and_then(|program| program.attach(&interface, xdp_mode).map_err(Into::into))
            .map_err(|error| explain(&interface, what, error.as_ref()))?;
        self.link = Some((link, mode));
        Ok(())
    }

    /// Replaces this attached program by one that is not attached yet, atomically. The counters and the machines' token
    /// buckets start from zero.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. This program is then attached again, unless the kernel refuses that too.
    pub fn replace_by(&mut self, mut successor: Self) -> Result<(), XdpError> {
        let Some((link, mode)) = self.link.take() else {
            let nothing = AnyError::from("no program is attached");
            return Err(explain(&self.interface, "replace the XDP program", nothing.as_ref()));
        };
        let moved = program(&mut self.ebpf).and_then(|program| Ok(program.take_link(link)?));
        let moved = moved.and_then(|link| Ok(program(&mut successor.ebpf)?.attach_to_link(link)?));
        match moved {
            Ok(link) => {
                successor.link = Some((link, mode));
                *self = successor;
                Ok(())
            }
            Err(error) => {
                // aya has already closed the link.
                self.attach(mode)?;
                Err(explain(&self.interface, "replace the XDP program", error.as_ref()))
            }
        }
    }

    /// Redirects the requests of one receive queue to a socket.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map entry.
    pub fn set_socket(&mut self, queue: u32, socket: RawFd) -> Result<(), XdpError> {
        self.sockets
            .set(queue, socket, 0)
            .map_err(|error| explain(&self.interface, "register an AF_XDP socket", &error))
    }

    /// Sets the treatment of unknown machines' requests and the rate limit of each machine.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map entry.
    pub fn set_settings(&mut self, settings: Settings) -> Result<(), XdpError> {
        self.settings.set(0, settings, 0).map_err(|error| explain(&self.interface, "write its settings", &error))
    }

    /// Returns the kernel's identifier of the program.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the number of machines that fit into the program's map.
    #[must_use]
    pub fn room(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(usize::MAX)
    }

    /// Adds a machine. An existing entry keeps its state.
    ///
    /// # Errors
    ///
    /// If the map is full.
    pub fn add_machine(&mut self, mac: MacAddr) -> Result<(), XdpError> {
        match self.machines.insert(MachineKey::from(mac), Bucket::default(), NO_EXIST) {
            Err(error) if os_error(&error) == Some(libc::EEXIST) => Ok(()),
            result => result.map_err(|error| explain(&self.interface, "add a machine to its map", &error)),
        }
    }

    /// Removes a machine if it is present.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn remove_machine(&mut self, mac: MacAddr) -> Result<(), XdpError> {
        match self.machines.remove(&MachineKey::from(mac)) {
            Err(error) if !matches!(os_error(&error), Some(libc::ENOENT)) && !is_missing(&error) => {
                Err(explain(&self.interface, "remove a machine from its map", &error))
            }
            _ => Ok(()),
        }
    }

    /// Adds an address: requests to it are for us.
    ///
    /// # Errors
    ///
    /// If the map is full.
    pub fn add_address(&mut self, address: Ipv4Addr) -> Result<(), XdpError> {
        self.addresses
            .insert(address.octets(), 1, 0)
            .map_err(|error| explain(&self.interface, "add an address to its map", &error))
    }

    /// Removes an address if it is present.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn remove_address(&mut self, address: Ipv4Addr) -> Result<(), XdpError> {
        match self.addresses.remove(&address.octets()) {
            Err(error) if !matches!(os_error(&error), Some(libc::ENOENT)) && !is_missing(&error) => {
                Err(explain(&self.interface, "remove an address from its map", &error))
            }
            _ => Ok(()),
        }
    }

    /// Sets whether requests on a VLAN are for us.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_vlan(&mut self, vlan: u16, is_served: bool) -> Result<(), XdpError> {
        let set = self.vlans.set(vlan.into(), u8::from(is_served), 0);
        set.map_err(|error| explain(&self.interface, "write its map of VLANs", &error))
    }

    /// Returns the known machines that asked on a VLAN that is not served since the last call, each with the VLAN. Those that the
    /// kernel does not tell now come with the next call.
    pub fn take_strays(&mut self) -> Vec<(MacAddr, u16)> {
        let mut strays = Vec::new();
        // Each removal changes the order of the keys, so they are read first.
        for machine in self.strays.keys().map_while(Result::ok).collect::<Vec<_>>() {
            if let Ok(vlan) = self.strays.get(&machine, 0)
                && self.strays.remove(&machine).is_ok()
            {
                strays.push((machine.into(), vlan));
            }
        }
        strays
    }

    /// Returns the counts of frames since the program was loaded, summed over the processors.
    #[must_use]
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        let total = |counter: Counter| {
            let values = self.counters.get(&(counter as u32), 0);
            values.map_or(0, |values| values.iter().sum())
        };
        Counter::ALL.iter().map(|&counter| (counter, total(counter))).collect()
    }
}

/// The log target of the program's messages: `RUST_LOG=info,pxed_xdp=debug` shows all of them.
const LOG_TARGET: &str = "pxed_xdp";

/// The interval at which messages are read. Only somebody who is watching the log waits for them.
const LOG_INTERVAL: Duration = Duration::from_millis(200);

/// Returns the program's log level. It is off unless the target is named explicitly, because messages need a ring buffer.
fn log_level() -> u8 {
    if tracing::enabled!(target: LOG_TARGET, tracing::Level::DEBUG) { layout::LOG_DEBUG } else { layout::LOG_SILENT }
}

fn forward_messages(interface: &str, ebpf: &mut Ebpf) -> Option<AbortHandle> {
    match EbpfLogger::init_with_logger(ebpf, ProgramLog(interface.to_owned())) {
        Ok(mut logger) => Some(
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(LOG_INTERVAL);
                loop {
                    tick.tick().await;
                    logger.flush();
                }
            })
            .abort_handle(),
        ),
        Err(error) => {
            tracing::warn!(interface, "cannot read the XDP program's log messages: {error}");
            None
        }
    }
}

/// Receives the program's messages from aya-log.
struct ProgramLog(String);

impl log::Log for ProgramLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: LOG_TARGET, interface = self.0, "{}", record.args());
    }

    fn flush(&self) {}
}

type Maps = (
    HashMap<MapData, MachineKey, Bucket>,
    HashMap<MapData, [u8; 4], u8>,
    Array<MapData, u8>,
    HashMap<MapData, MachineKey, u16>,
    XskMap<MapData>,
    Array<MapData, Settings>,
    PerCpuArray<MapData, u64>,
);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn maps(ebpf: &mut Ebpf) -> Result<Maps, AnyError> {
    let mut take = |name: &str| take(ebpf, name);
    Ok((
        take(layout::MACHINES)?.try_into()?,
        take(layout::ADDRESSES)?.try_into()?,
        take(layout::VLANS)?.try_into()?,
        take(layout::STRAYS)?.try_into()?,
        take(layout::XSKS)?.try_into()?,
        take(layout::SETTINGS)?.try_into()?,
        take(layout::COUNTERS)?.try_into()?,
    ))
}

fn trace_maps(ebpf: &mut Ebpf) -> Result<TraceMaps, AnyError> {
    let mut take = |name: &str| take(ebpf, name);
    Ok(TraceMaps {
        traced: take(layout::TRACED)?.try_into()?,
        tracing: take(layout::TRACING)?.try_into()?,
        traces: take(layout::TRACES)?.try_into()?,
        lost: take(layout::TRACES_LOST)?.try_into()?,
    })
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, AnyError> {
    ebpf.take_map(name).ok_or_else(|| AnyError::from(format!("the object lacks the map {name}")))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, AnyError> {
    let program =
        ebpf.program_mut(layout::PROGRAM).ok_or_else(|| format!("the object lacks the program {}", layout::PROGRAM))?;
    Ok(program.try_into()?)
}

/// Returns the OS error at the end of a chain of causes.
fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(io_error) = current.downcast_ref::<io::Error>() {
            return io_error.raw_os_error();
        }
        cause = current.source();
    }
    None
}

fn is_missing(error: &aya::maps::MapError) -> bool {
    matches!(error, aya::maps::MapError::KeyNotFound)
}

const NO_DESCRIPTOR: &str = "no file descriptor is free";
const MORE_MEMORY: &str =
    "raise the limit: MemoryMax= in the systemd unit, --memory of the container, or `ulimit -v unlimited`";

fn explain(interface: &str, what: &'static str, error: &(dyn std::error::Error + 'static)) -> XdpError {
    let interface = interface.to_owned();
    let used_up = |reason, remedy| XdpError::UsedUp { interface: interface.clone(), what, reason, remedy };
    match os_error(error) {
        Some(libc::EMFILE | libc::ENFILE) => used_up(NO_DESCRIPTOR, descriptors::REMEDY),
        // aya then finds no interface of the name, and says nothing else.
        None if !descriptors::is_one_free() => used_up(NO_DESCRIPTOR, descriptors::REMEDY),
        Some(libc::ENOMEM) => used_up("the kernel has no memory for it", MORE_MEMORY),
        // The verifier refuses with EACCES what only a holder of CAP_PERFMON may do.
        Some(libc::EPERM | libc::EACCES) if !FOR_XDP_PROGRAM.missing().is_empty() => {
            XdpError::Capabilities { interface, what, missing: FOR_XDP_PROGRAM.missing() }
        }
        Some(libc::EPERM) => XdpError::Forbidden { interface, what },
        Some(libc::EBUSY | libc::EEXIST) => XdpError::Occupied { interface, by: SecondPxed::find() },
        _ => {
            let mut reason = error.to_string();
            let mut cause = error.source();
            while let Some(current) = cause {
                reason = format!("{reason}: {current}");
                cause = current.source();
            }
            XdpError::Unsupported { interface, what, reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_is_not_blamed_on_the_kernel() {
        for (error, part) in
            [(libc::EMFILE, descriptors::REMEDY), (libc::ENFILE, "descriptor"), (libc::ENOMEM, "memory")]
        {
            let told = explain("eth1", "load the XDP program", &io::Error::from_raw_os_error(error)).to_string();
            assert!(told.contains(part) && told.contains("eth1") && !told.contains("needs Linux"), "{told}");
        }
        let told = explain("eth1", "load the XDP program", &io::Error::from_raw_os_error(libc::EINVAL)).to_string();
        assert!(told.contains("needs Linux"), "{told}");
    }

    #[test]
    fn program_that_occupies_an_interface_need_not_be_of_another_pxed() {
        let unknown = occupant("eth1", None::<&str>);
        let with_pxed = occupant("eth1", Some("pxed (pid 7) already runs on this host; stop it with `kill 7`"));
        for text in [&unknown, &with_pxed] {
            for part in ["`ip link show dev eth1`", "`ip link set dev eth1 xdp off`", "--datapath socket"] {
                assert!(text.contains(part), "no {part} in {text}");
            }
        }
        assert!(with_pxed.contains("may be of another pxed") && with_pxed.contains("`kill 7`"), "{with_pxed}");
    }
}
