//! Decides the answer to a client from its message, its machine and our own address. No I/O, no clock, no state: the reservation
//! is the lease.

use std::{fmt::Write as _, net::Ipv4Addr, sync::Arc};

use arrayvec::ArrayString;
use pxe_common::bootp::{BOOT_SERVER_PORT, BROADCAST_FLAG};

use super::{
    arrival::{Arrival, Mode, Server},
    client::Client,
    decode::Query,
    reason::Reason,
    relay::is_host,
    reply_route::inform_address,
    wire::MessageType,
};
use crate::{
    guard::Purpose,
    model::{
        boot_method::BootMethod,
        client_architecture::ClientArchitecture,
        event::ClientKind,
        inventory::Machine,
        loader::{BOOT_FROM_DISK, Loader, file_name},
        machine_path::{MachinePath, UKI_FILE},
        policy::Disposition,
        secrets::Secrets,
        token::Token,
    },
    net::prefix,
};

/// A client's message and its circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The message.
    pub query: &'a Query<'a>,
    /// The client that sent it.
    pub client: &'a Client,
    /// Its source and destination.
    pub arrival: &'a Arrival,
    /// The server identifier of another node, which the client chose and for which this node answers.
    pub in_place_of: Option<Ipv4Addr>,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the reply is the usual case, and it stays on the stack")]
pub enum Answer<'m> {
    /// A reply is due.
    Reply(Reply<'m>),
    /// No reply is due, for this reason.
    Silence(Reason),
}

/// The content of a reply, without what is copied from the query (transaction, hardware address, options 61, 82, 97).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'m> {
    /// DHCPOFFER, DHCPACK or DHCPNAK.
    pub message: MessageType,
    /// The `flags` field.
    pub flags: u16,
    /// The `ciaddr` field.
    pub ciaddr: Ipv4Addr,
    /// The assigned address, or unspecified.
    pub yiaddr: Ipv4Addr,
    /// Option 54.
    pub server_id: Ipv4Addr,
    /// The network's parameters, if the reply has them.
    pub network: Option<Network<'m>>,
    /// The boot parameters.
    pub boot: Boot<'m>,
    /// Option 56: the reason for a DHCPNAK.
    pub reason: Option<&'static str>,
}

/// The parameters of the machine's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network<'m> {
    /// The duration of the lease in seconds; `None` in answer to DHCPINFORM.
    pub lease_seconds: Option<u32>,
    /// An address in the network: the client's own.
    pub address: Ipv4Addr,
    /// The bits of the network mask; `None` if the network is not known.
    pub prefix_length: Option<u8>,
    /// The router, if one is known on the machine's link.
    pub router: Option<Ipv4Addr>,
    /// The machine, for its host name and DNS servers.
    pub machine: &'m Machine,
}

/// The file that a reply names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFile<'m> {
    /// A loader, by TFTP.
    Tftp(Loader<'m>),
    /// A loader, by HTTP.
    Http(Loader<'m>),
    /// The machine's iPXE script, by HTTP.
    Script,
    /// The machine's unified kernel image, by HTTP.
    Uki,
    /// The machine's own loader, by HTTP, from the directory in which it finds the machine's unified kernel image.
    LoaderOfUki(&'m Arc<str>),
    /// [`BOOT_FROM_DISK`], which the server refuses.
    Disk,
}

/// The boot parameters of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot<'m> {
    /// The named file, if any.
    pub file: Option<BootFile<'m>>,
    /// Its name or URL, for `file` and option 67; empty if no file is named.
    pub name: ArrayString<127>,
    /// `siaddr`, and for TFTP also `sname` and option 66; unspecified if no file is named.
    pub server: Ipv4Addr,
    /// The name is a TFTP path, for which the server has to be named too.
    pub by_tftp: bool,
    /// Option 60.
    pub vendor_class: Option<&'static str>,
    /// Option 43.
    pub vendor_options: VendorOptions,
    /// iPXE is told not to wait for ProxyDHCP offers (sub-option 176 of option 175), because there are none.
    pub no_proxy_dhcp: bool,
    /// The name has an unguessable part.
    pub has_token: bool,
}

impl Boot<'_> {
    /// No file is named: the client gets an address at most.
    pub const NONE: Self = Self {
        file: None,
        name: ArrayString::new_const(),
        server: Ipv4Addr::UNSPECIFIED,
        by_tftp: false,
        vendor_class: None,
        vendor_options: VendorOptions::None,
        no_proxy_dhcp: false,
        has_token: false,
    };
}

/// The content of option 43.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VendorOptions {
    /// The option is left out.
    #[default]
    None,
    /// The client is told to use the named file and to discover no boot servers.
    NoDiscovery,
    /// The menu that the boot ROM of a Raspberry Pi requires.
    RaspberryPi,
}

/// Decides the answer. RFC 2131 §4.3 has the message types, §4.3.2 the four states of DHCPREQUEST.
#[must_use]
pub fn answer<'m>(
    question: Question<'_>,
    machine: &'m Machine,
    server: &Server,
    disposition: Disposition,
) -> Answer<'m> {
    let Question { query, client, arrival, .. } = question;
    let giaddr = query.giaddr();
    // With our own address as the relay's, the answer would come back to us.
    if !giaddr.is_unspecified() && (server.is_at(giaddr) || !is_host(giaddr)) {
        return Answer::Silence(Reason::BadRelay);
    }
    let to_boot_server = arrival.destination.port() == BOOT_SERVER_PORT;
    // In ProxyDHCP, the other server assigns addresses.
    if server.mode == Mode::Proxy && !to_boot_server && query.message() != MessageType::Discover {
        return Answer::Silence(Reason::NothingToSay);
    }
    if query.message() != MessageType::Discover && other_server(&question, server).is_some() {
        return Answer::Silence(Reason::OtherServer);
    }
    let deciding = Deciding { question, machine, server, disposition };
    let mut answer = if to_boot_server { deciding.boot_server() } else { deciding.dhcp_server() };
    // A relay sends a reply to `yiaddr` unless the flag is set. RFC 2131 §4.3.2 says so of the DHCPNAK ("the server MUST set the
    // broadcast bit"). It is as true of other replies without an address: those of ProxyDHCP, and to DHCPINFORM.
    if let Answer::Reply(reply) = &mut answer
        && client.relay.address.is_some()
        && reply.yiaddr.is_unspecified()
        && (to_boot_server || inform_address(query).is_none())
    {
        reply.flags |= BROADCAST_FLAG;
    }
    // A relay would show it to everybody.
    if let Answer::Reply(reply) = &mut answer
        && client.relay.address.is_some()
        && reply.boot.has_token
    {
        reply.flags &= !BROADCAST_FLAG;
    }
    answer
}

/// Returns the identifier of the server that a client names (option 54), unless it is ours. A client that chose another server says so by it.
#[must_use]
pub(super) fn other_server(
    &Question { query, client, in_place_of, .. }: &Question<'_>,
    server: &Server,
) -> Option<Ipv4Addr> {
    let is_ours =
        |id: Ipv4Addr| id == server.address || Some(id) == client.relay.server_id_override || Some(id) == in_place_of;
    query.server_id().filter(|&id| !is_ours(id))
}

struct Deciding<'a, 'm> {
    question: Question<'a>,
    machine: &'m Machine,
    server: &'a Server,
    disposition: Disposition,
}

impl<'m> Deciding<'_, 'm> {
    /// Answers on port 67.
    fn dhcp_server(&self) -> Answer<'m> {
        match (self.server.mode, self.question.query.message()) {
            (Mode::Server, MessageType::Discover) => self.offer(),
            (Mode::Server, MessageType::Request) => self.request(),
            (Mode::Server, MessageType::Inform) => self.inform(),
            (Mode::Proxy, MessageType::Discover) => self.proxy_offer(),
            (Mode::Server, MessageType::Decline | MessageType::Release) => Answer::Silence(Reason::NoReplyDue),
            _ => Answer::Silence(Reason::NotAClientMessage),
        }
    }

    fn offer(&self) -> Answer<'m> {
        // RFC 3527 §3, RFC 3011 §4: a server that has no address for the chosen link stays silent.
        if self.is_on_wrong_network() {
            return Answer::Silence(Reason::WrongNetwork);
        }
        let network = self.network(Some(self.server.lease_seconds));
        Answer::Reply(Reply {
            yiaddr: self.machine.address,
            network: Some(network),
            boot: self.boot(),
            ..self.blank(MessageType::Offer)
        })
    }

    fn request(&self) -> Answer<'m> {
        let query = self.question.query;
        // SELECTING names the server and the address (option 50), INIT-REBOOT the address only. RENEWING and REBINDING have the
        // address and put it into `ciaddr`.
        let wanted = match (query.ciaddr(), query.requested_address()) {
            (ciaddr, None) if ciaddr.is_unspecified() => return Answer::Silence(Reason::NoAddress),
            (ciaddr, Some(requested)) if ciaddr.is_unspecified() => requested,
            (ciaddr, _) => ciaddr,
        };
        if self.is_on_wrong_network() {
            // RFC 2131 §4.3.2: "If the DHCP server detects that the client is on the wrong net … then the
            // server SHOULD send a DHCPNAK."
            return self.nak("the machine is on a network that its address does not belong to");
        }
        if wanted != self.machine.address {
            return self.nak("the machine asked for another address than the one reserved for it");
        }
        let network = self.network(Some(self.server.lease_seconds));
        Answer::Reply(Reply {
            ciaddr: query.ciaddr(),
            yiaddr: self.machine.address,
            network: Some(network),
            boot: self.boot(),
            ..self.blank(MessageType::Ack)
        })
    }

    /// Answers a DHCPINFORM (RFC 2131 §4.3.5) with parameters, without an address or a lease.
    fn inform(&self) -> Answer<'m> {
        let Question { query, arrival, .. } = self.question;
        // Some clients leave `ciaddr` empty. Through a relay, the source is the relay's.
        let source = || Some(*arrival.source.ip()).filter(|&source| query.giaddr().is_unspecified() && is_host(source));
        let network = match inform_address(query).or_else(source) {
            Some(address) => self.network_of(address),
            None => self.network(None),
        };
        Answer::Reply(Reply {
            ciaddr: query.ciaddr(),
            network: Some(network),
            boot: self.boot(),
            ..self.blank(MessageType::Ack)
        })
    }

    /// Offers a boot file by ProxyDHCP (PXE 2.1 §2.2), beside the other server's address.
    fn proxy_offer(&self) -> Answer<'m> {
        self.boot_only(MessageType::Offer)
    }

    /// Answers on port 4011 (PXE 2.1 §2.2.4): firmware that took a ProxyDHCP offer asks again there, once it has an address.
    fn boot_server(&self) -> Answer<'m> {
        match self.question.query.message() {
            MessageType::Request | MessageType::Inform => self.boot_only(MessageType::Ack),
            MessageType::Discover | MessageType::Decline | MessageType::Release => {
                Answer::Silence(Reason::BootServerPort)
            }
            _ => Answer::Silence(Reason::NotAClientMessage),
        }
    }

    fn boot_only(&self, message: MessageType) -> Answer<'m> {
        let boot = self.boot();
        if boot.file.is_none() {
            return Answer::Silence(match (self.question.client.kind, self.disposition) {
                (ClientKind::Plain, _) => Reason::NothingToSay,
                (_, Disposition::Disk) => Reason::SentToDisk,
                (_, Disposition::Network) => Reason::NoLoader,
            });
        }
        Answer::Reply(Reply { ciaddr: self.question.query.ciaddr(), boot, ..self.blank(message) })
    }

    fn nak(&self, reason: &'static str) -> Answer<'m> {
        Answer::Reply(Reply { reason: Some(reason), ..self.blank(MessageType::Nak) })
    }

    fn blank(&self, message: MessageType) -> Reply<'m> {
        Reply {
            message,
            flags: self.question.query.flags(),
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            server_id: self
                .question
                .client
                .relay
                .server_id_override
                .or(self.question.in_place_of)
                .unwrap_or(self.server.address),
            network: None,
            boot: Boot::NONE,
            reason: None,
        }
    }

    /// Returns `true` if the relay names a link and the spec has a mask, and the two contradict each other. Without either, only the
    /// administrator knows the machine's network.
    fn is_on_wrong_network(&self) -> bool {
        match (self.question.client.relay.link_selection, self.machine.prefix_length) {
            (Some(link), Some(prefix_length)) => !prefix::same(link, self.machine.address, prefix_length),
            _ => false,
        }
    }

    fn network(&self, lease_seconds: Option<u32>) -> Network<'m> {
        let machine = self.machine;
        let prefix_length = self.server.prefix_length(machine);
        let router = self.server.router(machine, self.question.client.relay.link());
        Network { lease_seconds, address: machine.address, prefix_length: Some(prefix_length), router, machine }
    }

    /// Returns the parameters for a client that has this address already, which may be another than the reserved one. In another
    /// network than the reserved one's, the mask is known if it is the interface's, and the router is not known.
    fn network_of(&self, address: Ipv4Addr) -> Network<'m> {
        let reserved = self.network(None);
        if reserved.prefix_length.is_some_and(|length| prefix::same(address, self.machine.address, length)) {
            return Network { address, router: reserved.router.filter(|&router| router != address), ..reserved };
        }
        let prefix_length = self.server.networks.holding(address).map(|(_, length)| length);
        Network { address, prefix_length, router: None, ..reserved }
    }

    fn boot(&self) -> Boot<'m> {
        let Self { question: Question { client, .. }, machine, server, disposition } = *self;
        let loader = client.loader(machine);
        let file = match (client.kind, disposition) {
            (ClientKind::Plain, _) => None,
            // The script itself sends the machine to its disk, so that people can read the reason on the console.
            (ClientKind::Ipxe, _) if client.http => Some(BootFile::Script),
            (ClientKind::Ipxe | ClientKind::Pxe, Disposition::Network) => loader.map(BootFile::Tftp),
            (ClientKind::HttpBoot, Disposition::Network) => uki(client, machine).or(loader.map(BootFile::Http)),
            // The ROM ignores file names, so that only a lease without PXE options stops it.
            (_, Disposition::Disk) if client.raspberry_pi => None,
            // EDK2 asks four times within a minute, by PXE and by HTTP, before it gives up, and PXE ROMs wait as long for a
            // ProxyDHCP offer. A file that the server then refuses makes all of them try their next boot entry at once.
            (_, Disposition::Disk) => Some(BootFile::Disk),
        };
        file.map_or(Boot::NONE, |file| {
            let path = MachinePath { mac: machine.mac, token: self.token(file) };
            boot(file, client, server, path)
        })
    }

    /// Returns the unguessable part of the URL of a file that may hold secrets. It goes to the machine alone, or through a relay that the
    /// spec names.
    fn token(&self, file: BootFile<'_>) -> Option<Token> {
        let Self { question: Question { query, client, arrival, .. }, machine, server, .. } = *self;
        if machine.secrets != Secrets::Guarded
            || !matches!(file, BootFile::Script | BootFile::Uki | BootFile::LoaderOfUki(_))
        {
            return None;
        }
        let is_gateway = |relay: Ipv4Addr| machine.gateway == Some(relay);
        // From this network itself, anybody could say to be the gateway of it.
        let is_relayed =
            client.relay.address.is_some_and(is_gateway) && server.networks.holding(machine.address).is_none();
        let goes_to_machine = arrival.is_of_client(query) || arrival.by_trusted_relay || is_relayed;
        let guard = server.guard.as_ref().filter(|_| goes_to_machine)?;
        Some(guard.token(Purpose::Boot, machine.mac, server.address, arrival.at, query.xid()))
    }
}

/// Returns the file by which this client starts the machine's unified kernel image; `None` if the machine boots in another way, or the client
/// cannot start the image. An own loader, such as a shim, is put in front of it. The build of iPXE for the firmware's driver is not: the image
/// needs no iPXE.
fn uki<'m>(client: &Client, machine: &'m Machine) -> Option<BootFile<'m>> {
    let class = client.class_for_uki(machine).filter(|_| machine.boot != BootMethod::Ipxe)?;
    Some(match machine.loader(Some(class)) {
        Some(Loader::Own(name)) if **name != *class.firmware_driver_build() => BootFile::LoaderOfUki(name),
        _ => BootFile::Uki,
    })
}

/// Returns the boot parameters for a client that is given this file.
fn boot<'m>(file: BootFile<'m>, client: &Client, server: &Server, path: MachinePath) -> Boot<'m> {
    let proxy = server.mode == Mode::Proxy;
    let vendor_class = match client.kind {
        // EDK2 ignores an offer with any other class than these ten bytes.
        ClientKind::HttpBoot => Some("HTTPClient"),
        ClientKind::Pxe => Some("PXEClient"),
        // iPXE accepts an offer as a ProxyDHCP offer only with this class.
        ClientKind::Ipxe => proxy.then_some("PXEClient"),
        ClientKind::Plain => None,
    };
    let bios = client.architecture.is_none_or(|number| ClientArchitecture::of(number).is_bios());
    let vendor_options = match client.kind {
        ClientKind::Pxe if client.raspberry_pi => VendorOptions::RaspberryPi,
        // In ProxyDHCP, some UEFI firmware drops offers that forbid discovery. Without option 43, all of it asks again on port
        // 4011.
        ClientKind::Pxe if !proxy || bios => VendorOptions::NoDiscovery,
        _ => VendorOptions::None,
    };
    Boot {
        file: Some(file),
        name: name(file, client.http, server, path),
        by_tftp: matches!(file, BootFile::Tftp(_)) || file == BootFile::Disk && !client.http,
        server: server.address,
        vendor_class,
        vendor_options,
        no_proxy_dhcp: client.kind == ClientKind::Ipxe && !proxy,
        has_token: path.token.is_some(),
    }
}

/// Returns the name or URL of a file. The longest, the HTTP URLs of a machine's own loader, fit into the 127 bytes that `file` holds
/// ([`LOADER_NAME_LIMIT`](crate::model::loader::LOADER_NAME_LIMIT), [`LOADER_FILE_LIMIT`](crate::model::loader::LOADER_FILE_LIMIT)).
fn name(file: BootFile<'_>, by_http: bool, server: &Server, path: MachinePath) -> ArrayString<127> {
    let mut text = ArrayString::new();
    let Server { address, http_port, .. } = server;
    let written = match file {
        BootFile::Tftp(loader) => text.write_str(loader.name()),
        BootFile::Http(loader) => write!(text, "http://{address}:{http_port}/assets/{}", loader.name()),
        BootFile::Script => write!(text, "http://{address}:{http_port}{path}.ipxe"),
        BootFile::Uki => write!(text, "http://{address}:{http_port}{path}/{UKI_FILE}"),
        BootFile::LoaderOfUki(name) => {
            write!(text, "http://{address}:{http_port}{path}/{}", file_name(name))
        }
        BootFile::Disk if by_http => write!(text, "http://{address}:{http_port}/{BOOT_FROM_DISK}"),
        BootFile::Disk => text.write_str(BOOT_FROM_DISK),
    };
    debug_assert!(written.is_ok(), "every name fits");
    text
}

#[cfg(test)]
mod tests;
