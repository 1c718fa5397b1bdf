//! All kinds of events, for tables of their effects.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use crate::model::event::{ArtifactKind, ClientKind, EventKind, Signs, Transport};

/// Lists the variants of an enumeration. A list that lacks one does not compile.
macro_rules! every {
    ($(#[$attribute:meta])* $name:ident: $type:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$attribute])*
        pub(super) const $name: &[$type] = {
            const fn _is_listed(value: &$type) {
                match value {
                    $($type::$variant { .. } => {})+
                }
            }
            &[$($type::$variant),+]
        };
    };
}
pub(super) use every;

every! {
    /// Every client.
    CLIENTS: ClientKind { Pxe, HttpBoot, Ipxe, Plain }
}

every! {
    /// All signs of an operating system.
    SIGNS: Signs { None, System, Renewal, Talos }
}

every! {
    /// Every kind of file.
    ARTIFACTS: ArtifactKind { Loader, Script, Kernel, Initramfs, Uki, Config, Other }
}

/// Returns the name of a row: the variant, and the fields that a state may depend on.
fn name(event: &EventKind) -> String {
    match event {
        EventKind::Discover { client, .. } => format!("discover {client:?}"),
        EventKind::Offer { .. } => "offer".to_owned(),
        EventKind::Request { client, of_other_server: false, signs, .. } => {
            format!("request {}", with_signs(*client, *signs))
        }
        EventKind::Request { client, of_other_server: true, signs, .. } => {
            format!("request {}, other server", with_signs(*client, *signs))
        }
        EventKind::Ack { client, signs, .. } => format!("ack {}", with_signs(*client, *signs)),
        EventKind::Nak { .. } => "nak".to_owned(),
        EventKind::Decline { .. } => "decline".to_owned(),
        EventKind::Release => "release".to_owned(),
        EventKind::Ignored { .. } => "ignored".to_owned(),
        EventKind::ForeignRelay { .. } => "foreign relay".to_owned(),
        EventKind::OtherVlan { .. } => "other vlan".to_owned(),
        EventKind::LeftToPeer { client, .. } => format!("left to peer, {client:?}"),
        EventKind::Requested { artifact, .. } => format!("requested {artifact:?}"),
        EventKind::Done { artifact, .. } => format!("done {artifact:?}"),
        EventKind::Unconfirmed { artifact, .. } => format!("unconfirmed {artifact:?}"),
        EventKind::Failed { artifact, .. } if event.is_harmless() => format!("failed {artifact:?}, harmless"),
        EventKind::Failed { artifact, .. } => format!("failed {artifact:?}"),
        EventKind::Awaits { .. } => "awaits".to_owned(),
        EventKind::WrongArchitecture { .. } => "wrong architecture".to_owned(),
        EventKind::Up { .. } => "up".to_owned(),
        EventKind::SentToDisk => "sent to disk".to_owned(),
    }
    .to_lowercase()
}

fn with_signs(client: ClientKind, signs: Signs) -> String {
    match (client, signs) {
        (ClientKind::Plain, Signs::None) => "plain, no signs".to_owned(),
        (ClientKind::Plain, signs) => format!("plain, {signs:?}"),
        (client, _) => format!("{client:?}"),
    }
}

/// Returns every event with its name: each variant, with each value of the fields that a state may depend on.
pub(super) fn every_event() -> Vec<(String, EventKind)> {
    let (address, path) = (Ipv4Addr::new(10, 0, 0, 1), Arc::<str>::from("/assets/file"));
    let transport = Transport::Http;
    let failed = |artifact, path: &str| EventKind::Failed {
        artifact,
        transport,
        path: path.into(),
        bytes: 0,
        reason: "reset".into(),
    };
    let clients = || CLIENTS.iter().copied();
    let artifacts = || ARTIFACTS.iter().copied();
    let mut events: Vec<EventKind> = Vec::new();
    events.extend(clients().map(|client| EventKind::Discover { client, client_architecture: None }));
    events.push(EventKind::Offer { address: Some(address), boot_file: None });
    // A plain client has signs.
    let with_signs = || {
        let firmware = clients().filter(|client| *client != ClientKind::Plain).map(|client| (client, Signs::None));
        firmware.chain(SIGNS.iter().map(|&signs| (ClientKind::Plain, signs)))
    };
    for of_other_server in [false, true] {
        events.extend(with_signs().map(|(client, signs)| EventKind::Request {
            client,
            client_architecture: None,
            of_other_server,
            other_server: None,
            signs,
        }));
    }
    let address = Some(address);
    events.extend(with_signs().map(|(client, signs)| EventKind::Ack { address, client, signs, boot_file: None }));
    let address = Ipv4Addr::new(10, 0, 0, 1);
    events.extend([
        EventKind::Nak { reason: "" },
        EventKind::Decline { address },
        EventKind::Release,
        EventKind::Ignored { reason: "" },
        EventKind::ForeignRelay { relay: address },
        EventKind::OtherVlan { vlan: 100 },
    ]);
    events.extend(clients().map(|client| EventKind::LeftToPeer { client, address, chosen: false }));
    events.extend(artifacts().map(|artifact| EventKind::Requested { artifact, transport, path: Arc::clone(&path) }));
    events.extend(artifacts().map(|artifact| EventKind::Done {
        artifact,
        transport,
        path: Arc::clone(&path),
        bytes: 1,
        took: Duration::ZERO,
    }));
    events.extend(artifacts().map(|artifact| EventKind::Unconfirmed {
        artifact,
        transport,
        path: Arc::clone(&path),
        bytes: 1,
    }));
    events.extend(artifacts().map(|artifact| failed(artifact, "/assets/file")));
    // Firmware and iPXE look for these without expecting them.
    events.extend([failed(ArtifactKind::Loader, "revocations.efi"), failed(ArtifactKind::Script, "autoexec.ipxe")]);
    events.push(EventKind::Awaits { path, state: "fetching", percent: Some(43) });
    events.extend([
        EventKind::WrongArchitecture { client_architecture: 11 },
        EventKind::SentToDisk,
        EventKind::Up { port: 50_000 },
    ]);
    events.into_iter().map(|event| (name(&event), event)).collect()
}

macro_rules! variants {
    ($($variant:ident),+ $(,)?) => {
        const VARIANTS: &[&str] = &[$(stringify!($variant)),+];

        fn variant(event: &EventKind) -> &'static str {
            match event {
                $(EventKind::$variant { .. } => stringify!($variant),)+
            }
        }
    };
}

variants! {
    Discover, Offer, Request, Ack, Nak, Decline, Release, Ignored, ForeignRelay, OtherVlan, LeftToPeer, Requested, Done, Unconfirmed, Failed,
    Awaits, WrongArchitecture, SentToDisk, Up,
}

#[test]
fn variants_all_have_a_row_of_their_own_name() {
    let events = every_event();
    for wanted in VARIANTS {
        assert!(events.iter().any(|(_, event)| variant(event) == *wanted), "{wanted}");
    }
    let names: std::collections::BTreeSet<_> = events.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), events.len());
}
