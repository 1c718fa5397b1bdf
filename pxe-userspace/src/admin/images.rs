//! The files that the machines of the spec need.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::context::Admin;
use crate::{
    journal::json::rfc3339,
    model::{
        images::{BootFiles, FileState, ImageFile, Images},
        inventory::Machine,
    },
};

/// A file with its state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileJson<'i> {
    /// Its path, relative to the artifacts directory.
    path: &'i str,
    state: &'static str,
    /// The state in words.
    text: String,
    /// The number of machines that need it.
    machines: usize,
    /// The condition under which they need it, which the spec does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    only_for: Option<&'static str>,
    /// The bytes that are on disk, of a file that is downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rest_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'i str>,
    /// The time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<String>,
    /// The commands that get it while it is not there, of which one suffices.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    remedy: &'i [String],
}

impl<'i> FileJson<'i> {
    pub(super) fn of(path: &'i str, file: &'i ImageFile, now: SystemTime) -> Self {
        let ImageFile { state, machines, only_for, remedy } = file;
        let (done, total, rest) = match state {
            FileState::Fetching { done, total, rest } => (Some(*done), *total, *rest),
            _ => (None, None, None),
        };
        let (reason, again) = match state {
            FileState::Failed { reason, again } => (Some(&**reason), Some(*again)),
            FileState::Missing { reason } | FileState::Refused { reason } => (Some(&**reason), None),
            _ => (None, None),
        };
        Self {
            path,
            state: state.name(),
            text: state.in_words(now).to_string(),
            machines: *machines,
            only_for: *only_for,
            done,
            total,
            percent: state.percent(),
            rest_seconds: rest.map(|rest| rest.as_secs()),
            reason,
            again: again.map(rfc3339),
            remedy: if state.is_served() { &[] } else { remedy },
        }
    }
}

/// The answer of `GET /api/v1/images`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImagesJson<'i> {
    /// The number of machines that boot their previous version meanwhile.
    previous: usize,
    files: Vec<FileJson<'i>>,
}

/// Returns the files that a machine boots now.
pub(super) fn of_machine<'i>(images: &'i Images, machine: &Arc<Machine>, now: SystemTime) -> Vec<FileJson<'i>> {
    let files = BootFiles::of(images.as_bootable(machine), images.stubs());
    let known = |path: &str| images.files().get_key_value(path);
    files.paths().filter_map(known).map(|(path, file)| FileJson::of(path, file, now)).collect()
}

/// `GET /api/v1/images`.
#[utoipa::path(get, path = "/api/v1/images", operation_id = "list_images", tag = "pxed", responses(
    (status = 200, description = "The files that the machines need", body = ImagesJson),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Response {
    let (images, now) = (admin.context.images.load(), SystemTime::now());
    let files = images.files().iter().map(|(path, file)| FileJson::of(path, file, now)).collect();
    Json(ImagesJson { previous: images.previous(), files }).into_response()
}
