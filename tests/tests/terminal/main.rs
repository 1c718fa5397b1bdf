//! The clients of a running pxed as people use them: on a terminal, and into pipes.

mod decide;
mod desk;
mod live;
mod unread;

use std::process::ExitCode;

use pxe_lab::suite;

fn main() -> ExitCode {
    suite::main_interleaved(vec![
        suite::test("live_view_shows_the_machines_and_a_key_ends_it", live::status),
        suite::test("live_view_of_events_shows_what_happens_and_a_key_ends_it", live::watch),
        suite::test("live_view_that_a_signal_ends_gives_the_terminal_back", live::signals),
        suite::test("live_view_says_when_pxed_is_gone", live::lost),
        suite::test("selection_is_changed_after_a_yes_at_the_terminal_alone", decide::asks),
        suite::test("selection_without_a_terminal_needs_a_word", decide::without_terminal),
        suite::test("output_that_nobody_reads_any_more_ends_a_client_that_waits", unread::waiting),
        suite::test("output_that_nobody_reads_any_more_ends_a_client_that_prints", unread::printing),
    ])
}
