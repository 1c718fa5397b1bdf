//! The result of a diagnosis.

use serde::Serialize;
use utoipa::ToSchema;

/// The situation of a machine in plain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Diagnosis {
    /// Its progress so far.
    pub reached: String,
    /// The next step that has to happen.
    pub waits_for: String,
    /// Things to check or do, the most likely first. Empty if nothing is wrong.
    pub advice: Vec<String>,
}
