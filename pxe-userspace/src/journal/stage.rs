//! The progress of a machine since its last power-on, as a pure function of its events.
//!
//! ```text
//! never-seen ─► discovering ─► offered ─► addressed ─► loading-loader ─► loader-done     firmware (PXE or HTTP boot)
//!               ┌──────────────────────────────────────────────┘
//!               ▼
//!            ipxe-discovering ─► ipxe-addressed ─► scripted                      iPXE (a ROM begins here)
//!               │                              └─► awaiting-files ─► scripted     while its files are on their way
//!               ┌─────────────────────────────────────┘      └─► sent-to-disk ─► on-disk
//!               ▼
//!            loading-kernel ─► kernel-done ─► loading-initramfs ─► booting ─► running ─► up
//! ```
//!
//! A unified kernel image is kernel and initramfs in one: it leads from loading-kernel to booting, and firmware that loads it comes from addressed.
//!
//! A DISCOVER of the firmware restarts the chain from any stage but offered, where it only repeats the question: the offer was lost. Events of one machine come from several threads (DHCP worker,
//! TFTP, HTTP), so two events that are microseconds apart may arrive in the wrong order. A transfer that the machine gave up may
//! fail half a minute later, when the machine has moved on. So an event that reports an end never moves a machine backwards.
//!
//! `stage/transitions.txt` shows the effect of every event at every stage.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::model::{
    artifact_names::is_optional,
    event::{ArtifactKind, ClientKind, EventKind},
};

/// The progress of a machine. The variants are in the order of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Stage {
    /// pxed has heard nothing of it.
    #[default]
    NeverSeen,
    /// Its firmware asks for an address.
    Discovering,
    /// Its firmware was offered an address, and has not taken it.
    Offered,
    /// Its firmware has an address.
    Addressed,
    /// Its firmware is loading iPXE or another network boot program.
    LoadingLoader,
    /// Its firmware has the whole loader.
    LoaderDone,
    /// iPXE runs and asks for an address.
    IpxeDiscovering,
    /// iPXE has an address.
    IpxeAddressed,
    /// It was told to wait for a file that is not there yet.
    AwaitingFiles,
    /// It asked for its iPXE script, or for its configuration of GRUB or U-Boot.
    Scripted,
    /// It is loading its kernel, or its unified kernel image.
    LoadingKernel,
    /// It has its whole kernel.
    KernelDone,
    /// It is loading its initramfs.
    LoadingInitramfs,
    /// It has its kernel and initramfs and starts them.
    Booting,
    /// An operating system runs and has its address.
    Running,
    /// The Talos API of the operating system that runs has answered pxed.
    Up,
    /// It was told to boot from its own disk.
    SentToDisk,
    /// An operating system runs that pxed did not serve.
    OnDisk,
    /// A step failed, and no other has followed.
    Failed,
}

impl Stage {
    /// All stages, in the order of a boot.
    pub const ALL: [Self; 19] = [
        Self::NeverSeen,
        Self::Discovering,
        Self::Offered,
        Self::Addressed,
        Self::LoadingLoader,
        Self::LoaderDone,
        Self::IpxeDiscovering,
        Self::IpxeAddressed,
        Self::AwaitingFiles,
        Self::Scripted,
        Self::LoadingKernel,
        Self::KernelDone,
        Self::LoadingInitramfs,
        Self::Booting,
        Self::Running,
        Self::Up,
        Self::SentToDisk,
        Self::OnDisk,
        Self::Failed,
    ];

    /// Returns the name in the API and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverSeen => "never-seen",
            Self::Discovering => "discovering",
            Self::Offered => "offered",
            Self::Addressed => "addressed",
            Self::LoadingLoader => "loading-loader",
            Self::LoaderDone => "loader-done",
            Self::IpxeDiscovering => "ipxe-discovering",
            Self::IpxeAddressed => "ipxe-addressed",
            Self::AwaitingFiles => "awaiting-files",
            Self::Scripted => "scripted",
            Self::LoadingKernel => "loading-kernel",
            Self::KernelDone => "kernel-done",
            Self::LoadingInitramfs => "loading-initramfs",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Up => "up",
            Self::SentToDisk => "sent-to-disk",
            Self::OnDisk => "on-disk",
            Self::Failed => "failed",
        }
    }

    /// Returns the stage after an event.
    #[must_use]
    pub fn after(self, event: &EventKind) -> Self {
        match event {
            // It did not get the offer, or did not like it.
            EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. } if self == Self::Offered => self,
            EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. } => Self::Discovering,
            EventKind::Offer { .. } if self == Self::Discovering => Self::Offered,
            EventKind::Discover { client: ClientKind::Ipxe, .. } => Self::IpxeDiscovering,
            // Firmware asks for purposes of its own at any time, and moves no boot on.
            EventKind::Ack { client: ClientKind::Plain, .. } | EventKind::Request { client: ClientKind::Plain, .. }
                if !event.is_operating_system() =>
            {
                self
            }
            EventKind::Ack { client, .. } => self.after_ack(*client),
            // The other server acknowledges, and pxed does not see it.
            EventKind::Request { client, of_other_server: true, .. } => self.after_ack(*client),
            EventKind::Request { client, .. } => self.after_request(*client),
            EventKind::Requested { artifact, .. } => match artifact {
                ArtifactKind::Loader => Self::LoadingLoader,
                // An operator may read the script with curl on a machine that runs.
                ArtifactKind::Script if self.is_final() => self,
                ArtifactKind::Script => Self::Scripted,
                ArtifactKind::Kernel | ArtifactKind::Uki => Self::LoadingKernel,
                ArtifactKind::Initramfs => Self::LoadingInitramfs,
                ArtifactKind::Config => self.with_talos(),
                ArtifactKind::Other => self,
            },
            EventKind::Done { artifact, .. } => match artifact {
                ArtifactKind::Loader => self.advance(Self::LoaderDone),
                ArtifactKind::Script if self.is_final() => self,
                ArtifactKind::Script => self.advance(Self::Scripted),
                ArtifactKind::Kernel => self.advance(Self::KernelDone),
                ArtifactKind::Initramfs | ArtifactKind::Uki => self.advance(Self::Booting),
                // It was missing before.
                ArtifactKind::Config if self == Self::Failed => Self::Running,
                ArtifactKind::Config => self.with_talos(),
                ArtifactKind::Other => self,
            },
            EventKind::Failed { artifact, .. } => {
                let last = match artifact {
                    ArtifactKind::Loader => Self::LoadingLoader,
                    ArtifactKind::Script => Self::Scripted,
                    ArtifactKind::Kernel | ArtifactKind::Uki => Self::LoadingKernel,
                    ArtifactKind::Initramfs => Self::LoadingInitramfs,
                    ArtifactKind::Config => Self::Up,
                    ArtifactKind::Other => return self,
                };
                if self > last || event.is_harmless() { self } else { Self::Failed }
            }
            // As with a script. A failure is over once the machine asks again.
            EventKind::Awaits { .. } if self.is_final() && self != Self::Failed => self,
            EventKind::Awaits { .. } => Self::AwaitingFiles,
            EventKind::WrongArchitecture { .. } | EventKind::Decline { .. } => Self::Failed,
            EventKind::SentToDisk => Self::SentToDisk,
            // It may have been asked before it went on.
            EventKind::Up { .. } if self == Self::Running => Self::Up,
            EventKind::Up { .. } => self,
            EventKind::Discover { client: ClientKind::Plain, .. }
            | EventKind::Offer { .. }
            | EventKind::Nak { .. }
            | EventKind::Release
            | EventKind::Ignored { .. }
            // The next step of the machine shows whether it has the file.
            | EventKind::Unconfirmed { .. }
            | EventKind::ForeignRelay { .. }
            | EventKind::OtherVlan { .. }
            // What the machine does then is in that node's journal.
            | EventKind::LeftToPeer { .. } => self,
        }
    }

    /// Returns the stage after a REQUEST. It is news only if pxed was restarted between it and the DISCOVER.
    fn after_request(self, client: ClientKind) -> Self {
        match (self, client) {
            (Self::NeverSeen, ClientKind::Pxe | ClientKind::HttpBoot) => Self::Discovering,
            (Self::NeverSeen, ClientKind::Ipxe) => Self::IpxeDiscovering,
            _ => self,
        }
    }

    /// Returns the stage after an acknowledged address.
    fn after_ack(self, client: ClientKind) -> Self {
        match client {
            // It was told to boot from its disk, and the answer to its DISCOVER said so too.
            ClientKind::Pxe | ClientKind::HttpBoot | ClientKind::Ipxe if self == Self::SentToDisk => self,
            // Some firmware gets a second acknowledgement (ProxyDHCP, port 4011) when it has already begun to load.
            ClientKind::Pxe | ClientKind::HttpBoot => self.advance(Self::Addressed),
            ClientKind::Ipxe => self.advance(Self::IpxeAddressed),
            ClientKind::Plain => match self {
                // The journal may have lost the event of the initramfs when it lagged. A machine that asked for
                // a kernel is assumed to run it.
                Self::LoadingKernel | Self::KernelDone | Self::LoadingInitramfs | Self::Booting => Self::Running,
                // A renewal after a restart of pxed, or another renewal.
                Self::NeverSeen | Self::Running => Self::Running,
                Self::Up => Self::Up,
                _ => Self::OnDisk,
            },
        }
    }

    /// Returns the stage of a machine on which Talos runs, since it asks for its machine configuration. While that cannot be had, Talos
    /// asks again and again, and the failure stays.
    fn with_talos(self) -> Self {
        if self == Self::Failed { self } else { self.after_ack(ClientKind::Plain) }
    }

    /// Returns the later of two stages of a boot; from a final stage, `to`.
    fn advance(self, to: Self) -> Self {
        if self.is_final() || self < to { to } else { self }
    }

    /// Returns whether the stage ends the chain, so that the next step begins another.
    fn is_final(self) -> bool {
        self >= Self::Running
    }
}

impl EventKind {
    /// Returns whether a failed transfer is harmless: loaders look for files that need not exist.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        let Self::Failed { artifact, path, .. } = self else { return false };
        *artifact == ArtifactKind::Other || is_optional(path.as_bytes())
    }

    /// Returns whether something failed that a person may have to fix.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Nak { .. } | Self::Decline { .. } | Self::WrongArchitecture { .. } => true,
            Self::Failed { .. } => !self.is_harmless(),
            _ => false,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The error of a name that no stage has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStage;

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, UnknownStage> {
        Self::ALL.into_iter().find(|stage| stage.name() == name).ok_or(UnknownStage)
    }
}

#[cfg(test)]
mod tests;
