use std::collections::HashSet;

use dhcproto::Encodable as _;

use super::*;
use crate::captures;

const EFI: Client = Client::Ipxe(Platform::Efi { architecture: 7, name: "x86_64" });
const EFI_ARM: Client = Client::Ipxe(Platform::Efi { architecture: 11, name: "arm64" });
const UNDI: Client = Client::Ipxe(Platform::Undi);
const ROM: Client = Client::Ipxe(Platform::Rom);
const PXE: Client = Client::EdkPxe { architecture: 7 };
const PXE_ARM: Client = Client::EdkPxe { architecture: 11 };
const HTTP: Client = Client::EdkHttp { architecture: 16 };
const HTTP_ARM: Client = Client::EdkHttp { architecture: 19 };

/// The requests of the captures: the frame, its sender, and its number within the exchange.
const FRAMES: &[(&str, usize, Client, usize)] = &[
    ("ovmf-x64-pxe", 1, PXE, 0),
    ("ovmf-x64-pxe", 6, PXE, 1),
    ("ovmf-x64-pxe", 38, EFI, 0),
    ("ovmf-x64-pxe", 41, EFI, 1),
    ("ovmf-x64-pxe", 43, EFI, 2),
    ("ovmf2025.02-x64-pxe", 1, PXE, 0),
    ("ovmf2025.02-x64-pxe", 3, PXE, 1),
    ("ovmf-x64-proxydhcp", 12, PXE, 2),
    ("ovmf-httpboot", 1, HTTP, 0),
    ("ovmf-httpboot", 3, HTTP, 1),
    ("ovmf-httpboot", 12, EFI, 0),
    ("aavmf-arm64", 1, PXE_ARM, 0),
    ("aavmf-arm64", 3, PXE_ARM, 1),
    ("aavmf-arm64", 33, EFI_ARM, 0),
    ("aavmf-arm64", 37, EFI_ARM, 2),
    ("aavmf-arm64-httpboot", 1, HTTP_ARM, 0),
    ("aavmf-arm64-httpboot", 3, HTTP_ARM, 1),
    ("seabios-ipxe", 31, UNDI, 0),
    ("seabios-ipxe", 35, UNDI, 2),
    ("seabios-ipxerom-1.21.1", 1, ROM, 0),
    ("seabios-ipxerom-1.21.1", 3, ROM, 1),
    ("seabios-ipxerom-1.21.1", 5, ROM, 2),
];

/// Returns the value of an option, found without the code under test.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = &message[240..];
    while let [code, length, after @ ..] = rest {
        let (value, next) = after.split_at(usize::from(*length));
        if *code == wanted {
            return Some(value);
        }
        rest = next;
    }
    None
}

/// Clears the byte of its HTTP parameter list that EDK2 does not initialise.
fn without_garbage(mut message: Vec<u8>, client: Client) -> Vec<u8> {
    if matches!(client, Client::EdkHttp { .. }) {
        let list = message.windows(2).position(|window| window == [55, 27]).expect("option 55");
        message[list + 2 + 24] = 0;
    }
    message
}

#[test]
fn messages_equal_the_captured_ones_byte_for_byte() {
    for &(capture, number, client, sent) in FRAMES {
        let datagrams = captures::datagrams(capture);
        let real = &datagrams.iter().find(|datagram| datagram.number == number).expect(capture).payload;
        let mac = MacAddr(real[28..34].try_into().unwrap());
        let ipv4 = |code| option(real, code).map(|value| Ipv4Addr::from(<[u8; 4]>::try_from(value).unwrap()));
        let ciaddr = Ipv4Addr::new(real[12], real[13], real[14], real[15]);
        let purpose = match (ipv4(54), ipv4(50)) {
            (Some(server), Some(address)) => Purpose::Select { server, address },
            _ if ciaddr.is_unspecified() => Purpose::Discover,
            _ => Purpose::BootServer { ciaddr },
        };
        let uuid = option(real, 97).unwrap()[1..].try_into().unwrap();
        let xid = u32::from_be_bytes(real[4..8].try_into().unwrap());
        let ours = client.request(purpose, (mac, uuid), xid, client.secs(sent, Duration::ZERO));
        let ours = without_garbage(ours.encode().unwrap(), client);
        assert_eq!(ours, without_garbage(real.clone(), client), "{capture}, frame {number}");
    }
}

#[test]
fn options_are_unique_and_short_enough() {
    for client in [PXE, HTTP, EFI, UNDI, ROM, Client::BootAgent, Client::System] {
        let purpose = Purpose::Select { server: Ipv4Addr::new(10, 0, 0, 1), address: Ipv4Addr::new(10, 0, 0, 2) };
        let proxied = Purpose::BootServer { ciaddr: Ipv4Addr::new(10, 0, 0, 2) };
        for purpose in [Purpose::Discover, purpose, proxied] {
            let options = client.options(purpose, MacAddr([2, 0, 0, 0, 0, 1]), [7; 16]);
            let codes: HashSet<u8> = options.iter().map(|option| OptionCode::from(option).into()).collect();
            assert_eq!(codes.len(), options.len(), "{client:?} {purpose:?}");
            assert!(options.iter().all(|option| option.to_vec().unwrap().len() < 258), "{client:?} {purpose:?}");
        }
    }
}

#[test]
fn messages_are_padded_by_old_firmware_and_systems() {
    let length = |client: Client| {
        let request = client.request(Purpose::Discover, (MacAddr([2, 0, 0, 0, 0, 1]), [7; 16]), 1, 0);
        request.encode().unwrap().len()
    };
    // 548 bytes is what every BOOTP server accepts, 300 the minimum of RFC 1542 §2.1.
    assert_eq!([length(Client::BootAgent), length(Client::System)], [548, 300]);
}
