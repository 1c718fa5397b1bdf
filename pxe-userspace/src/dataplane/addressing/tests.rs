use pxe_common::MacAddr;

use super::*;

const SITE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);
const OTHER_SITE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 251);

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// Returns an interface with these addresses, each as `10.0.0.2/24`.
fn interface(addresses: &[&str]) -> Interface {
    let addresses = addresses.iter().map(|text| {
        let (address, length) = text.split_once('/').unwrap();
        (ip(address), length.parse().unwrap())
    });
    Interface {
        name: "eth1".to_owned(),
        index: 7,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses: addresses.collect(),
        up: true,
        running: true,
        queues: 1,
        aggregate: false,
        strips_tags: false,
        has_vlans: false,
    }
}

fn of_node(advertised: &[&str]) -> Addressing {
    Addressing::OfNode { advertised: advertised.iter().map(|text| ip(text)).collect() }
}

/// Returns the addresses at which a node with these addresses serves the site, the one in its answers first; none if it does not.
fn served(addressing: &Addressing, addresses: &[&str], sites: &[Ipv4Addr]) -> Vec<String> {
    let (served, errors) = addressing.on(&interface(addresses), sites);
    assert_eq!(served.len() + errors.len(), sites.len());
    let found = served.iter().find(|served| served.site == SITE);
    found.map_or_else(Vec::new, |Served { own: OwnAddress { address, also }, .. }| {
        [address].into_iter().chain(&**also).map(ToString::to_string).collect()
    })
}

#[test]
fn address_of_the_spec_comes_first_then_the_advertised_one_then_the_own_one_in_the_network() {
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let cases: [Case<'_>; 19] = [
        ("own alone", &[], &["10.0.0.2/24"], &["10.0.0.2"]),
        ("that of the spec", &[], &["10.0.0.250/24"], &["10.0.0.250"]),
        ("virtual, beside the own one", &[], &["10.0.0.2/24", "10.0.0.250/32"], &["10.0.0.250", "10.0.0.2"]),
        ("virtual, with the mask of the network", &[], &["10.0.0.2/24", "10.0.0.250/24"], &["10.0.0.250", "10.0.0.2"]),
        ("the primary of two", &[], &["10.0.0.9/24", "10.0.0.2/24"], &["10.0.0.9"]),
        ("the smaller network", &[], &["10.0.0.9/8", "10.0.0.2/24"], &["10.0.0.2"]),
        ("the network that holds the site", &[], &["10.9.0.2/24", "10.0.0.2/24"], &["10.0.0.2"]),
        ("no network holds the site", &[], &["10.9.0.2/24"], &[]),
        ("a single address is in no network", &[], &["10.0.0.2/32"], &[]),
        ("no address", &[], &[], &[]),
        ("the wider network", &[], &["10.0.9.2/16"], &["10.0.9.2"]),
        ("advertised", &["10.0.0.3"], &["10.0.0.2/24", "10.0.0.3/24"], &["10.0.0.3", "10.0.0.2"]),
        ("advertised, the primary one", &["10.0.0.2"], &["10.0.0.2/24", "10.0.0.3/24"], &["10.0.0.2"]),
        ("advertised by another node", &["10.0.0.7"], &["10.0.0.2/24", "10.0.0.3/24"], &["10.0.0.2"]),
        (
            "the first of two advertised",
            &["10.0.0.4", "10.0.0.3"],
            &["10.0.0.3/24", "10.0.0.4/24"],
            &["10.0.0.4", "10.0.0.3"],
        ),
        ("advertised as a single address", &["10.0.0.3"], &["10.0.0.2/24", "10.0.0.3/32"], &["10.0.0.3", "10.0.0.2"]),
        ("advertised in another network", &["10.9.0.2"], &["10.9.0.2/24"], &["10.9.0.2"]),
        (
            "advertised in this network, and in another one",
            &["10.9.0.2", "10.0.0.3"],
            &["10.9.0.2/24", "10.0.0.2/24", "10.0.0.3/24"],
            &["10.0.0.3", "10.0.0.2"],
        ),
        (
            "all three",
            &["10.0.0.3"],
            &["10.0.0.2/24", "10.0.0.3/24", "10.0.0.250/32"],
            &["10.0.0.250", "10.0.0.2", "10.0.0.3"],
        ),
    ];
    for (name, advertised, addresses, expected) in cases {
        assert_eq!(served(&of_node(advertised), addresses, &[SITE]), expected, "{name}");
    }
}

#[test]
fn only_the_address_of_the_spec_counts_unless_there_are_several_nodes() {
    for (addresses, expected) in [
        (&["10.0.0.2/24"][..], &[][..]),
        (&["10.0.0.2/24", "10.0.0.250/32"], &["10.0.0.250"]),
        (&["10.0.0.250/24"], &["10.0.0.250"]),
    ] {
        assert_eq!(served(&Addressing::OfSpec, addresses, &[SITE]), expected, "{addresses:?}");
    }
    let (_, errors) = Addressing::OfSpec.on(&interface(&["10.0.0.2/24"]), &[SITE]);
    assert!(errors.len() == 1 && errors[0].may_pass(), "{errors:?}");
}

#[test]
fn address_of_another_site_is_not_chosen_while_the_node_has_one_of_its_own() {
    let sites = [SITE, OTHER_SITE];
    for (addresses, expected) in [
        (&["10.0.0.251/24", "10.0.0.2/24"][..], &["10.0.0.2"][..]),
        (&["10.0.0.251/24"], &["10.0.0.251"]),
        (&["10.0.0.251/24", "10.0.0.250/24"], &["10.0.0.250", "10.0.0.251"]),
    ] {
        assert_eq!(served(&of_node(&[]), addresses, &sites), expected, "{addresses:?}");
    }
}

#[test]
fn several_sites_may_be_served_at_one_address() {
    let (served, errors) = of_node(&[]).on(&interface(&["10.0.0.2/24"]), &[SITE, OTHER_SITE]);
    assert!(errors.is_empty());
    assert_eq!(
        served.iter().map(|served| (served.site, served.own.address)).collect::<Vec<_>>(),
        [(SITE, ip("10.0.0.2")), (OTHER_SITE, ip("10.0.0.2"))]
    );
}

#[test]
fn site_without_an_address_is_an_error_that_says_what_to_do() {
    let (served, errors) = of_node(&[]).on(&interface(&["10.0.0.2/24"]), &[SITE, ip("10.7.0.250")]);
    assert_eq!(served.len(), 1);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert!(!error.is_gone() && !error.may_pass());
    for part in ["eth1", "10.7.0.250", "it has: 10.0.0.2/24", "`ip address add ", "--advertise"] {
        assert!(error.to_string().contains(part), "no {part} in {error}");
    }
}

#[test]
fn choice_among_several_addresses_is_told() {
    let choices = |addressing: &Addressing, addresses: &[&str], sites: &[Ipv4Addr]| -> Vec<String> {
        addressing.choices(&interface(addresses), sites).collect()
    };
    let two = ["10.0.0.9/24", "10.0.0.2/24"];
    let [choice] = &choices(&of_node(&[]), &two, &[SITE])[..] else { panic!("not one choice") };
    for part in ["eth1", "10.0.0.9/24, 10.0.0.2/24", "10.0.0.9 serves", "10.0.0.250", "--advertise 10.0.0.2"] {
        assert!(choice.contains(part), "no {part} in {choice}");
    }
    for (addressing, addresses, sites) in [
        (Addressing::OfSpec, &two[..], &[SITE][..]),
        (of_node(&[]), &["10.0.0.2/24"], &[SITE]),
        (of_node(&[]), &["10.0.0.2/24", "10.0.0.250/24"], &[SITE]),
        (of_node(&[]), &["10.0.0.2/24", "10.0.0.251/24"], &[SITE, OTHER_SITE]),
        (of_node(&[]), &["10.0.0.2/24", "10.9.0.2/24"], &[SITE]),
    ] {
        assert!(choices(&addressing, addresses, sites).is_empty(), "{addresses:?}");
    }
}

#[test]
fn advertised_address_that_is_nowhere_is_told_where_none_is_used() {
    let (first, second) =
        (interface(&["10.0.0.2/24"]), Interface { name: "eth2".to_owned(), ..interface(&["10.9.0.2/24"]) });
    let both = [(&first, &[SITE][..]), (&second, &[Ipv4Addr::new(10, 9, 0, 250)][..])];
    let unused = |advertised: &[&str]| -> Vec<(String, Vec<String>)> {
        let unused = of_node(advertised).unused(both.iter().copied());
        unused
            .into_iter()
            .map(|unused| (unused.interface, unused.addresses.iter().map(ToString::to_string).collect()))
            .collect()
    };
    let nowhere = || vec!["10.9.0.3".to_owned()];
    assert_eq!(unused(&[]), []);
    assert_eq!(unused(&["10.0.0.2"]), []);
    assert_eq!(unused(&["10.0.0.2", "10.9.0.2"]), []);
    assert_eq!(unused(&["10.0.0.2", "10.9.0.3"]), [("eth2".to_owned(), nowhere())]);
    assert_eq!(unused(&["10.9.0.3"]), [("eth1".to_owned(), nowhere()), ("eth2".to_owned(), nowhere())]);
    // The list of all nodes, of which this one has one.
    assert_eq!(unused(&["10.0.0.2", "10.9.0.2", "10.9.0.3"]), []);
    // A node that has the addresses of the spec uses none.
    let addresses = [(&first, &[ip("10.0.0.2")][..])];
    assert_eq!(of_node(&["10.0.0.9"]).unused(addresses.iter().copied()), []);
    assert_eq!(Addressing::OfSpec.unused(both.iter().copied()), []);
}
