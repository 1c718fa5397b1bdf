//! Events and machines for tests, with short names for the steps of real boots.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pxe_common::MacAddr;

use crate::model::{
    architecture::Architecture,
    event::{ArtifactKind, BootEvent, BootFileName, ClientKind, EventKind, Signs, Transport},
    failure::OTHER_OFFER,
    inventory::{Inventory, Machine, Role, SharedInventory, Site, Source},
    loader::LoaderFile,
    policy::{BootPolicy, DiskRoute},
};

pub(crate) use crate::model::origin::Origin;
pub(crate) use ArtifactKind::{Config, Initramfs, Kernel, Loader, Script, Uki};
pub(crate) use ClientKind::{HttpBoot, Ipxe, Plain, Pxe};
pub(crate) use Transport::{Http, Tftp};

const LOADER: BootFileName = BootFileName::Loader(LoaderFile::EfiX64);

pub(crate) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

/// Returns the time this many seconds after 2026-01-01T00:00:00Z, to the millisecond.
pub(crate) fn at(seconds: f64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis((1_767_225_600_000.0 + seconds * 1_000.0).round() as u64)
}

/// Returns the machine with this number, counted from 1.
pub(crate) fn machine(number: u32) -> Machine {
    let [_, b, c, d] = number.to_be_bytes();
    Machine {
        mac: MacAddr([0x52, 0x54, 0, b, c, d]),
        additional_macs: Arc::default(),
        address: Ipv4Addr::from(0x0a00_0000 + number),
        cluster: Arc::from("lab"),
        role: Role::Worker,
        architecture: Architecture::Amd64,
        version: Arc::from("v1.13.0"),
        schematic: None,
        kernel_args: Arc::from(""),
        hostname: None,
        prefix_length: None,
        gateway: None,
        dns_servers: Arc::from([]),
        policy: BootPolicy::Auto,
        disk_route: DiskRoute::default(),
        boot: Default::default(),
        loaders: None,
        talos_config: None,
        vlans: Arc::default(),
        answers: Default::default(),
        secrets: Default::default(),
        site: Arc::new(Site { interface: Arc::from("eth1"), address: Ipv4Addr::new(10, 255, 0, 1) }),
        source: Source { file: Arc::from(Path::new("lab.yaml")), line: 12 },
    }
}

pub(crate) fn inventory(machines: u32) -> SharedInventory {
    let machines = (1..=machines).map(|number| Arc::new(machine(number))).collect();
    Arc::new(arc_swap::ArcSwap::from_pointee(Inventory::new(machines)))
}

pub(crate) fn discover(client: ClientKind) -> EventKind {
    EventKind::Discover { client, client_architecture: (client != Plain).then_some(7) }
}

pub(crate) fn offer() -> EventKind {
    EventKind::Offer { address: Some(Ipv4Addr::new(10, 0, 0, 1)), boot_file: Some(LOADER) }
}

pub(crate) fn request(client: ClientKind) -> EventKind {
    let client_architecture = (client != Plain).then_some(7);
    EventKind::Request { client, client_architecture, of_other_server: false, other_server: None, signs: signs(client) }
}

/// Returns what ProxyDHCP sees when a client gets its address from another server.
pub(crate) fn proxied(client: ClientKind) -> Vec<EventKind> {
    let offer = EventKind::Offer { address: None, boot_file: Some(LOADER) };
    let client_architecture = (client != Plain).then_some(7);
    let signs = signs(client);
    let request = EventKind::Request { client, client_architecture, of_other_server: true, other_server: None, signs };
    [discover(client)].into_iter().chain((client != Plain).then_some(offer)).chain([request]).collect()
}

/// Returns what is seen of a client that chooses the offer of another server, 10.0.0.7.
pub(crate) fn chooses_another(client: ClientKind) -> [EventKind; 4] {
    let other_server = Some(Ipv4Addr::new(10, 0, 0, 7));
    let (client_architecture, signs) = ((client != Plain).then_some(7), signs(client));
    let request = EventKind::Request { client, client_architecture, of_other_server: false, other_server, signs };
    [discover(client), offer(), request, EventKind::Ignored { reason: OTHER_OFFER }]
}

pub(crate) fn ack(client: ClientKind) -> EventKind {
    let boot_file = match client {
        Plain => None,
        Ipxe => Some(BootFileName::Script),
        Pxe | HttpBoot => Some(LOADER),
    };
    EventKind::Ack { address: Some(Ipv4Addr::new(10, 0, 0, 1)), client, signs: signs(client), boot_file }
}

/// A plain client is Talos, unless it is a [`plain`] one with other signs.
fn signs(client: ClientKind) -> Signs {
    if client == Plain { Signs::Talos } else { Signs::None }
}

/// Returns the two messages with which a plain client that shows these signs gets or prolongs its lease.
pub(crate) fn plain(signs: Signs) -> [EventKind; 2] {
    let client = Plain;
    let address = Some(Ipv4Addr::new(10, 0, 0, 1));
    [
        EventKind::Request { client, client_architecture: None, of_other_server: false, other_server: None, signs },
        EventKind::Ack { address, client, signs, boot_file: None },
    ]
}

/// Returns what ProxyDHCP sees of such a client.
pub(crate) fn proxied_plain(signs: Signs) -> EventKind {
    EventKind::Request { client: Plain, client_architecture: None, of_other_server: true, other_server: None, signs }
}

/// Returns the four messages that assign an address.
pub(crate) fn dora(client: ClientKind) -> [EventKind; 4] {
    [discover(client), offer(), request(client), ack(client)]
}

fn path(artifact: ArtifactKind) -> Arc<str> {
    Arc::from(match artifact {
        Loader => "ipxe-efi-x86_64.efi",
        Script => "/ipxe",
        Kernel => "/assets/vmlinuz-v1.13.0-amd64",
        Initramfs => "/assets/initramfs-v1.13.0-amd64.xz",
        Uki => "/boot/52-54-00-00-00-01/talos.efi",
        Config => "/boot/52-54-00-00-00-01/config.yaml",
        ArtifactKind::Other => "/assets/other",
    })
}

fn transport(artifact: ArtifactKind) -> Transport {
    if artifact == Loader { Tftp } else { Http }
}

pub(crate) fn requested(artifact: ArtifactKind) -> EventKind {
    EventKind::Requested { artifact, transport: transport(artifact), path: path(artifact) }
}

pub(crate) fn done(artifact: ArtifactKind) -> EventKind {
    let took = Duration::from_millis(750);
    EventKind::Done { artifact, transport: transport(artifact), path: path(artifact), bytes: 1_000_000, took }
}

pub(crate) fn unconfirmed(artifact: ArtifactKind) -> EventKind {
    EventKind::Unconfirmed { artifact, transport: transport(artifact), path: path(artifact), bytes: 1_000_000 }
}

pub(crate) fn failed(artifact: ArtifactKind, reason: &str) -> EventKind {
    let reason = Arc::from(reason);
    EventKind::Failed { artifact, transport: transport(artifact), path: path(artifact), bytes: 0, reason }
}

/// Returns the events of a file from the request to the last byte.
pub(crate) fn load(artifact: ArtifactKind) -> [EventKind; 2] {
    [requested(artifact), done(artifact)]
}

/// Returns the events of UEFI PXE from power-on to the address of the operating system.
pub(crate) fn uefi_boot() -> Vec<EventKind> {
    [&dora(Pxe)[..], &[requested(Loader)], &load(Loader), &ipxe_boot()].concat()
}

/// Returns the events of iPXE from its first packet to the address of the operating system.
pub(crate) fn ipxe_boot() -> Vec<EventKind> {
    [&dora(Ipxe)[..], &load(Script), &load(Kernel), &load(Initramfs), &dora(Plain)].concat()
}

/// Returns the events of UEFI HTTP boot of a unified kernel image, from power-on to the address of the operating system.
pub(crate) fn uki_boot() -> Vec<EventKind> {
    [&dora(HttpBoot)[..], &load(Uki), &dora(Plain)].concat()
}

/// Returns the events of one machine, a tenth of a second apart.
pub(crate) fn timed(mac: MacAddr, kinds: impl IntoIterator<Item = EventKind>) -> Vec<BootEvent> {
    let kinds = kinds.into_iter().enumerate();
    kinds.map(|(index, kind)| BootEvent { mac, at: at(index as f64 / 10.0), origin: Origin::Machine, kind }).collect()
}

/// Generates any event, for property tests.
pub(crate) fn any_event() -> impl proptest::strategy::Strategy<Value = EventKind> {
    use proptest::prelude::*;
    let client = prop_oneof![Just(Pxe), Just(HttpBoot), Just(Ipxe), Just(Plain)];
    let signs = prop_oneof![Just(Signs::None), Just(Signs::System), Just(Signs::Renewal), Just(Signs::Talos)];
    let artifact = prop_oneof![
        Just(Loader),
        Just(Script),
        Just(Kernel),
        Just(Initramfs),
        Just(Uki),
        Just(Config),
        Just(ArtifactKind::Other)
    ];
    let transport = prop_oneof![Just(Tftp), Just(Http)];
    let text = any::<String>().prop_map(Arc::<str>::from);
    let address = any::<u32>().prop_map(Ipv4Addr::from);
    let architecture = proptest::option::of(any::<u16>());
    let offered = (
        proptest::option::of(address.clone()),
        proptest::option::of(prop_oneof![
            Just(LOADER),
            Just(BootFileName::Script),
            Just(BootFileName::Uki),
            text.clone().prop_map(BootFileName::OwnLoader)
        ]),
    );
    let file = (artifact, transport, text.clone());
    prop_oneof![
        (client.clone(), architecture.clone())
            .prop_map(|(client, client_architecture)| EventKind::Discover { client, client_architecture }),
        offered.clone().prop_map(|(address, boot_file)| EventKind::Offer { address, boot_file }),
        (client.clone(), architecture, any::<bool>(), proptest::option::of(address.clone()), signs.clone()).prop_map(
            |(client, client_architecture, of_other_server, other_server, signs)| {
                EventKind::Request { client, client_architecture, of_other_server, other_server, signs }
            },
        ),
        (offered, client.clone(), signs)
            .prop_map(|((address, boot_file), client, signs)| { EventKind::Ack { address, client, signs, boot_file } }),
        Just(EventKind::Nak { reason: "another address is reserved" }),
        address.prop_map(|address| EventKind::Decline { address }),
        Just(EventKind::Release),
        Just(EventKind::Ignored { reason: "for another server" }),
        any::<u32>().prop_map(|relay| EventKind::ForeignRelay { relay: relay.into() }),
        any::<u16>().prop_map(|vlan| EventKind::OtherVlan { vlan }),
        (client.clone(), any::<u32>(), any::<bool>()).prop_map(|(client, address, chosen)| EventKind::LeftToPeer {
            client,
            address: address.into(),
            chosen
        }),
        file.clone().prop_map(|(artifact, transport, path)| EventKind::Requested { artifact, transport, path }),
        (file.clone(), any::<u64>(), any::<u64>()).prop_map(|((artifact, transport, path), bytes, took)| {
            EventKind::Done { artifact, transport, path, bytes, took: Duration::from_millis(took) }
        }),
        (file.clone(), any::<u64>()).prop_map(|((artifact, transport, path), bytes)| {
            EventKind::Unconfirmed { artifact, transport, path, bytes }
        }),
        (file, any::<u64>(), text).prop_map(|((artifact, transport, path), bytes, reason)| {
            EventKind::Failed { artifact, transport, path, bytes, reason }
        }),
        any::<u16>().prop_map(|client_architecture| EventKind::WrongArchitecture { client_architecture }),
        Just(EventKind::SentToDisk),
        any::<u16>().prop_map(|port| EventKind::Up { port }),
    ]
}
