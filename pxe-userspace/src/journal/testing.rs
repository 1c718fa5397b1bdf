//! Records of one machine, for tests of other modules.

use std::{collections::HashSet, fmt, sync::Arc};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{fact::Fact, fleet::Fleet, machine_record::MachineRecord, remembered::State, samples::*};
use crate::model::{event::EventKind, inventory::Machine};

/// The journal's records of the machine [`MAC`].
pub(crate) struct Records(Fleet);

impl Records {
    /// Creates records without a memory.
    pub(crate) fn new() -> Self {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        fleet.verify_up(true);
        Self(fleet)
    }

    /// Applies events, one after the other.
    pub(crate) fn apply(&mut self, events: &[EventKind]) {
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = self.0.apply(event));
    }

    /// Takes over what another node knows.
    pub(crate) fn learn(&mut self, fact: Fact) {
        self.0.learn(&fact);
    }

    /// Returns the record.
    pub(crate) fn record(&self, machine: &Arc<Machine>) -> MachineRecord {
        self.0.machine(machine, usize::MAX)
    }
}

/// Fails if an object of a JSON text has a key twice. Most readers take the last one, and some the first.
pub(crate) fn assert_unique_keys(json: &str) {
    if let Err(error) = serde_json::from_str::<Unique>(json) {
        panic!("{error}: {json}");
    }
}

/// Any JSON value, of which each object has each key once.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if keys.contains(&key) {
                return Err(A::Error::custom(format!("the key {key} is there twice")));
            }
            keys.insert(key);
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self, A::Error> {
        while array.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[test]
fn key_that_is_there_twice_is_found() {
    for (json, is_unique) in [
        (r#"{"a":1,"b":[{"a":null}],"c":{"a":2.5}}"#, true),
        (r#"{"a":1,"a":1}"#, false),
        (r#"[[],{"b":[{"a":true,"c":-1,"a":"x"}]}]"#, false),
    ] {
        assert_eq!(serde_json::from_str::<Unique>(json).is_ok(), is_unique, "{json}");
        assert!(serde_json::from_str::<IgnoredAny>(json).is_ok());
    }
}
