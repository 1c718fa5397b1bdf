//! Events (events.k8s.io/v1) about objects, for `kubectl describe`.

use std::time::SystemTime;

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    apply::{MANAGER, WriteError, in_time},
    client::ApiServer,
    objects::Observed,
};
use crate::model::api_object::{ApiKind, ObjectKey};

/// The longest note, in bytes.
const NOTE_LIMIT: usize = 1_024;
/// The longest name of what reports, in bytes.
const INSTANCE_LIMIT: usize = 128;
/// The longest name of an object, without room for what makes an Event's name unique.
const NAME_LIMIT: usize = 253 - 17;

/// Something that a person should see.
#[derive(Clone, Copy, Debug)]
pub struct Warning<'a> {
    /// The reason, in `CamelCase`.
    pub reason: &'a str,
    /// The sentence; it is cut off where it is too long.
    pub note: &'a str,
    /// The name of the node that saw it.
    pub node: &'a str,
    /// The time.
    pub at: SystemTime,
}

impl ApiServer {
    /// Creates an Event about an object. Returns its name.
    ///
    /// # Errors
    ///
    /// If it is not created, or it is not known whether it was.
    pub async fn create_event(&self, object: &Observed, warning: Warning<'_>) -> Result<String, WriteError> {
        let event = event(object, warning);
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client(), &object.object.key.namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        in_time(self, api.create(&params, &event)).await?;
        Ok(name)
    }

    /// Notes in an Event that it has happened again: `count` times by now, the last time at `last`.
    ///
    /// # Errors
    ///
    /// If it is not written, or it is not known whether it was.
    pub async fn continue_event(
        &self,
        namespace: &str,
        name: &str,
        count: u32,
        last: SystemTime,
    ) -> Result<(), WriteError> {
        let series = EventSeries { count: i32::try_from(count).unwrap_or(i32::MAX), last_observed_time: micro(last) };
        let patch = json!({ "series": series });
        let api: Api<Event> = Api::namespaced(self.client(), namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        in_time(self, api.patch(name, &params, &Patch::Merge(&patch))).await.map(drop)
    }
}

fn event(object: &Observed, Warning { reason, note, node, at }: Warning<'_>) -> Event {
    let ObjectKey { kind, namespace, name } = &object.object.key;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Each part of a name between dots has to end with a letter or a digit.
    let name_of_object = cut(name, NAME_LIMIT).trim_end_matches(['-', '.']);
    let name_of_event = format!("{name_of_object}.{:016x}", since.as_nanos() as u64);
    Event {
        metadata: ObjectMeta {
            name: Some(name_of_event),
            namespace: Some(namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(micro(at)),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(cut(node, INSTANCE_LIMIT).to_owned()),
        action: Some("Boot".to_owned()),
        reason: Some(reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{}/{}", ApiKind::GROUP, ApiKind::VERSION)),
            kind: Some(kind.name().to_owned()),
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            uid: Some(object.object.uid.to_string()),
            ..ObjectReference::default()
        }),
        note: Some(cut(note, NOTE_LIMIT).to_owned()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

/// Returns the beginning of a text, in at most this many bytes.
fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

fn micro(time: SystemTime) -> MicroTime {
    MicroTime(Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kubernetes::apply::tests::object;

    #[test]
    fn event_is_about_the_object_and_within_the_limits() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_123_456);
        let long = "ä".repeat(2_000);
        let warning = Warning { reason: "BootFailed", note: &long, node: &long, at };
        let event = event(&object(&"m".repeat(253)), warning);
        let name = event.metadata.name.clone().unwrap();
        assert_eq!(name.len(), 253);
        assert!(name.starts_with("mmm"));
        let cut_off = self::event(&object(&format!("{}-.-{}", "m".repeat(NAME_LIMIT - 2), "m".repeat(9))), warning);
        assert!(cut_off.metadata.name.unwrap().contains("m."), "a name ends with a hyphen before its dot");
        assert!(event.note.unwrap().len() <= 1_024);
        assert!(event.reporting_instance.unwrap().len() <= 128);
        let regarding = event.regarding.unwrap();
        assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("TalosMachine"), Some("uid-1")));
        let time = serde_json::to_value(event.event_time.unwrap()).unwrap();
        assert_eq!(time, "2026-01-01T00:00:00.123456Z");
    }
}
