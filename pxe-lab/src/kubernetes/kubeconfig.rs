//! Kubeconfig files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::{Value, json};

/// Returns a kubeconfig for a server with this authority, in JSON, which is YAML as well.
pub(super) fn text(server: &str, authority: &Path, user: &Value, namespace: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab", "preferences": {},
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": namespace}}],
    })
    .to_string()
}

/// The kubeconfig of a ServiceAccount, whose token is in a file beside it.
#[derive(Clone, Debug)]
pub struct Account {
    /// The account's namespace.
    pub namespace: String,
    /// The account's name.
    pub name: String,
    pub(super) kubeconfig: PathBuf,
    pub(super) token: PathBuf,
}

impl Account {
    /// Returns the path of the kubeconfig, for `--kubeconfig`. Its context has the account's namespace.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the path of the token's file, which the kubeconfig names.
    #[must_use]
    pub fn token_file(&self) -> &Path {
        &self.token
    }

    /// Replaces the token, atomically, as a kubelet does.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn set_token(&self, token: &str) -> anyhow::Result<()> {
        let next = self.token.with_extension("next");
        fs::write(&next, token)?;
        fs::rename(next, &self.token).context("cannot replace the token")
    }
}
