//! Events of machines, and the channel that carries them to the journal without blocking.

use std::{
    fmt::{self, Write as _},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus_client::metrics::counter::Counter;
use pxe_common::MacAddr;
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::{
    loader::{Loader, LoaderFile},
    origin::Origin,
};

/// One step of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct BootEvent {
    /// The machine.
    pub mac: MacAddr,
    /// The time at which it happened.
    pub at: SystemTime,
    /// The proof that it is the machine's own doing.
    pub origin: Origin,
    /// The event itself.
    pub kind: EventKind,
}

/// The program that sends a DHCP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKind {
    /// PXE firmware (option 60 `PXEClient`), or U-Boot.
    Pxe,
    /// UEFI HTTP boot (option 60 `HTTPClient`).
    HttpBoot,
    /// iPXE (option 77 or 175).
    Ipxe,
    /// Anything else: an operating system, or firmware that asks for its own purposes (see [`Signs`]).
    Plain,
}

/// The signs of an operating system in a DHCP message of a [plain client](ClientKind::Plain). Intel AMT, the lifecycle tools of servers and
/// UEFI's own network stack ask with the card's MAC too, for what they need themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Signs {
    /// None: it asks for nothing that firmware does not ask for.
    #[default]
    None,
    /// It asks for static routes or time servers, which operating systems use.
    System,
    /// The same in a message that prolongs a lease, of which at least half has passed as a rule.
    Renewal,
    /// It asks for what Talos asks for.
    Talos,
}

impl Signs {
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// The kind of file that a machine loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// iPXE itself, or another network boot program.
    Loader,
    /// An iPXE script, or a configuration of GRUB or U-Boot.
    Script,
    /// A kernel.
    Kernel,
    /// An initramfs.
    Initramfs,
    /// A unified kernel image: kernel, initramfs and arguments in one file.
    Uki,
    /// A machine configuration, which Talos asks for when it runs.
    Config,
    /// Any other file below the artifacts directory.
    Other,
}

/// Bytes of a path that an event keeps.
const PATH_LIMIT: usize = 256;

/// Returns a path that a machine asked for in the form that events keep: as text of limited length. Bytes that are not UTF-8 become
/// `\xff` and the like.
#[must_use]
pub fn short_path(path: &[u8]) -> Arc<str> {
    let mut text = String::new();
    for chunk in path.get(..PATH_LIMIT).unwrap_or(path).utf8_chunks() {
        text.push_str(chunk.valid());
        // Writing to a string cannot fail.
        chunk.invalid().iter().for_each(|byte| _ = write!(text, "\\x{byte:02x}"));
    }
    text.get(..text.floor_char_boundary(PATH_LIMIT)).unwrap_or_default().into()
}

/// The protocol that transfers a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// RFC 1350.
    Tftp,
    /// RFC 9112.
    Http,
}

/// The boot file that a DHCP reply named. In JSON it is the file name of the loader, or `script`, or `uki`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootFileName {
    /// The machine's iPXE script.
    Script,
    /// The machine's unified kernel image.
    Uki,
    /// A network boot program.
    #[serde(untagged)]
    Loader(LoaderFile),
    /// The loader that the spec names for the machine.
    #[serde(untagged)]
    OwnLoader(Arc<str>),
}

impl From<Loader<'_>> for BootFileName {
    fn from(loader: Loader<'_>) -> Self {
        match loader {
            Loader::Usual(loader) => Self::Loader(loader),
            Loader::Own(name) => Self::OwnLoader(Arc::clone(name)),
        }
    }
}

/// The file name of the loader, or the words for what is made for the machine.
impl fmt::Display for BootFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script => f.write_str("its script"),
            Self::Uki => f.write_str("its unified kernel image"),
            Self::Loader(loader) => loader.fmt(f),
            Self::OwnLoader(name) => f.write_str(name),
        }
    }
}

/// The kind of an event, with the details that a person would ask for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// DHCPDISCOVER came in.
    Discover {
        /// The program that asks.
        client: ClientKind,
        /// Its processor architecture type (IANA, option 93), if it names one. A Raspberry Pi's boot ROM has 41, whatever it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        client_architecture: Option<u16>,
    },
    /// DHCPOFFER went out.
    Offer {
        /// The offered address. Absent in ProxyDHCP.
        #[schema(value_type = Option<String>, format = Ipv4)]
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
        /// The boot file, if the reply names one.
        #[schema(value_type = Option<String>)]
        #[serde(skip_serializing_if = "Option::is_none")]
        boot_file: Option<BootFileName>,
    },
    /// DHCPREQUEST came in.
    Request {
        /// The program that asks.
        client: ClientKind,
        /// The same.
        #[serde(skip_serializing_if = "Option::is_none")]
        client_architecture: Option<u16>,
        /// The request is for another server (ProxyDHCP), whose acknowledgement is not seen.
        #[schema(required = false)]
        #[serde(skip_serializing_if = "is_false")]
        of_other_server: bool,
        /// The other DHCP server that the client chose (option 54).
        #[schema(value_type = Option<String>, format = Ipv4)]
        #[serde(skip_serializing_if = "Option::is_none")]
        other_server: Option<Ipv4Addr>,
        /// Its signs of an operating system.
        #[schema(required = false)]
        #[serde(skip_serializing_if = "Signs::is_none")]
        signs: Signs,
    },
    /// DHCPACK went out.
    Ack {
        /// The acknowledged address. Absent in ProxyDHCP and for DHCPINFORM.
        #[schema(value_type = Option<String>, format = Ipv4)]
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
        /// The program that asked.
        client: ClientKind,
        /// Its signs of an operating system.
        #[schema(required = false)]
        #[serde(skip_serializing_if = "Signs::is_none")]
        signs: Signs,
        /// The boot file, if the reply names one.
        #[schema(value_type = Option<String>)]
        #[serde(skip_serializing_if = "Option::is_none")]
        boot_file: Option<BootFileName>,
    },
    /// DHCPNAK went out.
    Nak {
        /// The reason, in words for a person.
        reason: &'static str,
    },
    /// DHCPDECLINE came in: the machine found its address in use.
    Decline {
        /// The address.
        #[schema(value_type = String, format = Ipv4)]
        address: Ipv4Addr,
    },
    /// DHCPRELEASE came in.
    Release,
    /// A DHCP packet of this machine was left unanswered.
    Ignored {
        /// The reason, in words for a person.
        reason: &'static str,
    },
    /// Another node of the fleet answers the machine's DHCP packet.
    LeftToPeer {
        /// The program that asks.
        client: ClientKind,
        /// The node's server address.
        #[schema(value_type = String, format = Ipv4)]
        address: Ipv4Addr,
        /// The machine chose that node's offer. Otherwise it is the node's turn.
        #[schema(required = false)]
        #[serde(skip_serializing_if = "is_false")]
        chosen: bool,
    },
    /// A relay outside the network of the machine's address forwarded its DHCPDISCOVER.
    ForeignRelay {
        /// The relay's address (`giaddr`).
        #[schema(value_type = String, format = Ipv4)]
        relay: Ipv4Addr,
    },
    /// The machine sent a DHCP request on a VLAN on which it is not served.
    OtherVlan {
        /// The VLAN.
        vlan: u16,
    },
    /// A file was asked for.
    Requested {
        /// The kind of file.
        artifact: ArtifactKind,
        /// The protocol.
        transport: Transport,
        /// The path as the machine named it.
        #[schema(value_type = String)]
        path: Arc<str>,
    },
    /// The machine has the whole file: it acknowledged the last byte, and all parts that came before.
    Done {
        /// The kind of file.
        artifact: ArtifactKind,
        /// The protocol.
        transport: Transport,
        /// The path as the machine named it.
        #[schema(value_type = String)]
        path: Arc<str>,
        /// The length of the file in bytes.
        bytes: u64,
        /// The time from the request to the acknowledgement of the last byte. For a file in parts, that of the last part.
        #[schema(value_type = u64)]
        #[serde(rename = "took_ms", serialize_with = "milliseconds")]
        took: Duration,
    },
    /// All of a file was sent, but the machine did not confirm its end. Some firmware never acknowledges the last block of TFTP,
    /// and iPXE on UEFI may start a kernel before it acknowledges the last packets of HTTP. The next step of the machine shows whether it
    /// has the file.
    Unconfirmed {
        /// The kind of file.
        artifact: ArtifactKind,
        /// The protocol.
        transport: Transport,
        /// The path as the machine named it.
        #[schema(value_type = String)]
        path: Arc<str>,
        /// Bytes of the file that the machine confirmed.
        bytes: u64,
    },
    /// A file was refused, or its transfer broke off.
    Failed {
        /// The kind of file.
        artifact: ArtifactKind,
        /// The protocol.
        transport: Transport,
        /// The path as the machine named it.
        #[schema(value_type = String)]
        path: Arc<str>,
        /// Bytes acknowledged before it failed.
        bytes: u64,
        /// The reason, in words for a person.
        #[schema(value_type = String)]
        reason: Arc<str>,
    },
    /// The machine was told to wait, since a file that it boots is not there yet. It asks again.
    Awaits {
        /// The path of the file, relative to the artifacts directory.
        #[schema(value_type = String)]
        path: Arc<str>,
        /// The state of the file, by its name.
        state: &'static str,
        /// The share of the file that pxed has, in percent, while it is downloaded.
        #[serde(skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
    },
    /// The firmware's architecture cannot start the kernel of the one in the spec.
    WrongArchitecture {
        /// The firmware's processor architecture type (IANA).
        client_architecture: u16,
    },
    /// The machine was told to boot from its own disk.
    SentToDisk,
    /// The machine accepts connections to its Talos API, as pxed found by trying.
    Up {
        /// The TCP port.
        port: u16,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl EventKind {
    /// Returns the address that the event is about, if there is one.
    #[must_use]
    pub const fn address(&self) -> Option<Ipv4Addr> {
        match *self {
            Self::Offer { address, .. } | Self::Ack { address, .. } => address,
            Self::Decline { address } | Self::LeftToPeer { address, .. } => Some(address),
            Self::Discover { .. }
            | Self::Request { .. }
            | Self::Nak { .. }
            | Self::Release
            | Self::Ignored { .. }
            | Self::ForeignRelay { .. }
            | Self::OtherVlan { .. }
            | Self::Requested { .. }
            | Self::Done { .. }
            | Self::Unconfirmed { .. }
            | Self::Failed { .. }
            | Self::Awaits { .. }
            | Self::WrongArchitecture { .. }
            | Self::SentToDisk
            | Self::Up { .. } => None,
        }
    }

    /// Returns the signs of an operating system if a plain client gets its address from pxed, or asks another server for it.
    #[must_use]
    pub fn plain_exchange(&self) -> Option<Signs> {
        match *self {
            Self::Ack { client: ClientKind::Plain, signs, .. }
            | Self::Request { client: ClientKind::Plain, of_other_server: true, signs, .. } => Some(signs),
            _ => None,
        }
    }

    /// Returns `true` if the event shows that an operating system runs.
    #[must_use]
    pub fn is_operating_system(&self) -> bool {
        self.plain_exchange().is_some_and(|signs| signs != Signs::None)
    }
}

/// Serialises a duration as a number. The unit is in the name of the field: `took_ms`.
fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The sending half of the channel to the journal. Each worker has a clone.
#[derive(Clone, Debug)]
pub struct EventSink {
    sender: mpsc::Sender<BootEvent>,
    dropped: Counter,
}

impl EventSink {
    /// Returns a sink and the receiving half, with room for `capacity` unread events.
    #[must_use]
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<BootEvent>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, dropped: Counter::default() }, receiver)
    }

    /// Sends an event. Never blocks: if the journal lags by the whole capacity, the event is counted and dropped.
    pub fn send(&self, mac: MacAddr, at: SystemTime, origin: Origin, kind: EventKind) {
        if self.sender.try_send(BootEvent { mac, at, origin, kind }).is_err() {
            self.dropped.inc();
        }
    }

    /// Returns the counter of the events that were dropped. Unlike a clone of the sink, it does not keep the journal running.
    pub(crate) fn dropped_counter(&self) -> Counter {
        self.dropped.clone()
    }

    /// Returns whether the next event would be dropped.
    #[cfg(test)]
    pub(crate) fn is_full(&self) -> bool {
        self.sender.capacity() == 0
    }

    /// Returns how many events were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}
