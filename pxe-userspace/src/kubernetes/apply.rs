//! Writes to objects: a condition in the status, and an annotation.
//!
//! A condition is written by server-side apply, which touches nothing but the entry of its type: it needs no version of the object, and leaves
//! what others write alone. An annotation is written by a merge patch. Each request names the object's identity, so that an object of the same
//! name that was made later is left alone.

use std::time::Duration;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    client::{ApiServer, words},
    objects::Observed,
};
use crate::model::api_object::{ApiCondition, ApiKind, ObjectKey};

/// The field manager, and the name of pxed in Events.
pub const MANAGER: &str = "pxed";

/// The time that a request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// The way in which a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The object is gone (404).
    Gone,
    /// Somebody else wrote at the same time, or the object was deleted and made again (409).
    Conflict,
    /// The server does not take what is written, or a webhook does not (400, 422, other client errors).
    Refused,
    /// pxed lacks the right (403).
    Forbidden,
    /// The server asks for a pause (429, 503), of this length if it says one.
    Busy(Option<Duration>),
    /// The server cannot be reached, does not answer in time or in order, or has an error of its own.
    Trouble,
}

/// A write that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct WriteError {
    /// The kind of failure.
    pub failure: WriteFailure,
    /// The words for people.
    pub text: String,
}

impl ApiServer {
    /// Writes a condition into the status of an object.
    ///
    /// # Errors
    ///
    /// If it is not written, or it is not known whether it was.
    pub async fn write_condition(&self, object: &Observed, condition: &ApiCondition) -> Result<(), WriteError> {
        let ObjectKey { kind, namespace, name } = &object.object.key;
        let ApiCondition { kind: of, status, reason, message, last_transition_time, observed_generation } = condition;
        let mut entry = json!({
            "type": of, "status": status, "reason": reason, "message": message, "lastTransitionTime": last_transition_time,
        });
        if let (Some(generation), Some(entry)) = (observed_generation, entry.as_object_mut()) {
            entry.insert("observedGeneration".to_owned(), json!(generation));
        }
        let patch = json!({
            "apiVersion": format!("{}/{}", ApiKind::GROUP, ApiKind::VERSION),
            "kind": kind.name(),
            "metadata": { "name": name, "namespace": namespace, "uid": object.object.uid },
            "status": { "conditions": [entry] },
        });
        // It is the only entry that the patch has, so nothing of others can be taken over by force.
        let params = PatchParams::apply(MANAGER).force();
        let api = self.objects_of(*kind, namespace);
        in_time(self, api.patch_status(name, &params, &Patch::Apply(&patch))).await.map(drop)
    }

    /// Sets an annotation of an object, or removes it.
    ///
    /// # Errors
    ///
    /// If it is not written, or it is not known whether it was.
    pub async fn write_annotation(&self, object: &Observed, name: &str, value: Option<&str>) -> Result<(), WriteError> {
        let key = &object.object.key;
        let mut annotations = serde_json::Map::new();
        annotations.insert(name.to_owned(), value.map_or(Value::Null, Value::from));
        let patch = json!({ "metadata": { "uid": object.object.uid, "annotations": annotations } });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let api = self.objects_of(key.kind, &key.namespace);
        in_time(self, api.patch(&key.name, &params, &Patch::Merge(&patch))).await.map(drop)
    }

    fn objects_of(&self, kind: ApiKind, namespace: &str) -> Api<DynamicObject> {
        let of = GroupVersionKind::gvk(ApiKind::GROUP, ApiKind::VERSION, kind.name());
        Api::namespaced_with(self.client(), namespace, &ApiResource::from_gvk_with_plural(&of, kind.plural()))
    }
}

/// Waits for the answer to a request, for a limited time. Refused credentials are read again for the next request.
pub(super) async fn in_time<T>(
    server: &ApiServer,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, WriteError> {
    let error = match tokio::time::timeout(REQUEST, request).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(_) => {
            let text = format!("no answer within {} s", REQUEST.as_secs());
            return Err(WriteError { failure: WriteFailure::Trouble, text });
        }
    };
    let failure = match &error {
        kube::Error::Api(status) => {
            let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            failure(status.code, seconds)
        }
        _ => WriteFailure::Trouble,
    };
    if matches!(&error, kube::Error::Api(status) if status.code == 401) {
        // What fails here is told by the watches, which are refused as well.
        let _ = server.renew().await;
    }
    Err(WriteError { failure, text: words(&error) })
}

/// Returns the kind of failure of an answer's code.
const fn failure(code: u16, retry_after_seconds: u32) -> WriteFailure {
    match code {
        404 | 410 => WriteFailure::Gone,
        409 => WriteFailure::Conflict,
        403 => WriteFailure::Forbidden,
        429 | 503 => WriteFailure::Busy(match retry_after_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds as u64)),
        }),
        // New credentials may be there for the next attempt. A request that took too long is the server's matter.
        401 | 408 | 500.. => WriteFailure::Trouble,
        _ => WriteFailure::Refused,
    }
}

#[cfg(test)]
pub(crate) mod tests;
