//! Reads the annotations of pxed. Their names are in one list: one that is not in it is a mistake.

use super::{
    field::Field,
    finding::{Notes, Position},
    misspelling::{nearest, proposal},
    read_settings::{Name, Reader, machine_key},
    settings::Annotations,
    tree::Kind,
};

/// The beginning of every name. Everything below it is ours, so an unknown name is an error.
const PREFIX: &str = "pxed.dev/";
/// A mapping from machines to their settings.
const MACHINES: &str = "pxed.dev/machines";

/// Every annotation that pxed reads. The name of a setting may be followed by `.` and an IP address, or a MAC address with hyphens, for
/// the one machine that has it.
const KNOWN: [&str; 11] = [
    "pxed.dev/boot-policy",
    "pxed.dev/disk-route",
    "pxed.dev/boot",
    "pxed.dev/loader",
    "pxed.dev/talos-config",
    "pxed.dev/vlans",
    "pxed.dev/dhcp-answers",
    "pxed.dev/secrets",
    "pxed.dev/hostname",
    "pxed.dev/additional-mac-addresses",
    MACHINES,
];

/// The machines of an annotated resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// It is one machine.
    One,
    /// It has any number of machines.
    Several,
}

/// Reads the annotations of a resource from its `metadata`.
pub(crate) fn read(metadata: &Field<'_>, subject: Subject, notes: &mut Notes) -> Annotations {
    let mut annotations = Annotations::default();
    let mut reader = Reader::default();
    if let Some(field) = metadata.child("annotations") {
        for entry in field.entries(notes).unwrap_or_default() {
            let annotation = field.entry(entry);
            // A dot comes before the address of one machine. The name of no annotation has one.
            let (name, machine) = match entry.key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')) {
                Some((name, machine)) => (&entry.key[..PREFIX.len() + name.len()], Some(machine)),
                None => (&*entry.key, None),
            };
            let setting = name.strip_prefix(PREFIX).and_then(Name::of);
            match (setting, machine) {
                (Some(name), _) => {
                    let place = Place { subject, machine, at: entry.key_at };
                    setting_of(name, place, &annotation, &mut reader, notes, &mut annotations);
                }
                (None, None) if name == MACHINES => match subject {
                    Subject::Several => reader.machines(&annotation, notes, &mut annotations),
                    Subject::One => annotation.error(
                        notes,
                        "is for resources with several machines: write each setting as an annotation here, such as \
                         pxed.dev/boot-policy",
                    ),
                },
                (None, _) => unknown(&annotation, &entry.key, name, entry.key_at, notes),
            }
        }
    }
    labels(metadata, notes);
    annotations
}

/// The place of an annotation with a setting.
struct Place<'k> {
    subject: Subject,
    /// The address in its name.
    machine: Option<&'k str>,
    at: Position,
}

/// Reads one setting, for all machines of the resource or for the one with the address in its name.
fn setting_of(
    name: Name,
    Place { subject, machine, at }: Place<'_>,
    annotation: &Field<'_>,
    reader: &mut Reader,
    notes: &mut Notes,
    into: &mut Annotations,
) {
    let into = match (machine.map(machine_key), subject) {
        (None, Subject::Several) if name.is_of_one_machine() => {
            let message = format!(
                "is for one machine, and this resource has any number: write {} below the machine in {MACHINES}",
                name.key()
            );
            return annotation.error(notes, message);
        }
        (None, _) => &mut into.all,
        (Some(_), Subject::One) => {
            let message = format!("selects a machine of several, and this is one: write {PREFIX}{}", name.annotation());
            return annotation.error(notes, message);
        }
        (Some(Ok(key)), Subject::Several) => {
            let machine = into.machine(key, at, &annotation.path());
            let outer = notes.begin();
            if !matches!(annotation.node.kind(), Kind::Null) {
                reader.setting(name, annotation, notes, &mut machine.settings);
            }
            machine.fault = machine.fault.or(notes.end(outer));
            return;
        }
        (Some(Err(message)), Subject::Several) => return annotation.error(notes, message),
    };
    if !matches!(annotation.node.kind(), Kind::Null) {
        reader.setting(name, annotation, notes, into);
    }
}

/// Notes an annotation that pxed does not have. A policy with a misspelt name would silently not be in force, so it is an error.
/// Below the name of somebody else, it is a warning, and only if it resembles one of ours.
fn unknown(annotation: &Field<'_>, key: &str, name: &str, at: Position, notes: &mut Notes) {
    let near = nearest(name, KNOWN);
    let known = KNOWN.join(", ");
    if key.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX)) {
        let message = format!("is not an annotation of pxed: {}known are {known}", proposal(near));
        notes.error(at, annotation.path(), message);
    } else if let Some(near) = near {
        notes.warn(
            at,
            annotation.path(),
            format!("is not an annotation of pxed and has no effect: did you mean {near}?"),
        );
    }
}

/// Warns of annotations of pxed among the labels.
fn labels(metadata: &Field<'_>, notes: &mut Notes) {
    let Some(field) = metadata.child("labels") else { return };
    for entry in field.entries(&mut Notes::default()).unwrap_or_default() {
        if entry.key.starts_with(PREFIX) {
            let path = format!("{}.{}", field.path(), entry.key);
            notes.warn(entry.key_at, path, "is a label and has no effect: write it below metadata.annotations");
        }
    }
}
