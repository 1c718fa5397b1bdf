//! Definitions of the resources of talos-operator, generated from types of our own.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::types::{ClusterSpec, MachineSpec, RoleSpec, Status};

/// The API group.
pub const GROUP: &str = "talos.alperen.cloud";
/// The version in it.
pub const VERSION: &str = "v1alpha1";

/// Returns the definitions of the four kinds, as a list in JSON.
#[must_use]
pub fn definitions() -> String {
    let items = [
        definition("TalosCluster", "tc", &schema::<ClusterSpec>()),
        definition("TalosControlPlane", "tcp", &schema::<RoleSpec>()),
        definition("TalosWorker", "tw", &schema::<RoleSpec>()),
        definition("TalosMachine", "tm", &schema::<MachineSpec>()),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn definition(kind: &str, short: &str, spec: &Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    let columns = match kind {
        "TalosCluster" => vec![],
        _ => vec![column("State", ".status.state"), column("Version", ".spec.version")],
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular, "shortNames": [short],
            },
            "versions": [{
                "name": VERSION, "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                    "spec": spec, "status": schema::<Status>(),
                }}},
            }],
        },
    })
}

/// Returns the schema of a type in the form that definitions of resources need.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    reduce(&mut schema);
    schema
}

/// Removes what a definition must not have, and marks free objects.
fn reduce(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for key in ["$schema", "title", "nullable", "components"] {
        object.remove(key);
    }
    if object.remove("additionalProperties").is_some() {
        object.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(reduce);
    }
    if let Some(items) = object.get_mut("items") {
        reduce(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_have_the_required_fields_and_the_list_types() {
        let list: Value = serde_json::from_str(&definitions()).unwrap();
        let schema = |number: usize| {
            list.pointer(&format!("/items/{number}/spec/versions/0/schema/openAPIV3Schema/properties")).unwrap()
        };
        let cluster = schema(0);
        let required = |schema: &Value, path: &str| schema.pointer(&format!("{path}/required")).cloned();
        assert_eq!(
            required(cluster, "/spec/properties/pxeServerSpec"),
            Some(json!(["address", "interface"])),
            "{cluster:#}"
        );
        let machine = schema(3);
        assert_eq!(required(machine, "/spec"), Some(json!(["endpoint", "version"])));
        let client = "/spec/properties/pxeClientSpec";
        assert_eq!(required(machine, client), Some(json!(["cpuArchitecture", "macAddress"])));
        let conditions = machine.pointer("/status/properties/conditions").unwrap();
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
        assert_eq!(conditions["x-kubernetes-list-type"], json!("map"));
        assert_eq!(conditions.pointer("/items/properties/status/enum"), Some(&json!(["True", "False", "Unknown"])));
        assert!(!list.to_string().contains("nullable") && !list.to_string().contains("$ref"), "{list:#}");
    }
}
