//! The description of the API (OpenAPI 3.1), made of the types that the API writes. `GET /api/v1/openapi.json` serves it.
//!
//! The streams of events and of captures are not among its paths, since they never end: a program that tries every path would wait for ever. The component
//! `FleetEventJson` describes what each of its `data:` lines has. Nor is `/readyz`, whose 503 is an answer: such a program would take it for a fault.

mod guarded;

use std::{borrow::Cow, sync::LazyLock};

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use utoipa::{
    IntoParams, OpenApi, PartialSchema, ToSchema,
    openapi::{
        RefOr,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type},
    },
};

use self::guarded::Guarded;
use super::{images, machine_list, machines, monitoring, nodes, paging, selection, setup, spec, strangers, visitors};
use crate::journal::{Stage, Stages, Step, json::FleetEventJson};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "pxed",
        version = "v1",
        description = "What each machine did and waits for, and what pxed serves. The way in decides who may change something: see the README, \"The admin API\"."
    ),
    modifiers(&Guarded),
    paths(
        machine_list::list,
        machines::one,
        machines::hold,
        machines::release,
        machines::stages,
        visitors::list,
        visitors::one,
        strangers::list,
        strangers::one,
        images::list,
        nodes::list,
        monitoring::health,
        spec::errors,
        setup::setup,
        monitoring::alive,
        monitoring::metrics,
        document,
    )
)]
struct Api;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut api = Api::openapi();
    if let Some(components) = &mut api.components {
        components.schemas.insert(FleetEventJson::name().into_owned(), FleetEventJson::schema());
    }
    // It is made of constants, and a test compares it with its golden.
    api.to_pretty_json().map(|text| text + "\n").unwrap_or_default()
});

/// `GET /api/v1/openapi.json`.
#[utoipa::path(get, path = "/api/v1/openapi.json", operation_id = "get_document", tag = "pxed", responses(
    (status = 200, description = "This document", body = Object, content_type = "application/json"),
))]
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

impl ToSchema for Stage {
    fn name() -> Cow<'static, str> {
        "Stage".into()
    }
}

impl PartialSchema for Stage {
    fn schema() -> RefOr<Schema> {
        let names = Stage::ALL.map(Stage::name);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).into()
    }
}

impl ToSchema for Step {
    fn name() -> Cow<'static, str> {
        "Step".into()
    }
}

impl PartialSchema for Step {
    fn schema() -> RefOr<Schema> {
        let names = Step::ALL.map(Step::name);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).into()
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Returns a text of these words, with commas between them.
fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> ObjectBuilder {
    let words = words.into_iter().collect::<Vec<_>>().join("|");
    text().pattern(Some(format!("^({words})(,({words}))*$")))
}

fn flag() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean)
}

fn count() -> ObjectBuilder {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    ObjectBuilder::new().schema_type(Type::Integer).format(Some(format)).minimum(Some(0)).maximum(Some(u32::MAX))
}

const CURSOR: &str = "The end of the page before, from its Link header.";

fn limit() -> Parameter {
    query("limit", "At most this many entries.", count())
}

fn query(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
    parameter.description(Some(description)).schema(Some(Object::from(schema))).build()
}

impl IntoParams for selection::Filter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let stages = Stages::names();
        let sorts = selection::sorts().collect::<Vec<_>>().join("|");
        let sort = text().pattern(Some(format!("^-?({sorts})$")));
        let mut all = vec![
            query("stage", "Only machines at these stages, with commas between them.", words(stages.split(", "))),
            query("cluster", "Only machines of these clusters, with commas between them.", text()),
            query("role", "Only machines of these roles.", words(["control-plane", "worker"])),
            query("stuck", "Only machines that are stuck, or only the others.", flag()),
            query("q", "Only machines whose cluster, host name, address or MAC address contains this.", text()),
            query("sort", "The order; reversed with - in front. Without it, that of the spec.", sort),
            query("events", "The number of last events of each machine. Without it, there are none.", count()),
        ];
        let cursor = text().pattern(Some(selection::cursors()));
        all.extend([limit(), query("cursor", CURSOR, cursor)]);
        all
    }
}

impl IntoParams for paging::Pages {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![limit(), query("cursor", CURSOR, text().pattern(Some(paging::CURSORS)))]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::testing::assert_golden;

    #[test]
    fn document_is_the_golden() {
        assert_golden("src/admin/openapi/openapi.json", &DOCUMENT);
    }

    /// The layers around the routes answer for each of them.
    #[test]
    fn guarded_operations_have_the_answers_of_guard_and_tags() {
        let document: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                let has = |status| responses.contains_key(status);
                let (is_guarded, is_get) = (path.starts_with("/api/"), method == "get");
                assert_eq!(operation.get("security").is_some(), is_guarded, "{method} {path}");
                for status in ["401", "403", "404"] {
                    assert_eq!(has(status), is_guarded, "{method} {path} {status}");
                }
                assert_eq!(has("304"), is_guarded && is_get, "{method} {path}");
                let headers = &responses["200"]["headers"];
                assert_eq!(headers.get("ETag").is_some(), is_guarded && is_get, "{method} {path}");
                assert_eq!(headers.get("Link").is_some(), headers.get("X-Total-Count").is_some(), "{method} {path}");
            }
        }
    }

    /// A route that is added to the router has to be described, too.
    #[test]
    fn document_has_every_route() {
        let source = include_str!("mod.rs");
        let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let routes: BTreeSet<_> = routes
            .filter(|route| route.starts_with("/api/") || !route.contains('.') && route.len() > 1)
            .filter(|route| !["/api/v1/captures", "/api/v1/events", "/readyz"].contains(route))
            .collect();
        let document: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(described, routes);
    }
}
