use super::*;

fn applied(object: &Value) -> Option<Observed> {
    let line = serde_json::json!({"type": "ADDED", "object": object}).to_string();
    match event(line.as_bytes(), ApiKind::TalosMachine) {
        Event::Applied(observed, _) => Some(*observed),
        _ => None,
    }
}

#[test]
fn text_is_the_same_whatever_changes_beside_the_spec() {
    let object = |rest: Value| {
        let mut object = serde_json::json!({
            "metadata": {"name": "a", "namespace": "b", "annotations": {"pxed.dev/boot-policy": "hold"}}, "spec": {"x": 1},
        });
        for (key, value) in rest.as_object().unwrap() {
            match value {
                Value::Object(more) => more.iter().for_each(|(inner, value)| object[key][inner] = value.clone()),
                value => object[key] = value.clone(),
            }
        }
        applied(&object).unwrap()
    };
    let first = object(serde_json::json!({}));
    let same = [
        serde_json::json!({"metadata": {"resourceVersion": "7", "generation": 2, "managedFields": [], "finalizers": ["f"]}}),
        serde_json::json!({"status": {"conditions": [{"type": "A", "status": "True"}]}}),
        serde_json::json!({"metadata": {"annotations": {"pxed.dev/boot-policy": "hold", LAST_APPLIED: "{}"}}}),
    ];
    for rest in same {
        assert_eq!(object(rest).object, first.object);
    }
    for rest in [
        serde_json::json!({"spec": {"x": 2}}),
        serde_json::json!({"metadata": {"annotations": {"pxed.dev/boot-policy": "auto"}}}),
    ] {
        assert_ne!(object(rest).object.text, first.object.text);
    }
    assert_eq!(first.annotations["pxed.dev/boot-policy"], "hold");
}

#[test]
fn conditions_of_another_shape_are_left_out() {
    let conditions = |status: Value| {
        let object = serde_json::json!({"metadata": {"name": "a", "namespace": "b"}, "status": status});
        applied(&object).unwrap().conditions.into_iter().map(|condition| condition.kind).collect::<Vec<_>>()
    };
    assert_eq!(
        conditions(serde_json::json!({"conditions": [{"type": "A"}, 7, {"type": 5}, {"type": "B"}]})),
        ["A", "B"]
    );
    for odd in [serde_json::json!(7), serde_json::json!({"conditions": {}}), serde_json::json!({}), Value::Null] {
        assert!(conditions(odd).is_empty());
    }
    let many = vec![serde_json::json!({"type": "A"}); 1000];
    assert_eq!(conditions(serde_json::json!({"conditions": many})).len(), CONDITIONS);
}

#[test]
fn spec_that_nests_too_deep_is_no_object() {
    let spec = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let line = format!(
        "{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"a\",\"namespace\":\"b\"}},\"spec\":{spec}}}}}"
    );
    assert!(matches!(event(line.as_bytes(), ApiKind::TalosMachine), Event::Shapeless(_) | Event::Failed(_)));
}

#[test]
fn refusal_tells_what_the_server_says() {
    let fault = refusal(403, br#"{"kind":"Status","message":"forbidden: User \"x\""}"#);
    assert_eq!(fault.detail, "forbidden: User \"x\"");
    assert_eq!(refusal(502, b"Bad Gateway").detail, "status 502: Bad Gateway");
    assert_eq!(refusal(500, b"").detail, "status 500");
}
