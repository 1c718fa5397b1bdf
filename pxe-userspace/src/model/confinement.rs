//! The privileges that pxed has given up, as the log, the API and the metrics show it.

use std::{fmt, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

/// The measures by which pxed has confined itself, for everybody who tells about them.
pub type SharedConfinement = Arc<Confinement>;

/// The measures by which pxed has confined itself at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Confinement {
    /// Every measure, in force or not.
    pub measures: Vec<Measure>,
}

/// One measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Measure {
    /// The name for metrics and the API, such as `landlock`.
    pub name: &'static str,
    /// Set if it is in force as intended.
    pub in_force: bool,
    /// What it does, or why it is not in force and what to do.
    pub detail: String,
}

impl Measure {
    /// Returns a measure in force.
    pub fn taken(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, in_force: true, detail: detail.into() }
    }

    /// Returns a measure that is not in force, with the reason.
    pub fn lacking(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, in_force: false, detail: reason.into() }
    }
}

impl Confinement {
    /// Returns the measures that are not in force.
    pub fn lacking(&self) -> impl Iterator<Item = &Measure> {
        self.measures.iter().filter(|measure| !measure.in_force)
    }
}

/// Writes the measures in force, in one line.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut taken = self.measures.iter().filter(|measure| measure.in_force).peekable();
        if taken.peek().is_none() {
            return f.write_str("nothing");
        }
        taken.enumerate().try_for_each(|(index, measure)| {
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}{}", measure.detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_the_measures_in_force_alone() {
        let measures = vec![
            Measure::taken("user", "user pxed"),
            Measure::lacking("landlock", "the kernel has no Landlock"),
            Measure::taken("no_new_privs", "no_new_privs"),
        ];
        let confinement = Confinement { measures };
        assert_eq!(confinement.to_string(), "user pxed; no_new_privs");
        assert_eq!(confinement.lacking().map(|measure| measure.name).collect::<Vec<_>>(), ["landlock"]);
        assert_eq!(Confinement::default().to_string(), "nothing");
    }
}
