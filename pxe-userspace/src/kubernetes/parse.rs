//! Reads objects, lists and events of the API. What has another shape is refused, and nothing is taken on trust: names end up in messages.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};

use super::{
    fault::{Fault, FaultReason},
    objects::Observed,
};
use crate::model::api_object::{ApiCondition, ApiKind, ApiObject, ObjectKey};

/// The longest name of an object, which is that of a DNS subdomain.
const LONGEST_NAME: usize = 253;
/// The most conditions of an object that are kept.
const CONDITIONS: usize = 32;
/// A copy of the whole object, which only kubectl needs.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A part of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) observed: Vec<Observed>,
    /// The number of items that are no objects.
    pub(super) shapeless: usize,
    pub(super) version: String,
    /// The token with which the next part is asked for; empty after the last one.
    pub(super) next: String,
}

#[derive(Deserialize)]
struct RawPage<'a> {
    kind: String,
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: String,
    #[serde(default)]
    r#continue: Option<String>,
}

/// Reads a part of a list.
pub(super) fn page(text: &[u8], kind: ApiKind) -> Result<Page, Fault> {
    let garbled = |what: String| Fault::new(FaultReason::Garbled, format!("the list of {}: {what}", kind.plural()));
    let page: RawPage<'_> = serde_json::from_slice(text).map_err(|error| garbled(error.to_string()))?;
    if page.kind != format!("{kind}List") {
        return Err(garbled(format!("it is a {:?}", page.kind)));
    }
    // With an empty version, watching would begin anywhere.
    if page.metadata.resource_version.is_empty() {
        return Err(garbled("it has no resourceVersion".to_owned()));
    }
    let items = page.items.unwrap_or_default();
    let mut observed = Vec::with_capacity(items.len());
    observed.extend(items.iter().filter_map(|item| object(item, kind)));
    let shapeless = items.len() - observed.len();
    let next = page.metadata.r#continue.unwrap_or_default();
    Ok(Page { observed, shapeless, version: page.metadata.resource_version, next })
}

/// An event of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// An object was made or changed. It is boxed, since the others are small.
    Applied(Box<Observed>, Option<String>),
    /// An object was deleted.
    Deleted(ObjectKey, Option<String>),
    /// Nothing happened up to this version.
    Bookmark(String),
    /// An object that cannot be read.
    Shapeless(Option<String>),
    /// The watch cannot go on.
    Failed(Fault),
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(default)]
    metadata: Version,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    resource_version: Option<String>,
}

/// The reason for a refusal, as the API server writes it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: Option<String>,
    code: Option<u16>,
}

/// Reads a line of a watch.
pub(super) fn event(line: &[u8], kind: ApiKind) -> Event {
    let garbled = |what: String| {
        Event::Failed(Fault::new(FaultReason::Garbled, format!("an event of {}: {what}", kind.plural())))
    };
    let RawEvent { r#type, object } = match serde_json::from_slice(line) {
        Ok(event) => event,
        Err(error) => return garbled(error.to_string()),
    };
    let version =
        serde_json::from_str::<Versioned>(object.get()).ok().and_then(|object| object.metadata.resource_version);
    match &*r#type {
        "ADDED" | "MODIFIED" => match self::object(object, kind) {
            Some(observed) => Event::Applied(Box::new(observed), version),
            None => Event::Shapeless(version),
        },
        "DELETED" => match self::object(object, kind) {
            Some(observed) => Event::Deleted(observed.object.key, version),
            None => Event::Shapeless(version),
        },
        "BOOKMARK" => version.map_or_else(|| garbled("a bookmark without version".to_owned()), Event::Bookmark),
        "ERROR" => {
            let Status { message, code } = serde_json::from_str(object.get()).unwrap_or_default();
            Event::Failed(Fault::of_status(code.unwrap_or(500), &message.unwrap_or_default()))
        }
        other => garbled(format!("it is of type {other:?}")),
    }
}

/// Returns the message in the body of a refusal.
pub(super) fn refusal(status: u16, body: &[u8]) -> Fault {
    let Status { message, .. } = serde_json::from_slice(body).unwrap_or_default();
    let message = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    Fault::of_status(status, &message)
}

#[derive(Deserialize)]
struct RawObject<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: String,
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    generation: Option<i64>,
}

/// Reads an object. Returns `None` for one without a usable name, which no API server has.
fn object(raw: &RawValue, kind: ApiKind) -> Option<Observed> {
    let RawObject { metadata, spec, status } = serde_json::from_str(raw.get()).ok()?;
    let Metadata { name, namespace, uid, creation_timestamp, deletion_timestamp, annotations, labels, generation } =
        metadata;
    let is_name = |name: &str| {
        (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    if !is_name(&name) || !is_name(&namespace) || uid.len() > LONGEST_NAME {
        return None;
    }
    let value = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let mut annotations = value(annotations);
    if let Some(Value::Object(annotations)) = &mut annotations {
        annotations.remove(LAST_APPLIED);
    }
    // Sorted by name, so that equal objects have equal texts.
    let mut of_text = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            of_text.insert(key.to_owned(), value);
        }
    };
    put("name", Some(Value::from(&*name)));
    put("namespace", Some(Value::from(&*namespace)));
    put("annotations", annotations.clone());
    put("labels", value(labels));
    let mut text = Map::new();
    text.insert("apiVersion".to_owned(), Value::from(format!("{}/{}", ApiKind::GROUP, ApiKind::VERSION)));
    text.insert("kind".to_owned(), Value::from(kind.name()));
    text.insert("metadata".to_owned(), Value::Object(of_text));
    if let Some(spec) = spec {
        text.insert("spec".to_owned(), serde_json::from_str(spec.get()).ok()?);
    }
    let key = ObjectKey { kind, namespace: namespace.into(), name: name.into() };
    let created = creation_timestamp.filter(|created| created.len() <= 64).unwrap_or_default();
    let text = Value::Object(text).to_string();
    let object = ApiObject { key, uid: uid.into(), created: created.into(), text: text.into() };
    let annotations: BTreeMap<String, String> = match annotations {
        Some(Value::Object(annotations)) => {
            let text = |value| if let Value::String(text) = value { Some(text) } else { None };
            annotations.into_iter().filter_map(|(key, value)| Some((key, text(value)?))).collect()
        }
        _ => BTreeMap::new(),
    };
    let conditions = status.map(conditions).unwrap_or_default();
    Some(Observed { object, annotations, conditions, generation, is_being_deleted: deletion_timestamp.is_some() })
}

/// Reads the conditions of a status. Those of another shape are left out, since others write them.
fn conditions(status: &RawValue) -> Vec<ApiCondition> {
    #[derive(Deserialize)]
    struct OfStatus<'a> {
        #[serde(borrow, default)]
        conditions: Vec<&'a RawValue>,
    }
    let conditions = serde_json::from_str::<OfStatus<'_>>(status.get()).map(|status| status.conditions);
    let conditions = conditions.unwrap_or_default();
    conditions.iter().take(CONDITIONS).filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect()
}

#[cfg(test)]
mod tests;
