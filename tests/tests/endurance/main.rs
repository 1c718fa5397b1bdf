//! Bad luck that needs no attacker: a log that nobody reads, descriptors that run out, a damaged state file. Boots go on.

mod connections;
mod descriptors;
mod files;
mod history;
mod idle;
mod interfaces;
mod memory;
mod place;
mod soak;
mod state;
mod storms;
mod unread_log;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    if let Some(code) = soak::alone() {
        return code;
    }
    suite::main_interleaved(vec![
        // The longest first: the others run beside it.
        suite::test("soak_loses_no_machine_and_memory_does_not_grow", soak::loses_nothing),
        suite::test("storm_survives_kills_and_no_machine_boots_twice", storms::killed),
        suite::test("link_that_loses_repeats_and_reorders_frames_lets_every_machine_boot", storms::bad_link),
        suite::test("unread_log_stops_nothing_and_its_gap_is_counted", || unread_log::stops_nothing("text")),
        suite::test("unread_json_log_stops_nothing_and_its_gap_is_counted", || unread_log::stops_nothing("json")),
        suite::test("unread_log_does_not_delay_the_end", unread_log::does_not_delay_the_end),
        suite::test("unwritable_log_stops_nothing", unread_log::unwritable),
        suite::test("few_descriptors_and_many_idle_connections_let_a_machine_boot_256", || descriptors::few("256")),
        suite::test("few_descriptors_and_many_idle_connections_let_a_machine_boot_1024", || descriptors::few("1024")),
        suite::test("connections_by_the_thousand_let_a_machine_boot_as_usual", connections::by_the_thousand),
        suite::test("used_up_descriptors_are_waited_for", descriptors::used_up),
        suite::test("interface_that_is_down_is_the_reason_why_pxed_is_not_ready", interfaces::down),
        suite::test("damaged_state_is_set_aside_and_salvaged", state::damaged),
        suite::test("state_that_is_no_file_is_set_aside_or_named_and_never_waited_for", files::state),
        suite::test("option_that_names_no_file_is_an_error_and_never_waited_for", files::options),
        suite::test("entry_that_is_no_file_is_named_and_the_rest_is_served", files::entries),
        suite::test("file_that_is_overwritten_does_not_arrive_as_a_whole", files::overwritten),
        suite::test("unwritable_state_is_told_of_and_tried_again", state::unwritable),
        suite::test("unwritable_history_costs_its_events_alone_and_is_told_of_once", history::unwritable),
        suite::test("idle_daemon_sleeps", idle::sleeps),
        suite::test("little_memory_bears_twenty_thousand_half_open_connections", memory::half_open_connections),
        suite::test("stalled_download_does_not_delay_the_end", unread_log::stalled_download),
    ])
}
