//! The two requests of an exchange: encoded by dhcproto once for each class of client, and patched for a machine in place.
//!
//! Encoding each of them would make an exchange 1.6 µs dearer, which takes the generator about 7 µs altogether: a request takes
//! 0.04 µs of CPU time as a patched template, and 0.83 µs if dhcproto encodes it, and an exchange has two. Answers are read by
//! dhcproto, in 0.03 µs each instead of 0.005 µs by hand-written code.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use dhcproto::{Encodable as _, error::EncodeResult, v4::DhcpOption};
use pxe_common::MacAddr;

use crate::{
    dhcp,
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
    /// The server and the address that a REQUEST chooses. A DISCOVER has none.
    pub(super) selection: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// A request, and the places in it that name the machine.
#[derive(Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
    /// The offsets of the hardware address.
    macs: Vec<usize>,
    /// The offsets of the values of options 54 and 50 in a REQUEST.
    selection: Option<(usize, usize)>,
}

impl Template {
    fn new(client: Client, purpose: Purpose) -> EncodeResult<Self> {
        let nobody = MacAddr([0; 6]);
        let request = client.request(purpose, (nobody, uuid(nobody)), 0, client.secs(0, Duration::ZERO));
        let mut at = OPTIONS;
        let mut macs = vec![SOURCE, CHADDR];
        let (mut server, mut address) = (None, None);
        for option in &request.options {
            let start = at + 2;
            at += option.to_vec()?.len();
            match option {
                // Both end with the hardware address.
                DhcpOption::ClientIdentifier(_) | DhcpOption::ClientMachineIdentifier(_) => macs.push(at - 6),
                DhcpOption::ServerIdentifier(_) => server = Some(start),
                DhcpOption::RequestedIpAddress(_) => address = Some(start),
                _ => {}
            }
        }
        let frame = broadcast(nobody, &request.encode()?);
        Ok(Self { frame, macs, selection: server.zip(address) })
    }

    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Patches a copy of the frame for a machine.
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

/// Returns the frame of a machine that has no address yet.
fn broadcast(mac: MacAddr, payload: &[u8]) -> Vec<u8> {
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, dhcp::SERVER_PORT);
    frame::udp((mac, MacAddr::BROADCAST), from, to, payload)
}

/// The templates of every class in the fleet.
#[derive(Debug, Default)]
pub(super) struct Templates {
    firmware: Vec<Firmware>,
    /// DISCOVER and REQUEST.
    pairs: Vec<[Template; 2]>,
}

impl Templates {
    /// Builds the templates of these machines.
    ///
    /// # Errors
    ///
    /// Fails if a request cannot be encoded.
    pub(super) fn of(machines: &[(MacAddr, Firmware)]) -> EncodeResult<Self> {
        let mut templates = Self::default();
        for &(_, firmware) in machines {
            if templates.number(firmware).is_none() {
                let client = firmware.first_client();
                let nobody = Ipv4Addr::UNSPECIFIED;
                let select = Purpose::Select { server: nobody, address: nobody };
                templates.firmware.push(firmware);
                templates.pairs.push([Template::new(client, Purpose::Discover)?, Template::new(client, select)?]);
            }
        }
        Ok(templates)
    }

    /// Returns the number of the templates of a class.
    pub(super) fn number(&self, firmware: Firmware) -> Option<u8> {
        self.firmware.iter().position(|known| *known == firmware).map(|number| number as u8)
    }

    /// Returns the template of a request.
    pub(super) fn get(&self, send: &Send) -> &Template {
        &self.pairs[usize::from(send.template)][usize::from(send.selection.is_some())]
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    /// Returns the frame of a request that is built for its machine.
    fn whole(firmware: Firmware, purpose: Purpose, mac: MacAddr, xid: u32) -> Vec<u8> {
        let client = firmware.first_client();
        let request = client.request(purpose, (mac, uuid(mac)), xid, client.secs(0, Duration::ZERO));
        broadcast(mac, &request.encode().unwrap())
    }

    #[test]
    fn patched_template_equals_the_request_that_is_built() {
        let mac = MacAddr([2, 1, 2, 3, 4, 5]);
        let (server, address) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 1, 2));
        for &firmware in Firmware::value_variants() {
            let templates = Templates::of(&[(mac, firmware)]).unwrap();
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

    /// Returns the nanoseconds of CPU time that a call takes, averaged over many.
    fn nanoseconds(mut call: impl FnMut(u32)) -> f64 {
        const CALLS: u32 = 1_000_000;
        let before = crate::tally::cpu();
        (0..CALLS).for_each(&mut call);
        (crate::tally::cpu() - before).as_secs_f64() * 1e9 / f64::from(CALLS)
    }

    /// Prints the figures of this module's comment: `cargo test --release -p pxe-rehearse -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_a_packet_by_template_and_by_dhcproto() {
        use std::hint::black_box;

        use crate::{
            captures,
            dhcp::{Reading, Reply},
            load::answer::Answer,
        };

        let mac = MacAddr([2, 1, 2, 3, 4, 5]);
        let (server, address) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 1, 2));
        let firmware = Firmware::UefiX64;
        let templates = Templates::of(&[(mac, firmware)]).unwrap();
        let mut place = vec![0; 2048];
        let by_template = nanoseconds(|xid| {
            let send = Send { mac, xid, template: 0, selection: Some((server, address)) };
            let template = templates.get(&send);
            let place = &mut place[..template.frame().len()];
            place.copy_from_slice(template.frame());
            template.make_own(place, &send);
            black_box(place);
        });
        let purpose = Purpose::Select { server, address };
        let by_dhcproto = nanoseconds(|xid| _ = black_box(whole(firmware, purpose, mac, xid)));
        println!("request: {by_template:.0} ns by template, {by_dhcproto:.0} ns by dhcproto");
        let datagrams = captures::datagrams("ovmf-x64-pxe");
        let offer = &datagrams.iter().find(|datagram| datagram.from.port() == 67).unwrap().payload;
        let answer = nanoseconds(|_| _ = black_box(Answer::read(black_box(offer))));
        let reply = nanoseconds(|_| _ = black_box(Reply::decode(black_box(offer), Reading::Standard)));
        println!("reply: {answer:.0} ns as an answer, {reply:.0} ns as a whole");
    }
}
