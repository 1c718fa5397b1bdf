//! The signs by which an operating system is told from firmware that asks with the same MAC.
//!
//! Both may send no vendor class. What they ask for (option 55) differs: firmware wants an address, a router and name servers (1, 3, 6,
//! 15, at times 12), and has no use for static routes and time servers. Operating systems ask for one of these at least:
//!
//! | client | option 55 |
//! |---|---|
//! | Talos | 1, 3, 6, 15, 42, 119, 121, and 12 and 26 as a rule; no vendor class |
//! | dhclient, NetworkManager | 1, 3, 6, 12, 15, 26, 28, 42, 119, 121 and more, by distribution |
//! | systemd-networkd | 1, 3, 6, 12, 15, 42, 120, 121 and more |
//! | udhcpc | 1, 3, 6, 12, 15, 28, 42 |
//! | Linux itself (`ip=dhcp`) | 1, 3, 6, 12, 15, 17, 26, 40, 42 |
//! | Windows | 1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252 |
//! | UEFI's network stack | 1, 3, 6 |

use super::{
    decode::Query,
    wire::{MessageType, code},
};
use crate::model::event::Signs;

/// Time servers.
const TIME_SERVERS: u8 = 42;
/// Classless static routes (RFC 3442), and the code that Windows used before.
const ROUTES: u8 = 121;
const ROUTES_OF_WINDOWS: u8 = 249;
/// The domains that names are looked up in (RFC 3397).
const SEARCH_DOMAINS: u8 = 119;
/// The broadcast address, and static routes of classes: other Linux clients ask for them, and Talos does not.
const BROADCAST_ADDRESS: u8 = 28;
const ROUTES_OF_CLASSES: u8 = 33;

/// Returns the signs of an operating system in a message of a plain client.
pub(super) fn signs(query: &Query<'_>) -> Signs {
    let list = query.option(code::PARAMETERS).unwrap_or_default();
    let asks_for = |code: u8| list.contains(&code);
    if ![TIME_SERVERS, ROUTES, ROUTES_OF_WINDOWS].into_iter().any(asks_for) {
        return Signs::None;
    }
    if [TIME_SERVERS, ROUTES, SEARCH_DOMAINS].into_iter().all(asks_for)
        && ![BROADCAST_ADDRESS, ROUTES_OF_CLASSES].into_iter().any(asks_for)
        && query.option(code::VENDOR_CLASS).is_none()
    {
        return Signs::Talos;
    }
    // RFC 2131 §4.3.2: a client that renews or rebinds has its address in `ciaddr`, and names neither it nor a server.
    let prolongs = query.message() == MessageType::Request
        && !query.ciaddr().is_unspecified()
        && query.requested_address().is_none()
        && query.server_id().is_none();
    if prolongs { Signs::Renewal } else { Signs::System }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::{
        decode::decode,
        testing::{ADDRESS, DISCOVER, INFORM, Message, REQUEST, SERVER},
    };

    fn of(message: Message) -> Signs {
        let packet = message.bytes();
        signs(&decode(&packet).unwrap())
    }

    const TALOS: &[u8] = &[1, 3, 15, 6, 121, 119, 42, 26, 12];
    const UDHCPC: &[u8] = &[1, 3, 6, 12, 15, 28, 42];
    const RHEL: &[u8] = &[1, 28, 2, 121, 15, 6, 12, 40, 41, 42, 26, 119, 3];

    #[test]
    fn clients_by_what_they_ask_for() {
        let cases: &[(&str, &[u8], Signs)] = &[
            ("Talos", TALOS, Signs::Talos),
            ("Talos that publishes a host name", &[1, 3, 15, 6, 121, 119, 42, 26], Signs::Talos),
            ("udhcpc", UDHCPC, Signs::System),
            ("dhclient of RHEL", RHEL, Signs::System),
            ("dhclient of Debian", &[1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42], Signs::System),
            ("systemd-networkd", &[1, 3, 12, 15, 6, 26, 33, 42, 120, 121], Signs::System),
            ("Linux itself", &[1, 3, 6, 12, 15, 17, 26, 40, 42], Signs::System),
            ("Windows", &[1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252], Signs::System),
            ("an old Windows", &[1, 15, 3, 6, 44, 46, 47, 31, 33, 249, 43], Signs::System),
            ("UEFI's network stack", &[1, 3, 6], Signs::None),
            ("firmware that wants names", &[1, 3, 6, 12, 15, 28, 44, 119], Signs::None),
            ("an empty list", &[], Signs::None),
        ];
        for (name, list, expected) in cases {
            assert_eq!(of(Message::new(DISCOVER).option(55, list)), *expected, "{name}");
        }
        assert_eq!(of(Message::new(DISCOVER)), Signs::None, "no list");
        let class = Message::new(DISCOVER).option(55, TALOS).option(60, b"another");
        assert_eq!(of(class), Signs::System, "Talos sends no vendor class");
    }

    #[test]
    fn renewals_are_told_from_other_requests() {
        let request = |kind| Message::new(kind).option(55, UDHCPC);
        assert_eq!(of(request(REQUEST).ciaddr(ADDRESS)), Signs::Renewal);
        assert_eq!(of(request(REQUEST).address(50, ADDRESS).address(54, SERVER)), Signs::System, "it selects an offer");
        assert_eq!(of(request(REQUEST).address(50, ADDRESS)), Signs::System, "it has rebooted");
        assert_eq!(of(request(REQUEST).ciaddr(ADDRESS).address(54, SERVER)), Signs::System, "a mixture");
        assert_eq!(of(request(INFORM).ciaddr(ADDRESS)), Signs::System, "its address is not ours");
        assert_eq!(
            of(Message::new(REQUEST).ciaddr(ADDRESS).option(55, &[1, 3, 6])),
            Signs::None,
            "firmware renews too"
        );
        assert_eq!(of(Message::new(REQUEST).ciaddr(ADDRESS).option(55, TALOS)), Signs::Talos);
    }
}
