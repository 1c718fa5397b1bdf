//! `pxed fetch --downloads`: the files that pxed has downloaded itself.

use std::sync::Arc;

use serde::Serialize;

use super::output::ToText;

/// The files, relative to the artifacts directory.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Report(pub(super) Vec<Arc<str>>);

impl ToText for Report {
    fn to_text(&self) -> String {
        self.0.iter().map(|path| format!("{path}\n")).collect()
    }
}
