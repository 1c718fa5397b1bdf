//! Objects of the Kubernetes API, as plain values.

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

/// A kind of talos-operator's resources that pxed reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ApiKind {
    /// `TalosCluster`
    TalosCluster,
    /// `TalosControlPlane`
    TalosControlPlane,
    /// `TalosWorker`
    TalosWorker,
    /// `TalosMachine`
    TalosMachine,
}

impl ApiKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::TalosCluster, Self::TalosControlPlane, Self::TalosWorker, Self::TalosMachine];
    /// The group of all kinds.
    pub const GROUP: &'static str = "talos.alperen.cloud";
    /// The version of all kinds.
    pub const VERSION: &'static str = "v1alpha1";

    /// Returns the name, as in `kind: TalosMachine`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TalosCluster => "TalosCluster",
            Self::TalosControlPlane => "TalosControlPlane",
            Self::TalosWorker => "TalosWorker",
            Self::TalosMachine => "TalosMachine",
        }
    }

    /// Returns the name in URLs and RBAC rules, such as `talosmachines`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::TalosCluster => "talosclusters",
            Self::TalosControlPlane => "taloscontrolplanes",
            Self::TalosWorker => "talosworkers",
            Self::TalosMachine => "talosmachines",
        }
    }
}

impl fmt::Display for ApiKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of an object. Displayed as `TalosMachine ns/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The kind.
    pub kind: ApiKind,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name within the namespace.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// Returns the place that messages about the object name.
    #[must_use]
    pub fn place(&self) -> Arc<Path> {
        Arc::from(Path::new(&self.to_string()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        write!(f, "{kind} {namespace}/{name}")
    }
}

/// An object as far as the spec needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiObject {
    /// Its name.
    #[serde(flatten)]
    pub key: ObjectKey,
    /// Its identity, which an object that is deleted and made again does not keep.
    pub uid: Arc<str>,
    /// The time when it was made, in RFC 3339.
    pub created: Arc<str>,
    /// Its JSON without what changes while the spec stays the same: no status, no managed fields, no versions.
    pub text: Arc<str>,
}

/// A condition in an object's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiCondition {
    /// The type, such as `PxeBooted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason in one word.
    pub reason: String,
    /// The sentence for people.
    pub message: String,
    /// The time of the last change of `status`, in RFC 3339.
    pub last_transition_time: String,
    /// The generation of the object that it is about.
    pub observed_generation: Option<i64>,
}
