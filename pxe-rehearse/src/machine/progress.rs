//! The progress of a boot: stages, milestones, and the end.

use std::time::Duration;

use super::{Activity, Machine, Output};
use crate::report::{Direction, Milestone, Outcome, Stage, StageTime};

impl Machine {
    /// Ends the boot as failed, unless it has ended already.
    pub(crate) fn give_up(&mut self, now: Duration, reason: impl Into<String>) {
        if self.outcome.is_none() {
            self.fail(now, reason.into());
        }
    }

    /// Records a milestone. Returns `true` if the boot ends there.
    pub(super) fn reach(&mut self, now: Duration, milestone: Milestone) -> bool {
        if self.milestone < Some(milestone) {
            self.milestone = Some(milestone);
            self.outputs.push(Output::Reached(milestone));
        }
        let is_over = milestone == self.setup.until && milestone != Milestone::Booted;
        if is_over {
            self.note(now, Direction::Said, |_| format!("REACHED: {milestone}"));
            self.end(now, Outcome::Reached);
        }
        is_over
    }

    /// Begins a stage.
    pub(super) fn enter(&mut self, now: Duration, stage: Stage) {
        self.leave_stage(now);
        self.stage = stage;
        self.stages.push(StageTime { stage, started: now, took: Duration::ZERO, bytes: 0 });
    }

    fn leave_stage(&mut self, now: Duration) {
        if let Some(last) = self.stages.last_mut()
            && last.took.is_zero()
        {
            last.took = now.saturating_sub(last.started);
        }
    }

    /// Ends the boot.
    pub(super) fn end(&mut self, now: Duration, outcome: Outcome) {
        self.leave_stage(now);
        self.ended = now;
        self.activity = Activity::Over;
        self.outcome = Some(outcome);
        self.neighbours.forget_pending();
    }

    /// Ends the boot as failed.
    pub(super) fn fail(&mut self, now: Duration, reason: String) {
        self.note(now, Direction::Said, |_| format!("FAILED: {reason}"));
        self.end(now, Outcome::Failed { stage: self.stage, reason });
    }
}
