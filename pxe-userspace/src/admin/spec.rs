//! The errors of the specs.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, Uri},
    response::Response,
};
use pxe_common::MacAddr;

use super::{
    context::Admin,
    paging::{self, Pages},
    refusal::refuse,
};
use crate::model::finding::{AllSpecFaults, SpecFault};

/// `GET /api/v1/spec/errors`: those of the cluster spec, then those of the Matchbox directory.
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

/// Returns the error that leaves a machine out, or keeps it in its last good version.
pub(super) fn error_of(admin: &Admin, mac: MacAddr) -> Option<String> {
    let AllSpecFaults { clusters, matchbox } = &admin.context.faults;
    [clusters, matchbox].into_iter().find_map(|faults| Some(faults.load().of(mac)?.0.finding.to_string()))
}
