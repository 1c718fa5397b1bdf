//! The DHCP requests of each class of firmware, option by option, and its timing.
//!
//! EDK2 and iPXE follow captures of OVMF, AAVMF, SeaBIOS and iPXE 1.21, and the tests compare with these byte for byte.
//! `bios` follows Intel's Boot Agent, of which there is no capture here.

use std::{net::Ipv4Addr, time::Duration};

use clap::ValueEnum;
use dhcproto::v4::{Architecture, DhcpOption, MessageType, OptionCode, UnknownOption};
use pxe_common::MacAddr;
use serde::Serialize;

use crate::dhcp::{Reading, Request};

/// A class of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// A BIOS with a PXE ROM: loader over TFTP, then iPXE
    Bios,
    /// UEFI PXE on x86-64
    UefiX64,
    /// UEFI PXE on 32-bit x86
    UefiIa32,
    /// UEFI PXE on ARM64
    UefiArm64,
    /// UEFI HTTP boot on x86-64: iPXE, or a unified kernel image if the URL ends in talos.efi
    HttpX64,
    /// The same on ARM64
    HttpArm64,
    /// A card whose ROM is iPXE already
    Ipxe,
    /// An operating system's DHCP client: it wants a lease and nothing else
    Plain,
}

impl Firmware {
    /// Returns the client that runs right after power-on.
    pub(crate) const fn first_client(self) -> Client {
        match self {
            Self::Bios => Client::BootAgent,
            Self::UefiX64 => Client::EdkPxe { architecture: 7 },
            Self::UefiIa32 => Client::EdkPxe { architecture: 6 },
            Self::UefiArm64 => Client::EdkPxe { architecture: 11 },
            Self::HttpX64 => Client::EdkHttp { architecture: 16 },
            Self::HttpArm64 => Client::EdkHttp { architecture: 19 },
            Self::Ipxe => Client::Ipxe(Platform::Rom),
            Self::Plain => Client::System,
        }
    }

    /// Returns the platform that iPXE finds once it is loaded.
    pub(crate) const fn platform(self) -> Platform {
        match self {
            Self::Bios | Self::Ipxe | Self::Plain => Platform::Undi,
            Self::UefiX64 | Self::HttpX64 => Platform::Efi { architecture: 7, name: "x86_64" },
            Self::UefiIa32 => Platform::Efi { architecture: 6, name: "i386" },
            Self::UefiArm64 | Self::HttpArm64 => Platform::Efi { architecture: 11, name: "arm64" },
        }
    }
}

/// The platform that iPXE runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// `undionly.kpxe`.
    Undi,
    /// The ROM of a network card, on a BIOS.
    Rom,
    /// `ipxe.efi` or `snponly.efi`, with its option 93 and its `${buildarch}`.
    Efi { architecture: u16, name: &'static str },
}

impl Platform {
    /// Returns iPXE's `${platform}`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Undi | Self::Rom => "pcbios",
            Self::Efi { .. } => "efi",
        }
    }

    /// Returns iPXE's `${buildarch}`.
    pub(crate) const fn build_architecture(self) -> &'static str {
        match self {
            Self::Undi | Self::Rom => "i386",
            Self::Efi { name, .. } => name,
        }
    }
}

/// A DHCP client. A machine has several in the course of its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// The PXE ROM of a BIOS.
    BootAgent,
    /// UEFI PXE.
    EdkPxe { architecture: u16 },
    /// UEFI HTTP boot.
    EdkHttp { architecture: u16 },
    /// iPXE.
    Ipxe(Platform),
    /// The operating system.
    System,
}

/// The retransmission and collection times of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// The time that each DISCOVER waits, in milliseconds. Then the client takes the best offer, or asks again. After the
    /// last it gives up.
    pub(crate) discover: &'static [u64],
    /// The time that each REQUEST waits, in milliseconds.
    pub(crate) request: &'static [u64],
    /// The time after the first DISCOVER in which no offer is taken yet, because a better one may come.
    pub(crate) listen: Duration,
    /// Takes the first usable offer at once.
    pub(crate) takes_first: bool,
}

/// EDK2: 4 s, doubled each time. The tick of its timer makes the first wait a little shorter.
static EDK: Timing = Timing {
    discover: &[3750, 8000, 16_000, 32_000],
    request: &[4000, 8000, 16_000, 32_000],
    listen: Duration::ZERO,
    takes_first: false,
};
/// iPXE waits two seconds for a ProxyDHCP offer, and checks this when its timer of 1 + 2 s expires.
static IPXE: Timing = Timing {
    discover: &[1000, 2000, 4000, 8000],
    request: &[1000, 2000, 4000, 8000],
    listen: Duration::from_secs(2),
    takes_first: false,
};
/// RFC 2131 §4.1.
static SYSTEM: Timing = Timing {
    discover: &[4000, 8000, 16_000, 32_000, 64_000],
    request: &[4000, 8000, 16_000, 32_000, 64_000],
    listen: Duration::ZERO,
    takes_first: true,
};

const EDK_PXE_WANTS: &[u8] = &[
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97, 128, 129,
    130, 131, 132, 133, 134, 135,
];
/// EDK2 does not initialise the byte between 60 and 67.
const EDK_HTTP_WANTS: &[u8] =
    &[1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 0, 67, 97];
const BOOT_AGENT_WANTS: &[u8] =
    &[1, 2, 3, 5, 6, 11, 12, 13, 15, 16, 17, 18, 43, 54, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135];
const IPXE_WANTS: &[u8] =
    &[1, 3, 6, 7, 12, 15, 17, 26, 42, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175, 203];
/// The options that Talos asks for.
const SYSTEM_WANTS: &[u8] = &[1, 3, 15, 6, 121, 119, 42, 26, 12];

/// Option 175 of iPXE 1.21: the PCI identity of the card, then a flag for each feature that is built in.
const IPXE_EFI_FEATURES: &[u8] = &[
    0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0, 0, 0x26, 1, 1, 0x17, 1, 1, 0x27, 1, 1, 0x24, 1, 1, 0x13, 1, 1,
    0x14, 1, 1, 0x11, 1, 1, 0x29, 1, 1, 0x1b, 1, 1, 0x15, 1, 1, 0x12, 1, 1,
];
const IPXE_UNDI_FEATURES: &[u8] = &[
    0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0, 0, 0x26, 1, 1, 0x17, 1, 1, 0x27, 1, 1, 0x22, 1, 1, 0x13, 1, 1,
    0x14, 1, 1, 0x11, 1, 1, 0x19, 1, 1, 0x29, 1, 1, 0x10, 1, 2, 0x21, 1, 1, 0x15, 1, 1, 0x18, 1, 1, 0x12, 1, 1,
];
const IPXE_ROM_FEATURES: &[u8] = &[
    0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0x41, 0xeb, 3, 1, 0, 0, 0x26, 1, 1, 0x17, 1, 1, 0x27, 1, 1, 0x22, 1, 1, 0x13, 1, 1,
    0x14, 1, 1, 0x11, 1, 1, 0x19, 1, 1, 0x29, 1, 1, 0x10, 1, 2, 0x21, 1, 1, 0x15, 1, 1, 0x12, 1, 1, 0x18, 1, 1,
];

/// iPXE's encapsulated options, which dhcproto has no type for.
const IPXE_OPTIONS: OptionCode = OptionCode::Unknown(175);

/// The purpose of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Looks for servers.
    Discover,
    /// Requests the offer that was chosen, in the SELECTING state of RFC 2131.
    Select { server: Ipv4Addr, address: Ipv4Addr },
    /// Asks a ProxyDHCP boot server on port 4011. The client has its address already.
    BootServer { ciaddr: Ipv4Addr },
}

impl Client {
    /// Returns `true` if the client sets the broadcast flag (RFC 2131 §4.1).
    const fn wants_broadcast(self) -> bool {
        !matches!(self, Self::Ipxe(Platform::Rom) | Self::System)
    }

    /// Returns the way in which the client reads a reply.
    pub(crate) const fn reading(self) -> Reading {
        match self {
            Self::Ipxe(_) => Reading::Ipxe,
            Self::BootAgent | Self::EdkPxe { .. } | Self::EdkHttp { .. } | Self::System => Reading::Standard,
        }
    }

    /// Returns the times of the client.
    pub(crate) const fn timing(self) -> &'static Timing {
        match self {
            Self::BootAgent | Self::EdkPxe { .. } | Self::EdkHttp { .. } => &EDK,
            Self::Ipxe(_) => &IPXE,
            Self::System => &SYSTEM,
        }
    }

    /// Returns the length that messages are padded to. Old firmware pads to 548 bytes, which every BOOTP server accepts.
    const fn pad_to(self) -> usize {
        match self {
            Self::BootAgent => 548,
            Self::System => 300,
            _ => 0,
        }
    }

    /// Returns the `secs` field of the n-th message, counted from 0. iPXE counts in ticks of its own, from 4 upwards.
    pub(crate) const fn secs(self, attempt: usize, elapsed: Duration) -> u16 {
        match self {
            Self::Ipxe(_) => match attempt {
                0 => 4,
                1 => 10,
                2 => 18,
                _ => 34,
            },
            Self::BootAgent => 4 << (if attempt < 4 { attempt } else { 4 }),
            _ => elapsed.as_secs() as u16,
        }
    }

    /// Returns the value of option 93, if it is sent.
    pub(crate) const fn architecture(self) -> Option<u16> {
        match self {
            Self::BootAgent | Self::Ipxe(Platform::Undi | Platform::Rom) => Some(0),
            Self::EdkPxe { architecture } | Self::EdkHttp { architecture } => Some(architecture),
            Self::Ipxe(Platform::Efi { architecture, .. }) => Some(architecture),
            Self::System => None,
        }
    }

    /// Returns the value of option 60.
    fn vendor_class(self) -> Vec<u8> {
        let number = self.architecture().unwrap_or(0);
        match self {
            Self::EdkHttp { .. } => format!("HTTPClient:Arch:{number:05}:UNDI:003000"),
            Self::EdkPxe { .. } => format!("PXEClient:Arch:{number:05}:UNDI:003000"),
            Self::Ipxe(Platform::Efi { .. }) => format!("PXEClient:Arch:{number:05}:UNDI:003010"),
            Self::BootAgent | Self::Ipxe(_) => format!("PXEClient:Arch:{number:05}:UNDI:002001"),
            Self::System => String::new(),
        }
        .into_bytes()
    }

    /// Returns a message of the machine with this hardware address and this SMBIOS identifier.
    pub(crate) fn request(self, purpose: Purpose, (mac, uuid): (MacAddr, [u8; 16]), xid: u32, secs: u16) -> Request {
        let (broadcast, ciaddr) = match purpose {
            Purpose::BootServer { ciaddr } => (false, ciaddr),
            Purpose::Discover | Purpose::Select { .. } => (self.wants_broadcast(), Ipv4Addr::UNSPECIFIED),
        };
        let options = self.options(purpose, mac, uuid);
        Request { xid, secs, broadcast, ciaddr, chaddr: mac, options, pad_to: self.pad_to() }
    }

    /// Returns every option of a message, in the order of the firmware.
    fn options(self, purpose: Purpose, mac: MacAddr, uuid: [u8; 16]) -> Vec<DhcpOption> {
        let kind = DhcpOption::MessageType(match purpose {
            Purpose::Discover => MessageType::Discover,
            Purpose::Select { .. } | Purpose::BootServer { .. } => MessageType::Request,
        });
        let (server, address) = match purpose {
            Purpose::Select { server, address } => {
                (Some(DhcpOption::ServerIdentifier(server)), Some(DhcpOption::RequestedIpAddress(address)))
            }
            Purpose::Discover | Purpose::BootServer { .. } => (None, None),
        };
        let wants =
            |list: &[u8]| DhcpOption::ParameterRequestList(list.iter().map(|&code| OptionCode::from(code)).collect());
        let class = DhcpOption::ClassIdentifier(self.vendor_class());
        let architecture = DhcpOption::ClientSystemArchitecture(Architecture(self.architecture().unwrap_or(0)));
        let uuid = DhcpOption::ClientMachineIdentifier([&[0][..], &uuid].concat());
        let client_id = DhcpOption::ClientIdentifier([&[1][..], &mac.0].concat());
        match self {
            Self::EdkPxe { .. } | Self::EdkHttp { .. } => {
                let is_http = matches!(self, Self::EdkHttp { .. });
                let list = wants(if is_http { EDK_HTTP_WANTS } else { EDK_PXE_WANTS });
                let undi = DhcpOption::ClientNetworkInterface(1, 3, 0);
                if matches!(purpose, Purpose::BootServer { .. }) {
                    return vec![kind, list, DhcpOption::MaxMessageSize(1472), class, architecture, undi, uuid];
                }
                let size = DhcpOption::MaxMessageSize(if server.is_some() && !is_http { 65280 } else { 1472 });
                let selection = [Some(kind), server, address].into_iter().flatten();
                selection.chain([size, list, uuid, undi, architecture, class]).collect()
            }
            Self::BootAgent => {
                let list = Some(wants(BOOT_AGENT_WANTS));
                let size = Some(DhcpOption::MaxMessageSize(1260));
                let selection = [Some(kind), address, list, size, server].into_iter().flatten();
                let undi = DhcpOption::ClientNetworkInterface(1, 2, 1);
                selection.chain([uuid, architecture, undi, class]).collect()
            }
            Self::Ipxe(platform) => {
                let (undi, features) = match platform {
                    Platform::Efi { .. } => (DhcpOption::ClientNetworkInterface(1, 3, 10), IPXE_EFI_FEATURES),
                    Platform::Undi => (DhcpOption::ClientNetworkInterface(1, 2, 1), IPXE_UNDI_FEATURES),
                    Platform::Rom => (DhcpOption::ClientNetworkInterface(1, 2, 1), IPXE_ROM_FEATURES),
                };
                let user_class = DhcpOption::UserClass(b"iPXE".to_vec());
                let features = DhcpOption::Unknown(UnknownOption::new(IPXE_OPTIONS, features.to_vec()));
                let mut options = vec![kind, DhcpOption::MaxMessageSize(1472), architecture, undi, class, user_class];
                options.extend([wants(IPXE_WANTS), features, client_id, uuid]);
                options.extend([server, address].into_iter().flatten());
                options
            }
            Self::System => {
                let selection = [Some(kind), address, server].into_iter().flatten();
                selection.chain([client_id, wants(SYSTEM_WANTS), DhcpOption::MaxMessageSize(1500)]).collect()
            }
        }
    }

    /// Returns the name of the client in the printed steps.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BootAgent => "BIOS PXE",
            Self::EdkPxe { .. } => "UEFI PXE",
            Self::EdkHttp { .. } => "UEFI HTTP boot",
            Self::Ipxe(_) => "iPXE",
            Self::System => "system",
        }
    }
}

/// Returns the SMBIOS identifier of a machine, which is derived from its hardware address.
pub(crate) fn uuid(mac: MacAddr) -> [u8; 16] {
    let mut uuid = [0x50, 0x58, 0x45, 0x44, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    uuid[10..].copy_from_slice(&mac.0);
    uuid
}

#[cfg(test)]
#[path = "firmware_tests.rs"]
mod tests;
