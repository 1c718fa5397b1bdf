//! The two requests of an exchange, built once for each kind of client and made a machine's own in place.

use std::net::{Ipv4Addr, SocketAddrV4};

use pxe_common::MacAddr;

use crate::{
    dhcp::{self, Request, code},
    firmware::{Client, Firmware, Purpose, uuid},
    frame::{self, UDP_PAYLOAD},
};

const SOURCE: usize = 6;
const XID: usize = UDP_PAYLOAD + 4;
const CHADDR: usize = UDP_PAYLOAD + 28;
const OPTIONS: usize = UDP_PAYLOAD + 240;

/// A request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Send {
    pub(super) mac: MacAddr,
    pub(super) xid: u32,
    pub(super) template: u8,
    /// For a REQUEST: the server and the address that were chosen.
    pub(super) selection: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// A request of some machine, and where in it that machine is named.
#[derive(Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
    /// Where the hardware address stands.
    macs: Vec<usize>,
    /// Where the values of options 54 and 50 stand, in a REQUEST.
    selection: Option<(usize, usize)>,
}

impl Template {
    fn new(client: Client, purpose: Purpose) -> Self {
        let nobody = MacAddr([0; 6]);
        let options = client.options(purpose, nobody, uuid(nobody));
        let mut at = OPTIONS;
        let mut macs = vec![SOURCE, CHADDR];
        let (mut server, mut address) = (None, None);
        for (code, value) in &options {
            let start = at + 2;
            at = start + value.len();
            match *code {
                // Both end in it.
                code::CLIENT_ID | code::UUID => macs.push(at - 6),
                code::SERVER_ID => server = Some(start),
                code::REQUESTED_ADDRESS => address = Some(start),
                _ => {}
            }
        }
        let request = Request {
            xid: 0,
            secs: client.secs(0, std::time::Duration::ZERO),
            broadcast: client.wants_broadcast(),
            ciaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: nobody,
            options,
            pad_to: client.pad_to(),
        };
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, dhcp::SERVER_PORT);
        let frame = frame::udp((nobody, MacAddr::BROADCAST), from, to, &request.encode());
        Self { frame, macs, selection: server.zip(address) }
    }

    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Makes a copy of the frame the machine's own.
    pub(super) fn make_own(&self, frame: &mut [u8], send: &Send) {
        for &at in &self.macs {
            frame[at..at + 6].copy_from_slice(&send.mac.0);
        }
        frame[XID..XID + 4].copy_from_slice(&send.xid.to_be_bytes());
        if let (Some((server, address)), Some((to, wanted))) = (self.selection, send.selection) {
            frame[server..server + 4].copy_from_slice(&to.octets());
            frame[address..address + 4].copy_from_slice(&wanted.octets());
        }
        frame::finish_udp(frame);
    }
}

/// The templates of every kind of client in the fleet.
#[derive(Debug, Default)]
pub(super) struct Templates {
    firmware: Vec<Firmware>,
    /// DISCOVER and REQUEST.
    pairs: Vec<[Template; 2]>,
}

impl Templates {
    pub(super) fn of(machines: &[(MacAddr, Firmware)]) -> Self {
        let mut templates = Self::default();
        for &(_, firmware) in machines {
            if templates.number(firmware).is_none() {
                let client = firmware.first_client();
                let nobody = Ipv4Addr::UNSPECIFIED;
                let select = Purpose::Select { server: nobody, address: nobody };
                templates.firmware.push(firmware);
                templates.pairs.push([Template::new(client, Purpose::Discover), Template::new(client, select)]);
            }
        }
        templates
    }

    /// The number of the kind's templates.
    pub(super) fn number(&self, firmware: Firmware) -> Option<u8> {
        self.firmware.iter().position(|known| *known == firmware).map(|number| number as u8)
    }

    pub(super) fn get(&self, send: &Send) -> &Template {
        &self.pairs[usize::from(send.template)][usize::from(send.selection.is_some())]
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    /// What the fleet's own machine would send.
    fn whole(firmware: Firmware, purpose: Purpose, mac: MacAddr, xid: u32) -> Vec<u8> {
        let client = firmware.first_client();
        let request = Request {
            xid,
            secs: client.secs(0, std::time::Duration::ZERO),
            broadcast: client.wants_broadcast(),
            ciaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: mac,
            options: client.options(purpose, mac, uuid(mac)),
            pad_to: client.pad_to(),
        };
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT);
        frame::udp((mac, MacAddr::BROADCAST), from, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67), &request.encode())
    }

    #[test]
    fn a_request_made_from_a_template_is_the_one_that_is_built_whole() {
        let mac = MacAddr([2, 1, 2, 3, 4, 5]);
        let (server, address) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 1, 2));
        for &firmware in Firmware::value_variants() {
            let templates = Templates::of(&[(mac, firmware)]);
            for selection in [None, Some((server, address))] {
                let send = Send { mac, xid: 0x0102_0304, template: 0, selection };
                let template = templates.get(&send);
                let mut frame = template.frame().to_vec();
                template.make_own(&mut frame, &send);
                let purpose = selection.map_or(Purpose::Discover, |_| Purpose::Select { server, address });
                assert_eq!(frame, whole(firmware, purpose, mac, 0x0102_0304), "{firmware:?} {purpose:?}");
            }
        }
    }
}
