use super::*;

const SITE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

fn node(number: u8) -> Node {
    let sites = Sites::from([(SITE, Ipv4Addr::new(10, 0, 0, number))]);
    Node { name: format!("node-{number}").into(), sites, is_alive: true, ..Node::default() }
}

fn nodes(this: u8, peers: impl IntoIterator<Item = u8>) -> Nodes {
    Nodes::new(node(this), peers.into_iter().map(node))
}

/// The machines of a rack: MAC addresses in a row, as vendors give them.
fn machines(count: u32) -> impl Iterator<Item = MacAddr> {
    (0..count).map(|number| {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr([0x9c, 0xdc, 0x71, a, b, c])
    })
}

/// Returns the number of the owner among nodes with these numbers, as each of them sees it.
fn owner(numbers: &[u8], mac: MacAddr) -> u8 {
    let views = numbers.iter().map(|&this| {
        let nodes = nodes(this, numbers.iter().copied().filter(|&number| number != this));
        match nodes.owner(SITE, mac) {
            Owner::This => this,
            Owner::Peer(_, address) => address.expect("the site is served").octets()[3],
        }
    });
    let views: Vec<u8> = views.collect();
    assert!(views.iter().all(|view| *view == views[0]), "{mac}: {views:?}");
    views[0]
}

/// The table that holds all versions and architectures to one function. Its values are those of an implementation in Python.
#[test]
fn ranks_are_the_same_on_every_node() {
    for (server, mac, expected) in [
        ([10, 0, 0, 1], [0x52, 0x54, 0x00, 0x12, 0x34, 0x56], 0x96e9_6e26_b1cb_f96f),
        ([10, 0, 0, 1], [0x02, 0x00, 0x00, 0x00, 0x00, 0x01], 0xf4d3_a0fd_0ad5_c49f),
        ([10, 0, 0, 1], [0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], 0xcd77_7451_5f63_6c36),
        ([10, 0, 0, 2], [0x52, 0x54, 0x00, 0x12, 0x34, 0x56], 0x0fcb_82fc_4a71_73a8),
        ([10, 0, 0, 2], [0x02, 0x00, 0x00, 0x00, 0x00, 0x01], 0xb72c_72c2_5f5c_03cc),
        ([10, 0, 0, 2], [0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], 0x67a7_9473_c216_455b),
        ([192, 168, 40, 254], [0x52, 0x54, 0x00, 0x12, 0x34, 0x56], 0x91be_4d22_9465_a35e),
        ([192, 168, 40, 254], [0x02, 0x00, 0x00, 0x00, 0x00, 0x01], 0x179d_f8fa_9659_3c46),
        ([192, 168, 40, 254], [0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], 0xf78f_f10a_3e1d_ec11),
    ] {
        assert_eq!(rank(Ipv4Addr::from(server), MacAddr(mac)).0, expected, "{server:?} {mac:x?}");
    }
    // The published first value of SplitMix64 with seed 0, and of FNV-1a.
    assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    assert_eq!(fold(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn machines_are_shared_evenly_and_all_nodes_agree() {
    for count in 2..=7_u8 {
        let numbers: Vec<u8> = (1..=count).collect();
        let mut owned = [0_u32; 8];
        for mac in machines(4_000) {
            owned[usize::from(owner(&numbers, mac))] += 1;
        }
        let expected = 4_000 / u32::from(count);
        for number in numbers {
            // Five standard deviations of a fair draw.
            let deviation = owned[usize::from(number)].abs_diff(expected);
            assert!(f64::from(deviation) < 5.0 * f64::from(expected).sqrt(), "{count} nodes: {owned:?}");
        }
    }
}

#[test]
fn leaving_node_moves_its_own_machines_and_no_others() {
    let mut moved = 0;
    for mac in machines(4_000) {
        let (before, after) = (owner(&[1, 2, 3, 4], mac), owner(&[1, 2, 4], mac));
        assert!(before == 3 || before == after, "{mac}: {before} → {after}");
        moved += u32::from(before == 3);
        // A node that dies counts like one that leaves.
        let mut peers = [2, 3, 4].map(node);
        peers[1].is_alive = false;
        assert_eq!(Nodes::new(node(1), peers).owner(SITE, mac), nodes(1, [2, 4]).owner(SITE, mac));
    }
    assert!((900..1_100).contains(&moved), "{moved}");
}

#[test]
fn node_alone_owns_every_machine() {
    let mut dead = node(2);
    dead.is_alive = false;
    // The same address twice: a list that names this node, too.
    let itself = Node { name: "other".into(), ..node(1) };
    for alone in [Nodes::default(), nodes(1, []), Nodes::new(node(1), [dead]), Nodes::new(node(1), [itself])] {
        for mac in machines(100) {
            assert_eq!(alone.owner(SITE, mac), Owner::This);
            assert_eq!(alone.peer_that_owns(SITE, Ipv4Addr::new(10, 0, 0, 1), mac), None);
        }
        assert!(alone.owns_key("TalosCluster default/metal"));
    }
}

#[test]
fn node_that_does_not_serve_a_site_owns_no_machine_of_it() {
    let idle = Node { sites: Sites::new(), ..node(2) };
    let elsewhere =
        Node { sites: Sites::from([(Ipv4Addr::new(10, 1, 0, 254), Ipv4Addr::new(10, 1, 0, 3))]), ..node(3) };
    let this_one = Nodes::new(node(1), [idle.clone(), elsewhere.clone()]);
    let other = Nodes::new(idle.clone(), [node(1), elsewhere.clone()]);
    let nobody = Nodes::new(idle, [elsewhere]);
    let mut spoken_for = 0;
    for mac in machines(100) {
        assert_eq!(this_one.owner(SITE, mac), Owner::This);
        assert_eq!(other.owner(SITE, mac), Owner::Peer(&node(1), Some(Ipv4Addr::new(10, 0, 0, 1))));
        spoken_for += u32::from(nobody.owner(SITE, mac) == Owner::This);
    }
    assert!((20..80).contains(&spoken_for), "{spoken_for}");
}

#[test]
fn keys_are_shared_and_all_nodes_agree() {
    let mut owned = [0_u32; 4];
    for number in 0..3_000 {
        let key = format!("TalosCluster default/rack-{number}");
        let owners = [(1, [2, 3]), (2, [3, 1]), (3, [1, 2])].map(|(this, peers)| nodes(this, peers).owns_key(&key));
        assert_eq!(owners.iter().filter(|owns| **owns).count(), 1, "{key}");
        owned[owners.iter().position(|owns| *owns).expect("one owns it") + 1] += 1;
    }
    assert!(owned[1..].iter().all(|count| (850..1_150).contains(count)), "{owned:?}");
}

#[test]
fn peers_are_known_by_their_server_addresses() {
    let mut peers = [2, 3].map(node);
    peers[1].is_alive = false;
    let nodes = Nodes::new(node(1), peers.clone());
    assert_eq!(nodes.peer_at(Ipv4Addr::new(10, 0, 0, 2)), Some(&peers[0]));
    assert_eq!(nodes.peer_at(Ipv4Addr::new(10, 0, 0, 3)), Some(&peers[1]));
    for stranger in [[10, 0, 0, 1], [10, 0, 0, 254], [10, 0, 0, 4]] {
        assert_eq!(nodes.peer_at(Ipv4Addr::from(stranger)), None);
    }
}

#[test]
fn peers_with_one_name_count_once() {
    let double = Node { name: "node-2".into(), ..node(9) };
    let nodes = Nodes::new(node(1), [node(2), double]);
    assert_eq!(nodes.peers(), [node(2)]);
}

/// A figure, not a test: `cargo test --release -p pxe-userspace --lib model::nodes -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn choice_cost() {
    let macs: Vec<MacAddr> = machines(100_000).collect();
    for peers in [0, 1, 2, 9] {
        let nodes = nodes(1, 2..2 + peers);
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let mut best = f64::MAX;
        for _ in 0..20 {
            let begun = std::time::Instant::now();
            let owned = macs.iter().filter(|mac| {
                nodes.peer_that_owns(SITE, std::hint::black_box(server), std::hint::black_box(**mac)).is_none()
            });
            std::hint::black_box(owned.count());
            best = best.min(begun.elapsed().as_nanos() as f64 / macs.len() as f64);
        }
        println!("{peers} peers: {best:.1} ns to find the owner of a machine");
    }
}
