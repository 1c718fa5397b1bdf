//! What is known of one object of the API: what it says, what was said last, and what is still to be said.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use pxe_common::MacAddr;

use super::write::{Now, Write};
use crate::{
    cluster_status::{
        condition::{Assessment, author_of},
        facts::{fact, is_own, mark},
        machine::{Assessed, RELEASED},
        occasion::Occasions,
    },
    journal::{Fact, Known, MachineRecord},
    model::api_object::ApiCondition,
};

/// The state of one object.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) uid: Arc<str>,
    /// The first MAC address of its machine.
    pub(super) mac: Option<MacAddr>,
    /// The last assessment, whether it was written or not.
    pub(super) told: Option<Assessment>,
    /// The condition in the API, without its message, and a hash over all of it.
    pub(super) last: Option<(ApiCondition, u64)>,
    /// The detail that was written last.
    pub(super) detail: Option<String>,
    /// The time of the last release. It counts until the machine does something.
    pub(super) released: Option<SystemTime>,
    /// The time at which another node was seen to write the condition last.
    pub(super) foreign: Option<SystemTime>,
    /// The time at which the same record says more.
    pub(super) again: Option<SystemTime>,
    /// The stage that the occasions belong to.
    pub(super) stage_since: Option<SystemTime>,
    pub(super) occasions: Occasions,
    /// The annotation that is to be written.
    pub(super) annotation: Option<Annotation>,
    pub(super) appeared: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Annotation {
    Hold,
    Remove,
}

impl Entry {
    pub(super) fn new(uid: Arc<str>, appeared: Instant) -> Self {
        Self {
            uid,
            mac: None,
            told: None,
            last: None,
            detail: None,
            released: None,
            foreign: None,
            again: None,
            stage_since: None,
            occasions: Occasions::default(),
            annotation: None,
            appeared,
        }
    }

    /// Notes the condition in the API. Returns what it says about the machine, if another node wrote it since the last time.
    pub(super) fn learn(
        &mut self,
        mac: MacAddr,
        condition: Option<&ApiCondition>,
        node: &str,
        now: Now,
    ) -> Option<Fact> {
        let is_first = self.last.is_none();
        if !self.note_condition(condition) {
            return None;
        }
        let is_foreign = condition.is_some_and(|condition| !is_own(condition, node));
        if is_foreign && !is_first {
            self.foreign = Some(now.wall);
        }
        let condition = condition.filter(|_| is_first || is_foreign)?;
        let fact = fact(mac, condition)?;
        // The API no longer has the value that was written here last.
        self.detail = None;
        if let Known::Released(_) = fact.known {
            self.released = Some(now.wall);
        }
        Some(fact)
    }

    /// Returns `true` if the condition is another one than before.
    pub(super) fn note_condition(&mut self, condition: Option<&ApiCondition>) -> bool {
        let hash = condition.map(|condition| (mark(condition), &condition.status, &condition.reason));
        let last = self.last.as_ref().map(|(last, hash)| (*hash, &last.status, &last.reason));
        if hash == last {
            return false;
        }
        self.last = condition.map(without_message);
        true
    }

    /// Returns whether the machine was released and has done nothing since.
    pub(super) fn is_released(&self, record: &MachineRecord) -> bool {
        self.released.is_some_and(|released| record.stage_since <= released)
    }

    /// Returns whether another node has said something since the machine was last seen here: then that counts.
    pub(super) fn is_outdated(&self, record: &MachineRecord, assessed: &Assessed) -> bool {
        let seen = match record.events.last().filter(|_| assessed.is_served_here == Some(true)) {
            Some(event) => event.at,
            None => record.stage_since,
        };
        self.foreign.is_some_and(|foreign| seen <= foreign)
    }

    /// Notes what was written.
    pub(super) fn take(&mut self, write: &Write, name: Option<String>) {
        match write {
            Write::Condition { condition, assessment, .. } => {
                self.last = Some(without_message(condition));
                let is_release = assessment.reason == RELEASED;
                self.detail = Some(if is_release { RELEASED.to_owned() } else { assessment.detail.clone() });
            }
            Write::Annotation { .. } => self.annotation = None,
            Write::Event { occasion, count, .. } => self.occasions.written(*occasion, name, *count),
        }
    }
}

fn without_message(condition: &ApiCondition) -> (ApiCondition, u64) {
    let short = ApiCondition { message: String::new(), ..condition.clone() };
    (short, mark(condition))
}

/// Returns a message without its author.
pub(super) fn text_of(message: &str) -> &str {
    match author_of(message) {
        Some(_) => message.rsplit_once(" [").map_or(message, |(text, _)| text),
        None => message,
    }
}
