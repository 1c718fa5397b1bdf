//! What a machine's packets show since its last progress.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use super::super::{machine_record::MachineRecord, words::elapsed};
use crate::model::event::{ArtifactKind, ClientKind, EventKind};

/// A DHCP server that the machine chose instead of pxed.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherServer {
    pub(super) address: Ipv4Addr,
    pub(super) at: SystemTime,
    /// It is the server beside which pxed serves boot files (ProxyDHCP).
    pub(super) is_expected: bool,
}

/// The packets of the machine since its last progress.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) discovers: usize,
    pub(super) offers: usize,
    /// Those that pxed is to answer: not the ones for the server beside which it runs.
    pub(super) requests: usize,
    /// pxed serves boot files beside another DHCP server (ProxyDHCP).
    pub(super) is_proxied: bool,
    /// The time since the first DISCOVER.
    pub(super) lasted: Duration,
    pub(super) nak: Option<&'static str>,
    pub(super) ignored: Option<&'static str>,
    /// The last REQUEST, if it is for another DHCP server.
    pub(super) other_server: Option<OtherServer>,
    /// Unlike the other fields, it is kept until the kernel: the machine learns it from a script, which is one step further. The last
    /// firmware or loader to ask counts, since a person may have corrected the setup between two attempts.
    pub(super) wrong_architecture: Option<u16>,
    /// The same: with an address of another network, the first transfer fails. The last DISCOVER counts.
    pub(super) foreign_relay: Option<Ipv4Addr>,
    pub(super) other_vlan: Option<u16>,
}

impl Attempt {
    /// Reads the record's events, the newest first.
    pub(super) fn of(record: &MachineRecord, now: SystemTime) -> Self {
        let mut attempt = Self::default();
        let mut stalled = true;
        let mut has_requested = false;
        // A DISCOVER comes before what it shows of its sender, so that going back it ends what counts.
        let (mut any_asked, mut firmware_asked) = (false, false);
        for event in record.events.iter().rev() {
            if let EventKind::Discover { client, .. } = event.kind {
                any_asked = true;
                firmware_asked |= client != ClientKind::Plain;
            }
            match event.kind {
                EventKind::WrongArchitecture { .. } if firmware_asked => {}
                EventKind::WrongArchitecture { client_architecture } => {
                    attempt.wrong_architecture.get_or_insert(client_architecture);
                }
                EventKind::ForeignRelay { .. } if any_asked => {}
                EventKind::ForeignRelay { relay } => _ = attempt.foreign_relay.get_or_insert(relay),
                EventKind::OtherVlan { vlan } if stalled => _ = attempt.other_vlan.get_or_insert(vlan),
                // An operating system may well ask on VLANs of its own.
                EventKind::OtherVlan { .. } => {}
                EventKind::LeftToPeer { .. } => {}
                EventKind::Done { artifact: ArtifactKind::Kernel | ArtifactKind::Uki, .. } => break,
                EventKind::Discover { .. } if stalled => {
                    attempt.discovers += 1;
                    attempt.lasted = elapsed(event.at, now);
                }
                EventKind::Offer { address, .. } if stalled => {
                    attempt.offers += 1;
                    attempt.is_proxied |= address.is_none();
                }
                EventKind::Request { of_other_server, other_server, .. } if stalled => {
                    if !std::mem::replace(&mut has_requested, true) {
                        attempt.other_server = other_server.map(|address| OtherServer {
                            address,
                            at: event.at,
                            is_expected: of_other_server,
                        });
                    }
                    attempt.requests += usize::from(!of_other_server);
                    attempt.is_proxied |= of_other_server;
                }
                EventKind::Nak { reason } if stalled => attempt.nak = attempt.nak.or(Some(reason)),
                EventKind::Ignored { reason } if stalled => attempt.ignored = attempt.ignored.or(Some(reason)),
                _ => stalled = false,
            }
        }
        attempt
    }
}
