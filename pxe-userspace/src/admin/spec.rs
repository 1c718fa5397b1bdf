//! The errors of the specs.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, Uri},
    response::Response,
};
use pxe_common::MacAddr;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    context::Admin,
    paging::{self, Pages},
    refusal::{Refusal, refuse},
};
use crate::model::finding::{AllSpecFaults, SpecFault};

/// `GET /api/v1/spec/errors`: those of the cluster spec, then those of the Matchbox directory.
#[utoipa::path(get, path = "/api/v1/spec/errors", operation_id = "list_spec_errors", tag = "pxed", params(Pages), responses(
    (status = 200, description = "The errors of the specs", body = Vec<SpecFault>, headers(
        ("X-Total-Count" = u64, description = "The number of errors on all pages"),
    )),
    (status = 400, description = "A mistake of the query", body = Refusal),
))]
pub(super) async fn errors(
    State(admin): State<Admin>,
    uri: Uri,
    pages: Result<Query<Pages>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(pages) = pages.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
    let AllSpecFaults { clusters, matchbox } = &admin.context.faults;
    let (clusters, matchbox) = (clusters.load(), matchbox.load());
    let errors: Vec<&SpecFault> = clusters.faults.iter().chain(&matchbox.faults).collect();
    Ok(paging::page(&uri, pages, &errors, |error| error.finding.to_string()))
}

/// The errors of the specs as health shows them.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct SpecHealth {
    /// Set if nothing was refused.
    valid: bool,
    /// The number of errors.
    errors: usize,
    /// The machines and groups that are not served.
    left_out: usize,
    /// The machines and groups that are served in their last good version.
    kept: usize,
    /// The same in words, with the first error and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
}

/// Returns the errors of the specs as health shows them.
pub(super) fn health(faults: &AllSpecFaults) -> SpecHealth {
    let AllSpecFaults { clusters, matchbox } = faults;
    let (clusters, matchbox) = (clusters.load(), matchbox.load());
    let refused = [&clusters, &matchbox].into_iter().filter(|faults| !faults.is_valid());
    let refused: Vec<_> = refused.flat_map(|faults| &faults.faults).collect();
    let all = || [&clusters, &matchbox].into_iter().flat_map(|faults| &faults.affected);
    let kept = all().filter(|affected| affected.is_kept).count();
    let left_out = all().count() - kept;
    let text = refused.first().map(|first| {
        let errors = if refused.len() == 1 { "an error".to_owned() } else { format!("{} errors", refused.len()) };
        let consequences = match (left_out, kept) {
            (0, 0) => "nothing of it is in force".to_owned(),
            (left_out, 0) => format!("{left_out} left out"),
            (0, kept) => format!("{kept} kept as before"),
            (left_out, kept) => format!("{left_out} left out, {kept} kept as before"),
        };
        let which = if refused.len() == 1 { "" } else { "the first is " };
        format!(
            "the spec has {errors}, {consequences}: {which}{}; `pxed validate` lists all of a changed spec",
            first.finding
        )
    });
    SpecHealth { valid: refused.is_empty(), errors: refused.len(), left_out, kept, text }
}

/// Returns the error that leaves a machine out, or keeps it in its last good version.
pub(super) fn error_of(admin: &Admin, mac: MacAddr) -> Option<String> {
    let AllSpecFaults { clusters, matchbox } = &admin.context.faults;
    [clusters, matchbox].into_iter().find_map(|faults| Some(faults.load().of(mac)?.0.finding.to_string()))
}
