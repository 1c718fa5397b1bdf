//! The results of machines, as values for the printed lines and the JSON.

use std::{fmt, net::Ipv4Addr, time::Duration};

use clap::ValueEnum;

use pxe_common::MacAddr;
use serde::{Serialize, Serializer};

use crate::firmware::Firmware;

/// A stage of a boot. A machine may skip stages, and fetch several files in one.
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

/// A milestone of a boot.
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
    /// All milestones, in order.
    pub(crate) const ALL: [Self; 5] = [Self::Offer, Self::Lease, Self::Loader, Self::Kernel, Self::Booted];
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

/// A step that is timed over all machines, from the first request to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// DISCOVER to the first usable OFFER.
    Offer,
    /// REQUEST to ACK.
    Acknowledgement,
    /// The loader.
    Loader,
    /// The script that iPXE looks for next to its binary, found or not.
    Autoexec,
    /// A script.
    Script,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
}

impl Step {
    /// All steps, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] =
        [Self::Offer, Self::Acknowledgement, Self::Loader, Self::Autoexec, Self::Script, Self::Kernel, Self::Initramfs];

    /// Returns the name of the step in the printed table.
    pub(crate) const fn name(self) -> &'static str {
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

/// A message, or a whole boot, that was repeated because no answer came.
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
    /// The whole boot, by the firmware's next attempt.
    Boot,
}

impl Again {
    /// Returns the name of the message in the printed line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Request => "REQUEST",
            Self::BootServer => "REQUEST to a boot server",
            Self::TftpRequest => "TFTP request",
            Self::TftpAcknowledgement => "TFTP acknowledgement",
            Self::Arp => "ARP request",
            Self::Boot => "boot",
        }
    }
}

/// The end of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The operating system runs and has its address.
    Booted,
    /// The boot reached the milestone at which it was to end.
    Reached,
    /// The machine was sent to its own disk.
    Disk,
    /// The boot failed.
    Failed {
        /// The stage in which it failed.
        stage: Stage,
        /// The reason of the failure, for people.
        reason: String,
    },
}

/// A stage of a machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// The time at which it began, from the start of the rehearsal.
    #[serde(rename = "started_seconds", serialize_with = "seconds")]
    pub started: Duration,
    /// The time that it took.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// The bytes that were fetched in it.
    pub bytes: u64,
}

/// The result of a machine.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// Its hardware address.
    #[serde(serialize_with = "text")]
    pub mac: MacAddr,
    /// Its class.
    pub firmware: Firmware,
    /// The address of its last lease.
    pub address: Option<Ipv4Addr>,
    /// The end of its boot.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The time from power-on to the end.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// The stages that it entered, in order.
    pub stages: Vec<StageTime>,
    /// The arguments of its kernel.
    pub kernel_arguments: Option<String>,
}

/// A step of a machine, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Note {
    /// The time at which it happened, from the start of the rehearsal.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub at: Duration,
    /// The machine.
    #[serde(serialize_with = "text")]
    pub mac: MacAddr,
    /// The stage of its boot.
    pub stage: Stage,
    /// The direction.
    pub direction: Direction,
    /// The question, the answer or the message.
    pub text: String,
}

/// The direction of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The machine asked.
    Asked,
    /// The server answered.
    Answered,
    /// The machine wrote it on its console.
    Said,
}

/// Time, MAC, stage, an arrow and the text, fit for a log.
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

/// A number of bytes, in units that people read.
pub(crate) struct Bytes(pub(crate) u64);

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

pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}

fn text<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mac)
}
