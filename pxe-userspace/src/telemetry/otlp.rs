//! The body of a request (ExportTraceServiceRequest of OTLP, in its JSON form). Pure.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::model::span::Span;

/// A span within pxed (SPAN_KIND_INTERNAL).
const INTERNAL: u8 = 1;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// Returns the body that carries these spans of a node.
///
/// # Errors
///
/// If they cannot be written as JSON.
pub(super) fn request(node: &str, spans: &[Span]) -> serde_json::Result<Vec<u8>> {
    let resource = [
        text("service.name", "pxed"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", node),
        text("host.name", node),
    ];
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let scope = json!({"name": "pxed", "version": env!("CARGO_PKG_VERSION")});
    serde_json::to_vec(&json!({
        "resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }],
    }))
}

fn span(Span { machine, boot, step, name, begun, ended, error }: &Span) -> Value {
    let mut attributes = vec![
        text("pxed.mac", &machine.mac.to_string()),
        text("pxed.address", &machine.address.to_string()),
        text("pxed.cluster", &machine.cluster),
        text("pxed.version", &machine.version),
    ];
    attributes.extend(machine.hostname.as_ref().map(|name| text("pxed.hostname", name)));
    let status = match error {
        Some(error) => json!({"code": ERROR, "message": error}),
        None => json!({"code": OK}),
    };
    let mut span = json!({
        "traceId": format!("{:032x}", (*boot).max(1)),
        "spanId": format!("{:016x}", id(*boot, *step)),
        "name": name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(*begun),
        "endTimeUnixNano": nanoseconds(*ended),
        "attributes": attributes,
        "status": status,
    });
    if *step > 0 {
        span["parentSpanId"] = format!("{:016x}", id(*boot, 0)).into();
    }
    span
}

/// Returns the identifier of a step of a boot. It is never zero, which means none.
fn id(boot: u128, step: u32) -> u64 {
    let mixed = (boot as u64).wrapping_add(u64::from(step).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed.max(1)
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// 64-bit numbers are texts in the JSON form of OTLP.
fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}
