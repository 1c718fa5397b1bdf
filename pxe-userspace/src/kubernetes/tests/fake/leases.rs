//! The Leases of the few lines' API server.

use serde_json::{Value, json};

use super::{Asked, Fake, State, merge, response};

impl Fake {
    /// Returns a Lease.
    pub(in crate::kubernetes::tests) fn lease(&self, name: &str) -> Option<Value> {
        self.state.lock().unwrap().leases.get(name).cloned()
    }

    /// Changes or makes a Lease, as another client does.
    pub(in crate::kubernetes::tests) fn change_lease(&self, name: &str, change: Value) {
        apply(&mut self.state.lock().unwrap(), name, change);
    }

    /// Deletes a Lease.
    pub(in crate::kubernetes::tests) fn delete_lease(&self, name: &str) {
        self.state.lock().unwrap().leases.remove(name);
    }
}

fn apply(state: &mut State, name: &str, change: Value) -> Value {
    state.version += 1;
    let version = state.version.to_string();
    let lease = state.leases.entry(name.to_owned()).or_insert_with(|| json!({"metadata": {"uid": version}}));
    merge(lease, change);
    merge(lease, json!({"metadata": {"name": name, "resourceVersion": version}}));
    lease.clone()
}

/// Answers a request for one Lease or all.
pub(super) fn answer(state: &mut State, asked: &Asked, body: &[u8]) -> String {
    let name = asked.path.split("/leases/").nth(1);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match (&*asked.method, name) {
        ("GET", None) => {
            let items: Vec<_> = state.leases.values().collect();
            response(200, "", &json!({"kind": "LeaseList", "metadata": {}, "items": items}).to_string())
        }
        ("PATCH", Some(name)) => response(200, "", &apply(state, name, body).to_string()),
        ("GET" | "DELETE", Some(name)) => {
            let Some(lease) = state.leases.get(name).cloned() else { return response(404, "", "{}") };
            if asked.method == "GET" {
                return response(200, "", &lease.to_string());
            }
            let mut conditions = body["preconditions"].as_object().into_iter().flatten();
            if conditions.any(|(field, expected)| lease["metadata"][field] != *expected) {
                return response(409, "", &json!({"kind": "Status", "message": "Precondition failed"}).to_string());
            }
            state.leases.remove(name);
            response(200, "", &json!({"kind": "Status", "status": "Success"}).to_string())
        }
        _ => response(405, "", "{}"),
    }
}
