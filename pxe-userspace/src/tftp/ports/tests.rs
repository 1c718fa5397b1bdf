use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn ports(limit: usize) -> Ports {
    Ports::new(Ipv4Addr::LOCALHOST, None, limit).unwrap()
}

const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);

/// The bytes in flight of a transfer that shares, and of one that would not.
const SMALL: usize = SHARED_IN_FLIGHT;
const LARGE: usize = SHARED_IN_FLIGHT + 1;

/// Takes a port for a client without others.
fn take(ports: &mut Ports) -> PortId {
    ports.take(CLIENT, SMALL, |_| true).unwrap()
}

fn client() -> (UdpSocket, SocketAddrV4) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("IPv4") };
    (socket, address)
}

fn number(ports: &Ports, port: PortId) -> u16 {
    ports.local(port).unwrap().port()
}

#[test]
fn each_transfer_has_a_port_of_its_own_until_the_limit() {
    let mut ports = ports(50);
    let taken: Vec<_> = (0..50).map(|_| take(&mut ports)).collect();
    let numbers: HashSet<_> = taken.iter().map(|&port| number(&ports, port)).collect();
    assert_eq!(numbers.len(), 50);
    assert!(!numbers.contains(&number(&ports, PortId::REFUSALS)));
    // Neither in order nor close together, as a counter's would be.
    let (least, most) = (numbers.iter().min().unwrap(), numbers.iter().max().unwrap());
    assert!(most - least > 1_000, "{numbers:?}");
    // Beyond, they share.
    let shared: HashSet<_> = (0..200).map(|_| take(&mut ports)).collect();
    assert!(shared.len() > 20, "at random: {shared:?}");
    assert_eq!(ports.sockets(), 50);
}

#[test]
fn small_windows_share_and_large_ones_do_not() {
    let mut ports = ports(1_000);
    for _ in 0..FEW {
        let port = take(&mut ports);
        assert!(ports.client(port).is_some(), "there are few");
    }
    let shared: HashSet<_> = (0..10 * SHARED_LIMIT).map(|_| take(&mut ports)).collect();
    assert_eq!(shared.len(), SHARED_LIMIT);
    assert!(shared.iter().all(|&port| ports.client(port).is_none()));
    for _ in FEW..500 {
        let port = ports.take(CLIENT, LARGE, |_| true).unwrap();
        assert!(ports.client(port).is_some());
    }
    // Half of the sockets are in use.
    let beyond = ports.take(CLIENT, LARGE, |_| true).unwrap();
    assert!(shared.contains(&beyond));
}

#[test]
fn ports_are_closed_when_nobody_uses_any() {
    let mut ports = ports(10);
    let used: Vec<_> = (0..15).map(|_| take(&mut ports)).collect();
    let refusals = number(&ports, PortId::REFUSALS);
    for port in &used {
        ports.give_back(*port);
    }
    assert_eq!((ports.sockets(), number(&ports, PortId::REFUSALS)), (0, refusals));
    assert!(used.iter().all(|&port| ports.socket(port).is_none()));
    take(&mut ports);
}

#[test]
fn range_is_kept_to_and_shared_if_it_is_full() {
    // Others on this host may have some of them.
    let range: PortRange = "23450-23457".parse().unwrap();
    let mut ports = Ports::new(Ipv4Addr::new(127, 4, 4, 4), Some(range), 1000).unwrap();
    for _ in 0..100 {
        let port = take(&mut ports);
        assert!(range.ports().contains(&number(&ports, port)));
    }
    assert!(range.ports().contains(&number(&ports, PortId::REFUSALS)));
    assert!(ports.sockets() < 8);
}

#[test]
fn datagram_is_found_at_its_port() {
    let mut ports = ports(10);
    let used: Vec<_> = (0..10).map(|_| take(&mut ports)).collect();
    let mut ready = Ready::default();
    assert!(!ports.look(&mut ready));
    let (client, _) = client();
    client.send_to(b"x", ports.local(used[7]).unwrap()).unwrap();
    assert!(ports.look(&mut ready));
    assert_eq!(ready.ports().collect::<Vec<_>>(), [(used[7], false)]);
    ports.socket(used[7]).unwrap().recv(&mut [0; 8]).unwrap();
    assert!(!ports.look(&mut ready));
}

#[test]
fn own_port_takes_what_its_client_sends_and_nothing_else() {
    let mut ports = ports(10);
    let ((client, address), (stranger, _)) = (client(), client());
    let port = ports.take(address, SMALL, |_| true).unwrap();
    assert_eq!(ports.client(port), Some(address));
    let local = ports.local(port).unwrap();
    stranger.send_to(b"forged", local).unwrap();
    client.send_to(b"mine", local).unwrap();
    let mut received = [0; 8];
    assert_eq!(ports.socket(port).unwrap().recv(&mut received).unwrap(), 4);
    assert!(received.starts_with(b"mine") && !ports.look(&mut Ready::default()));
    // Another client gets another port, and the port is closed with its transfer.
    let other = take(&mut ports);
    ports.give_back(port);
    assert!(ports.socket(port).is_none() && ports.client(other) == Some(CLIENT));
}

#[test]
fn shared_port_is_connected_to_nobody() {
    let mut ports = ports(10);
    let own: Vec<_> = (0..5).map(|_| take(&mut ports)).collect();
    let shared: Vec<_> = (0..20).map(|_| take(&mut ports)).collect();
    assert!(own.iter().all(|&port| ports.client(port).is_some()));
    assert!(shared.iter().all(|&port| ports.client(port).is_none() && !own.contains(&port)));
    // An own one that is free again is not shared either.
    ports.give_back(own[0]);
    let next = take(&mut ports);
    assert!(ports.client(next).is_some());
}

#[test]
fn client_to_which_nothing_can_be_connected_shares() {
    let mut ports = ports(10);
    // A socket that is bound to 127.0.0.1 reaches no other host.
    let port = ports.take(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9), SMALL, |_| true).unwrap();
    assert_eq!((ports.client(port), ports.sockets(), ports.own), (None, 1, 0));
}

#[test]
fn client_that_does_not_receive_is_named() {
    for is_own in [true, false] {
        let mut ports = ports(if is_own { 4 } else { 1 });
        let gone = client().1;
        let port = ports.take(gone, SMALL, |_| true).unwrap();
        assert_eq!(ports.client(port).is_some(), is_own);
        let other = PortId::REFUSALS;
        ports.socket(port).unwrap().send_to(b"x", gone).unwrap();
        let mut ready = Ready::default();
        assert!(ports.look(&mut ready));
        assert_eq!(ready.ports().collect::<Vec<_>>(), [(port, true)]);
        assert_eq!(ports.unreachable_clients(other), []);
        assert_eq!(ports.unreachable_clients(port), [gone]);
        assert_eq!(ports.unreachable_clients(port), [], "once");
        // The socket itself reports it once more.
        let _ = ports.socket(port).unwrap().take_error();
        assert!(!ports.look(&mut ready));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// For any order of beginnings and ends: a port in use is open, no client has two transfers at one port, sockets stay within the limit,
    /// and none is left at the end.
    #[test]
    fn ports_in_use_are_open(
        limit in 1usize..6,
        steps in prop::collection::vec((0u8..3, prop::option::weighted(0.45, any::<prop::sample::Index>())), 0..300),
    ) {
        let mut ports = ports(limit);
        let mut used: Vec<(u8, PortId)> = Vec::new();
        for (client, step) in steps {
            match step {
                Some(which) if !used.is_empty() => ports.give_back(used.swap_remove(which.index(used.len())).1),
                _ => {
                    let others: Vec<_> = used.iter().filter(|(user, _)| *user == client).map(|(_, port)| *port).collect();
                    let sharing = others.iter().filter(|&&port| ports.client(port).is_none()).count();
                    let has_own = ports.own < limit / 2;
                    let taken = ports.take(CLIENT, SMALL, |port| !others.contains(&port));
                    prop_assert_eq!(taken.is_ok(), has_own || sharing < limit - limit / 2);
                    prop_assert!(!has_own || taken.as_ref().is_ok_and(|&port| ports.client(port).is_some()));
                    if let Ok(port) = taken {
                        prop_assert!(port != PortId::REFUSALS && !others.contains(&port));
                        used.push((client, port));
                    }
                }
            }
            prop_assert!(used.iter().all(|&(_, port)| ports.socket(port).is_some()));
            prop_assert!(ports.sockets() <= limit);
            let own = used.iter().filter(|&&(_, port)| ports.client(port).is_some()).count();
            prop_assert_eq!(ports.own, own);
            let shared = ports.shared.iter().collect::<HashSet<_>>();
            prop_assert!(shared.len() == ports.shared.len() && shared.iter().all(|&&port| ports.client(port).is_none()));
            prop_assert_eq!(shared.len() + own, ports.sockets());
        }
        for (_, port) in used {
            ports.give_back(port);
        }
        prop_assert_eq!(ports.sockets(), 0);
    }
}
