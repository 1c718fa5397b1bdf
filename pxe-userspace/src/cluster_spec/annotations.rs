//! Reads the annotations of pxed. Their names are in one list: one that is not in it is a mistake.

use super::{
    documents::{Annotated, Annotations, Located},
    field::Field,
    finding::{Notes, Position},
    misspelling::{nearest, proposal},
    values,
};

/// The beginning of every name. Everything below it is ours, so an unknown name is an error.
const PREFIX: &str = "pxed.dev/";
/// The name of a boot policy, for all machines of a resource; followed by `.` and a MAC address with hyphens, for one of them.
const BOOT_POLICY: &str = "pxed.dev/boot-policy";
/// The name of a way to the disk, likewise.
const DISK_ROUTE: &str = "pxed.dev/disk-route";

/// Every annotation that pxed reads.
const KNOWN: [&str; 2] = [BOOT_POLICY, DISK_ROUTE];

/// Reads the annotations of a resource from its `metadata`.
pub(crate) fn read(metadata: &Field<'_>, notes: &mut Notes) -> Annotations {
    let mut annotations = Annotations::default();
    if let Some(field) = metadata.child("annotations") {
        for entry in field.entries(notes).unwrap_or_default() {
            let Some(annotation) = field.child(&entry.key) else { continue };
            // A dot comes before the MAC address of one machine. The name of no annotation has one.
            let (name, mac) = match entry.key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')) {
                Some((name, mac)) => (&entry.key[..PREFIX.len() + name.len()], Some(mac)),
                None => (&*entry.key, None),
            };
            match name {
                BOOT_POLICY => {
                    one(&annotation, mac, entry.key_at, notes, values::boot_policy, &mut annotations.policy);
                }
                DISK_ROUTE => {
                    one(&annotation, mac, entry.key_at, notes, values::disk_route, &mut annotations.disk_route);
                }
                _ => unknown(&annotation, &entry.key, name, entry.key_at, notes),
            }
        }
    }
    labels(metadata, notes);
    annotations
}

/// Reads one annotation, for all machines of the resource or for the one with this MAC address.
fn one<T>(
    annotation: &Field<'_>,
    mac: Option<&str>,
    at: Position,
    notes: &mut Notes,
    parse: fn(&str) -> Result<T, String>,
    into: &mut Annotated<T>,
) {
    let Some(text) = annotation.text(notes) else { return };
    match (parse(text), mac.map(values::mac)) {
        (Ok(value), None) => into.all = Some(value),
        (Ok(value), Some(Ok(mac))) => into.by_mac.push(Located { value: (mac, value), at }),
        (Err(message), _) | (_, Some(Err(message))) => annotation.error(notes, message),
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
