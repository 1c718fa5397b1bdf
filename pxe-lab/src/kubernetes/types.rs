//! The resources of talos-operator, as far as a machine's boot, its references and its conditions go, as types for a schema.
//!
//! They accept and require what the operator's definitions do, without rules in CEL, which a server of version 1.20 does not know.
#![expect(dead_code, reason = "only their schemas are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

/// A free object.
type Free = BTreeMap<String, Value>;

const VERSION: &str = r"^v\d+\.\d+\.\d+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$";
const IPV4: &str = r"^(\d{1,3}\.){3}\d{1,3}$";
const CONDITION_TYPE: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

/// `TalosCluster.spec`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ClusterSpec {
    control_plane: Option<RoleSpec>,
    control_plane_ref: Option<LocalReference>,
    #[schemars(rename = "pxeServerSpec")]
    pxe_server: Option<PxeServer>,
    worker: Option<RoleSpec>,
    worker_ref: Option<LocalReference>,
}

/// `TalosControlPlane.spec` and `TalosWorker.spec`, also within a cluster.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct RoleSpec {
    #[schemars(extend("default" = "cluster.local"))]
    cluster_domain: Option<String>,
    cni: Option<Cni>,
    config_ref: Option<ConfigReference>,
    control_plane_ref: Option<LocalReference>,
    #[schemars(extend("enum" = ["reset", "preserve"], "default" = "reset"))]
    deletion_policy: Option<String>,
    endpoint: Option<String>,
    #[schemars(regex(pattern = VERSION), extend("default" = "v1.35.0"))]
    kube_version: String,
    metal_spec: Option<Metal>,
    #[schemars(extend("enum" = ["container", "metal", "cloud"]))]
    mode: String,
    #[schemars(rename = "podCIDR")]
    pod_cidr: Option<Vec<String>>,
    #[schemars(extend("default" = 1))]
    replicas: Option<i32>,
    rollout_strategy: Option<RolloutStrategy>,
    #[schemars(rename = "serviceCIDR")]
    service_cidr: Option<Vec<String>>,
    storage_class_name: Option<String>,
    #[schemars(regex(pattern = VERSION), extend("default" = "v1.13.0"))]
    version: String,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Cni {
    flannel: Option<Flannel>,
    #[schemars(extend("enum" = ["flannel", "custom", "none"]))]
    name: Option<String>,
    urls: Option<Vec<String>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Flannel {
    extra_args: Option<Vec<String>>,
    kube_network_policies_enabled: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct RolloutStrategy {
    rolling_update: Option<RollingUpdate>,
    #[schemars(extend("default" = "RollingUpdate"))]
    r#type: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct RollingUpdate {
    #[schemars(extend("default" = 1))]
    max_unavailable: Option<IntOrString>,
}

/// `metalSpec`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Metal {
    machine_spec: Option<MachineSettings>,
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    machines: Option<Vec<ListedMachine>>,
}

/// `machineSpec`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct MachineSettings {
    additional_config: Option<Vec<Free>>,
    #[schemars(extend("default" = false))]
    air_gap: Option<bool>,
    #[schemars(extend("default" = false))]
    allow_scheduling_on_control_planes: Option<bool>,
    config_patches: Option<Vec<Free>>,
    image: Option<String>,
    #[schemars(extend("default" = false))]
    image_cache: Option<bool>,
    install_disk: Option<String>,
    meta: Option<Meta>,
    registries: Option<Free>,
    #[schemars(extend("default" = false))]
    wipe: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Meta {
    dns_servers: Option<Vec<String>>,
    gateway: Option<String>,
    hostname: Option<String>,
    interface: Option<String>,
    subnet: Option<i64>,
}

/// An entry of `machines`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct ListedMachine {
    additional_config: Option<Vec<Free>>,
    #[schemars(regex(pattern = IPV4))]
    address: Option<String>,
    config_patches: Option<Vec<Free>>,
    image: Option<String>,
    machine_ref: Option<Reference>,
    pxe_client_spec: Option<PxeClient>,
    #[schemars(regex(pattern = VERSION))]
    version: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct PxeServer {
    #[schemars(regex(pattern = IPV4))]
    address: String,
    interface: String,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct PxeClient {
    #[schemars(extend("enum" = ["amd64", "arm64"]))]
    cpu_architecture: String,
    kernel_cmdline_args: Option<String>,
    mac_address: String,
}

/// `TalosMachine.spec`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct MachineSpec {
    config_ref: Option<ConfigReference>,
    control_plane_ref: Option<Reference>,
    #[schemars(extend("enum" = ["reset", "preserve"], "default" = "reset"))]
    deletion_policy: Option<String>,
    endpoint: String,
    machine_spec: Option<MachineSettings>,
    pxe_client_spec: Option<PxeClient>,
    version: String,
    worker_ref: Option<Reference>,
}

/// The status of all kinds.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct Status {
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    conditions: Option<Vec<Condition>>,
    config: Option<String>,
    imported: Option<bool>,
    observed_version: Option<String>,
    state: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Condition {
    #[schemars(extend("format" = "date-time"))]
    last_transition_time: String,
    #[schemars(length(max = 32_768))]
    message: String,
    #[schemars(range(min = 0))]
    observed_generation: Option<i64>,
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"))]
    reason: String,
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    status: String,
    #[schemars(length(max = 316), regex(pattern = CONDITION_TYPE))]
    r#type: String,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", extend("x-kubernetes-map-type" = "atomic"))]
struct ConfigReference {
    key: String,
    name: Option<String>,
    optional: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", extend("x-kubernetes-map-type" = "atomic"))]
struct LocalReference {
    name: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", extend("x-kubernetes-map-type" = "atomic"))]
struct Reference {
    api_version: Option<String>,
    field_path: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    uid: Option<String>,
}

/// A number or text.
struct IntOrString;

impl JsonSchema for IntOrString {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrString".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"x-kubernetes-int-or-string": true})
    }

    fn inline_schema() -> bool {
        true
    }
}
