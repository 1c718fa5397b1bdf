//! Values that a person could set, each of which gives objects that Kubernetes accepts.

use serde_json::{Value, json};

/// Returns every case.
pub(crate) fn accepted() -> Vec<Value> {
    vec![
        json!({}),
        json!({"image": {"repository": "boot/pxed", "tag": "1.2.3", "pullPolicy": "Always", "pullSecrets": ["a", "b"]}}),
        json!({"namespaces": ["metal", "lab", "metal"]}),
        json!({"options": every_option()}),
        json!({"options": {"datapath": "socket", "log-format": null}, "extraArgs": ["--strict"]}),
        json!({"options": {"lease-seconds": 3_000_000, "machine-rate": 0, "strict": false}}),
        json!({"env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "RUST_LOG", "value": "debug"}]}),
        json!({"artifacts": {"claim": "images"}, "state": {"claim": "state"}}),
        json!({"artifacts": {"hostPath": ""}, "state": {"hostPath": ""}}),
        json!({"talosConfig": {"secret": "configs"}}),
        json!({"talosConfig": {"configMap": "configs", "key": "all.yaml"}}),
        json!({"secureBoot": {"secret": "db"}, "runAsUser": 65532}),
        json!({"caCertificates": {"pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}}),
        json!({"caCertificates": {"configMap": "site", "key": "bundle.pem"}}),
        json!({"admin": {"listen": "node", "port": 9001}, "metrics": {"service": true}}),
        json!({"admin": {"listen": "node"}, "metrics": {"serviceMonitor": true, "interval": "1m30s", "prometheusRule": true, "dashboard": true, "labels": {"release": "prometheus"}}}),
        json!({"nodeSelector": {"pxed.dev/provisioning": null, "rack": "7"}, "tolerations": [], "priorityClassName": "system-node-critical"}),
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchExpressions": [{"key": "rack", "operator": "Exists"}]}]}}}}),
        json!({"resources": {"requests": {"cpu": 1}, "limits": {"memory": "4Gi"}}, "minReadySeconds": 0, "terminationGracePeriodSeconds": 30}),
        json!({"readinessPath": "/readyz", "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/pxed.json"}}),
        json!({"podAnnotations": {"a": "1"}, "podLabels": {"team": "metal", "app.kubernetes.io/name": "other"}}),
        json!({"rbac": {"create": false}, "serviceAccount": {"create": false, "name": "mine"}}),
        json!({"serviceAccount": {"annotations": {"a": "b"}}, "nameOverride": "boot"}),
        json!({"fullnameOverride": "a-name-that-is-longer-than-what-labels-and-names-of-objects-may-have-in-kubernetes"}),
        json!({"global": {"imageRegistry": "of other charts"}}),
    ]
}

/// Returns every option that the values have, each with a value.
pub(crate) fn every_option() -> Value {
    json!({
        "strict": true, "mode": "proxy", "unknown": "drop", "datapath": "generic", "http-port": 8080, "lease-seconds": 600, "machine-rate": 20,
        "advertise": ["10.0.0.5", "10.1.0.5"], "trusted-relay": ["52:54:00:00:00:01", "52:54:00:00:00:02"],
        "tftp-ports": "40000-49999", "mirror": ["http://10.0.0.2:8000"], "offline": true, "verify-up": false, "history-size": 64, "history-days": 7, "talos-url": "https://mirror.example/talos",
        "factory-url": "https://mirror.example/factory", "ipxe-url": "https://mirror.example/ipxe",
        "ipxe-releases-url": "https://mirror.example/ipxe-releases", "bandwidth-limit": "20M", "log-format": "text", "otlp-endpoint": "http://collector.example:4318",
    })
}

/// Returns values that are refused, each with words that the message has.
pub(crate) fn refused() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!({"option": {}}), &["'option'"]),
        (json!({"image": {"registry": "x"}}), &["/image", "'registry'"]),
        (json!({"image": {"repository": ""}}), &["/image/repository"]),
        (json!({"options": {"leaseSeconds": 600}}), &["/options", "'leaseSeconds'"]),
        (json!({"options": {"cluster": "/etc/clusters"}}), &["/options", "'cluster'"]),
        (json!({"options": {"mode": "prox"}}), &["/options/mode", "'server', 'proxy'"]),
        (json!({"options": {"http-port": "8000"}}), &["/options/http-port", "integer"]),
        (json!({"options": {"http-port": 0}}), &["/options/http-port"]),
        (json!({"options": {"http-port": 65536}}), &["/options/http-port"]),
        (json!({"options": {"lease-seconds": 9}}), &["/options/lease-seconds", "10"]),
        (json!({"options": {"lease-seconds": 600.5}}), &["/options/lease-seconds"]),
        (json!({"options": {"strict": "yes"}}), &["/options/strict", "boolean"]),
        (json!({"options": {"advertise": "10.0.0.5"}}), &["/options/advertise", "array"]),
        (json!({"options": {"advertise": ["node.example"]}}), &["/options/advertise/0", "node.example"]),
        (json!({"options": {"mirror": ["10.0.0.2"]}}), &["/options/mirror/0", "10.0.0.2"]),
        (json!({"options": {"mirror": "http://10.0.0.2:8000"}}), &["/options/mirror"]),
        (json!({"options": {"talos-url": "mirror.example"}}), &["/options/talos-url", "mirror.example"]),
        (json!({"options": ["mode=proxy"]}), &["/options", "object"]),
        (json!({"namespaces": "metal"}), &["/namespaces", "array"]),
        (json!({"namespaces": ["Metal"]}), &["/namespaces/0", "Metal"]),
        (json!({"nodeSelector": {"rack": 7}}), &["/nodeSelector/rack", "string"]),
        (json!({"nodeSelector": {"pxed.dev/provisioning": null}}), &["nodeSelector"]),
        (json!({"artifacts": {"hostPath": "images"}}), &["/artifacts/hostPath", "images"]),
        (json!({"artifacts": {"hostPath": "/"}}), &["/artifacts/hostPath"]),
        (json!({"artifacts": {"pvc": "images"}}), &["/artifacts", "'pvc'"]),
        (json!({"state": {"hostPath": "/var/lib/pxed/artifacts"}}), &["artifacts", "state", "/var/lib/pxed/artifacts"]),
        (json!({"talosConfig": {"secret": "a", "configMap": "b"}}), &["talosConfig.secret", "talosConfig.configMap"]),
        (json!({"talosConfig": {"key": "all.yaml"}}), &["talosConfig.key", "talosConfig.secret"]),
        (
            json!({"caCertificates": {"pem": "-----BEGIN CERTIFICATE-----", "configMap": "b"}}),
            &["caCertificates.pem", "caCertificates.configMap"],
        ),
        (json!({"caCertificates": {"pem": "/etc/ssl/site.pem"}}), &["/caCertificates/pem", "BEGIN CERTIFICATE"]),
        (json!({"secureBoot": {"key": "-----BEGIN"}}), &["/secureBoot", "'key'"]),
        (json!({"admin": {"listen": "0.0.0.0"}}), &["/admin/listen", "'loopback', 'node'"]),
        (json!({"admin": {"port": 8000}}), &["admin.port", "http-port", "8000"]),
        (json!({"metrics": {"service": true}}), &["metrics.service", "admin.listen: node"]),
        (json!({"metrics": {"serviceMonitor": true}}), &["metrics.serviceMonitor", "admin.listen: node"]),
        (json!({"metrics": {"dashboard": "yes"}}), &["/metrics/dashboard"]),
        (json!({"metrics": {"interval": "often"}}), &["/metrics/interval"]),
        (json!({"readinessPath": "/"}), &["/readinessPath", "'/healthz', '/readyz'"]),
        (json!({"terminationGracePeriodSeconds": 1}), &["/terminationGracePeriodSeconds"]),
        (json!({"runAsUser": -1}), &["/runAsUser"]),
        (json!({"seccompProfile": {"type": "None"}}), &["/seccompProfile/type"]),
        (json!({"securityContext": {"privileged": true}}), &["'securityContext'"]),
        (json!({"serviceAccount": {"create": false}}), &["serviceAccount.name"]),
        (json!({"options": {"unknown": "drop", "datapath": "socket"}}), &["unknown", "datapath"]),
    ]
}
