//! The decision of the XDP program: is a frame a boot request that we answer?

use core::net::Ipv4Addr;

use crate::{
    bootp::{BOOTREQUEST, ETHERNET, field},
    bytes::Bytes,
    counter::Counter,
    frame::Headers,
    layout::{MachineKey, MachineState, Settings, UnknownMachines},
    mac::MacAddr,
};

/// The BPF maps and whatever else the kernel knows. The host's tests implement it with a model.
pub trait Tables {
    /// Returns the settings in force.
    fn settings(&self) -> Settings;

    /// Returns `true` if this is one of our own addresses, or the broadcast address of one of our networks.
    fn is_ours(&self, address: Ipv4Addr) -> bool;

    /// Returns `true` if this VLAN, from 1 to 4095, is served.
    fn serves_vlan(&self, vlan: u16) -> bool;

    /// If the machine is known, notes that it asked on this VLAN, which is not served.
    fn note_stray(&self, machine: MachineKey, vlan: u16);

    /// Replaces the state of a known machine by the first value that `step` returns, and returns the second; `None` if
    /// the machine is not known.
    fn update_machine<R>(&self, machine: MachineKey, step: impl FnOnce(MachineState) -> (MachineState, R))
    -> Option<R>;

    /// Returns the time of `CLOCK_MONOTONIC` in nanoseconds.
    fn now_ns(&self) -> u64;

    /// Hands the frame to the socket of its receive queue. Returns `false` if there is none.
    fn redirect(&self) -> bool;
}

/// The outcome of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict and its reason.
    pub counter: Counter,
    /// The machine whose request it is; zero if the frame is not a request for us.
    pub machine: MacAddr,
}

/// Classifies a frame, takes a token from its machine's bucket, and redirects it if it is for us.
#[inline(always)]
pub fn classify<B: Bytes + ?Sized, T: Tables>(frame: &B, tables: &T) -> Verdict {
    match request(frame, tables) {
        Ok(machine) => Verdict { counter: judge(machine, tables), machine },
        Err(counter) => Verdict { counter, machine: MacAddr::default() },
    }
}

/// Returns the hardware address of the machine that sent this request to us.
#[inline(always)]
fn request<B: Bytes + ?Sized, T: Tables>(frame: &B, tables: &T) -> Result<MacAddr, Counter> {
    let headers = Headers::parse(frame)?;
    let machine = client_address(frame, &headers)?;
    if !is_for_us(&headers, |address| tables.is_ours(address)) {
        return Err(Counter::OtherServer);
    }
    if let Some(vlan) = headers.tags.unserved(|vlan| tables.serves_vlan(vlan)) {
        tables.note_stray(machine.into(), vlan);
        return Err(Counter::OtherVlan);
    }
    Ok(machine)
}

/// Returns `true` if a request is for everybody or for one of our addresses, and not for another server behind this link.
///
/// Only the IPv4 destination counts, as for the kernel's own sockets. Some clients send a renewal to the Ethernet broadcast
/// address although its IPv4 destination is the one server that it is for.
#[inline(always)]
pub fn is_for_us(headers: &Headers, is_ours: impl FnOnce(Ipv4Addr) -> bool) -> bool {
    headers.destination.is_broadcast() || is_ours(headers.destination)
}

/// Returns the client's hardware address (`chaddr`) in the BOOTREQUEST behind these headers.
///
/// # Errors
///
/// The counter that says why this is no BOOTREQUEST of an Ethernet client.
#[inline(always)]
pub fn client_address<B: Bytes + ?Sized>(frame: &B, headers: &Headers) -> Result<MacAddr, Counter> {
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
    let [.., a, b, c, d, e, f] = fields;
    Ok(MacAddr([a, b, c, d, e, f]))
}

#[inline(always)]
fn judge<T: Tables>(machine: MacAddr, tables: &T) -> Counter {
    let settings = tables.settings();
    match tables.update_machine(machine.into(), |state| state.take(tables.now_ns(), &settings)) {
        None if settings.unknown() == UnknownMachines::Drop => Counter::UnknownDropped,
        None => Counter::UnknownPassed,
        Some(false) => Counter::RateLimited,
        Some(true) if tables.redirect() => Counter::Redirected,
        Some(true) => Counter::NoSocket,
    }
}

#[cfg(test)]
mod tests;
