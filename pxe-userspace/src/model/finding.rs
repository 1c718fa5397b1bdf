//! Mistakes in a spec: what is wrong where, and what they leave out.

use std::{fmt, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// An error or warning, with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
pub struct Finding {
    /// The file.
    #[schema(value_type = String)]
    #[serde(serialize_with = "path_as_text")]
    pub file: Arc<Path>,
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// The column in characters, counted from 1; 0 for the file as a whole.
    pub column: u32,
    /// The field, such as `spec.worker.metalSpec.machines[3].address`; may be empty.
    pub field: String,
    /// The mistake, and what to do.
    pub message: String,
}

fn path_as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl Finding {
    /// Makes a finding about a whole file or directory.
    #[must_use]
    pub fn about_file(file: &Path, message: String) -> Self {
        Self { file: Arc::from(file), line: 0, column: 0, field: String::new(), message }
    }
}

/// Writes `file:line:column: field: message`, which editors and terminals turn into links.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, field, message } = self;
        write!(f, "{}", file.display())?;
        if *line > 0 {
            write!(f, ":{line}:{column}")?;
        }
        if !field.is_empty() {
            write!(f, ": {field}")?;
        }
        write!(f, ": {message}")
    }
}

/// An error of a spec, and the number of objects that it affects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SpecFault {
    /// The error.
    #[serde(flatten)]
    pub finding: Finding,
    /// The objects that it affects: `machine` in a cluster spec, `group` in a Matchbox directory.
    pub objects: &'static str,
    /// The objects that are not served.
    pub left_out: usize,
    /// The objects that are served in their last good version.
    pub kept: usize,
}

impl SpecFaults {
    /// Returns `true` if nothing of the spec was refused. A spec that is not there yet has nothing to refuse.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.is_awaited || self.faults.is_empty()
    }
}

/// Writes the error and its consequences.
impl fmt::Display for SpecFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { finding, objects, left_out, kept } = self;
        write!(f, "{finding}")?;
        let s = |count: usize| if count == 1 { "" } else { "s" };
        if *left_out > 0 {
            write!(f, "; left out {left_out} {objects}{}", s(*left_out))?;
        }
        if *kept > 0 {
            write!(f, "; kept {kept} {objects}{} as before", s(*kept))?;
        }
        Ok(())
    }
}

/// A machine that an error affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affected {
    /// Its MAC address, if that could be read.
    pub mac: Option<MacAddr>,
    /// The index of the error.
    pub fault: usize,
    /// Set if the machine is served in its last good version.
    pub is_kept: bool,
}

/// All errors of a spec that is in force without the objects that have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecFaults {
    /// The errors, in the order of files and lines.
    pub faults: Vec<SpecFault>,
    /// The machines that they affect.
    pub affected: Vec<Affected>,
    /// Set while there is no spec at all yet.
    pub is_awaited: bool,
}

impl SpecFaults {
    /// Returns the error that affects a machine, and `true` if the machine is served in its last good version.
    #[must_use]
    pub fn of(&self, mac: MacAddr) -> Option<(&SpecFault, bool)> {
        let affected = self.affected.iter().find(|affected| affected.mac == Some(mac))?;
        Some((self.faults.get(affected.fault)?, affected.is_kept))
    }
}

/// The errors of the spec in force. A reload stores the next ones.
pub type SharedSpecFaults = Arc<ArcSwap<SpecFaults>>;

/// The errors of both kinds of spec.
#[derive(Clone, Debug, Default)]
pub struct AllSpecFaults {
    /// Those of the cluster spec.
    pub clusters: SharedSpecFaults,
    /// Those of the Matchbox directory.
    pub matchbox: SharedSpecFaults,
}
