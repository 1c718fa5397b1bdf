//! The writes to the API server.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use crate::{
    cluster_status::{condition::Assessment, occasion::Occasion, schedule::Failure},
    kubernetes::{ApiServer, Observed, Warning, WriteError, WriteFailure},
    model::api_object::{ApiCondition, ApiKind, ObjectKey},
};

/// The annotation that holds a machine.
pub(super) const POLICY: &str = "pxed.dev/boot-policy";
/// Its value.
pub(super) const HOLD: &str = "hold";

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

/// Something that can be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Task {
    pub(super) object: ObjectKey,
    pub(super) what: What,
}

/// The part of an object, or the Event about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum What {
    Annotation,
    Condition,
    Event(Occasion),
}

/// Writes for which the same right is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) namespace: Arc<str>,
    kind: ApiKind,
    what: u8,
}

impl Task {
    pub(super) fn group(&self) -> Group {
        let ObjectKey { kind, namespace, .. } = &self.object;
        let (kind, what) = match self.what {
            What::Annotation => (*kind, 0),
            What::Condition => (*kind, 1),
            // Events about any kind need the same right.
            What::Event(_) => (ApiKind::TalosMachine, 2),
        };
        Group { namespace: Arc::clone(namespace), kind, what }
    }

    /// Returns what is written, for a message about a failure.
    pub(super) fn noun(&self) -> &'static str {
        match self.what {
            What::Annotation => "an annotation",
            What::Condition => "a condition",
            What::Event(_) => "an Event",
        }
    }
}

/// A write with everything that it says.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Annotation {
        object: Arc<Observed>,
        value: Option<&'static str>,
    },
    Condition {
        object: Arc<Observed>,
        condition: ApiCondition,
        assessment: Assessment,
    },
    Event {
        object: Arc<Observed>,
        occasion: Occasion,
        note: String,
        node: String,
        at: SystemTime,
        /// The Event that is continued.
        name: Option<String>,
        count: u32,
    },
}

impl Write {
    /// Sends it. Returns the name of the Event.
    pub(super) async fn send(&self, server: &ApiServer) -> Result<Option<String>, Failed> {
        let sent = match self {
            Self::Annotation { object, value } => server.write_annotation(object, POLICY, *value).await.map(|()| None),
            Self::Condition { object, condition, .. } => server.write_condition(object, condition).await.map(|()| None),
            Self::Event { object, at, name: Some(name), count, .. } => {
                let continued = server.continue_event(&object.object.key.namespace, name, *count, *at).await;
                continued.map(|()| Some(name.clone()))
            }
            Self::Event { object, occasion, note, node, at, name: None, .. } => {
                let warning = Warning { reason: occasion.reason(), note, node, at: *at };
                server.create_event(object, warning).await.map(Some)
            }
        };
        sent.map_err(|WriteError { failure, text }| {
            let failure = match failure {
                WriteFailure::Gone => Failure::Gone,
                WriteFailure::Conflict => Failure::Conflict,
                WriteFailure::Refused => Failure::Refused,
                WriteFailure::Forbidden => Failure::Forbidden,
                WriteFailure::Busy(pause) => Failure::Busy(pause),
                WriteFailure::Trouble => Failure::Trouble,
            };
            Failed { failure, text }
        })
    }
}

/// A write that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) text: String,
}
