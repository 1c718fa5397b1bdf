//! Whether a frame is a boot request that we answer: the decision of the XDP program.

use core::net::Ipv4Addr;

use crate::{
    bootp::{BOOTREQUEST, ETHERNET, field},
    bytes::Bytes,
    counter::Counter,
    frame::Headers,
    layout::{MachineKey, MachineState, Settings, UnknownMachines},
    mac::MacAddr,
};

/// The BPF maps and what else the kernel knows: a model of them on the host.
pub trait Tables {
    /// What is set.
    fn settings(&self) -> Settings;

    /// Whether this is one of our own addresses.
    fn serves(&self, address: Ipv4Addr) -> bool;

    /// Replaces the state of a known machine by what `step` makes of it and returns what `step` returns
    /// beside it; nothing if the machine is not known.
    fn update_machine<R>(&self, machine: MachineKey, step: impl FnOnce(MachineState) -> (MachineState, R))
    -> Option<R>;

    /// The time in nanoseconds of `CLOCK_MONOTONIC`.
    fn now_ns(&self) -> u64;

    /// Hands the frame to the socket of its receive queue; whether there is one.
    fn redirect(&self) -> bool;
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict and its reason.
    pub counter: Counter,
    /// Whose request it is; zero if the frame is not a request for us.
    pub machine: MacAddr,
}

/// Judges a frame, takes a token from its machine's bucket, and redirects it if it is for us.
#[inline(always)]
pub fn classify<B: Bytes + ?Sized, T: Tables>(frame: &B, tables: &T) -> Verdict {
    match request(frame, tables) {
        Ok(machine) => Verdict { counter: judge(machine, tables), machine },
        Err(counter) => Verdict { counter, machine: MacAddr::default() },
    }
}

/// The hardware address of the machine that sent this request to us.
#[inline(always)]
fn request<B: Bytes + ?Sized, T: Tables>(frame: &B, tables: &T) -> Result<MacAddr, Counter> {
    let headers = Headers::parse(frame)?;
    let machine = client_address(frame, &headers)?;
    if is_for_us(&headers, |address| tables.serves(address)) { Ok(machine) } else { Err(Counter::OtherServer) }
}

/// Whether a request is for everybody or for one of our addresses, and not for another server that this link leads to.
#[inline(always)]
pub fn is_for_us(headers: &Headers, serves: impl FnOnce(Ipv4Addr) -> bool) -> bool {
    headers.destination.is_broadcast() || headers.ethernet_destination.is_group() || serves(headers.destination)
}

/// The client's hardware address (`chaddr`) in the BOOTREQUEST behind these headers.
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
