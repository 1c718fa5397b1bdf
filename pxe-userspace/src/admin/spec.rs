//! The errors of the specs.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use pxe_common::MacAddr;

use super::context::Admin;
use crate::model::finding::{AllSpecFaults, SpecFault};

/// `GET /api/v1/spec/errors`: those of the cluster spec, then those of the Matchbox directory.
pub(super) async fn errors(State(admin): State<Admin>) -> Response {
    let AllSpecFaults { clusters, matchbox } = &admin.context.faults;
    let (clusters, matchbox) = (clusters.load(), matchbox.load());
    let errors: Vec<&SpecFault> = clusters.faults.iter().chain(&matchbox.faults).collect();
    Json(errors).into_response()
}

/// Returns the error that leaves a machine out, or keeps it in its last good version.
pub(super) fn error_of(admin: &Admin, mac: MacAddr) -> Option<String> {
    let AllSpecFaults { clusters, matchbox } = &admin.context.faults;
    [clusters, matchbox].into_iter().find_map(|faults| Some(faults.load().of(mac)?.0.finding.to_string()))
}
