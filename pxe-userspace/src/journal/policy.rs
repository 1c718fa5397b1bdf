//! Whether a machine boots from the network now: the spec's policy, what a person said since, and
//! what the machine has done.
//!
//! # When has a machine reached its own disk?
//!
//! The default policy boots a machine from the network until it was seen to run from its own disk. A
//! wrong "yes" leaves a machine with an empty disk dark until somebody releases it; a wrong "no" boots
//! it from the network once more, as every PXE setup without a memory does. So "yes" wants proof, and
//! DHCP alone gives little: a netbooted Talos and an installed one send the same packets.
//!
//! [`Cycle`] keeps, across restarts of pxed, what was seen since the machine's firmware last asked:
//!
//! | seen since the firmware's DISCOVER | then an operating system gets its ACK, or beside another server asks that one for its address | because |
//! |---|---|---|
//! | told to boot from its disk | reached its disk | it did as told |
//! | loaded nothing from us | reached its disk, if it was given its kernel in an earlier cycle | PXE was skipped or failed and the disk boots; without the earlier kernel it may be the old system of a machine that PXE failed for, and that is to be installed yet |
//! | loaded iPXE or a script, from us or another, and no kernel of ours | nothing | GRUB and others ask by DHCP as an operating system does, and the kernel may have come from another node that serves the same fleet |
//! | asked for our kernel | it runs our kernel | Talos in maintenance mode asks right after its initramfs, renews every half lease, and asks anew when its link flaps or a lease ran out. An installation that ends in kexec, or in a reboot from the disk without asking us, looks just so |
//! | asked for our kernel, and did not get it or its initramfs whole | nothing | its loader gave up, and what runs came from elsewhere |
//! | nothing (no firmware was seen at all) | nothing | pxed may have been down, or its state new |
//!
//! A machine whose disk comes first in its boot order never asks again and needs no decision: when its
//! firmware does ask, its disk has failed to boot.
//!
//! # Why a machine whose firmware asks the network first stays with the network
//!
//! Such a machine goes from firmware through our kernel to Talos at every power-on, and its disk is never tried:
//! nothing in its packets tells one that was installed from one that waits in maintenance mode, is being installed,
//! or failed to. Every rule that would try its disk leaves some machine dark:
//!
//! | it would go to its disk when its firmware asks again and | but then these stay dark, or start what an earlier owner left there |
//! |---|---|
//! | an operating system ran on our kernel | every machine that loses power in maintenance mode |
//! | also, its kernel arguments hold `talos.config` | one that loses power while it installs, that could not fetch its configuration, whose installation made no disk that boots |
//! | also, it ran for so many minutes | the same, for an installation may wait for its image, and maintenance mode for a person, for days |
//! | anything, but it comes back to the network when its disk does not boot | those with firmware that ends at a menu, a shell or "no bootable device" instead of trying the network again, as much of it does after its last boot entry |
//!
//! The last would be the rule to have, if the way back were sure. It is not in our hands: iPXE has no watchdog and cannot
//! set the firmware's next boot, `sanboot` notices only a first sector without a signature and hangs in one without
//! a boot loader, and on UEFI there is nothing but leaving to the next boot entry.
//!
//! Staying with the network is the smaller harm. Talos that is booted from other media and finds itself installed on a
//! disk goes on with that installation instead of installing again (its documentation, "ISO"), so that such a machine
//! comes up with its state and the spec's version at each power-on. Who wants its disk to boot puts it first in the boot order, sets `once`, or
//! holds the machine; [`super::diagnose`] says so about each that keeps coming back.

use pxe_common::MacAddr;
use serde::{Deserialize, Serialize};

use crate::model::{
    event::{ArtifactKind, ClientKind, EventKind},
    policy::BootPolicy,
    policy_book::PolicyBook,
};

/// Draws the conclusions from an event of a machine that was in this cycle before it. Returns `true` if the book changed.
pub(super) fn observe(book: &mut PolicyBook, mac: MacAddr, cycle: Cycle, event: &EventKind) -> bool {
    match event {
        EventKind::Done { artifact: ArtifactKind::Initramfs, .. } => book.booted.insert(mac),
        _ if event.is_operating_system() => match cycle {
            Cycle::SentToDisk => book.reached_disk.insert(mac),
            Cycle::Firmware if book.booted.contains(&mac) => book.reached_disk.insert(mac),
            Cycle::Netbooted => book.booted.insert(mac),
            Cycle::Unknown | Cycle::Firmware | Cycle::Loading => false,
        },
        _ => false,
    }
}

/// Keeps the machine from booting over the network, as a person asked.
pub(super) fn hold(book: &mut PolicyBook, mac: MacAddr) {
    book.overrides.insert(mac, BootPolicy::Hold);
}

/// Lets the machine boot as its spec says, as if it had never booted.
pub(super) fn release(book: &mut PolicyBook, mac: MacAddr) {
    book.overrides.remove(&mac);
    book.booted.remove(&mac);
    book.reached_disk.remove(&mac);
}

/// What was seen of a machine since its firmware last asked for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cycle {
    /// The firmware was never seen, or the machine was released since.
    #[default]
    Unknown,
    /// The firmware asked, and has loaded nothing.
    Firmware,
    /// It asked for a loader or a script, runs iPXE that another node gave it, or lost its kernel or initramfs.
    Loading,
    /// It asked for our kernel or initramfs.
    Netbooted,
    /// It was told to boot from its disk.
    SentToDisk,
}

impl Cycle {
    /// The cycle after an event. Depends on nothing else.
    #[must_use]
    pub fn after(self, event: &EventKind) -> Self {
        match event {
            EventKind::Discover { client: ClientKind::Pxe | ClientKind::HttpBoot, .. } => Self::Firmware,
            // iPXE that the firmware was given, by us or another node, goes on with the firmware's cycle; iPXE in the
            // card's ROM begins one.
            EventKind::Discover { client: ClientKind::Ipxe, .. } => match self {
                Self::Firmware | Self::Loading => Self::Loading,
                _ => Self::Firmware,
            },
            EventKind::Requested { artifact, .. } | EventKind::Done { artifact, .. } => match (artifact, self) {
                (ArtifactKind::Kernel | ArtifactKind::Initramfs, _) => Self::Netbooted,
                (ArtifactKind::Loader | ArtifactKind::Script, Self::Firmware) => Self::Loading,
                _ => self,
            },
            EventKind::Failed { artifact: ArtifactKind::Kernel | ArtifactKind::Initramfs, .. }
                if self == Self::Netbooted =>
            {
                Self::Loading
            }
            EventKind::SentToDisk => Self::SentToDisk,
            EventKind::Discover { client: ClientKind::Plain, .. }
            | EventKind::Offer { .. }
            | EventKind::Request { .. }
            | EventKind::Ack { .. }
            | EventKind::Nak { .. }
            | EventKind::Decline { .. }
            | EventKind::Release
            | EventKind::Ignored { .. }
            | EventKind::ForeignRelay { .. }
            | EventKind::Unconfirmed { .. }
            | EventKind::Failed { .. }
            | EventKind::WrongArchitecture { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests;
