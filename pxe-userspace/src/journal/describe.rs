//! Events in words, for the log, `pxed watch` and `pxed explain`.

use std::{borrow::Cow, fmt};

use crate::model::{
    client_architecture::ClientArchitecture,
    config_files::ConfigReader,
    event::{ArtifactKind, BootFileName, ClientKind, EventKind, Signs, Transport},
};

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pxe => "PXE firmware",
            Self::HttpBoot => "HTTP boot firmware",
            Self::Ipxe => "iPXE",
            Self::Plain => "a plain DHCP client",
        })
    }
}

/// A client with its signs of an operating system.
struct Asker(ClientKind, Signs);

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(ClientKind::Plain, Signs::None) => f.write_str("a DHCP client without a sign of an operating system"),
            Self(ClientKind::Plain, Signs::System) => f.write_str("an operating system"),
            Self(ClientKind::Plain, Signs::Renewal) => f.write_str("an operating system that prolongs its lease"),
            Self(ClientKind::Plain, Signs::Talos) => f.write_str("Talos"),
            Self(client, _) => client.fmt(f),
        }
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loader => "loader",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::Uki => "unified kernel image",
            Self::Config => "machine configuration",
            Self::Other => "file",
        })
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tftp => "TFTP",
            Self::Http => "HTTP",
        })
    }
}

/// Formats a number of bytes for a person, in decimal units.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Returns the name of a file's kind. A script that is not for iPXE names its reader.
fn noun(artifact: ArtifactKind, path: &str) -> Cow<'static, str> {
    match ConfigReader::of(path.as_bytes()) {
        Some(reader) if artifact == ArtifactKind::Script => format!("{} configuration", reader.name()).into(),
        _ => artifact.to_string().into(),
    }
}

/// Replaces control characters, which must not reach a terminal. A machine chooses the paths that it asks for.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discover { client, client_architecture } => {
                write!(f, "{client} asks for an address")?;
                write_architecture(f, *client_architecture)
            }
            Self::Offer { address, boot_file } => {
                match address {
                    Some(address) => write!(f, "offered {address}")?,
                    None => f.write_str("offered a boot file, without an address")?,
                }
                write_boot_file(f, boot_file.as_ref())
            }
            Self::Request { client, client_architecture, of_other_server, other_server, signs } => {
                let address = if *of_other_server { "another server's address" } else { "the address" };
                let asker = Asker(*client, *signs);
                match other_server {
                    Some(server) => write!(f, "{asker} requests the address that the DHCP server {server} offered")?,
                    None => write!(f, "{asker} requests {address}")?,
                }
                write_architecture(f, *client_architecture)
            }
            Self::Ack { address, client, signs, boot_file } => {
                let asker = Asker(*client, *signs);
                match address {
                    Some(address) => write!(f, "acknowledged {address} to {asker}")?,
                    None => write!(f, "answered {asker}")?,
                }
                write_boot_file(f, boot_file.as_ref())
            }
            Self::Nak { reason } => write!(f, "refused the address: {reason}"),
            Self::Decline { address } => write!(f, "declined {address}: another host answers there"),
            Self::Release => f.write_str("released its address"),
            Self::Ignored { reason } => write!(f, "left unanswered: {reason}"),
            Self::ForeignRelay { relay } => {
                write!(f, "came through the relay {relay}, which is outside the network of its address")
            }
            Self::LeftToPeer { client, address, chosen: false } => {
                write!(f, "{client} asks, which is left to the pxed at {address}")
            }
            Self::LeftToPeer { client, address, chosen: true } => {
                write!(f, "{client} chose the offer of the pxed at {address}")
            }
            Self::OtherVlan { vlan } => write!(
                f,
                "asked on VLAN {vlan}, on which pxed does not serve it: set pxed.dev/vlans, or make its switch port untagged"
            ),
            Self::Requested { artifact, transport, path } => {
                write!(f, "asks for the {} {} by {transport}", noun(*artifact, path), printable(path))
            }
            Self::Done { artifact, transport, path, bytes, took } => {
                let (size, millis) = (human_bytes(*bytes), took.as_millis());
                let noun = noun(*artifact, path);
                write!(f, "received the {noun} {} by {transport}: {size} in {millis} ms", printable(path))
            }
            Self::Unconfirmed { artifact, transport, path, bytes: _ } => {
                write!(
                    f,
                    "was sent the whole {artifact} {} by {transport}, but did not confirm its end",
                    printable(path)
                )
            }
            Self::Failed { artifact, transport, path, bytes, reason } => {
                write!(f, "{artifact} {} by {transport} failed: {}", printable(path), printable(reason))?;
                if *bytes > 0 { write!(f, " (after {})", human_bytes(*bytes)) } else { Ok(()) }
            }
            Self::Awaits { path, state, percent } => {
                let state = match *state {
                    "failed" => "could not be downloaded so far".to_owned(),
                    "fetching" => "is being downloaded".to_owned(),
                    "verifying" => "is being verified".to_owned(),
                    "queued" => "is downloaded after others".to_owned(),
                    state => format!("is {}", state.replace('-', " ")),
                };
                write!(f, "waits for {}, which {state}", printable(path))?;
                match percent {
                    Some(percent) => write!(f, ", {percent} %"),
                    None => Ok(()),
                }
            }
            Self::WrongArchitecture { client_architecture } => {
                let name = ClientArchitecture::of(*client_architecture).name;
                write!(f, "its firmware is {name} ({client_architecture}), which cannot start the kernel of the spec")
            }
            Self::SentToDisk => f.write_str("sent to its own disk"),
            Self::Up { port } => write!(f, "answers on TCP port {port}: its Talos API is up"),
        }
    }
}

fn write_architecture(f: &mut fmt::Formatter<'_>, client_architecture: Option<u16>) -> fmt::Result {
    match client_architecture {
        Some(architecture) => write!(f, " ({})", ClientArchitecture::of(architecture).name),
        None => Ok(()),
    }
}

fn write_boot_file(f: &mut fmt::Formatter<'_>, boot_file: Option<&BootFileName>) -> fmt::Result {
    match boot_file {
        Some(file) => write!(f, " with {file}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[test]
    fn events_read_as_sentences() {
        let done = EventKind::Done {
            artifact: ArtifactKind::Kernel,
            transport: Transport::Http,
            path: Arc::from("/assets/vmlinuz"),
            bytes: 19_500_000,
            took: Duration::from_millis(812),
        };
        assert_eq!(done.to_string(), "received the kernel /assets/vmlinuz by HTTP: 19.5 MB in 812 ms");
        let discover = EventKind::Discover { client: ClientKind::Pxe, client_architecture: Some(7) };
        assert_eq!(discover.to_string(), "PXE firmware asks for an address (x86-64 UEFI)");
        for (signs, who) in [
            (Signs::None, "a DHCP client without a sign of an operating system"),
            (Signs::System, "an operating system"),
            (Signs::Renewal, "an operating system that prolongs its lease"),
            (Signs::Talos, "Talos"),
        ] {
            let ack = EventKind::Ack { address: None, client: ClientKind::Plain, signs, boot_file: None };
            assert_eq!(ack.to_string(), format!("answered {who}"));
        }
        let (artifact, transport, path) = (ArtifactKind::Script, Transport::Tftp, Arc::from("/grub/grub.cfg"));
        let grub = EventKind::Requested { artifact, transport, path };
        assert_eq!(grub.to_string(), "asks for the GRUB configuration /grub/grub.cfg by TFTP");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let path = Arc::from("a\x1b[2J\nb");
        let event = EventKind::Requested { artifact: ArtifactKind::Other, transport: Transport::Tftp, path };
        assert!(!event.to_string().contains(char::is_control), "{event}");
    }
}
