use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::*;
use crate::{
    cli::{
        shown::Shown,
        status::{
            live::{testing::machine, view::Key},
            machines::{Machine, Progress},
            select::Selection,
            watch::{self, Piece},
        },
    },
    model::testing::assert_golden,
};

fn second(number: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + number).unwrap()
}

/// Returns a fleet at most stages.
fn fleet() -> Vec<Machine> {
    let stages = [
        "running",
        "running",
        "loading-initramfs",
        "loading-kernel",
        "failed",
        "discovering",
        "booting",
        "on-disk",
        "scripted",
        "failed",
        "loading-loader",
        "running",
    ];
    let mut machines: Vec<_> =
        (1..).zip(stages).map(|(number, stage)| machine(number, stage, second(i64::from(number) * 10))).collect();
    // Number 6 has not moved on for long.
    machines[5].stage_since = second(-1_000);
    machines[2].progress = progress("initramfs", 71_000_000, Some(100_000_000));
    machines[3].progress = progress("kernel", 4_000_000, Some(20_000_000));
    machines[10].progress = progress("loader", 1, None);
    machines
}

fn progress(artifact: &str, done: u64, total: Option<u64>) -> Option<Progress> {
    Some(Progress { artifact: Shown::of(artifact), done, total })
}

fn event(number: u32, stage: &str, failure: bool, text: &str) -> Piece {
    let [_, _, high, low] = number.to_be_bytes();
    let json = serde_json::json!({
        "at": second(100 + i64::from(number)).to_string(), "mac": format!("52:54:00:00:{high:02x}:{low:02x}"),
        "stage": stage, "failure": failure, "text": text,
    });
    watch::read("boot", &json.to_string()).unwrap()
}

/// Returns a view of the fleet half a minute after the first look.
fn view(has_events: bool) -> View {
    let mut view = View::new("unix:/run/pxed/admin.sock", has_events, Selection::default(), None);
    let mut before = fleet();
    before[2].progress = progress("initramfs", 11_000_000, Some(100_000_000));
    view.list(before, second(115));
    view.list(fleet(), second(125));
    view.piece(event(3, "loading-initramfs", false, "asks for initramfs-v1.13.0-amd64.xz by HTTP"));
    view.piece(Piece::Missed(7));
    view.piece(event(10, "failed", true, "kernel \u{1b}]0;owned\u{7} failed: timed out"));
    view
}

fn drawn(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| _ = draw(frame, view, second(126))).unwrap();
    terminal
}

fn text(view: &View, width: u16, height: u16) -> String {
    let terminal = drawn(view, width, height);
    let buffer = terminal.backend().buffer();
    let line = |row| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    (0..height).map(|row| format!("{}\n", line(row).trim_end())).collect()
}

fn golden(name: &str, text: &str) {
    assert_golden(&format!("src/cli/status/live/frame/{name}.txt"), text);
}

#[test]
fn frame_shows_what_is_wrong_first() {
    golden("status-100x40", &text(&view(false), 100, 40));
    golden("watch-100x40", &text(&view(true), 100, 40));
    golden("status-80x24", &text(&view(false), 80, 24));
    golden("watch-80x24", &text(&view(true), 80, 24));
}

#[test]
fn frame_of_40_columns_is_readable() {
    golden("status-40x24", &text(&view(false), 40, 24));
    golden("watch-40x24", &text(&view(true), 40, 24));
}

#[test]
fn frame_says_that_the_connection_is_lost() {
    let mut view = view(true);
    view.lost("no pxed answers \u{1b}[2J", second(120));
    view.lost("later", second(125));
    let lost = text(&view, 100, 40);
    assert!(lost.contains("CONNECTION LOST 6s ago, trying again: later\n"), "{lost}");
    assert!(!lost.contains("MB/s"), "{lost}");
    view.list(fleet(), second(126));
    assert!(!text(&view, 100, 40).contains("LOST"));
}

#[test]
fn frame_of_any_size_is_drawn() {
    let mut large = View::new("http://127.0.0.1:8001", false, Selection::default(), None);
    let stages = ["failed", "running", "never-seen", "loading-kernel", "of-a-later-pxed"];
    let machines = (1..=10_000u32).map(|number| machine(number, stages[number as usize % 5], second(0)));
    large.list(machines.collect(), second(1));
    let empty = View::new("", true, Selection::default(), None);
    for view in [&large, &empty, &view(true), &view(false)] {
        for width in [1, 2, 7, 17, 39, 80, 300] {
            for height in [1, 2, 3, 5, 9, 100] {
                drawn(view, width, height);
            }
        }
    }
    golden("large-80x24", &text(&large, 80, 24));
}

#[test]
fn text_of_machines_never_controls_the_terminal() {
    for has_events in [false, true] {
        let text = text(&view(has_events), 300, 40);
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
        assert!(text.contains(r"\u{1b}[2J timed out"), "{text}");
        assert_eq!(text.contains(r"\u{1b}]0;owned\u{7}"), has_events, "{text}");
    }
}

#[test]
fn colour_is_drawn_where_it_is_wanted() {
    let mut view = view(true);
    let colours = |view: &View| {
        drawn(view, 80, 24).backend().buffer().content().iter().filter(|cell| cell.fg != Color::Reset).count()
    };
    assert!(colours(&view) > 20);
    view.has_colours = false;
    assert_eq!(colours(&view), 0);
}

#[test]
fn scrolling_stays_within_the_list() {
    let mut view = view(false);
    assert!(view.key(Key::Down, 5) && view.key(Key::PageDown, 5));
    assert_eq!(view.scroll, 6);
    assert!(text(&view, 100, 60).contains("machines: 12, from number 7"));
    for _ in 0..9 {
        view.key(Key::PageDown, 5);
    }
    assert_eq!(view.scroll, 11);
    view.key(Key::Home, 5);
    view.key(Key::Up, 5);
    assert_eq!(view.scroll, 0);
    // Of a stream, up leads back, and new events do not move what is looked at.
    let mut view = self::view(true);
    view.key(Key::Up, 5);
    view.piece(event(1, "running", false, "renews its address"));
    assert_eq!(view.scroll, 2);
    assert!(!text(&view, 100, 40).contains("renews"));
    view.key(Key::Home, 5);
    assert!(text(&view, 100, 40).contains("renews"));
    assert!(!view.key(Key::Quit, 5));
}
