//! The report of `pxed fetch --accept`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Serialize;

use super::output::ToText;
use crate::artifacts::{Accepted, Records, Sha256};

/// The files that were to be accepted.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    path: PathBuf,
    is_accepted: bool,
    /// The hash that is recorded now.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    /// The action, or the reason why there was none.
    message: String,
}

impl Report {
    pub(super) fn of(records: &Records, paths: &[PathBuf], now: SystemTime) -> Self {
        Self { files: paths.iter().map(|path| File::of(records, path, now)).collect() }
    }

    pub(super) fn is_right(&self) -> bool {
        self.files.iter().all(|file| file.is_accepted)
    }
}

impl File {
    fn of(records: &Records, path: &Path, now: SystemTime) -> Self {
        let (is_accepted, sha256, message) = match records.accept(path, now) {
            Ok(Accepted::File(sha256)) => (true, Some(sha256), format!("served as it is, with SHA-256 {sha256}")),
            Ok(Accepted::Forgotten) => (true, None, "not there; its next download is taken as it comes".to_owned()),
            Err(error) => (false, None, error.to_string()),
        };
        Self { path: path.to_owned(), is_accepted, sha256, message }
    }
}

impl ToText for Report {
    fn to_text(&self) -> String {
        let mut text = String::new();
        for File { path, is_accepted, message, .. } in &self.files {
            let _ = match is_accepted {
                true => writeln!(text, "{}: {message}", path.display()),
                false => writeln!(text, "not accepted: {message}"),
            };
        }
        text
    }
}
