//! Everything that pxed reads in an answer of the API server, in one place: the fuzz target sends any bytes as one.

use super::{
    fault::Fault,
    objects::Observed,
    parse::{self, Event, Page},
};
use crate::model::api_object::{ApiKind, ObjectKey};

/// The result of reading an answer.
#[derive(Debug, Default)]
pub struct Heard {
    /// The objects of a list or an event.
    pub objects: Vec<Observed>,
    /// The object that is gone.
    pub deleted: Option<ObjectKey>,
    /// The sentences of the log about what cannot be used.
    pub complaints: Vec<String>,
}

impl Heard {
    /// Reads an answer as a part of a list, as a line of a watch, and as a refusal with this status.
    #[must_use]
    pub fn of(answer: &[u8], kind: ApiKind, status: u16) -> Self {
        let mut heard = Self::default();
        let mut complaint = |fault: &Fault| heard.complaints.push(fault.words("https://192.0.2.1:6443", kind, None));
        match parse::page(answer, kind) {
            Ok(Page { observed, .. }) => heard.objects.extend(observed),
            Err(fault) => complaint(&fault),
        }
        match parse::event(answer, kind) {
            Event::Applied(observed, _) => heard.objects.push(*observed),
            Event::Deleted(key, _) => heard.deleted = Some(key),
            Event::Bookmark(_) | Event::Shapeless(_) => {}
            Event::Failed(fault) => complaint(&fault),
        }
        complaint(&parse::refusal(status, answer));
        heard
    }
}
