//! The objects of the API as they were last seen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::model::api_object::{ApiCondition, ApiKind, ApiObject, ObjectKey};

/// An object as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The part that the spec needs.
    pub object: ApiObject,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The conditions in its status, those of others included.
    pub conditions: Vec<ApiCondition>,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// Set while it is being deleted: it is there until its finalizers are done.
    pub is_being_deleted: bool,
}

impl Observed {
    /// Returns the condition of a type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&ApiCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// The number of changes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of what the spec needs: objects that came or went, or whose text changed.
    pub spec: u64,
    /// Of anything, such as a status.
    pub all: u64,
}

/// The objects of the API. What watches them writes, everybody else reads; nothing here waits.
///
/// Somebody who follows changes takes a receiver with [`Objects::changes`], waits until it [changes](watch::Receiver::changed), and compares
/// the objects with those of before: an object that did not change is the same `Arc`. Bursts of changes so become one.
#[derive(Debug, Default)]
pub struct Objects {
    objects: Mutex<BTreeMap<ObjectKey, Arc<Observed>>>,
    changes: watch::Sender<Changes>,
}

impl Objects {
    /// Returns an object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Observed>> {
        self.lock().get(key).cloned()
    }

    /// Returns all objects, or those of a kind, in the order of their keys.
    #[must_use]
    pub fn all(&self, kind: Option<ApiKind>) -> Vec<Arc<Observed>> {
        let is_wanted = |key: &ObjectKey| kind.is_none_or(|kind| key.kind == kind);
        self.lock().iter().filter(|(key, _)| is_wanted(key)).map(|(_, observed)| Arc::clone(observed)).collect()
    }

    /// Returns a receiver that hears of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// Puts an object in the place of its former version.
    pub fn insert(&self, observed: Observed) {
        let mut objects = self.lock();
        let key = observed.object.key.clone();
        let before = objects.get(&key);
        if before.is_some_and(|before| **before == observed) {
            return;
        }
        let is_of_spec = before.is_none_or(|before| before.object != observed.object);
        objects.insert(key, Arc::new(observed));
        drop(objects);
        self.note(is_of_spec);
    }

    /// Removes an object that was deleted.
    pub fn remove(&self, key: &ObjectKey) {
        if self.lock().remove(key).is_some() {
            self.note(true);
        }
    }

    fn note(&self, is_of_spec: bool) {
        self.changes.send_modify(|changes| {
            changes.all += 1;
            changes.spec += u64::from(is_of_spec);
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Arc<Observed>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(name: &str, text: &str, status: &str) -> Observed {
        let key = ObjectKey { kind: ApiKind::TalosMachine, namespace: "ns".into(), name: name.into() };
        let object = ApiObject { key, uid: "u".into(), created: "2026-01-01T00:00:00Z".into(), text: text.into() };
        let condition = ApiCondition { kind: "Ready".into(), status: status.into(), ..ApiCondition::default() };
        let conditions = vec![condition];
        Observed { object, annotations: BTreeMap::new(), conditions, generation: None, is_being_deleted: false }
    }

    #[test]
    fn changes_of_the_spec_are_told_from_those_of_a_status() {
        let objects = Objects::default();
        let changes = objects.changes();
        let mut seen = Vec::new();
        let mut note = || seen.push((changes.borrow().spec, changes.borrow().all));
        objects.insert(observed("a", "{}", "False"));
        note();
        let first = objects.get(&observed("a", "", "").object.key).unwrap();
        objects.insert(observed("a", "{}", "False"));
        note();
        assert!(Arc::ptr_eq(&first, &objects.get(&first.object.key).unwrap()));
        objects.insert(observed("a", "{}", "True"));
        note();
        objects.insert(observed("a", "{\"spec\":{}}", "True"));
        note();
        objects.remove(&first.object.key);
        note();
        objects.remove(&first.object.key);
        note();
        assert_eq!(seen, [(1, 1), (1, 1), (1, 2), (2, 3), (3, 4), (3, 4)]);
        assert_eq!(first.condition("Ready").map(|condition| &*condition.status), Some("False"));
    }

    #[test]
    fn objects_are_selected_by_kind() {
        let objects = Objects::default();
        ["b", "a"].into_iter().for_each(|name| objects.insert(observed(name, "{}", "True")));
        let names = |kind| objects.all(kind).iter().map(|o| o.object.key.to_string()).collect::<Vec<_>>();
        assert_eq!(names(Some(ApiKind::TalosMachine)), ["TalosMachine ns/a", "TalosMachine ns/b"]);
        assert_eq!((names(Some(ApiKind::TalosCluster)).len(), names(None).len()), (0, 2));
    }
}
