//! Machines between documents and inventory, each with its places in the files.

use std::{path::Path, sync::Arc};

use super::{
    documents::{AddressSource, Content, Declared, MachineSpec, Object},
    finding::{Finding, Note, Position},
};
use crate::model::inventory::Machine;

/// A document and its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) file: Arc<Path>,
    pub(crate) lines_before: u32,
    pub(crate) content: Arc<Content>,
}

impl Placed {
    pub(crate) fn finding(&self, at: Position, field: String, message: String) -> Finding {
        let line = self.lines_before.saturating_add(at.line);
        Finding { file: Arc::clone(&self.file), line, column: at.column, field, message }
    }

    /// Returns `file:line`, for a message that refers to a second place.
    pub(crate) fn place(&self, at: Position) -> String {
        format!("{}:{}", self.file.display(), self.lines_before.saturating_add(at.line))
    }

    pub(crate) fn noted(&self, note: &Note) -> Finding {
        self.finding(note.at, note.field.clone(), note.message.clone())
    }
}

/// The machines and findings of all documents.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) errors: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
}

/// A machine that has not been compared with the others yet, and its place in the files.
#[derive(Debug)]
pub(crate) struct Candidate<'d> {
    pub(crate) machine: Machine,
    pub(crate) origin: Origin<'d>,
}

/// The places of a machine in the files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'d> {
    pub(crate) document: &'d Placed,
    pub(crate) object: &'d Object,
    /// The field path of the `machines[]` that has it; `None` for a `TalosMachine`.
    pub(crate) list: Option<&'static str>,
    pub(crate) declared: &'d Declared,
    pub(crate) machine_spec: &'d MachineSpec,
}

impl Origin<'_> {
    pub(crate) fn base(&self) -> String {
        let prefix = &self.object.prefix;
        match self.list {
            Some(list) => format!("{prefix}{list}[{}]", self.declared.index),
            None => format!("{prefix}spec"),
        }
    }

    pub(crate) fn mac_field(&self) -> String {
        format!("{}.pxeClientSpec.macAddress", self.base())
    }

    pub(crate) fn address_field(&self) -> String {
        let key = match (self.list, self.declared.address.as_ref().map(|address| &address.value)) {
            (None, _) => "endpoint",
            (Some(_), Some(AddressSource::Reference(_))) => "machineRef",
            (Some(_), _) => "address",
        };
        format!("{}.{key}", self.base())
    }

    /// Returns the field path of `machineSpec.meta`.
    pub(crate) fn meta_field(&self) -> String {
        let prefix = &self.object.prefix;
        match self.list.and_then(|list| list.strip_suffix("machines")) {
            Some(metal_spec) => format!("{prefix}{metal_spec}machineSpec.meta"),
            None => format!("{prefix}spec.machineSpec.meta"),
        }
    }

    pub(crate) fn mac_at(&self) -> Position {
        self.declared.mac.map_or(self.declared.at, |mac| mac.at)
    }

    pub(crate) fn address_at(&self) -> Position {
        self.declared.address.as_ref().map_or(self.declared.at, |address| address.at)
    }
}
