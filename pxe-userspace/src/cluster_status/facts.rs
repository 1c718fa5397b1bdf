//! What the conditions of other nodes say about a machine.

use pxe_common::MacAddr;

use super::{
    condition::author_of,
    machine::{RELEASED, RUNS_FROM_DISK},
};
use crate::{
    journal::{Fact, Known},
    model::api_object::ApiCondition,
};

/// Returns what a condition `PxeBooted` says about its machine.
#[must_use]
pub fn fact(mac: MacAddr, condition: &ApiCondition) -> Option<Fact> {
    let ApiCondition { status, reason, .. } = condition;
    let known = match (&**status, &**reason) {
        ("True", RUNS_FROM_DISK) => Known::ReachedDisk { booted: true },
        ("Unknown", RUNS_FROM_DISK) => Known::ReachedDisk { booted: false },
        ("True", _) => Known::Booted,
        ("Unknown", RELEASED) => Known::Released(mark(condition)),
        _ => return None,
    };
    Some(Fact { mac, known })
}

/// Returns the mark of a release. Two releases differ in their times.
#[must_use]
pub fn mark(condition: &ApiCondition) -> u64 {
    let ApiCondition { message, last_transition_time, .. } = condition;
    // FNV-1a: it is in state files, so it must never change.
    let bytes = last_transition_time.bytes().chain([0]).chain(message.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Returns whether this node wrote the condition.
#[must_use]
pub fn is_own(condition: &ApiCondition, node: &str) -> bool {
    author_of(&condition.message) == Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, reason: &str) -> ApiCondition {
        ApiCondition {
            kind: "PxeBooted".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "It was released. [node-1, 2026-01-01T00:00:05Z]".to_owned(),
            last_transition_time: "2026-01-01T00:00:05Z".to_owned(),
            observed_generation: None,
        }
    }

    #[test]
    fn conditions_become_facts() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let known = |status, reason| fact(mac, &condition(status, reason)).map(|fact| fact.known);
        for reason in ["Booted", "Running", "SentToDisk", "LeftOut", "WhateverALaterVersionSays"] {
            assert_eq!(known("True", reason), Some(Known::Booted));
        }
        assert_eq!(known("True", "RunsFromDisk"), Some(Known::ReachedDisk { booted: true }));
        assert_eq!(known("Unknown", "RunsFromDisk"), Some(Known::ReachedDisk { booted: false }));
        for (status, reason) in [
            ("False", "RunsFromDisk"),
            ("False", "Held"),
            ("False", "Released"),
            ("Unknown", "NotSeen"),
            ("", ""),
            ("true", "Booted"),
        ] {
            assert_eq!(known(status, reason), None, "{status} {reason}");
        }
        assert!(matches!(known("Unknown", "Released"), Some(Known::Released(_))));
    }

    #[test]
    fn marks_of_two_releases_differ_and_stay_the_same_for_ever() {
        let first = condition("Unknown", "Released");
        let second = ApiCondition { message: first.message.replace("05Z", "06Z"), ..first.clone() };
        let third = ApiCondition { last_transition_time: "2026-01-01T00:00:06Z".to_owned(), ..first.clone() };
        assert_eq!(mark(&first), MARK);
        assert_ne!(mark(&first), mark(&second));
        assert_ne!(mark(&first), mark(&third));
        assert!(is_own(&first, "node-1") && !is_own(&first, "node-2"));
    }

    const MARK: u64 = 7_578_796_571_558_466_216;
}
