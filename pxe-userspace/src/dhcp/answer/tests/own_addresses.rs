//! A server with several addresses of ours: an address may have moved to us after a machine got its offer or its lease.

use std::net::SocketAddrV4;

use super::*;
use crate::dhcp::Arrival;

/// The address by which machines may know the server from before.
const FORMER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);

fn moved() -> Server {
    Server { also: [FORMER].into(), ..server() }
}

/// Returns the addresses of a query that a client sends to one host.
fn to(destination: Ipv4Addr) -> Arrival {
    Arrival::between(SocketAddrV4::new(ADDRESS, 68), SocketAddrV4::new(destination, 67))
}

/// Asks a server with another address, by firmware that boots by PXE.
fn ask_moved(message: Message, arrival: &Arrival) -> (Outcome, Option<Seen>) {
    ask(message, arrival, &machine(), FromNetwork, &moved())
}

#[test]
fn offer_names_the_usual_address() {
    let (_, seen) = ask_moved(Message::new(DISCOVER).firmware("PXEClient", 7), &from_nowhere());
    let seen = seen.unwrap();
    assert_eq!((seen.address(54), seen.field_address(field::SIADDR)), (Some(SERVER), SERVER));
}

#[test]
fn request_that_names_a_former_address_is_answered_by_the_server_at_that_address() {
    let (outcome, seen) = ask_moved(
        Message::new(REQUEST).firmware("PXEClient", 7).address(50, ADDRESS).address(54, FORMER),
        &from_nowhere(),
    );
    let (sent, seen) = (outcome.verdict.unwrap(), seen.unwrap());
    assert_eq!(sent.message, MessageType::Ack);
    assert_eq!(*sent.source.ip(), FORMER);
    assert_eq!((seen.address(54), seen.field_address(field::SIADDR)), (Some(FORMER), FORMER));
    assert_eq!(seen.text(66), FORMER.to_string());
}

#[test]
fn renewal_at_a_former_address_keeps_its_server() {
    let renewal = || Message::new(REQUEST).ciaddr(ADDRESS);
    for (destination, expected) in [(FORMER, FORMER), (SERVER, SERVER), (Ipv4Addr::BROADCAST, SERVER)] {
        let (outcome, seen) = ask_moved(renewal(), &to(destination));
        assert_eq!(*outcome.verdict.unwrap().source.ip(), expected);
        assert_eq!(seen.unwrap().address(54), Some(expected), "sent to {destination}");
    }
    // Without a former address, an address of the interface is nobody's server.
    let (_, seen) = ask(renewal(), &to(FORMER), &machine(), FromNetwork, &server());
    assert_eq!(seen.unwrap().address(54), Some(SERVER));
}

#[test]
fn request_that_names_another_server_is_not_answered_whatever_address_it_is_sent_to() {
    let (outcome, _) = ask_moved(Message::new(REQUEST).address(50, ADDRESS).address(54, OTHER), &to(FORMER));
    assert_eq!(outcome.verdict, Err(Reason::OtherServer));
    let (outcome, _) = ask(
        Message::new(REQUEST).address(50, ADDRESS).address(54, FORMER),
        &from_nowhere(),
        &machine(),
        FromNetwork,
        &server(),
    );
    assert_eq!(outcome.verdict, Err(Reason::OtherServer));
}

#[test]
fn scripts_of_a_former_address_lead_back_there() {
    let (_, seen) = ask_moved(
        Message::new(REQUEST).firmware("PXEClient", 7).option(77, b"iPXE").address(50, ADDRESS).address(54, FORMER),
        &from_nowhere(),
    );
    let seen = seen.unwrap();
    assert!(seen.text(67).starts_with(&format!("http://{FORMER}:8000/")), "{}", seen.text(67));
}

#[test]
fn relay_that_asks_at_a_former_address_learns_the_usual_one() {
    let arrival = Arrival::between(SocketAddrV4::new(RELAY, 67), SocketAddrV4::new(FORMER, 67));
    let (outcome, seen) = ask_moved(Message::new(DISCOVER).giaddr(RELAY), &arrival);
    assert_eq!(*outcome.verdict.unwrap().source.ip(), FORMER);
    assert_eq!(seen.unwrap().address(54), Some(SERVER));
    // An answer to one of our own addresses would come back to us.
    let (outcome, _) = ask_moved(Message::new(DISCOVER).giaddr(FORMER), &arrival);
    assert_eq!(outcome.verdict, Err(Reason::BadRelay));
}
