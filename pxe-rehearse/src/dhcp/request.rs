//! Requests of a machine.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable as _, Encoder,
    error::EncodeResult,
    v4::{DhcpOption, Flags, Message},
};
use pxe_common::MacAddr;

/// A BOOTREQUEST.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) xid: u32,
    pub(crate) secs: u16,
    pub(crate) broadcast: bool,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) chaddr: MacAddr,
    /// In the order of the firmware.
    pub(crate) options: Vec<DhcpOption>,
    /// The length that the message is padded to.
    pub(crate) pad_to: usize,
}

impl Request {
    /// Returns the UDP payload.
    ///
    /// # Errors
    ///
    /// Fails if dhcproto cannot express a value, which no firmware class has.
    pub(crate) fn encode(&self) -> EncodeResult<Vec<u8>> {
        let nobody = Ipv4Addr::UNSPECIFIED;
        let mut header = Message::new_with_id(self.xid, self.ciaddr, nobody, nobody, nobody, &self.chaddr.0);
        header.set_secs(self.secs);
        if self.broadcast {
            header.set_flags(Flags::default().set_broadcast());
        }
        let mut bytes = Vec::with_capacity(self.pad_to.max(512));
        let mut encoder = Encoder::new(&mut bytes);
        // dhcproto keeps the options of a message sorted by their codes, and firmware sends them in an order of its own. So
        // the message is encoded without options, which leaves out option 255 as well, and they follow one by one.
        header.encode(&mut encoder)?;
        for option in self.options.iter().chain([&DhcpOption::End]) {
            option.encode(&mut encoder)?;
        }
        bytes.resize(bytes.len().max(self.pad_to), 0);
        Ok(bytes)
    }
}
