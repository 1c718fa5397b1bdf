//! Lines of JSON.

use std::{collections::BTreeMap, io};

use serde::Serialize;

/// Prints `{"step": {…}}` and the like, one per line.
pub(super) fn print_json(out: &mut impl io::Write, kind: &str, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(&BTreeMap::from([(kind, value)]))?;
    writeln!(out, "{text}")
}
