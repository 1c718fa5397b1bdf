use super::*;
use crate::{
    dhcp::{
        decode::decode,
        testing::{DISCOVER, Message, OTHER, RELAY, machine},
    },
    model::architecture::Architecture,
};

fn classified(message: Message) -> Client {
    let packet = message.bytes();
    classify(&decode(&packet).unwrap())
}

/// Client classes, each with the forms in which its clients are seen.
#[test]
fn classes_are_told_by_their_options() {
    use ClientKind::{HttpBoot, Ipxe, Plain, Pxe};
    let new = || Message::new(DISCOVER);
    let junk = [0xff; 40];
    let cases = [
        ("BIOS", new().firmware("PXEClient:Arch:00000:UNDI:002001", 0), Pxe, Some(0), false),
        ("UEFI x64", new().firmware("PXEClient:Arch:00007:UNDI:003000", 7), Pxe, Some(7), false),
        ("UEFI x64 that says 9", new().firmware("PXEClient:Arch:00009:UNDI:003000", 9), Pxe, Some(9), false),
        ("UEFI IA32", new().firmware("PXEClient:Arch:00006:UNDI:003000", 6), Pxe, Some(6), false),
        ("UEFI ARM64", new().firmware("PXEClient:Arch:00011:UNDI:003000", 11), Pxe, Some(11), false),
        ("HTTP boot x64", new().firmware("HTTPClient:Arch:00016:UNDI:003000", 16), HttpBoot, Some(16), true),
        ("HTTP boot x86", new().firmware("HTTPClient:Arch:00015:UNDI:003000", 15), HttpBoot, Some(15), true),
        ("HTTP boot ARM64", new().firmware("HTTPClient:Arch:00019:UNDI:003000", 19), HttpBoot, Some(19), true),
        ("U-Boot ARM64", new().firmware("U-Boot.armv8", 22), Pxe, Some(22), false),
        ("U-Boot without 93", new().option(60, b"U-Boot.armv7"), Pxe, Some(21), false),
        ("U-Boot HTTP", new().firmware("HTTPClient", 24), HttpBoot, Some(24), true),
        ("RISC-V 64", new().firmware("PXEClient:Arch:00027:UNDI:003000", 27), Pxe, Some(27), false),
        ("RISC-V 64 HTTP", new().firmware("HTTPClient:Arch:00028:UNDI:003000", 28), HttpBoot, Some(28), true),
        ("93 missing, in 60", new().option(60, b"PXEClient:Arch:00011:UNDI:003000"), Pxe, Some(11), false),
        ("93 missing, none in 60", new().option(60, b"PXEClient"), Pxe, None, false),
        ("93 missing, junk in 60", new().option(60, b"PXEClient:Arch:+0007:x"), Pxe, None, false),
        ("93 missing, 60 cut off", new().option(60, b"PXEClient:Arch:000"), Pxe, None, false),
        ("93 beyond 16 bits in 60", new().option(60, b"PXEClient:Arch:99999"), Pxe, None, false),
        ("93 empty", new().option(60, b"PXEClient:Arch:00007").option(93, &[]), Pxe, Some(7), false),
        ("93 of one byte", new().option(60, b"PXEClient:Arch:00007").option(93, &[0]), Pxe, Some(7), false),
        ("93 of three bytes", new().option(60, b"PXEClient").option(93, &[0, 7, 0]), Pxe, Some(7), false),
        ("93 a list, PXE", new().option(60, b"PXEClient").option(93, &[0, 16, 0, 7]), Pxe, Some(7), false),
        ("93 a list, HTTP", new().option(60, b"HTTPClient").option(93, &[0, 7, 0, 16]), HttpBoot, Some(16), true),
        ("93 a list, unknown first", new().option(60, b"PXEClient").option(93, &[0, 2, 0, 11]), Pxe, Some(11), false),
        ("60 missing", new().option(93, &[0, 7]), Pxe, Some(7), false),
        ("60 missing, HTTP", new().option(93, &[0, 16]), HttpBoot, Some(16), true),
        ("junk in 97", new().firmware("PXEClient", 7).option(97, &junk), Pxe, Some(7), false),
        ("empty 97", new().firmware("PXEClient", 7).option(97, &[]), Pxe, Some(7), false),
        ("iPXE, raw 77", new().firmware("PXEClient", 7).option(77, b"iPXE"), Ipxe, Some(7), true),
        ("iPXE, RFC 3004", new().firmware("PXEClient", 7).option(77, b"\x04iPXE"), Ipxe, Some(7), true),
        ("iPXE second in RFC 3004", new().firmware("PXEClient", 0).option(77, b"\x01a\x04iPXE"), Ipxe, Some(0), true),
        ("iPXE by 175 with HTTP", new().firmware("PXEClient", 0).option(175, &[0x13, 1, 1]), Ipxe, Some(0), true),
        ("iPXE that lists no HTTP", new().option(77, b"iPXE").option(175, &[0x15, 1, 1]), Ipxe, None, false),
        ("iPXE with HTTP off", new().option(77, b"iPXE").option(175, &[0x13, 1, 0]), Ipxe, None, false),
        ("iPXE with an empty 175", new().option(77, b"iPXE").option(175, &[]), Ipxe, None, true),
        ("iPXE with a broken 175", new().option(77, b"iPXE").option(175, &[0x15, 1, 1, 0x13, 9]), Ipxe, None, false),
        ("another user class", new().firmware("PXEClient", 7).option(77, b"\x04gPXE"), Pxe, Some(7), false),
        ("broken 77", new().firmware("PXEClient", 7).option(77, b"\x09iPXE"), Pxe, Some(7), false),
        ("Linux", new().option(60, b"udhcp 1.35.0"), Plain, None, false),
        ("Windows", new().option(60, b"MSFT 5.0"), Plain, None, false),
        ("nothing", new(), Plain, None, false),
    ];
    for (name, message, kind, architecture, http) in cases {
        let client = classified(message);
        assert_eq!((client.kind, client.architecture, client.http), (kind, architecture, http), "{name}");
    }
}

#[test]
fn raspberry_pi_that_claims_to_be_a_pc_is_recognised() {
    let pi = |mac: [u8; 6]| Message::new(DISCOVER).firmware("PXEClient:Arch:00000:UNDI:002001", 0).field(28..34, &mac);
    let by_mac = classified(pi([0xdc, 0xa6, 0x32, 1, 2, 3]));
    assert!(by_mac.raspberry_pi);
    assert_eq!(by_mac.class(&machine()), Some(LoaderFile::EfiArm64));
    assert!(classified(pi([2, 0, 0, 1, 2, 3]).option(97, b"\x00RPi4\x11\x31\xc0\x00")).raspberry_pi);
    assert!(!classified(pi([2, 0, 0, 1, 2, 3])).raspberry_pi);
    assert!(classified(Message::new(DISCOVER).firmware("PXEClient", 41)).raspberry_pi);
    let uefi = Message::new(DISCOVER).firmware("PXEClient", 11).field(28..34, &[0xdc, 0xa6, 0x32, 1, 2, 3]);
    assert!(!classified(uefi).raspberry_pi, "its UEFI firmware is like any other");
}

#[test]
fn firmware_of_another_architecture_than_the_spec_contradicts() {
    let mut machine = machine();
    for (spec, class, architecture, contradicts) in [
        (Architecture::Amd64, "PXEClient", 7, false),
        (Architecture::Amd64, "PXEClient", 0, false),
        (Architecture::Amd64, "PXEClient", 6, false),
        (Architecture::Amd64, "PXEClient", 11, true),
        (Architecture::Amd64, "HTTPClient", 19, true),
        (Architecture::Amd64, "PXEClient", 2, true),
        (Architecture::Arm64, "PXEClient", 11, false),
        (Architecture::Arm64, "U-Boot.armv8", 22, false),
        (Architecture::Arm64, "PXEClient", 41, false),
        (Architecture::Arm64, "PXEClient", 7, true),
        (Architecture::Arm64, "PXEClient", 0, true),
    ] {
        machine.architecture = spec;
        let client = classified(Message::new(DISCOVER).firmware(class, architecture));
        assert_eq!(client.contradicts(&machine), contradicts, "{spec} {class} {architecture}");
    }
    machine.architecture = Architecture::Arm64;
    assert!(
        !classified(Message::new(DISCOVER).option(60, b"PXEClient")).contradicts(&machine),
        "it names no architecture"
    );
}

#[test]
fn relay_is_read_from_giaddr_and_option_82() {
    let information = [1, 2, b'e', b'1', 5, 4, 10, 7, 0, 0, 11, 4, 10, 7, 0, 1];
    let relay = classified(Message::new(DISCOVER).giaddr(RELAY).address(118, OTHER).option(82, &information)).relay;
    assert_eq!(relay.address, Some(RELAY));
    assert_eq!(relay.link_selection, Some("10.7.0.0".parse().unwrap()), "the relay takes precedence");
    assert_eq!(relay.server_id_override, Some(RELAY));
    let plain = classified(Message::new(DISCOVER).address(118, OTHER)).relay;
    assert_eq!((plain.address, plain.link_selection), (None, Some(OTHER)));
}
