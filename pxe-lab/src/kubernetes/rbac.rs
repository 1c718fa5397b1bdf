//! pxed's ServiceAccount with exactly the rights that the chart gives it.

use std::fs;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{kubeconfig::Account, server::ApiServer};
use crate::build;

/// The file of the chart with the rules, which its templates read.
const RULES: &str = "deploy/chart/files/rbac.json";

/// The name of the account and of its roles.
const NAME: &str = "pxed";

impl ApiServer {
    /// Makes the ServiceAccount `pxed` in this namespace, with the rights that the chart gives it and no others, and its kubeconfig.
    ///
    /// # Errors
    ///
    /// Fails if the chart has no rules, or with the server's answer.
    pub fn pxed_account(&self, namespace: &str) -> anyhow::Result<Account> {
        let path = build::workspace().join(RULES);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let rules: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let account = self.account(namespace, NAME)?;
        let group = "rbac.authorization.k8s.io";
        let mut items = Vec::new();
        for (part, prefix, place) in [("resources", "Cluster", None), ("leases", "", Some(namespace))] {
            let kind = format!("{prefix}Role");
            // Two installations in one cluster have roles of their own.
            let name = format!("{NAME}-{namespace}-{part}");
            let metadata = json!({"name": name, "namespace": place});
            let rules = rules.get(part).with_context(|| format!("{} has no {part}", path.display()))?;
            items.push(json!({
                "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata, "rules": rules,
            }));
            items.push(json!({
                "apiVersion": format!("{group}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
            }));
        }
        self.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
        Ok(account)
    }
}
