//! pxed in a Kubernetes cluster: a real API server, and machines that boot from its objects.

mod api_server;
mod away;
mod boots;
mod clocks;
mod commands;
mod fleet;
mod installations;
mod liar;
mod lies;
mod membership;
mod pod;
mod scale;
mod spec;
mod status;
mod storm;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    suite::main_interleaved(vec![
        suite::test("api_server_holds_accounts_to_their_roles", api_server::roles),
        suite::test("api_server_refuses_tokens_that_have_ended", api_server::tokens),
        suite::test("api_server_keeps_its_objects_while_it_is_away", api_server::away),
        suite::test("api_server_is_cut_off_from_one_node_alone", api_server::partition),
        suite::test("account_of_the_chart_may_do_what_pxed_needs_and_no_more", api_server::chart),
        suite::test("nodes_know_each_other_by_their_leases", membership::membership),
        suite::test("nodes_whose_clocks_differ_live_while_they_renew", clocks::differ),
        suite::test("operator_makes_machines_and_its_stale_writes_are_refused", api_server::operator),
        suite::test("spec_in_the_api_is_served_and_followed", spec::changes),
        suite::test("spec_serves_on_while_the_api_is_away", spec::away),
        suite::test("spec_waits_for_its_definitions", spec::definitions),
        suite::test("conditions_and_events_tell_what_happened_beside_the_operator", status::told),
        suite::test("policy_lives_in_the_api", status::policy),
        suite::test("machine_that_is_deleted_while_it_loads_harms_no_other", boots::deleted_while_it_loads),
        suite::test("killed_api_server_delays_changes_and_no_boot", away::killed),
        suite::test("partition_delays_changes_and_no_boot", away::partition),
        suite::test("partition_of_one_of_two_nodes_costs_no_boot", away::partition_of_one_of_two),
        suite::test("start_without_the_api_server_serves_what_the_last_run_knew", away::start_without_it),
        suite::test("change_among_ten_thousand_machines_is_in_the_map_soon", scale::ten_thousand),
        suite::test("cluster_of_kubectl_boots_machines_through_two_nodes", boots::through_two_nodes),
        suite::test("node_killed_in_a_storm_costs_no_boot", storm::one_node_is_killed),
        suite::test("two_installations_share_a_cluster", installations::two),
        suite::test("service_account_of_a_pod_suffices_and_is_read_again", pod::service_account),
        suite::test("validate_and_fetch_read_the_api", commands::read_the_api),
        suite::test("server_that_lies_and_floods_harms_no_known_machine", lies::every_lie_is_borne),
    ])
}
