//! Draws the live view. Pure: the same view, time and size give the same frame.

use jiff::Timestamp;
use ratatui::{
    Frame,
    layout::Rect,
    style::Modifier,
    text::{Line as Text, Span},
    widgets::Paragraph,
};

use super::{
    estimate::{rate_text, remaining_text},
    sections::{self, Section},
    style::{bold, style},
    view::{Line, Link, View},
};
use crate::cli::status::{
    colour::Tone,
    machines::State,
    table::elapsed,
    watch::{Event, missed_text, text_of},
};

/// The lines of the event stream that are kept free for it.
const EVENTS_LEAST: usize = 4;
/// A terminal below this width gets short lines.
const NARROW: usize = 72;

/// Draws one frame. Returns the number of lines that a page has.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, now: Timestamp) -> usize {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut lines = heading(view, width, now);
    let footer = footer(view, width);
    let room = height.saturating_sub(lines.len() + 1);
    // The stream gets the rest, and half of the room at least where there is much to say.
    let of_events = if view.has_events { (room / 2).min(view.events.len().max(EVENTS_LEAST) + 2) } else { 0 };
    let of_sections = room - of_events;
    let (blocks, page) = fit(sections::of(view, width, now), of_sections);
    lines.extend(blocks);
    let page = if view.has_events {
        let room = height.saturating_sub(lines.len() + 1);
        lines.extend(events(view, room, width));
        room.saturating_sub(1)
    } else {
        page
    };
    lines.truncate(height.saturating_sub(1));
    let body = Rect { height: area.height.saturating_sub(1), ..area };
    frame.render_widget(Paragraph::new(lines), body);
    let bottom = Rect { y: area.y + area.height.saturating_sub(1), height: area.height.min(1), ..area };
    frame.render_widget(Paragraph::new(footer), bottom);
    page.max(1)
}

/// Returns the lines of the sections that there is room for, and the number of lines of the last one. Each gets its least first, in the order of
/// importance; then each gets more.
fn fit(sections: Vec<Section>, room: usize) -> (Vec<Text<'static>>, usize) {
    let mut left = room;
    let mut given = vec![0; sections.len()];
    for (given, section) in given.iter_mut().zip(&sections) {
        // The title is a line, and so is the one before it.
        let least = section.lines.len().min(section.least) + 2;
        if !section.lines.is_empty() && least <= left {
            *given = least;
            left -= least;
        }
    }
    for (given, section) in given.iter_mut().zip(&sections) {
        if *given > 0 {
            let more = (section.lines.len() + 2 - *given).min(left);
            *given += more;
            left -= more;
        }
    }
    let mut lines = Vec::new();
    let mut page = 0;
    for (given, Section { title, lines: rows, hidden, .. }) in given.into_iter().zip(sections) {
        let Some(shown) = given.checked_sub(2) else { continue };
        lines.push(Text::default());
        let cut = hidden + rows.len().saturating_sub(shown);
        let more = if cut > 0 { format!("  ({cut} more)") } else { String::new() };
        lines.push(Text::from(Span::styled(format!("{title}{more}"), bold())));
        lines.extend(rows.into_iter().take(shown));
        page = shown;
    }
    (lines, page)
}

fn heading(view: &View, width: usize, now: Timestamp) -> Vec<Text<'static>> {
    let clock = now.strftime("%H:%M:%S UTC").to_string();
    let title = format!("pxed  {}", view.place);
    let room = width.saturating_sub(clock.len() + 1);
    let title: String = title.chars().take(room).collect();
    let first = Text::from(Span::styled(format!("{title:<room$} {clock}"), bold()));
    let count = |wanted: State| view.machines.iter().filter(|machine| machine.state(now) == wanted).count();
    let machines = view.machines.len();
    let mut counts = vec![Span::raw(format!("{machines} {}", if machines == 1 { "machine" } else { "machines" }))];
    for (state, name) in [
        (State::Failed, "failed"),
        (State::Stuck, "stuck"),
        (State::Busy, "on the way"),
        (State::Good, "done"),
        (State::Unseen, "not seen"),
    ] {
        let count = count(state);
        if count > 0 {
            counts.push(Span::raw("  "));
            counts.push(Span::styled(format!("{count} {name}"), style(view, state.tone())));
        }
    }
    let third = match &view.link {
        Link::Lost { since, why } => {
            let since = elapsed(*since, now);
            let style = style(view, Tone::Bad).add_modifier(Modifier::REVERSED);
            Text::from(Span::styled(format!("CONNECTION LOST {since} ago, trying again: {why}"), style))
        }
        Link::Up => {
            let rate = view.estimate.throughput(now).map_or_else(|| "-".to_owned(), rate_text);
            Text::from(format!("{rate}  {}", remaining_text(view.estimate.remaining(now))))
        }
    };
    // Of a narrow terminal's line, the rest is the next line.
    [vec![first], wrapped(counts, width), vec![third]].concat()
}

/// Breaks a line between its spans.
fn wrapped(spans: Vec<Span<'static>>, width: usize) -> Vec<Text<'static>> {
    let mut lines = vec![Text::default()];
    for span in spans {
        let Some(last) = lines.last_mut() else { break };
        if last.width() + span.width() <= width || last.width() == 0 {
            last.push_span(span);
        } else {
            lines.push(if span.content.trim().is_empty() { Text::default() } else { Text::from(span) });
        }
    }
    lines
}

fn events(view: &View, room: usize, width: usize) -> Vec<Text<'static>> {
    if room < 2 {
        return Vec::new();
    }
    let shown = room.saturating_sub(2);
    let back = if view.scroll > 0 { format!("  ({} back)", view.scroll) } else { String::new() };
    let mut lines = vec![Text::default(), Text::from(Span::styled(format!("events (UTC){back}"), bold()))];
    if view.events.is_empty() {
        lines.push(Text::from(Span::styled("none so far", style(view, Tone::Faint))));
    }
    let end = view.events.len().saturating_sub(view.scroll);
    for line in view.events.iter().take(end).skip(end.saturating_sub(shown)) {
        lines.push(match line {
            Line::Missed(missed) => Text::from(Span::styled(missed_text(*missed), style(view, Tone::Warning))),
            Line::Boot(event) => {
                let tone = if event.failure { Tone::Bad } else { Tone::Plain };
                let line = if width >= NARROW { text_of(event) } else { short(event) };
                Text::from(Span::styled(line, style(view, tone)))
            }
        });
    }
    lines
}

/// Formats an event for a narrow terminal.
fn short(event: &Event) -> String {
    let Event { at, mac, text, .. } = event;
    // The end of an address tells machines of one vendor apart.
    format!("{} {} {text}", at.strftime("%H:%M:%S"), mac.get(9..).unwrap_or(mac))
}

fn footer(view: &View, width: usize) -> Text<'static> {
    let what = if view.has_events { "events" } else { "machines" };
    let words = format!("q quits   arrows and PgUp/PgDn scroll the {what}");
    let words = if words.len() <= width { words } else { "q quits".to_owned() };
    Text::from(Span::styled(words, style(view, Tone::Faint)))
}

#[cfg(test)]
mod tests;
