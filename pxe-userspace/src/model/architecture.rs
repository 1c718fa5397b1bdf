//! The processor architectures that Talos is built for.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// The processor architecture that a machine's kernel is built for (`pxeClientSpec.cpuArchitecture`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

/// The spelling of the spec, of the names of Talos' release files, and of our JSON.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}
