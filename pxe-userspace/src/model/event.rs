//! What happened to a machine, and the hand-over that never blocks.

use std::{
    fmt,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus_client::metrics::counter::Counter;
use pxe_common::MacAddr;
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;

use super::loader::LoaderFile;

/// One step of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct BootEvent {
    /// The machine.
    pub mac: MacAddr,
    /// When it happened.
    pub at: SystemTime,
    /// What happened.
    pub kind: EventKind,
}

/// Which program asks by DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKind {
    /// PXE firmware (option 60 `PXEClient`), or U-Boot.
    Pxe,
    /// UEFI HTTP boot (option 60 `HTTPClient`).
    HttpBoot,
    /// iPXE (option 77 or 175).
    Ipxe,
    /// Anything else: an operating system.
    Plain,
}

/// The kind of file that a machine loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// iPXE itself, or another network boot program.
    Loader,
    /// An iPXE script.
    Script,
    /// A kernel.
    Kernel,
    /// An initramfs.
    Initramfs,
    /// Any other file below the artifacts directory.
    Other,
}

/// Bytes of a path that an event keeps.
const PATH_LIMIT: usize = 256;

/// A path that a machine asked for, as events keep it: text, and not as long as the machine likes.
#[must_use]
pub fn short_path(path: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(path.get(..PATH_LIMIT).unwrap_or(path));
    // What is not UTF-8 becomes longer.
    text.get(..text.floor_char_boundary(PATH_LIMIT)).unwrap_or_default().into()
}

/// How a file travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// RFC 1350.
    Tftp,
    /// RFC 9112.
    Http,
}

/// What a DHCP reply told a machine to boot. In JSON, the loader's file name or `script`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootFileName {
    /// The machine's iPXE script.
    Script,
    /// A network boot program.
    #[serde(untagged)]
    Loader(LoaderFile),
}

/// The loader's file name, or "its script".
impl fmt::Display for BootFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script => f.write_str("its script"),
            Self::Loader(loader) => loader.fmt(f),
        }
    }
}

/// What happened. Variants carry what a person would ask next.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// DHCPDISCOVER came in.
    Discover {
        /// Which program asks.
        client: ClientKind,
        /// Option 93, where it came (IANA's processor architecture types).
        #[serde(skip_serializing_if = "Option::is_none")]
        client_architecture: Option<u16>,
    },
    /// DHCPOFFER went out.
    Offer {
        /// The address offered; absent in ProxyDHCP.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
        /// The boot file named, where one is.
        #[serde(skip_serializing_if = "Option::is_none")]
        boot_file: Option<BootFileName>,
    },
    /// DHCPREQUEST came in.
    Request {
        /// Which program asks.
        client: ClientKind,
        /// Option 93, where it came.
        #[serde(skip_serializing_if = "Option::is_none")]
        client_architecture: Option<u16>,
        /// ProxyDHCP: the address is another server's, and its acknowledgement is not seen.
        #[serde(skip_serializing_if = "is_false")]
        of_other_server: bool,
    },
    /// DHCPACK went out.
    Ack {
        /// The address acknowledged; absent in ProxyDHCP and for DHCPINFORM.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
        /// Which program asked. `Plain` means that an operating system runs.
        client: ClientKind,
        /// The boot file named, where one is.
        #[serde(skip_serializing_if = "Option::is_none")]
        boot_file: Option<BootFileName>,
    },
    /// DHCPNAK went out.
    Nak {
        /// Why, in words for a person.
        reason: &'static str,
    },
    /// DHCPDECLINE came in: the machine found its address in use.
    Decline {
        /// The address.
        address: Ipv4Addr,
    },
    /// DHCPRELEASE came in.
    Release,
    /// A DHCP packet of this machine was left unanswered.
    Ignored {
        /// Why, in words for a person.
        reason: &'static str,
    },
    /// A relay that is outside the network of the machine's address forwarded its DHCPDISCOVER.
    ForeignRelay {
        /// The relay's address (`giaddr`).
        relay: Ipv4Addr,
    },
    /// A file was asked for.
    Requested {
        /// What it is.
        artifact: ArtifactKind,
        /// How it travels.
        transport: Transport,
        /// The path as the machine named it.
        path: Arc<str>,
    },
    /// The machine has a file whole: it acknowledged the last byte of it, and of what parts came before.
    Done {
        /// What it is.
        artifact: ArtifactKind,
        /// How it travelled.
        transport: Transport,
        /// The path as the machine named it.
        path: Arc<str>,
        /// The length of the file in bytes.
        bytes: u64,
        /// From the request to the acknowledgement of the last byte; of the last part, where it came in parts.
        #[serde(rename = "took_ms", serialize_with = "milliseconds")]
        took: Duration,
    },
    /// All of a file was sent, and the machine did not confirm its end. Some firmware never acknowledges the last block of TFTP; what
    /// the machine does next shows whether it has the file.
    Unconfirmed {
        /// What it is.
        artifact: ArtifactKind,
        /// How it travelled.
        transport: Transport,
        /// The path as the machine named it.
        path: Arc<str>,
        /// Bytes of the file that the machine confirmed.
        bytes: u64,
    },
    /// A file was refused, or its transfer broke off.
    Failed {
        /// What it is.
        artifact: ArtifactKind,
        /// How it travelled.
        transport: Transport,
        /// The path as the machine named it.
        path: Arc<str>,
        /// Bytes acknowledged before it failed.
        bytes: u64,
        /// Why, in words for a person.
        reason: Arc<str>,
    },
    /// The firmware's architecture is not the one in the spec.
    WrongArchitecture {
        /// Option 93 of the firmware.
        client_architecture: u16,
    },
    /// The machine was told to boot from its own disk.
    SentToDisk,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl EventKind {
    /// Whether it shows that an operating system runs: it has its address from us or, beside another server, asks that
    /// one for it.
    #[must_use]
    pub fn is_operating_system(&self) -> bool {
        matches!(
            self,
            Self::Ack { client: ClientKind::Plain, .. }
                | Self::Request { client: ClientKind::Plain, of_other_server: true, .. }
        )
    }
}

/// Durations carry their unit in the name: `took_ms`.
fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The sending half of the journal. Cloned into every worker.
#[derive(Clone, Debug)]
pub struct EventSink {
    sender: mpsc::Sender<BootEvent>,
    dropped: Counter,
}

impl EventSink {
    /// A sink and the receiving half, with room for `capacity` events that nobody has read yet.
    #[must_use]
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<BootEvent>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, dropped: Counter::default() }, receiver)
    }

    /// Hands the event over. Never blocks: when the journal lags by the whole capacity, the event is
    /// counted and forgotten.
    pub fn send(&self, mac: MacAddr, at: SystemTime, kind: EventKind) {
        if self.sender.try_send(BootEvent { mac, at, kind }).is_err() {
            self.dropped.inc();
        }
    }

    /// Returns the counter of the events that were dropped. Unlike a clone of the sink, it does not keep the journal running.
    pub(crate) fn dropped_counter(&self) -> Counter {
        self.dropped.clone()
    }

    /// Whether the next event would be forgotten.
    #[cfg(test)]
    pub(crate) fn is_full(&self) -> bool {
        self.sender.capacity() == 0
    }

    /// Events forgotten so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}
