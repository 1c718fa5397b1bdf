//! How far a machine has come since its last power-on: a pure function of its events.
//!
//! ```text
//! waiting ─► discovering ─► addressed ─► loading-loader ─► loader-done          firmware (PXE or HTTP boot)
//!               ┌──────────────────────────────────────────────┘
//!               ▼
//!            ipxe-discovering ─► ipxe-addressed ─► scripted                      iPXE (a ROM begins here)
//!               ┌─────────────────────────────────────┘      └─► sent-to-disk ─► on-disk
//!               ▼
//!            loading-kernel ─► kernel-done ─► loading-initramfs ─► booting ─► running
//! ```
//!
//! A DISCOVER of the firmware starts the chain over from anywhere. Events of one machine come from
//! several threads (DHCP worker, TFTP, HTTP), so neighbours may arrive in the wrong order by
//! microseconds, and a transfer that the machine gave up can fail half a minute later, when the machine
//! has long gone on: what is done or failed never takes a machine back.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::model::{
    artifact_names::is_optional,
    event::{ArtifactKind, ClientKind, EventKind},
};

/// How far a machine has come. The order is that of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Stage {
    /// Nothing was heard of it since pxed started.
    #[default]
    Waiting,
    /// Its firmware asks for an address.
    Discovering,
    /// Its firmware has an address.
    Addressed,
    /// Its firmware is loading iPXE, or another network boot program.
    LoadingLoader,
    /// Its firmware has the loader whole.
    LoaderDone,
    /// iPXE runs and asks for an address.
    IpxeDiscovering,
    /// iPXE has an address.
    IpxeAddressed,
    /// It asked for its iPXE script.
    Scripted,
    /// It is loading its kernel.
    LoadingKernel,
    /// It has its kernel whole.
    KernelDone,
    /// It is loading its initramfs.
    LoadingInitramfs,
    /// It has kernel and initramfs, and starts them.
    Booting,
    /// An operating system runs and has its address.
    Running,
    /// It was told to boot from its own disk.
    SentToDisk,
    /// An operating system that did not come from us runs.
    OnDisk,
    /// A step failed, and nothing has gone on since.
    Failed,
}

impl Stage {
    /// Every stage, in the order of a boot.
    pub const ALL: [Self; 16] = [
        Self::Waiting,
        Self::Discovering,
        Self::Addressed,
        Self::LoadingLoader,
        Self::LoaderDone,
        Self::IpxeDiscovering,
        Self::IpxeAddressed,
        Self::Scripted,
        Self::LoadingKernel,
        Self::KernelDone,
        Self::LoadingInitramfs,
        Self::Booting,
        Self::Running,
        Self::SentToDisk,
        Self::OnDisk,
        Self::Failed,
    ];

    /// As the API, the metrics and the command line write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Discovering => "discovering",
            Self::Addressed => "addressed",
            Self::LoadingLoader => "loading-loader",
            Self::LoaderDone => "loader-done",
            Self::IpxeDiscovering => "ipxe-discovering",
            Self::IpxeAddressed => "ipxe-addressed",
            Self::Scripted => "scripted",
            Self::LoadingKernel => "loading-kernel",
            Self::KernelDone => "kernel-done",
            Self::LoadingInitramfs => "loading-initramfs",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::SentToDisk => "sent-to-disk",
            Self::OnDisk => "on-disk",
            Self::Failed => "failed",
        }
    }

    /// The stage after an event. Depends on nothing else.
    #[must_use]
    pub fn after(self, event: &EventKind) -> Self {
        match event {
            EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. } => Self::Discovering,
            EventKind::Discover { client: ClientKind::Ipxe, .. } => Self::IpxeDiscovering,
            EventKind::Ack { client, .. } => self.after_ack(*client),
            // Another server acknowledges, out of our sight.
            EventKind::Request { client, of_other_server: true, .. } => self.after_ack(*client),
            EventKind::Request { client, .. } => self.after_request(*client),
            EventKind::Requested { artifact, .. } => match artifact {
                ArtifactKind::Loader => Self::LoadingLoader,
                // The script is also what an operator reads with curl, from a machine that runs.
                ArtifactKind::Script if self.is_final() => self,
                ArtifactKind::Script => Self::Scripted,
                ArtifactKind::Kernel => Self::LoadingKernel,
                ArtifactKind::Initramfs => Self::LoadingInitramfs,
                ArtifactKind::Other => self,
            },
            EventKind::Done { artifact, .. } => match artifact {
                ArtifactKind::Loader => self.advance(Self::LoaderDone),
                ArtifactKind::Script if self.is_final() => self,
                ArtifactKind::Script => self.advance(Self::Scripted),
                ArtifactKind::Kernel => self.advance(Self::KernelDone),
                ArtifactKind::Initramfs => self.advance(Self::Booting),
                ArtifactKind::Other => self,
            },
            EventKind::Failed { artifact, .. } => {
                let last = match artifact {
                    ArtifactKind::Loader => Self::LoadingLoader,
                    ArtifactKind::Script => Self::Scripted,
                    ArtifactKind::Kernel => Self::LoadingKernel,
                    ArtifactKind::Initramfs => Self::LoadingInitramfs,
                    ArtifactKind::Other => return self,
                };
                if self > last || event.is_harmless() { self } else { Self::Failed }
            }
            EventKind::WrongArchitecture { .. } | EventKind::Decline { .. } => Self::Failed,
            EventKind::SentToDisk => Self::SentToDisk,
            EventKind::Discover { client: ClientKind::Plain, .. }
            | EventKind::Offer { .. }
            | EventKind::Nak { .. }
            | EventKind::Release
            | EventKind::Ignored { .. }
            // What the machine does next shows whether it has the file.
            | EventKind::Unconfirmed { .. }
            | EventKind::ForeignRelay { .. } => self,
        }
    }

    /// A REQUEST tells something new only when pxed was restarted between it and the DISCOVER.
    fn after_request(self, client: ClientKind) -> Self {
        match (self, client) {
            (Self::Waiting, ClientKind::Pxe | ClientKind::HttpBoot) => Self::Discovering,
            (Self::Waiting, ClientKind::Ipxe) => Self::IpxeDiscovering,
            _ => self,
        }
    }

    fn after_ack(self, client: ClientKind) -> Self {
        match client {
            // Some firmware acknowledges twice (ProxyDHCP, port 4011) and has begun to load by then.
            ClientKind::Pxe | ClientKind::HttpBoot => self.advance(Self::Addressed),
            ClientKind::Ipxe => self.advance(Self::IpxeAddressed),
            ClientKind::Plain => match self {
                // The initramfs may be one that the journal missed when it lagged: whoever asked for a
                // kernel of ours is taken to run it.
                Self::LoadingKernel | Self::KernelDone | Self::LoadingInitramfs | Self::Booting => Self::Running,
                // Renewals after a restart of pxed.
                Self::Waiting | Self::Running => Self::Running,
                _ => Self::OnDisk,
            },
        }
    }

    /// Forward within a boot, never back.
    fn advance(self, to: Self) -> Self {
        if self.is_final() || self < to { to } else { self }
    }

    /// Not a step of the chain: whatever comes next is a new beginning.
    fn is_final(self) -> bool {
        self >= Self::Running
    }
}

impl EventKind {
    /// Whether a failure is none: loaders look for files that need not exist, and firmware breaks off a
    /// transfer on purpose.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        let Self::Failed { artifact, path, .. } = self else { return false };
        *artifact == ArtifactKind::Other || is_optional(path.as_bytes())
    }

    /// Whether something went wrong that a person may have to mend.
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

/// No stage has this name.
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
