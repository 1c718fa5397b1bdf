//! People who wait until their decision is in the API.

use std::time::{Duration, Instant};

use super::{
    decisions::Reply,
    write::{HOLD, POLICY, Task, What},
};
use crate::{cluster_status::machine::RELEASED, model::api_object::ObjectKey};

/// The time after which a person is told that it takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The people who may wait at the same time.
const LIMIT: usize = 1_000;

/// The decisions that are being written.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Decision>);

#[derive(Debug)]
struct Decision {
    object: ObjectKey,
    /// The writes that are still due.
    tasks: Vec<Task>,
    notes: Vec<String>,
    is_hold: bool,
    reply: Option<Reply>,
    until: Instant,
}

impl Waiting {
    /// Adds a decision with what is to be written for it.
    pub(super) fn add(
        &mut self,
        object: &ObjectKey,
        is_hold: bool,
        is_held: bool,
        tasks: Vec<Task>,
        reply: Reply,
        now: Instant,
    ) {
        let mut notes = Vec::new();
        if is_hold && is_held {
            notes.push(format!("{object} has the annotation {POLICY}: {HOLD} already"));
        }
        let mut decision =
            Decision { object: object.clone(), tasks, notes, is_hold, reply: Some(reply), until: now + PATIENCE };
        if self.0.len() >= LIMIT {
            decision.end(Some("too many decisions at once"));
        } else if decision.tasks.is_empty() {
            decision.end(None);
        } else {
            self.0.push(decision);
        }
    }

    /// Notes that something was written.
    pub(super) fn written(&mut self, task: &Task) {
        for decision in self.0.iter_mut().filter(|decision| decision.tasks.contains(task)) {
            decision.tasks.retain(|of| of != task);
            let object = &decision.object;
            decision.notes.push(match task.what {
                What::Annotation if decision.is_hold => format!("wrote the annotation {POLICY}: {HOLD} on {object}"),
                What::Annotation => format!("removed the annotation {POLICY}: {HOLD} from {object}"),
                What::Condition | What::Event(_) => format!("wrote the condition PxeBooted ({RELEASED}) of {object}"),
            });
            if decision.tasks.is_empty() {
                decision.end(None);
            }
        }
        self.sweep();
    }

    /// Notes that something could not be written, and will be tried again.
    pub(super) fn failed(&mut self, task: &Task, text: &str) {
        self.0
            .iter_mut()
            .filter(|decision| decision.tasks.contains(task))
            .for_each(|decision| decision.end(Some(text)));
        self.sweep();
    }

    /// Tells those who have waited for too long.
    pub(super) fn give_up(&mut self, now: Instant) {
        let late = self.0.iter_mut().filter(|decision| decision.until <= now);
        late.for_each(|decision| decision.end(Some("the API server has not answered yet")));
        self.sweep();
    }

    /// Tells those whose object was deleted meanwhile.
    pub(super) fn drop_gone(&mut self, exists: impl Fn(&Task) -> bool) {
        let gone = self.0.iter_mut().filter(|decision| !decision.tasks.iter().all(&exists));
        gone.for_each(|decision| decision.end(Some("it was deleted")));
        self.sweep();
    }

    fn sweep(&mut self) {
        self.0.retain(|decision| decision.reply.is_some());
    }
}

impl Decision {
    fn end(&mut self, failure: Option<&str>) {
        let Self { object, notes, is_hold, .. } = self;
        if let Some(failure) = failure {
            let what = if *is_hold { "hold" } else { "release" };
            notes.push(format!(
                "the {what} is not in {object} yet, and other nodes do not know of it: {failure}. pxed tries again by itself"
            ));
        }
        if let Some(reply) = self.reply.take() {
            reply.send(std::mem::take(&mut self.notes));
        }
    }
}
