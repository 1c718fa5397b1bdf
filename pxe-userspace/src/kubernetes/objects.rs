//! The objects of the API as they were last seen.

use std::{
    collections::{BTreeMap, HashSet},
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
    /// Returns the memory that it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let Self { object, annotations, conditions, .. } = self;
        let ApiObject { key, uid, created, text } = object;
        let annotations: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        let conditions: usize = conditions
            .iter()
            .map(|condition| condition.kind.len() + condition.reason.len() + condition.message.len())
            .sum();
        key.namespace.len() + key.name.len() + uid.len() + created.len() + text.len() + annotations + conditions
    }

    /// Returns the condition of a type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&ApiCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// The most objects that are kept.
pub(super) const MOST_OBJECTS: usize = 250_000;
/// The most bytes of all objects together.
pub(super) const MOST_BYTES: usize = 256 << 20;

/// There is no room for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} objects or {} MiB", MOST_OBJECTS, MOST_BYTES >> 20)]
pub(crate) struct Full;

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
    objects: Mutex<Kept>,
    changes: watch::Sender<Changes>,
}

/// The objects, and the bytes that they take.
#[derive(Debug, Default)]
struct Kept {
    by_key: BTreeMap<ObjectKey, Arc<Observed>>,
    bytes: usize,
}

/// The change that an operation made.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    spec: bool,
    any: bool,
}

impl Kept {
    fn insert(&mut self, observed: Observed) -> Result<Changed, Full> {
        let key = &observed.object.key;
        let before = self.by_key.get(key);
        if before.is_some_and(|before| **before == observed) {
            return Ok(Changed::default());
        }
        let bytes = self.bytes - before.map_or(0, |before| before.size()) + observed.size();
        let count = self.by_key.len() + usize::from(before.is_none());
        if bytes > MOST_BYTES || count > MOST_OBJECTS {
            return Err(Full);
        }
        let spec = before.is_none_or(|before| before.object != observed.object);
        self.by_key.insert(key.clone(), Arc::new(observed));
        self.bytes = bytes;
        Ok(Changed { spec, any: true })
    }

    fn remove(&mut self, key: &ObjectKey) -> Changed {
        let Some(gone) = self.by_key.remove(key) else { return Changed::default() };
        self.bytes -= gone.size();
        Changed { spec: true, any: true }
    }

    /// Returns the keys of a kind, in a namespace or in all.
    fn keys(&self, kind: ApiKind, namespace: Option<&str>) -> impl Iterator<Item = &ObjectKey> {
        let is_of_scope =
            move |key: &&ObjectKey| key.kind == kind && namespace.is_none_or(|namespace| *key.namespace == *namespace);
        self.by_key.keys().filter(is_of_scope)
    }
}

impl Objects {
    /// Returns an object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Observed>> {
        self.lock().by_key.get(key).cloned()
    }

    /// Returns all objects, or those of a kind, in the order of their keys.
    #[must_use]
    pub fn all(&self, kind: Option<ApiKind>) -> Vec<Arc<Observed>> {
        let is_wanted = |key: &ObjectKey| kind.is_none_or(|kind| key.kind == kind);
        let kept = self.lock();
        kept.by_key.iter().filter(|(key, _)| is_wanted(key)).map(|(_, observed)| Arc::clone(observed)).collect()
    }

    /// Returns the number of objects of a kind, in a namespace or in all.
    #[must_use]
    pub fn count(&self, kind: ApiKind, namespace: Option<&str>) -> usize {
        self.lock().keys(kind, namespace).count()
    }

    /// Returns a receiver that hears of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// Puts an object in the place of its former version.
    ///
    /// # Errors
    ///
    /// If there is no room. The former version stays.
    pub(crate) fn insert(&self, observed: Observed) -> Result<(), Full> {
        let changed = self.lock().insert(observed)?;
        self.note(changed);
        Ok(())
    }

    /// Removes an object that was deleted.
    pub(crate) fn remove(&self, key: &ObjectKey) {
        let changed = self.lock().remove(key);
        self.note(changed);
    }

    /// Puts the objects of a list in the place of those of the same kind, in a namespace or in all.
    ///
    /// # Errors
    ///
    /// If there is no room for all of them. Those that are gone are removed.
    pub(super) fn replace(&self, kind: ApiKind, namespace: Option<&str>, list: Vec<Observed>) -> Result<(), Full> {
        let mut changed = Changed::default();
        let mut add = |more: Changed| {
            changed = Changed { spec: changed.spec || more.spec, any: changed.any || more.any };
        };
        let mut kept = self.lock();
        let listed: HashSet<&ObjectKey> = list.iter().map(|observed| &observed.object.key).collect();
        let gone: Vec<_> = kept.keys(kind, namespace).filter(|key| !listed.contains(key)).cloned().collect();
        drop(listed);
        gone.iter().for_each(|key| add(kept.remove(key)));
        let mut result = Ok(());
        for observed in list {
            match kept.insert(observed) {
                Ok(changed) => add(changed),
                Err(full) => result = Err(full),
            }
        }
        drop(kept);
        self.note(changed);
        result
    }

    fn note(&self, Changed { spec, any }: Changed) {
        if any {
            self.changes.send_modify(|changes| {
                changes.all += 1;
                changes.spec += u64::from(spec);
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
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
        objects.insert(observed("a", "{}", "False")).unwrap();
        note();
        let first = objects.get(&observed("a", "", "").object.key).unwrap();
        objects.insert(observed("a", "{}", "False")).unwrap();
        note();
        assert!(Arc::ptr_eq(&first, &objects.get(&first.object.key).unwrap()));
        objects.insert(observed("a", "{}", "True")).unwrap();
        note();
        objects.insert(observed("a", "{\"spec\":{}}", "True")).unwrap();
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
        ["b", "a"].into_iter().for_each(|name| objects.insert(observed(name, "{}", "True")).unwrap());
        let names = |kind| objects.all(kind).iter().map(|o| o.object.key.to_string()).collect::<Vec<_>>();
        assert_eq!(names(Some(ApiKind::TalosMachine)), ["TalosMachine ns/a", "TalosMachine ns/b"]);
        assert_eq!((names(Some(ApiKind::TalosCluster)).len(), names(None).len()), (0, 2));
    }

    #[test]
    fn list_takes_the_place_of_its_scope_and_is_one_change() {
        let objects = Objects::default();
        let changes = objects.changes();
        let named = |names: &[&str]| names.iter().map(|name| observed(name, "{}", "True")).collect::<Vec<_>>();
        objects.replace(ApiKind::TalosMachine, None, named(&["a", "b", "c"])).unwrap();
        let b = objects.get(&observed("b", "", "").object.key).unwrap();
        objects.replace(ApiKind::TalosMachine, Some("ns"), named(&["b", "d"])).unwrap();
        let names: Vec<_> = objects.all(None).iter().map(|observed| observed.object.key.name.to_string()).collect();
        assert_eq!(names, ["b", "d"]);
        assert!(Arc::ptr_eq(&b, &objects.get(&b.object.key).unwrap()));
        objects.replace(ApiKind::TalosMachine, Some("other"), Vec::new()).unwrap();
        objects.replace(ApiKind::TalosCluster, None, Vec::new()).unwrap();
        assert_eq!((objects.count(ApiKind::TalosMachine, None), changes.borrow().all), (2, 2));
    }

    #[test]
    fn memory_is_bounded_and_released() {
        let objects = Objects::default();
        let text = "x".repeat(MOST_BYTES / 2);
        objects.insert(observed("a", &text, "True")).unwrap();
        assert_eq!(objects.insert(observed("b", &text, "True")), Err(Full));
        // Its own former version makes room.
        objects.insert(observed("a", &text, "False")).unwrap();
        objects.remove(&observed("a", "", "").object.key);
        objects.insert(observed("b", &text, "True")).unwrap();
        assert_eq!(objects.count(ApiKind::TalosMachine, Some("ns")), 1);
        objects.remove(&observed("b", "", "").object.key);
        assert_eq!(objects.lock().bytes, 0);
    }
}
