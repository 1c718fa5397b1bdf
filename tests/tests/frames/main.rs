//! Frames that no other test's client can send: VLAN tags, relays, malformed packets.
//!
//! Each test runs against the real `pxed` on one end of a veth pair; hand-made frames come from the other. No test waits
//! to prove silence: a good question follows, and its answer comes after all the others.

mod addresses;
mod bench;
mod capture;
mod disturbed;
mod elsewhere;
mod explained;
mod flood;
mod foreign;
mod history;
mod malformed;
mod own_addresses;
mod plug;
mod queues;
mod relay;
mod secrets;
mod spec_faults;
mod strangers;
mod stuck;
mod up;
mod virtual_address;
mod vlans;
mod wire;

use std::{net::SocketAddrV4, process::ExitCode};

use anyhow::ensure;
use pxe_lab::{
    Datapath,
    cluster::{Machine, SERVER},
    suite,
};

use crate::{
    bench::{Bench, OTHER_SERVER, OTHER_SERVER_MAC, SERVER_MAC, server_at},
    wire::{ACK, Query, REQUEST},
};

fn main() -> ExitCode {
    let everywhere = suite::on_datapaths(
        &Datapath::ALL,
        &[
            ("vlan_tags_come_back", vlans::tags_come_back),
            ("request_on_another_vlan_is_left_alone_and_reported", vlans::others),
            ("vlans_of_the_spec_come_and_go", vlans::come_and_go),
            ("vlans_of_one_cluster_are_not_those_of_another", vlans::of_another_cluster),
            ("relayed_question_is_answered_through_its_relay", relay::relayed),
            ("server_id_override", relay::server_id_override),
            ("link_selection", relay::link_selection),
            ("answer_is_for_the_machine_alone", secrets::for_the_machine_alone),
            ("unguessable_url_is_for_the_machine_alone", secrets::urls),
            ("relay_source_port", relay::relay_source_port),
            ("relayed_proxy_offer_is_to_be_broadcast", relay::relayed_proxy_offer),
            ("malformed_packets_are_counted_and_survived", malformed::survived),
            ("jumbo_frames_are_survived", malformed::jumbo),
            ("renewal_at_another_server_is_left_alone", renewal_at_another_server),
            ("request_to_a_foreign_address_is_left_alone", addresses::another_servers),
            ("request_to_any_address_of_ours_is_answered_from_there", addresses::all_ours),
            ("address_of_the_interface_comes_and_goes", addresses::come_and_go),
            ("virtual_server_address_is_served", virtual_address::served),
            ("virtual_server_address_moves_between_hosts", virtual_address::moves),
            ("virtual_server_address_alone_is_warned_of", virtual_address::alone),
            ("nodes_name_their_own_addresses", own_addresses::named),
            ("node_boots_machines_alone_at_its_own_address", own_addresses::boots),
            ("address_of_the_spec_moves_between_nodes", own_addresses::moves),
            ("renewal_at_a_former_address_keeps_its_server", own_addresses::renewed),
            ("node_without_an_address_in_the_network_says_so", own_addresses::missing),
            ("mistakes_of_a_spec_leave_others_served", spec_faults::leave_others_alone),
            ("machine_on_the_wrong_interface_gets_nothing", disturbed::wrong_interface),
            ("strangers_are_named_with_the_machine_that_is_meant", strangers::named),
            ("flood_of_one_machine_harms_no_other", flood::of_one_machine),
            ("flood_of_strangers_takes_no_memory", flood::of_strangers),
            ("flood_in_a_machines_name_harms_it_not", elsewhere::flood),
            ("pxed_that_is_killed_in_the_middle_of_a_boot_knows_it_afterwards", history::killed),
            ("frames_of_others_change_nothing_of_a_machines", elsewhere::changes_nothing),
            ("interface_that_goes_down_is_served_again", disturbed::down_and_up),
            ("address_that_comes_back_is_served_again", disturbed::address_lost),
            ("replies_come_from_a_changed_mac", disturbed::another_mac),
            ("replaced_interface_is_served_again", disturbed::replaced),
            ("renamed_interface_is_missed_and_served_again_under_its_name", disturbed::renamed),
            ("interface_with_another_mtu_is_served_again", disturbed::other_mtu),
            ("failed_look_at_the_kernel_disturbs_nothing", disturbed::failed_look),
            ("machine_that_does_not_boot_is_explained", explained::explained),
            ("capture_has_the_whole_boot_of_one_machine", capture::boot),
            ("capture_says_why_a_frame_is_left_unanswered", capture::unanswered),
            ("capture_has_what_the_program_drops", capture::dropped),
            ("capture_of_a_killed_pxed_opens", capture::killed),
            ("queues_are_all_answered", queues::all_answered),
            ("added_queue_is_answered", queues::added),
            ("queues_beyond_the_limit_are_named", queues::too_many),
        ],
    );
    let with_rings = suite::on_datapaths(
        &Datapath::WITH_PROGRAM,
        &[
            ("stuck_transmitter_costs_replies_and_no_query", stuck::stuck_transmitter),
            ("vlan_tags_that_the_card_takes_out_are_named", vlans::stripped),
        ],
    );
    let automatic = [
        suite::test("foreign_program_that_leaves_makes_room_for_ours", foreign::program_that_leaves),
        suite::test("machine_whose_talos_api_answers_is_up", up::verified),
        suite::test("transfer_that_stands_still_is_explained", explained::stand_still),
        suite::test("address_of_two_hosts_is_explained", explained::of_two_hosts),
        suite::test("address_of_another_card_or_router_is_explained", explained::of_another_card_or_router),
        suite::test("loader_that_leads_nowhere_is_explained", explained::lead_nowhere),
        suite::test("machine_in_the_wrong_place_is_explained", explained::in_the_wrong_place),
        suite::test("machine_of_another_dhcp_server_is_explained", explained::beside_another_server),
        suite::test("files_that_are_missing_or_changed_are_explained", explained::missing_or_changed),
        suite::test("machine_that_stays_where_it_is_is_explained", explained::stay_where_they_are),
        suite::test("machine_that_stays_with_another_program_is_explained", explained::stay_with_other_programs),
        suite::test("loader_with_an_odd_name_is_explained", explained::have_odd_names),
        suite::test("loader_that_leads_to_no_script_is_explained", explained::lead_to_no_script),
        suite::test("file_that_is_not_as_verified_is_explained", explained::not_as_verified),
        suite::test("file_that_is_not_verified_in_time_is_explained", explained::not_verified_in_time),
        suite::test("machine_of_another_node_is_explained", explained::of_another_node),
        suite::test("machine_beside_an_unexpected_dhcp_server_is_explained", explained::beside_an_unexpected_server),
        suite::test("machine_that_boots_from_its_disk_is_explained", explained::boot_from_their_disks),
    ];
    suite::main(everywhere.into_iter().chain(with_rings).chain(automatic).collect())
}

/// RFC 2131 §4.3.6: a client renews by unicast at the server that gave it the lease. Such a frame comes by if this host
/// routes or bridges it, or if a switch floods it.
fn renewal_at_another_server(datapath: Datapath) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let machine = Machine::number(1);
    let pxed = bench.pxed(datapath, std::slice::from_ref(&machine), &["--machine-rate", "0"])?;
    let plug = bench.plug()?;
    let renewal = || -> anyhow::Result<Query> {
        let ciaddr = machine.address.parse()?;
        Ok(Query {
            ciaddr,
            source: SocketAddrV4::new(ciaddr, 68),
            destination: server_at(67)?,
            ethernet_destination: SERVER_MAC,
            ..Query::discover(&machine)?.with(&[(53, &[REQUEST])])
        })
    };
    let elsewhere = |ethernet_destination| -> anyhow::Result<Vec<u8>> {
        let destination = SocketAddrV4::new(OTHER_SERVER, 67);
        Ok(Query { destination, ethernet_destination, ..renewal()? }.frame())
    };
    let before = pxed.metrics()?;
    let probe = Query::discover(&machine)?;
    let replies = plug.replies_to(&[elsewhere(OTHER_SERVER_MAC)?, elsewhere(SERVER_MAC)?], &probe)?;
    ensure!(replies.is_empty(), "another server's renewals were answered: {replies:?}");
    let counted = bench::frames(&pxed.metrics()?, "for_another_server") - bench::frames(&before, "for_another_server");
    ensure!(counted == 2.0, "counted {counted} instead of both");

    let ack = plug.ask(&renewal()?)?;
    let from_us_to_it =
        ack.source == server_at(67)? && ack.destination.to_string() == format!("{}:68", machine.address);
    ensure!(ack.kind() == Some(ACK) && from_us_to_it, "our own renewal at {SERVER}: {ack:?}");
    ensure!(ack.ethernet_destination == wire::mac(&machine.mac)?, "to the wrong host: {ack:?}");
    Ok(())
}
