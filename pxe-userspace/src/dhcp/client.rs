//! The client that asks: its program, architecture and relay.

use super::{
    decode::{Options, Query},
    relay::Relay,
    wire::code,
};
use crate::model::{
    client_architecture::{ClientArchitecture, RASPBERRY_PI},
    event::ClientKind,
    inventory::Machine,
    loader::{Loader, LoaderFile},
};

/// iPXE's feature "HTTP protocol" within option 175.
const IPXE_FEATURE_HTTP: u8 = 0x13;

/// The MAC prefixes of Raspberry Pi boards.
const RASPBERRY_PI_MACS: [[u8; 3]; 7] = [
    [0x28, 0xcd, 0xc1],
    [0x2c, 0xcf, 0x67],
    [0x88, 0xa2, 0x9e],
    [0xb8, 0x27, 0xeb],
    [0xd8, 0x3a, 0xdd],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
];

/// The client, as far as its message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The program.
    pub kind: ClientKind,
    /// Its processor architecture type (IANA), from option 93 or option 60.
    pub architecture: Option<u16>,
    /// It can fetch files over HTTP.
    pub http: bool,
    /// It is the boot ROM of a Raspberry Pi, which needs a menu and ignores file names.
    pub raspberry_pi: bool,
    /// The relay through which it asks.
    pub relay: Relay,
}

/// Classifies the sender of a message.
#[must_use]
pub fn classify(query: &Query<'_>) -> Client {
    let class = query.option(code::VENDOR_CLASS).unwrap_or_default();
    let ipxe_options = query.option(code::IPXE);
    let is_ipxe = ipxe_options.is_some() || query.option(code::USER_CLASS).is_some_and(says_ipxe);
    let says_http = class.starts_with(b"HTTPClient");
    let architecture = architecture(query, class, says_http);
    let kind = if is_ipxe {
        ClientKind::Ipxe
    } else if says_http {
        ClientKind::HttpBoot
    } else if class.starts_with(b"PXEClient") || class.starts_with(b"U-Boot") {
        ClientKind::Pxe
    } else {
        // Firmware without a known vendor class still identifies itself by option 93.
        match architecture {
            Some(number) if ClientArchitecture::of(number).by_http => ClientKind::HttpBoot,
            Some(_) => ClientKind::Pxe,
            None => ClientKind::Plain,
        }
    };
    let http = match kind {
        ClientKind::HttpBoot => true,
        // An iPXE that lists its features lists HTTP if it has it. One that lists none (a user's script, or an old build that
        // sends the user class only) is assumed to have it.
        ClientKind::Ipxe => ipxe_options.is_none_or(ipxe_has_http),
        ClientKind::Pxe | ClientKind::Plain => false,
    };
    let raspberry_pi = kind == ClientKind::Pxe && is_raspberry_pi(query, architecture);
    Client { kind, architecture, http, raspberry_pi, relay: Relay::of(query) }
}

impl Client {
    /// Returns the loader that this client is told to fetch; `None` if there is none for its architecture.
    #[must_use]
    pub fn loader<'m>(&self, machine: &'m Machine) -> Option<Loader<'m>> {
        machine.loader(self.class(machine))
    }

    /// Returns the class of the firmware by its usual loader; `None` if iPXE does not exist for its architecture.
    fn class(&self, machine: &Machine) -> Option<LoaderFile> {
        match self.architecture {
            _ if self.raspberry_pi => Some(LoaderFile::EfiArm64),
            Some(number) => ClientArchitecture::of(number).loader,
            None => Some(LoaderFile::for_machine(machine.architecture)),
        }
    }

    /// Returns `true` if the firmware reports another processor architecture than the spec.
    #[must_use]
    pub fn contradicts(&self, machine: &Machine) -> bool {
        self.kind != ClientKind::Plain
            && self.architecture.is_some()
            && self.class(machine).is_none_or(|loader| !loader.runs_on(machine.architecture))
    }
}

/// Returns the architecture that option 93 means. It is a list (RFC 4578 §2.1): firmware that can boot in several ways lists all of
/// them. The first that fits the vendor class and has a loader counts.
fn architecture(query: &Query<'_>, class: &[u8], by_http: bool) -> Option<u16> {
    let list = query.option(code::ARCHITECTURES).unwrap_or_default();
    let mut numbers = list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let fits = |&number: &u16| {
        let ClientArchitecture { loader, by_http: fetches, .. } = ClientArchitecture::of(number);
        fetches == by_http && loader.is_some()
    };
    let first = numbers.clone().next();
    numbers.find(fits).or(first).or_else(|| architecture_in_class(class))
}

/// Returns the architecture in a vendor class such as `PXEClient:Arch:00007:UNDI:003000` or `U-Boot.armv8`.
fn architecture_in_class(class: &[u8]) -> Option<u16> {
    match class {
        b"U-Boot.armv7" => return Some(21),
        b"U-Boot.armv8" => return Some(22),
        _ => {}
    }
    let at = class.windows(6).position(|window| window == b":Arch:")?;
    let digits = class.get(at + 6..at + 11)?;
    str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// Returns `true` if option 77 says iPXE. iPXE sends the bare text; RFC 3004 wants a list of texts, each preceded by its length.
fn says_ipxe(user_class: &[u8]) -> bool {
    if user_class.starts_with(b"iPXE") {
        return true;
    }
    let mut rest = user_class;
    while let [length, tail @ ..] = rest {
        let Some((class, next)) = tail.split_at_checked(usize::from(*length)) else { return false };
        if class == b"iPXE" {
            return true;
        }
        rest = next;
    }
    false
}

fn ipxe_has_http(options: &[u8]) -> bool {
    let mut listed = Options::new(options, 0..options.len()).map_while(Result::ok).peekable();
    listed.peek().is_none()
        || listed.any(|(code, value)| code == IPXE_FEATURE_HTTP && options[value].iter().any(|&byte| byte != 0))
}

/// Returns `true` for the boot ROM of a Raspberry Pi. It reports architecture 0, like a PC, and is recognised by its MAC or its
/// machine identifier (`RPi4`, …).
fn is_raspberry_pi(query: &Query<'_>, architecture: Option<u16>) -> bool {
    let mac = query.mac().0;
    architecture == Some(RASPBERRY_PI)
        || architecture == Some(0)
            && (RASPBERRY_PI_MACS.iter().any(|prefix| mac.starts_with(prefix))
                || query.option(code::MACHINE_ID).is_some_and(|id| id.get(1..4) == Some(b"RPi")))
}

#[cfg(test)]
mod tests;
