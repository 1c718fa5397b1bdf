//! The decision of the XDP program: is a frame a boot request that we answer?

use core::net::Ipv4Addr;

use crate::{
    bootp::{BOOTREQUEST, ETHERNET, field},
    bytes::Bytes,
    counter::Counter,
    frame::Headers,
    layout::{Bucket, MachineKey, SenderKey, Settings, UnknownMachines},
    mac::MacAddr,
};

/// The token buckets. The kernel has them in BPF maps, and userspace in tables of its own where no program is in front of it.
pub trait Buckets {
    /// Returns the settings in force.
    fn settings(&self) -> Settings;

    /// Returns `true` if the machine is known.
    fn is_known(&self, machine: MachineKey) -> bool;

    /// Replaces the bucket of a known machine by the first value that `step` returns, and returns the second; `None` if
    /// the machine is not known.
    fn update_machine<R>(&self, machine: MachineKey, step: impl FnOnce(Bucket) -> (Bucket, R)) -> Option<R>;

    /// Returns the bucket of a sender elsewhere: a full one, if it is not remembered.
    fn sender(&self, key: SenderKey) -> Bucket;

    /// Remembers the bucket of a sender elsewhere.
    fn set_sender(&self, key: SenderKey, bucket: Bucket);

    /// Returns the bucket of all requests from elsewhere.
    fn elsewhere(&self) -> Bucket;

    /// Replaces the bucket of all requests from elsewhere.
    fn set_elsewhere(&self, bucket: Bucket);

    /// Returns the time of a clock that is never set back, in nanoseconds.
    fn now_ns(&self) -> u64;
}

/// The other BPF maps, and whatever else the kernel knows. The host's tests implement it with a model.
pub trait Tables: Buckets {
    /// Returns `true` if this is one of our own addresses, or the broadcast address of one of our networks.
    fn is_ours(&self, address: Ipv4Addr) -> bool;

    /// Returns `true` if this VLAN, from 1 to 4095, is served.
    fn serves_vlan(&self, vlan: u16) -> bool;

    /// If the machine is known, notes that it asked on this VLAN, which is not served.
    fn note_stray(&self, machine: MachineKey, vlan: u16);

    /// Hands the frame to the socket of its receive queue. Returns `false` if there is none.
    fn redirect(&self) -> bool;
}

/// The outcome of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict and its reason.
    pub counter: Counter,
    /// The client that it names; zero if the frame is not a request.
    pub machine: MacAddr,
}

/// Classifies a frame, takes a token from the bucket of its machine or of its sender, and redirects it if it is for us.
#[inline(always)]
pub fn classify<B: Bytes + ?Sized, T: Tables>(frame: &B, tables: &T) -> Verdict {
    match request(frame, tables) {
        Ok((machine, sender)) => Verdict { counter: judge(machine, sender, tables), machine },
        Err(verdict) => verdict,
    }
}

/// Returns the hardware address of the machine that this request to us names, and its sender.
#[inline(always)]
fn request<B: Bytes + ?Sized, T: Tables>(frame: &B, tables: &T) -> Result<(MacAddr, Sender), Verdict> {
    let of_nobody = |counter| Verdict { counter, machine: MacAddr::default() };
    let headers = Headers::parse(frame).map_err(of_nobody)?;
    let BootClient { mac: machine, giaddr } = BootClient::read(frame, &headers).map_err(of_nobody)?;
    let sender = Sender::of(machine, giaddr, headers.ethernet_source);
    if !is_for_us(&headers, |address| tables.is_ours(address)) {
        return Err(Verdict { counter: Counter::OtherServer, machine });
    }
    if let Some(vlan) = headers.tags.unserved(|vlan| tables.serves_vlan(vlan)) {
        if sender == Sender::Itself {
            tables.note_stray(machine.into(), vlan);
        }
        return Err(Verdict { counter: Counter::OtherVlan, machine });
    }
    Ok((machine, sender))
}

/// Returns `true` if a request is for everybody or for one of our addresses, and not for another server behind this link.
///
/// Only the IPv4 destination counts, as for the kernel's own sockets. Some clients send a renewal to the Ethernet broadcast
/// address although its IPv4 destination is the one server that it is for.
#[inline(always)]
pub fn is_for_us(headers: &Headers, is_ours: impl FnOnce(Ipv4Addr) -> bool) -> bool {
    headers.destination.is_broadcast() || is_ours(headers.destination)
}

/// The sender of a request, by the link that the frame came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The machine that it names, from the network card that it names.
    Itself,
    /// Another network card, of that machine (a bond) or of another host.
    Card(MacAddr),
    /// A relay, or somebody who pretends to be one.
    Relay(MacAddr),
}

impl Sender {
    /// Returns the sender of a request that names this machine and this relay, from the frame's Ethernet source.
    #[inline(always)]
    #[must_use]
    pub fn of(machine: MacAddr, giaddr: Ipv4Addr, source: MacAddr) -> Self {
        if !giaddr.is_unspecified() {
            Self::Relay(source)
        } else if source == machine {
            Self::Itself
        } else {
            Self::Card(source)
        }
    }
}

/// The fields of a BOOTREQUEST that say whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootClient {
    /// The client's hardware address (`chaddr`).
    pub mac: MacAddr,
    /// The relay; unspecified if there is none.
    pub giaddr: Ipv4Addr,
}

impl BootClient {
    /// Reads them from the BOOTREQUEST behind these headers.
    ///
    /// # Errors
    ///
    /// The counter that says why this is no BOOTREQUEST of an Ethernet client.
    #[inline(always)]
    pub fn read<B: Bytes + ?Sized>(frame: &B, headers: &Headers) -> Result<Self, Counter> {
        if headers.payload.end - headers.payload.start < field::FILE.end {
            return Err(Counter::TruncatedBootp);
        }
        let fields: [u8; field::CHADDR.start + 6] = frame.read(headers.payload.start).ok_or(Counter::TruncatedBootp)?;
        let [op, htype, hlen, ..] = fields;
        if op != BOOTREQUEST {
            return Err(Counter::NotRequest);
        }
        if htype != ETHERNET {
            return Err(Counter::NotEthernet);
        }
        if hlen != 6 {
            return Err(Counter::BadHardwareLength);
        }
        // giaddr and chaddr follow each other.
        let [.., r, s, t, u, a, b, c, d, e, f] = fields;
        Ok(Self { mac: MacAddr([a, b, c, d, e, f]), giaddr: Ipv4Addr::new(r, s, t, u) })
    }
}

const _: () = assert!(field::GIADDR.end == field::CHADDR.start);

#[inline(always)]
fn judge<T: Tables>(machine: MacAddr, sender: Sender, tables: &T) -> Counter {
    match admit(machine, sender, tables) {
        Err(counter) => counter,
        Ok(()) if tables.redirect() => Counter::Redirected,
        Ok(()) => Counter::NoSocket,
    }
}

/// Takes the tokens for a request that names this machine. A request that did not come from the machine takes none of the machine's, so nobody else
/// can keep it from asking.
///
/// # Errors
///
/// The counter that says why the request is not admitted.
#[inline(always)]
pub fn admit<T: Buckets>(machine: MacAddr, sender: Sender, buckets: &T) -> Result<(), Counter> {
    let settings = buckets.settings();
    let unknown = || match settings.unknown() {
        UnknownMachines::Drop => Counter::UnknownDropped,
        UnknownMachines::Pass => Counter::UnknownPassed,
    };
    let take = |bucket: Bucket| bucket.take(buckets.now_ns(), settings.of_machine());
    let card = match sender {
        Sender::Itself => {
            return match buckets.update_machine(machine.into(), take) {
                None => Err(unknown()),
                Some(false) => Err(Counter::RateLimited),
                Some(true) => Ok(()),
            };
        }
        Sender::Card(card) => card,
        Sender::Relay(relay) => relay,
    };
    if !buckets.is_known(machine.into()) {
        return Err(unknown());
    }
    // Another card of the same machine, or another machine: its own bucket pays for what it sends.
    let by_card = match sender {
        Sender::Card(card) => buckets.update_machine(card.into(), take),
        Sender::Itself | Sender::Relay(_) => None,
    };
    let admitted = match by_card {
        Some(admitted) => admitted,
        None => admits_elsewhere(machine, card, &settings, buckets),
    };
    if admitted { Ok(()) } else { Err(Counter::OthersRateLimited) }
}

/// Takes a token each from three buckets: of what this sender says about this machine, of all that it says, and of all such senders together. Takes
/// none and returns `false` if one of them is empty, so that a refused request costs nobody anything.
#[inline(always)]
fn admits_elsewhere<T: Buckets>(machine: MacAddr, sender: MacAddr, settings: &Settings, buckets: &T) -> bool {
    let now_ns = buckets.now_ns();
    let (about, all_of) = (SenderKey::about(sender, machine), SenderKey::all_of(sender));
    let (of_machine, admitted) = buckets.sender(about).take(now_ns, settings.of_machine());
    if !admitted {
        return false;
    }
    let (of_sender, admitted) = buckets.sender(all_of).take(now_ns, settings.of_sender());
    if !admitted {
        return false;
    }
    let (of_all, admitted) = buckets.elsewhere().take(now_ns, settings.of_elsewhere());
    if !admitted {
        return false;
    }
    buckets.set_sender(about, of_machine);
    buckets.set_sender(all_of, of_sender);
    buckets.set_elsewhere(of_all);
    true
}

#[cfg(test)]
mod tests;
