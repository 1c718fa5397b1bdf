//! What became of the machines: values for the printed lines and the JSON.

use std::{fmt, net::Ipv4Addr, time::Duration};

use clap::ValueEnum;

use pxe_common::MacAddr;
use serde::{Serialize, Serializer};

use super::firmware::Firmware;

/// How far a boot has come. A machine may skip stages, and fetch several files in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The firmware asks for an address.
    Dhcp,
    /// The firmware fetches its loader.
    Loader,
    /// iPXE asks for an address.
    IpxeDhcp,
    /// iPXE fetches its scripts.
    Script,
    /// iPXE fetches the kernel.
    Kernel,
    /// iPXE fetches the initramfs.
    Initramfs,
    /// The operating system asks for an address.
    System,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dhcp => "dhcp",
            Self::Loader => "loader",
            Self::IpxeDhcp => "ipxe-dhcp",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::System => "system",
        })
    }
}

/// How far a boot has come, or is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Milestone {
    /// A server has offered an address
    Offer,
    /// The firmware has its lease
    Lease,
    /// The firmware has its loader
    Loader,
    /// iPXE has the kernel and the initramfs
    Kernel,
    /// The operating system runs and has its lease
    Booted,
}

impl Milestone {
    /// All of them, in order.
    pub(super) const ALL: [Self; 5] = [Self::Offer, Self::Lease, Self::Loader, Self::Kernel, Self::Booted];
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Offer => "offer",
            Self::Lease => "lease",
            Self::Loader => "loader",
            Self::Kernel => "kernel",
            Self::Booted => "booted",
        })
    }
}

/// What is timed, over all machines: from the first time that it was asked for to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// DISCOVER to the first good OFFER.
    Offer,
    /// REQUEST to ACK.
    Acknowledgement,
    /// The whole loader.
    Loader,
    /// The script that iPXE looks for beside itself, found or not.
    Autoexec,
    /// A script.
    Script,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
}

impl Step {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 7] =
        [Self::Offer, Self::Acknowledgement, Self::Loader, Self::Autoexec, Self::Script, Self::Kernel, Self::Initramfs];

    /// For the printed table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Offer => "discover→offer",
            Self::Acknowledgement => "request→ack",
            Self::Loader => "loader",
            Self::Autoexec => "autoexec",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
        }
    }
}

/// What was sent once more because no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Again {
    /// DHCP DISCOVER.
    Discover,
    /// DHCP REQUEST.
    Request,
    /// REQUEST to a boot server, port 4011.
    BootServer,
    /// TFTP read request.
    TftpRequest,
    /// TFTP acknowledgement.
    TftpAcknowledgement,
    /// ARP request.
    Arp,
}

impl Again {
    /// For the printed line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Request => "REQUEST",
            Self::BootServer => "REQUEST to a boot server",
            Self::TftpRequest => "TFTP request",
            Self::TftpAcknowledgement => "TFTP acknowledgement",
            Self::Arp => "ARP request",
        }
    }
}

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The operating system runs and has its address.
    Booted,
    /// The boot has come as far as was asked for.
    Reached,
    /// The machine was sent to its own disk.
    Disk,
    /// The boot broke off.
    Failed {
        /// Where.
        stage: Stage,
        /// Why, for a person.
        reason: String,
    },
}

/// One stage of one machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// Since the rehearsal began.
    #[serde(rename = "started_seconds", serialize_with = "seconds")]
    pub started: Duration,
    /// How long it took.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// What was fetched in it.
    pub bytes: u64,
}

/// What became of one machine.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// Its hardware address.
    #[serde(serialize_with = "text")]
    pub mac: MacAddr,
    /// Its class.
    pub firmware: Firmware,
    /// The address that it was given last.
    pub address: Option<Ipv4Addr>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// From power-on to the end.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// Every stage that it entered, in order.
    pub stages: Vec<StageTime>,
    /// What the kernel was started with.
    pub kernel_arguments: Option<String>,
}

/// One printed step.
#[derive(Clone, Debug, Serialize)]
pub struct Note {
    /// Since the rehearsal began.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub at: Duration,
    /// Whose.
    #[serde(serialize_with = "text")]
    pub mac: MacAddr,
    /// Where in its boot.
    pub stage: Stage,
    /// Which way it went.
    pub direction: Direction,
    /// What was asked, answered or said.
    pub text: String,
}

/// Which way a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The machine asked.
    Asked,
    /// The server answered.
    Answered,
    /// The machine's console says so.
    Said,
}

/// Fit for a log: time, MAC, stage, an arrow, the text.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::Asked => "→",
            Direction::Answered => "←",
            Direction::Said => "·",
        };
        write!(f, "{:9.3} {} {:<9} {arrow} {}", self.at.as_secs_f64(), self.mac, self.stage, self.text)
    }
}

/// A number of bytes for people.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in units {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if unit == "B" { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

pub(super) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}

fn text<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mac)
}
