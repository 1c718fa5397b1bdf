//! What the live view knows: the model that a frame is drawn from. Pure.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::estimate::Estimate;
use crate::cli::{
    shown::Shown,
    status::{
        machines::{Machine, State},
        select::Selection,
        watch::{Event, Piece},
    },
};

/// The most events that are kept. No terminal shows more at once.
const EVENTS: usize = 1_000;

/// The connection to pxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Lost { since: Timestamp, why: Shown },
}

/// A line of the event stream.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Boot(Event),
    Missed(u64),
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
}

/// The model of the live view.
#[derive(Debug)]
pub(super) struct View {
    /// The place of pxed.
    pub(super) place: Shown,
    /// Set if the event stream is shown.
    pub(super) has_events: bool,
    /// Set if the terminal wants colours.
    pub(super) has_colours: bool,
    pub(super) link: Link,
    /// The selected machines, in the order of the spec.
    pub(super) machines: Vec<Machine>,
    pub(super) estimate: Estimate,
    /// The events, the last one at the end.
    pub(super) events: VecDeque<Line>,
    /// The number of events that the stream is scrolled back by, or of machines that the list is scrolled down by.
    pub(super) scroll: usize,
    selection: Selection,
    only: Option<Shown>,
    /// All machines by MAC address, those that are not selected as well: an event may bring them in.
    all: BTreeMap<Shown, (usize, Machine)>,
}

impl View {
    pub(super) fn new(place: &str, has_events: bool, selection: Selection, only: Option<Shown>) -> Self {
        Self {
            place: Shown::of(place),
            has_events,
            has_colours: true,
            link: Link::Up,
            machines: Vec::new(),
            estimate: Estimate::default(),
            events: VecDeque::new(),
            scroll: 0,
            selection,
            only,
            all: BTreeMap::new(),
        }
    }

    /// Takes the machines that pxed lists now.
    pub(super) fn list(&mut self, machines: Vec<Machine>, now: Timestamp) {
        self.link = Link::Up;
        let machines = machines.into_iter().enumerate();
        self.all = machines.map(|(index, machine)| (machine.mac.clone(), (index, machine))).collect();
        self.select(now);
        self.estimate.note(self.machines.iter(), now);
    }

    /// Takes note that pxed lists the same machines as before.
    pub(super) fn same(&mut self, now: Timestamp) {
        self.link = Link::Up;
        self.select(now);
        self.estimate.note(self.machines.iter(), now);
    }

    fn select(&mut self, now: Timestamp) {
        let Self { selection, only, all, .. } = self;
        let is_meant = |machine: &Machine| only.as_ref().is_none_or(|only| *only == machine.mac);
        let mut chosen: Vec<_> =
            all.values().filter(|(_, machine)| is_meant(machine) && selection.takes(machine, now)).collect();
        chosen.sort_unstable_by_key(|(index, _)| *index);
        self.machines = chosen.into_iter().map(|(_, machine)| machine.clone()).collect();
    }

    /// Takes a piece of the event stream.
    pub(super) fn piece(&mut self, piece: Piece) {
        let line = match piece {
            Piece::Missed(missed) => Line::Missed(missed),
            Piece::Boot(event) => {
                let Some((_, machine)) = self.all.get_mut(&event.mac) else { return };
                if machine.stage != event.stage {
                    machine.stage = event.stage.clone();
                    machine.stage_since = event.at;
                    machine.stuck = None;
                    machine.progress = None;
                }
                let is_meant = self.only.as_ref().is_none_or(|only| *only == event.mac);
                let is_selected = is_meant && self.selection.takes(machine, event.at);
                // A machine that has left the selection is taken off the list at the next look.
                if let Some(shown) = self.machines.iter_mut().find(|shown| shown.mac == event.mac) {
                    *shown = machine.clone();
                }
                if !is_selected {
                    return;
                }
                Line::Boot(event)
            }
        };
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(line);
        // The lines on the screen stay in their place.
        if self.has_events && self.scroll > 0 {
            self.scroll = (self.scroll + 1).min(self.events.len());
        }
    }

    /// Takes note that pxed does not answer.
    pub(super) fn lost(&mut self, why: &str, now: Timestamp) {
        let since = match &self.link {
            Link::Lost { since, .. } => *since,
            Link::Up => now,
        };
        self.link = Link::Lost { since, why: Shown::of(why) };
    }

    /// Takes a key. Returns whether the view goes on.
    pub(super) fn key(&mut self, key: Key, page: usize) -> bool {
        let last = if self.has_events { self.events.len() } else { self.machines.len() }.saturating_sub(1);
        // Up leads back in the events and to the top of a list.
        let (back, forth) = if self.has_events { (Key::Up, Key::Down) } else { (Key::Down, Key::Up) };
        self.scroll = match key {
            Key::Quit => return false,
            Key::Home => 0,
            key if key == back => self.scroll + 1,
            key if key == forth => self.scroll.saturating_sub(1),
            Key::PageUp if self.has_events => self.scroll + page,
            Key::PageDown if !self.has_events => self.scroll + page,
            _ => self.scroll.saturating_sub(page),
        }
        .min(last);
        true
    }

    /// Returns the machines that failed or are stuck, the worst and latest first.
    pub(super) fn troubled(&self, now: Timestamp) -> Vec<(&Machine, State)> {
        let with_state = self.machines.iter().map(|machine| (machine, machine.state(now)));
        let mut found: Vec<_> = with_state.filter(|(_, state)| *state <= State::Stuck).collect();
        found.sort_by_key(|(machine, state)| (*state, std::cmp::Reverse(machine.stage_since)));
        found
    }
}
