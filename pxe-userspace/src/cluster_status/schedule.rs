//! The order and the pace in which the API server is written to. Time is a parameter.
//!
//! Each [`Key`] is one thing that can be written: it is wanted or not, and what exactly is written is decided when its turn comes, so that
//! changes in quick succession become one write. A write that fails is tried again later, without holding up the others, unless the server
//! itself is in trouble.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The writes of the whole fleet in a second.
const A_SECOND: u32 = 5;
/// The time in which further changes of an object join its write.
const JOIN: Duration = Duration::from_millis(500);
/// The same for what other nodes decide by.
const JOIN_FACTS: Duration = Duration::from_millis(100);
/// The least time between two writes about the progress of one boot.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pause of a write that the server refuses for what it says, and the longest.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_secs(30 * 60);
/// The longest pause that the server can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// Writes that may be on their way at the same time, so that one that takes long holds up no other.
const AT_ONCE: usize = 4;
/// Lines about refusals that are logged in an hour.
const LINES: u32 = 20;
const LINES_EVERY: Duration = Duration::from_secs(3_600);

/// The importance of a write. What comes first is written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Other nodes decide by it.
    Fact,
    /// A boot came to its end, well or badly.
    Outcome,
    /// An Event.
    Event,
    /// A boot is on its way.
    Progress,
    /// Nothing has happened.
    Initial,
}

/// The way in which a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The object is gone (404).
    Gone,
    /// Somebody else wrote at the same time (409).
    Conflict,
    /// The server does not take what is written (400, 422), for example because of a webhook.
    Refused,
    /// pxed may not write there (403).
    Forbidden,
    /// The server asks for a pause (429, 503), of this length if it says one.
    Busy(Option<Duration>),
    /// The server cannot be reached, does not answer in time, or has an error of its own (5xx, 401).
    Trouble,
}

/// The fate of a failed write, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A person should read a line about it.
    Line,
    /// It was told, or passes.
    Nothing,
}

#[derive(Clone, Debug)]
struct Entry {
    priority: Priority,
    /// The time before which it is not written.
    not_before: Instant,
    wanted: bool,
    /// It is on its way.
    is_sent: bool,
    failures: u32,
    /// The time of the last success.
    last: Option<Instant>,
    /// The failure that was told of.
    told: Option<Failure>,
    /// The time before which no change of the object matters, since the server refuses it.
    refused_until: Option<Instant>,
}

/// The writes that are wanted.
#[derive(Debug)]
pub struct Schedule<K, G> {
    entries: HashMap<K, Entry>,
    /// The pauses of groups in which pxed may not write: until when, and how often.
    forbidden: HashMap<G, (Instant, u32)>,
    /// The number of living nodes that share the writes.
    nodes: u32,
    /// The time at which the budget is full again (generic cell rate algorithm).
    full_at: Instant,
    /// The pause of all writes, and how often the server was in trouble in a row.
    paused_until: Option<Instant>,
    troubles: u32,
    sent: usize,
    lines: u32,
    lines_since: Instant,
}

impl<K: Clone + Eq + Hash + Ord, G: Clone + Eq + Hash> Schedule<K, G> {
    /// Creates a schedule in which nothing is wanted.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            entries: HashMap::new(),
            forbidden: HashMap::new(),
            nodes: 1,
            full_at: now,
            paused_until: None,
            troubles: 0,
            sent: 0,
            lines: 0,
            lines_since: now,
        }
    }

    /// Sets the number of living nodes that share the writes.
    pub fn set_nodes(&mut self, nodes: usize) {
        self.nodes = u32::try_from(nodes).unwrap_or(u32::MAX).max(1);
    }

    /// Asks for a write, not before `delay` is over. Of several wishes, the more important one counts, and the one that comes earlier.
    pub fn want(&mut self, key: K, priority: Priority, delay: Duration, now: Instant) {
        let join = match priority {
            Priority::Fact => JOIN_FACTS,
            _ => JOIN,
        };
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            priority,
            not_before: now,
            wanted: false,
            is_sent: false,
            failures: 0,
            last: None,
            told: None,
            refused_until: None,
        });
        let mut from = now + delay.max(join);
        if priority >= Priority::Progress
            && let Some(last) = entry.last
        {
            from = from.max(last + PROGRESS_EVERY);
        }
        if let Some(until) = entry.refused_until {
            from = from.max(until);
        }
        if entry.wanted {
            // While it waits for another attempt, only the server's pace counts.
            if entry.failures == 0 {
                entry.not_before = entry.not_before.min(from);
            }
            entry.priority = entry.priority.min(priority);
        } else {
            (entry.priority, entry.not_before, entry.wanted) = (priority, from, true);
        }
    }

    /// Returns what is to be written now, and counts it as sent. `group` says who refuses a write when pxed may not make it.
    pub fn next(&mut self, now: Instant, group: impl Fn(&K) -> G) -> Option<K> {
        if self.sent >= AT_ONCE || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        // While the server is in trouble, one write tries whether it is over.
        if self.troubles > 0 && self.sent > 0 {
            return None;
        }
        let interval = Duration::from_secs(1) * self.nodes / A_SECOND;
        let burst = interval.max(Duration::from_secs(1)).saturating_sub(interval);
        if self.full_at > now + burst {
            return None;
        }
        let is_due = |(key, entry): &(&K, &Entry)| {
            entry.wanted
                && !entry.is_sent
                && entry.not_before <= now
                && self.forbidden.get(&group(key)).is_none_or(|(until, _)| *until <= now)
        };
        let due = self.entries.iter().filter(is_due);
        let (key, _) = due.min_by(|(key, entry), (other_key, other)| {
            let order = (entry.priority, entry.not_before).cmp(&(other.priority, other.not_before));
            order.then_with(|| key.cmp(other_key))
        })?;
        let key = key.clone();
        self.full_at = self.full_at.max(now) + interval;
        if let Some(entry) = self.entries.get_mut(&key) {
            (entry.is_sent, entry.wanted) = (true, false);
            self.sent += 1;
        }
        Some(key)
    }

    /// Returns a turn that was not used: there was nothing to write.
    pub fn unused(&mut self, key: &K, now: Instant) {
        let interval = Duration::from_secs(1) * self.nodes / A_SECOND;
        self.full_at = self.full_at.checked_sub(interval).unwrap_or(now);
        self.arrived(key);
    }

    /// Notes that a write succeeded.
    pub fn written(&mut self, key: &K, group: &G, now: Instant) {
        (self.troubles, self.paused_until) = (0, None);
        self.forbidden.remove(group);
        self.arrived(key);
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.failures, entry.last, entry.told, entry.refused_until) = (0, Some(now), None, None);
        }
    }

    /// Notes that a write failed. It is wanted again, unless its object is gone.
    pub fn failed(&mut self, key: &K, group: G, failure: Failure, now: Instant) -> Told {
        self.arrived(key);
        match failure {
            Failure::Busy(asked) => self.pause(asked, now),
            Failure::Trouble => self.pause(None, now),
            Failure::Gone | Failure::Conflict | Failure::Refused | Failure::Forbidden => {
                // The server answers.
                (self.troubles, self.paused_until) = (0, None);
            }
        }
        if now.saturating_duration_since(self.lines_since) >= LINES_EVERY {
            (self.lines, self.lines_since) = (0, now);
        }
        let Some(entry) = self.entries.get_mut(key) else { return Told::Nothing };
        if failure == Failure::Gone {
            self.entries.remove(key);
            return Told::Nothing;
        }
        entry.failures = entry.failures.saturating_add(1);
        let pause = match failure {
            Failure::Refused => doubled(REFUSED_PAUSE, entry.failures, LONGEST_REFUSED_PAUSE),
            _ => doubled(FIRST_PAUSE, entry.failures, LONGEST_PAUSE),
        };
        entry.wanted = true;
        entry.not_before = now + pause;
        let is_news = entry.told != Some(failure);
        match failure {
            Failure::Refused => {
                entry.told = Some(failure);
                entry.refused_until = Some(entry.not_before);
            }
            Failure::Forbidden => {
                let (until, times) = self.forbidden.entry(group).or_insert((now, 0));
                *times = times.saturating_add(1);
                *until = now + doubled(REFUSED_PAUSE, *times, LONGEST_REFUSED_PAUSE);
                return if *times == 1 { Told::Line } else { Told::Nothing };
            }
            Failure::Busy(_) | Failure::Trouble => {
                return if self.troubles == 1 { Told::Line } else { Told::Nothing };
            }
            Failure::Gone | Failure::Conflict => return Told::Nothing,
        }
        if is_news && self.lines < LINES {
            self.lines += 1;
            return Told::Line;
        }
        Told::Nothing
    }

    /// Drops what is not kept: objects that are gone. What is on its way is dropped as well.
    pub fn retain(&mut self, is_kept: impl Fn(&K) -> bool, is_group_kept: impl Fn(&G) -> bool) {
        let mut sent = 0;
        self.entries.retain(|key, entry| {
            let keep = is_kept(key);
            sent += usize::from(!keep && entry.is_sent);
            keep
        });
        self.sent = self.sent.saturating_sub(sent);
        self.forbidden.retain(|group, _| is_group_kept(group));
        self.entries.shrink_to(self.entries.len() * 2);
    }

    /// Returns the number of writes that are wanted.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.entries.values().filter(|entry| entry.wanted).count()
    }

    /// Returns the number of things whose state is kept.
    #[cfg(test)]
    fn kept(&self) -> usize {
        self.entries.len()
    }

    fn arrived(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key)
            && std::mem::take(&mut entry.is_sent)
        {
            self.sent = self.sent.saturating_sub(1);
        }
    }

    fn pause(&mut self, asked: Option<Duration>, now: Instant) {
        self.troubles = self.troubles.saturating_add(1);
        let pause = doubled(FIRST_PAUSE, self.troubles, LONGEST_PAUSE);
        let pause = asked.map_or(pause, |asked| asked.min(LONGEST_ASKED).max(FIRST_PAUSE));
        self.paused_until = self.paused_until.max(Some(now + pause));
    }
}

/// Returns a pause that doubles with each time, up to a limit.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(16)).min(longest)
}

#[cfg(test)]
mod tests;
