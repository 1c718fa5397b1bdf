//! Reads a list of VLANs.

use std::{collections::BTreeSet, sync::Arc};

use super::{field::Field, finding::Notes, tree::Kind};

/// The most VLANs of a machine. A longer list, repeated by aliases, would cost much time.
const MOST_VLANS: usize = 64;

/// Reads VLANs, written as a list, as one number, or as text with commas. Returns them sorted, each once.
pub(crate) fn read(field: &Field<'_>, notes: &mut Notes) -> Option<Arc<[u16]>> {
    let mut vlans = BTreeSet::new();
    let mut add = |text: &str, field: &Field<'_>, notes: &mut Notes| match vlan(text) {
        Ok(vlan) => {
            vlans.insert(vlan);
            true
        }
        Err(message) => {
            field.error(notes, message);
            false
        }
    };
    let mut is_valid = true;
    if let Kind::Text(text) = field.node.kind() {
        let texts = || text.split([',', ' ', '\t', '\n']).filter(|text| !text.is_empty());
        if is_too_long(texts().count(), field, notes) {
            return None;
        }
        for text in texts() {
            is_valid &= add(text, field, notes);
        }
    } else {
        let items = field.items(notes)?;
        if is_too_long(items.len(), field, notes) {
            return None;
        }
        for item in items {
            is_valid &= item.text(notes).is_some_and(|text| add(text, &item, notes));
        }
    }
    is_valid.then(|| vlans.into_iter().collect())
}

fn is_too_long(number: usize, field: &Field<'_>, notes: &mut Notes) -> bool {
    let is_too_long = number > MOST_VLANS;
    if is_too_long {
        field.error(notes, format!("has {number} VLANs: write at most {MOST_VLANS}"));
    }
    is_too_long
}

fn vlan(text: &str) -> Result<u16, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(vlan @ 1..=4094) if is_number => Ok(vlan),
        Ok(0) if is_number => Err("0 is no VLAN, and frames without a VLAN are answered anyway: remove it".to_owned()),
        _ => Err(format!("{text:?} is not a VLAN: write numbers from 1 to 4094, such as \"100, 200\"")),
    }
}
