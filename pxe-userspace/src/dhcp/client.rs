//! The client that asks: its program, architecture and relay.

use std::cmp::Reverse;

use super::{
    decode::{Options, Query},
    relay::Relay,
    signs::signs,
    wire::code,
};
use crate::model::{
    client_architecture::{ClientArchitecture, RASPBERRY_PI},
    event::{ClientKind, Signs},
    inventory::Machine,
    loader::{Loader, LoaderFile},
};

/// iPXE's feature "HTTP protocol" within option 175.
const IPXE_FEATURE_HTTP: u8 = 0x13;

/// EFI byte code by HTTP, in IANA's list. Byte code by TFTP is 9, which x64 firmware uses for itself.
const BYTE_CODE_BY_HTTP: u16 = 17;

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
    /// Its processor architecture type (IANA), from option 93 or option 60. That of a Raspberry Pi's boot ROM is [`RASPBERRY_PI`],
    /// whatever it says.
    pub architecture: Option<u16>,
    /// It can fetch files over HTTP.
    pub http: bool,
    /// It is the boot ROM of a Raspberry Pi, which needs a menu and ignores file names.
    pub raspberry_pi: bool,
    /// It is U-Boot, which starts no boot program of PC firmware. It loads the boot file without starting it, and then its
    /// configuration from the same server.
    pub u_boot: bool,
    /// The relay through which it asks.
    pub relay: Relay,
    /// Its signs of an operating system, if it is a plain client.
    pub signs: Signs,
}

/// Classifies the sender of a message.
#[must_use]
pub fn classify(query: &Query<'_>) -> Client {
    let class = query.option(code::VENDOR_CLASS).unwrap_or_default();
    let ipxe_options = query.option(code::IPXE);
    let is_ipxe = ipxe_options.is_some() || query.option(code::USER_CLASS).is_some_and(says_ipxe);
    let says_http = class.starts_with(b"HTTPClient");
    let u_boot = class.starts_with(b"U-Boot");
    let architecture = architecture(query, class, says_http, u_boot);
    let kind = if is_ipxe {
        ClientKind::Ipxe
    } else if says_http {
        ClientKind::HttpBoot
    } else if class.starts_with(b"PXEClient") || u_boot {
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
    let architecture = if raspberry_pi { Some(RASPBERRY_PI) } else { architecture };
    let signs = if kind == ClientKind::Plain { signs(query) } else { Signs::None };
    Client { kind, architecture, http, raspberry_pi, u_boot, relay: Relay::of(query), signs }
}

impl Client {
    /// Returns the loader that this client is told to fetch; `None` if there is none for its architecture.
    #[must_use]
    pub fn loader<'m>(&self, machine: &'m Machine) -> Option<Loader<'m>> {
        match (self.architecture, self.class(machine)) {
            // The class is a guess, so a file that the spec names for it may not be meant.
            (None, Some(class)) if self.u_boot => Some(Loader::Usual(class)),
            (_, class) => machine.loader(class),
        }
    }

    /// Returns the class of the firmware if it is UEFI that can fetch the machine's unified kernel image by HTTP and start it.
    #[must_use]
    pub fn class_for_uki(&self, machine: &Machine) -> Option<LoaderFile> {
        let class = LoaderFile::efi_for(machine.architecture);
        (self.kind == ClientKind::HttpBoot && self.class(machine) == Some(class)).then_some(class)
    }

    /// Returns the class of the firmware by its usual loader; `None` if iPXE does not exist for its architecture.
    fn class(&self, machine: &Machine) -> Option<LoaderFile> {
        match self.architecture {
            Some(number) => ClientArchitecture::of(number).loader,
            // Nothing but UEFI boots by HTTP so far.
            None if self.u_boot || self.kind == ClientKind::HttpBoot => Some(LoaderFile::efi_for(machine.architecture)),
            None => Some(LoaderFile::for_machine(machine.architecture)),
        }
    }

    /// Returns `true` if the firmware reports an architecture on which the kernel of the spec's cannot be started.
    #[must_use]
    pub fn contradicts(&self, machine: &Machine) -> bool {
        // Other loaders than iPXE can start a 64-bit kernel from 32-bit firmware.
        let has_own_loader = || matches!(self.loader(machine), Some(Loader::Own(_)));
        let starts = |loader: LoaderFile| {
            let architecture = machine.architecture;
            loader.starts_kernels_of(architecture) || loader.is_32_bit_of(architecture) && has_own_loader()
        };
        self.kind != ClientKind::Plain && self.architecture.is_some() && !self.class(machine).is_some_and(starts)
    }
}

/// Returns the architecture that option 93 means. It is a list (RFC 4578 §2.1): firmware that can boot in several ways lists all of
/// them. The one that the vendor class names counts, since that is the way in which it boots now. Else it is the most specific of
/// those that fit the vendor class and have a loader.
fn architecture(query: &Query<'_>, class: &[u8], by_http: bool, u_boot: bool) -> Option<u16> {
    let list = query.option(code::ARCHITECTURES).unwrap_or_default();
    let numbers = list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).filter(|&number| {
        // U-Boot says 0 ("BIOS") on x86 and 0xffff if nobody configured it, but runs neither kind of program.
        !(number == u16::MAX || u_boot && ClientArchitecture::of(number).is_bios())
    });
    let fits = |&number: &u16| ClientArchitecture::of(number).by_http == by_http;
    let [in_class, in_hex] = architecture_in_class(class);
    let is_listed = |number: &u16| numbers.clone().any(|listed| listed == *number);
    let named = [in_class, in_hex].into_iter().flatten().find(|number| is_listed(number) && fits(number));
    let most_specific = || {
        let with_loader =
            numbers.clone().filter(fits).filter(|&number| ClientArchitecture::of(number).loader.is_some());
        // Of equal ones, the first.
        with_loader.min_by_key(|&number| Reverse(specificity(number)))
    };
    named.or_else(most_specific).or_else(|| numbers.clone().next()).or(in_class).or(in_hex)
}

/// Returns how much an entry of option 93 says about the programs that the firmware prefers to start. UEFI that can also boot as a
/// BIOS starts UEFI programs; what starts 64-bit programs is 64-bit; and byte code is there for whatever has nothing else.
fn specificity(number: u16) -> u8 {
    use LoaderFile::{EfiArm32, EfiIa32, EfiRiscv32, Undionly};
    match (number, ClientArchitecture::of(number).loader) {
        (_, None) => 0,
        (_, Some(Undionly)) => 1,
        (BYTE_CODE_BY_HTTP, _) => 2,
        (_, Some(EfiIa32 | EfiArm32 | EfiRiscv32)) => 3,
        (_, Some(_)) => 4,
    }
}

/// Returns the architecture in a vendor class such as `PXEClient:Arch:00007:UNDI:003000` or `U-Boot.armv8`, and the one that its
/// digits mean if they are hexadecimal: U-Boot writes `0000b` when it boots a UEFI program.
fn architecture_in_class(class: &[u8]) -> [Option<u16>; 2] {
    if let Some(board) = class.strip_prefix(b"U-Boot.") {
        let number = match board {
            [b'a', b'r', b'm', b'v', b'8', ..] => Some(22),
            [b'a', b'r', b'm', ..] => Some(21),
            _ => None,
        };
        return [number, None];
    }
    let at = class.windows(6).position(|window| window == b":Arch:");
    let digits = at.and_then(|at| class.get(at + 6..at + 11)).and_then(|digits| str::from_utf8(digits).ok());
    let number = |radix: u32| {
        let digits = digits.filter(|text| text.chars().all(|digit| digit.is_digit(radix)));
        digits.and_then(|text| u16::from_str_radix(text, radix).ok())
    };
    [number(10), number(16)]
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
