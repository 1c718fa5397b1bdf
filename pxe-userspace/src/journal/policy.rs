//! The boot policy: whether a machine boots from the network follows from the spec, from the decisions of a person, and from what
//! the machine has done.
//!
//! # When has a machine reached its own disk?
//!
//! The default policy boots a machine from the network until it has been seen to run from its own disk. A wrong "yes" leaves a
//! machine with an empty disk unbooted until somebody releases it. A wrong "no" boots it from the network once more, as every PXE
//! setup without a memory does. So "yes" needs proof, and DHCP alone proves little: a netbooted Talos and an installed one send
//! the same packets.
//!
//! [`Cycle`] records, across restarts of pxed, what has been seen since the machine's firmware last asked. A plain DHCP client
//! then gets an address from pxed, or asks another server for it. That need not be an operating system: Intel AMT, the lifecycle tools of
//! servers and UEFI's own network stack ask with the card's MAC too, at any time, also to prolong a lease. So its
//! [signs](Signs) count. Firmware without them proves nothing. Talos proves at once that it runs. Of another operating system it takes a
//! renewal: those that servers bring in their flash memory (HPE Intelligent Provisioning) rarely run for half of a lease, and a
//! machine of a `TalosCluster` has Talos on its disk in the end.
//!
//! | seen since the firmware's DISCOVER | conclusion | reason |
//! |---|---|---|
//! | told to boot from its disk | reached its disk, if the signs suffice | it did as told |
//! | loaded nothing from pxed | the same, if it was given its kernel in an earlier cycle | PXE was skipped or failed, and the disk boots. Without the earlier kernel it may be the old system of a machine for which PXE failed and which has yet to be installed |
//! | loaded iPXE or a script, from pxed or another server, and no kernel of ours | nothing | GRUB and other loaders ask by DHCP as an operating system does, and the kernel may come from another node that serves the same fleet |
//! | asked for its kernel | runs the kernel that pxed served, if an operating system asks | Talos in maintenance mode asks right after its initramfs, renews after half of each lease, and asks again when its link flaps or its lease has ended. An installation that ends with kexec, or with a reboot from the disk without asking pxed, looks the same |
//! | fetched its kernel and initramfs by TFTP, whose datagrams anybody can send in its name | runs the kernel that pxed served, if an operating system asks | until then, nothing that is remembered says so |
//! | asked for its kernel, but did not get it or its initramfs completely | nothing | its loader gave up, and the system that runs came from elsewhere |
//! | nothing (the firmware was not seen, or another node of the fleet answered it, or its frames came through a relay that nobody trusts) | nothing | pxed may have been down, or its state may be new |
//!
//! A machine whose disk comes first in its boot order never asks again and needs no decision. If its firmware does ask, its disk
//! has failed to boot.
//!
//! `policy/cycles.txt` shows the effect of every event in every cycle.
//!
//! # Whose doing counts?
//!
//! Anybody on the boot network can send frames and datagrams in a machine's name. So what a restart remembers changes by the machine's own doing
//! ([`Origin::Machine`]). Files that came by TFTP ([`Origin::Unproven`]) can only take conclusions away ([`Cycle::after_unproven`]), or support what the
//! machine then shows itself. Requests that nobody has answered ([`Origin::Unanswered`]) take away only that its firmware loaded nothing. What came through a relay, or from another host, has no effect here.
//!
//! # Why a machine whose firmware asks the network first stays with the network
//!
//! Such a machine goes from its firmware through our kernel to Talos at every power-on, and never tries its disk. Its packets do
//! not tell whether it is installed, waits in maintenance mode, is being installed, or failed to install. Every rule that
//! would try its disk leaves some machines unbooted:
//!
//! | it would boot from its disk when its firmware asks again and | but these stay unbooted, or start what an earlier owner left on the disk |
//! |---|---|
//! | an operating system ran on our kernel | every machine that loses power in maintenance mode |
//! | in addition, its kernel arguments contain `talos.config` | a machine that loses power while it installs, could not fetch its configuration, or whose installation made no disk that boots |
//! | in addition, it ran for some minutes | the same: an installation may wait for its image, and maintenance mode for a person, for days |
//! | in any case, but it returns to the network if its disk does not boot | machines whose firmware ends at a menu, a shell or "no bootable device" instead of trying the network again, as much firmware does after its last boot entry |
//!
//! The last rule would be right if the way back were certain. pxed cannot make it certain: iPXE has no watchdog and cannot set
//! the next boot of the firmware; `sanboot` notices only a first sector without a signature, and hangs in one without a boot
//! loader; and on UEFI, iPXE can only exit to the next boot entry.
//!
//! Staying with the network does less harm. Talos that is booted from other media and finds itself installed on a disk continues
//! with that installation instead of installing again (its documentation, "ISO"). So such a machine comes up with its state
//! and the spec's version at each power-on. To boot it from its disk, a person puts the disk first in the boot order, sets `once`,
//! or holds the machine; [`super::diagnose`] says so about each machine that keeps coming back.

use pxe_common::MacAddr;
use serde::{Deserialize, Serialize};

use crate::model::{
    event::{ArtifactKind, BootEvent, ClientKind, EventKind, Signs},
    origin::Origin,
    policy::BootPolicy,
    policy_book::PolicyBook,
};

/// Draws the conclusions from an event of a machine that was in `cycle` before the event. Returns whether the book changed.
///
/// `completes` says that the machine has its kernel and initramfs with this event. What may not be the machine's own doing changes nothing.
pub(super) fn observe(book: &mut PolicyBook, mac: MacAddr, cycle: Cycle, event: &BootEvent, completes: bool) -> bool {
    let BootEvent { origin, kind: ref event, .. } = *event;
    if !origin.is_proven() {
        return false;
    }
    if completes {
        return book.booted.insert(mac);
    }
    let Some(signs) = event.plain_exchange() else { return false };
    match Proof::of(cycle, book.booted.contains(&mac), signs) {
        Proof::Disk => book.reached_disk.insert(mac),
        Proof::Netbooted => book.booted.insert(mac),
        _ => false,
    }
}

/// The conclusion from the exchange of a plain client, with the reason if it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The machine runs from its disk.
    Disk,
    /// The machine runs the kernel that pxed served.
    Netbooted,
    /// Its firmware asks for purposes of its own.
    NoSystem,
    /// An operating system runs that is not Talos, and may be a tool of the firmware until it prolongs its lease.
    Unsettled,
    /// The machine was never given its kernel, so the system may be an old one.
    NeverInstalled,
    /// A loader asks as an operating system does.
    MayBeLoader,
    /// The firmware was not seen.
    FirmwareUnseen,
}

impl Proof {
    /// Draws the conclusion in a cycle of a machine that was given its kernel or not, from the client's signs.
    pub(super) fn of(cycle: Cycle, booted: bool, signs: Signs) -> Self {
        match (cycle, signs) {
            (_, Signs::None) => Self::NoSystem,
            (Cycle::Unknown, _) => Self::FirmwareUnseen,
            (Cycle::Loading, _) => Self::MayBeLoader,
            (Cycle::Netbooted | Cycle::Fetched, _) => Self::Netbooted,
            (Cycle::Firmware, _) if !booted => Self::NeverInstalled,
            (Cycle::Firmware | Cycle::SentToDisk, Signs::System) => Self::Unsettled,
            (Cycle::Firmware | Cycle::SentToDisk, Signs::Renewal | Signs::Talos) => Self::Disk,
        }
    }

    /// Returns what follows for the policy `auto`, as the end of a sentence.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Disk => {
                "counts as proof that it runs from its disk: its firmware asked, and loaded no kernel from pxed"
            }
            Self::Netbooted => "does not count as proof of its disk: it runs the kernel that pxed served",
            Self::NoSystem => {
                "does not count as proof of its disk: nothing that it asks for is for an operating system, so it may be its firmware \
                 (Intel AMT, a lifecycle tool, UEFI's network stack)"
            }
            Self::Unsettled => {
                "does not count as proof of its disk yet: it is not Talos, and may be a tool of its firmware. It counts when it prolongs \
                 its lease"
            }
            Self::NeverInstalled => {
                "does not count as proof of its disk: it was never given its kernel, so this may be an old system"
            }
            Self::MayBeLoader => "does not count as proof of its disk: its loader may ask like this",
            Self::FirmwareUnseen => "does not count as proof of its disk: its firmware was not seen before",
        }
    }
}

/// Keeps the machine from booting over the network.
pub(super) fn hold(book: &mut PolicyBook, mac: MacAddr) {
    book.overrides.insert(mac, BootPolicy::Hold);
}

/// Lets the machine boot as the spec says, as if it had never booted.
pub(super) fn release(book: &mut PolicyBook, mac: MacAddr) {
    book.overrides.remove(&mac);
    book.booted.remove(&mac);
    book.reached_disk.remove(&mac);
}

/// Returns whether something is known of this machine.
pub(super) fn knows(book: &PolicyBook, mac: MacAddr) -> bool {
    book.overrides.contains_key(&mac) || book.booted.contains(&mac) || book.reached_disk.contains(&mac)
}

/// Adds what is known of one network card to what is known of another, since both are of one machine. Returns whether the book
/// changed.
pub(super) fn carry_over(book: &mut PolicyBook, from: MacAddr, to: MacAddr) -> bool {
    let PolicyBook { overrides, booted, reached_disk } = book;
    let policy = overrides.remove(&from);
    if let Some(policy) = policy {
        overrides.entry(to).or_insert(policy);
    }
    let mut is_changed = policy.is_some();
    for machines in [booted, reached_disk] {
        if machines.remove(&from) {
            machines.insert(to);
            is_changed = true;
        }
    }
    is_changed
}

/// The steps that have been seen of a machine since its firmware last asked for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cycle {
    /// The firmware has not been seen, or the machine has been released since.
    #[default]
    Unknown,
    /// The firmware asked and has loaded nothing.
    Firmware,
    /// It asked for a loader or a script, runs iPXE that another node gave it, or lost its kernel or initramfs.
    Loading,
    /// It asked for its kernel, its initramfs or its unified kernel image.
    Netbooted,
    /// It has fetched its kernel and initramfs by TFTP, if nobody did so in its name.
    Fetched,
    /// It was told to boot from its disk.
    SentToDisk,
}

impl Cycle {
    /// Returns the cycle after an event from this origin. `completes` says that the machine has its kernel and initramfs with it.
    #[must_use]
    pub fn after(self, origin: Origin, event: &EventKind, completes: bool) -> Self {
        match origin {
            Origin::Machine => self.after_proven(event),
            Origin::Unproven => self.after_unproven(event, completes),
            Origin::Unanswered => match self {
                Self::Firmware => self.after_unproven(event, false),
                _ => self,
            },
            Origin::Relay(_) | Origin::Other(_) => self,
        }
    }

    /// Returns the cycle after an event that anybody may have made in the machine's name. From none of the cycles that it leads to follows that the
    /// machine runs from its disk, and that it was netbooted follows only once an operating system asks after its firmware did.
    fn after_unproven(self, event: &EventKind, completes: bool) -> Self {
        let boots = |artifact| matches!(artifact, ArtifactKind::Kernel | ArtifactKind::Initramfs | ArtifactKind::Uki);
        match (self, event) {
            (Self::Unknown, _) => self,
            (Self::Firmware | Self::Loading | Self::SentToDisk, _) if completes => Self::Fetched,
            (Self::Firmware | Self::Fetched, EventKind::Requested { artifact, .. })
                if boots(*artifact) || matches!(artifact, ArtifactKind::Loader | ArtifactKind::Script) =>
            {
                Self::Loading
            }
            (Self::Firmware, EventKind::Awaits { .. } | EventKind::SentToDisk) => Self::Loading,
            (Self::Netbooted | Self::Fetched, EventKind::Failed { artifact, .. }) if boots(*artifact) => Self::Loading,
            _ => self,
        }
    }

    /// Returns the cycle after an event of the machine's own doing.
    fn after_proven(self, event: &EventKind) -> Self {
        match event {
            EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. } => Self::Firmware,
            // iPXE that the firmware got from pxed or another node continues the firmware's cycle. iPXE in the card's ROM
            // begins one.
            EventKind::Discover { client: ClientKind::Ipxe, .. } => match self {
                Self::Firmware | Self::Loading => Self::Loading,
                _ => Self::Firmware,
            },
            EventKind::Requested { artifact, .. } | EventKind::Done { artifact, .. } => match (artifact, self) {
                (ArtifactKind::Kernel | ArtifactKind::Initramfs | ArtifactKind::Uki, _) => Self::Netbooted,
                (ArtifactKind::Loader | ArtifactKind::Script, Self::Firmware) => Self::Loading,
                _ => self,
            },
            EventKind::Failed {
                artifact: ArtifactKind::Kernel | ArtifactKind::Initramfs | ArtifactKind::Uki, ..
            } if matches!(self, Self::Netbooted | Self::Fetched) => Self::Loading,
            // It asked for its script.
            EventKind::Awaits { .. } if self == Self::Firmware => Self::Loading,
            EventKind::SentToDisk => Self::SentToDisk,
            // The boot goes on at another node, which sees what comes of it.
            EventKind::LeftToPeer { client: ClientKind::Pxe | ClientKind::HttpBoot | ClientKind::Ipxe, .. } => {
                Self::Unknown
            }
            EventKind::Discover { client: ClientKind::Plain, .. }
            | EventKind::Offer { .. }
            | EventKind::Request { .. }
            | EventKind::Ack { .. }
            | EventKind::Nak { .. }
            | EventKind::Decline { .. }
            | EventKind::Release
            | EventKind::Ignored { .. }
            | EventKind::Up { .. }
            | EventKind::ForeignRelay { .. }
            | EventKind::OtherVlan { .. }
            | EventKind::LeftToPeer { client: ClientKind::Plain, .. }
            | EventKind::Unconfirmed { .. }
            | EventKind::Failed { .. }
            | EventKind::Awaits { .. }
            | EventKind::WrongArchitecture { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests;
