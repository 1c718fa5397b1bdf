//! The answers that the layers around the routes add to each of them: who may do what (`access`), and tags (`etag`). Pages have headers in common, too.

use utoipa::{
    Modify,
    openapi::{
        Content, OpenApi, Ref, RefOr, Response,
        header::Header,
        path::Operation,
        response::{ResponseBuilder, Responses},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::admin::paging::TOTAL;

/// The name of the security scheme.
const TOKEN: &str = "token";

/// Describes the layers.
pub(super) struct Guarded;

impl Modify for Guarded {
    fn modify(&self, api: &mut OpenApi) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "The token of --admin-token. Without it, a loopback address answers reads alone, and other addresses nothing. The Unix socket needs none.",
        ));
        if let Some(components) = &mut api.components {
            components.add_security_scheme(TOKEN, SecurityScheme::Http(token.build()));
        }
        for (path, item) in &mut api.paths.paths {
            // Health and metrics are outside of the guard.
            if !path.starts_with("/api/") {
                continue;
            }
            item.get.iter_mut().for_each(read);
            item.post.iter_mut().for_each(change);
        }
    }
}

fn read(operation: &mut Operation) {
    guard(operation, "Called by a name that is neither an IP address nor localhost, as a foreign web page would");
    let tag = || header("It names this answer in If-None-Match");
    let responses = &mut operation.responses;
    let mut not_modified = Response::new("The answer is still the one whose ETag the request has in If-None-Match");
    not_modified.headers.insert("ETag".to_owned(), tag().into());
    if let Some(RefOr::T(answer)) = responses.responses.get_mut("200") {
        if answer.headers.keys().any(|name| name.eq_ignore_ascii_case(TOTAL)) {
            let link = header("The next page, with rel=\"next\" (RFC 8288), if there is one");
            answer.headers.insert("Link".to_owned(), link.into());
            not_modified.headers.extend(answer.headers.clone());
        }
        answer.headers.insert("ETag".to_owned(), tag().into());
    }
    add(responses, "304", not_modified);
}

fn change(operation: &mut Operation) {
    guard(operation, "This way in is for reads, or a foreign web page may have sent the request");
}

fn guard(operation: &mut Operation, forbidden: &str) {
    // The way in decides whether the token is needed: the Unix socket wants none for anything.
    operation.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new(TOKEN, [""; 0])]);
    let responses = &mut operation.responses;
    let mut unauthorized = refusal("The token is missing or wrong");
    let challenge = header("The scheme: Bearer");
    unauthorized.headers.insert("WWW-Authenticate".to_owned(), challenge.into());
    add(responses, "401", unauthorized);
    add(responses, "403", refusal(forbidden));
    add(responses, "404", refusal("This way in has health and metrics alone"));
}

/// Adds a response, unless the operation has said what this status means.
fn add(responses: &mut Responses, status: &str, response: Response) {
    responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
}

fn refusal(description: &str) -> Response {
    let body = Content::new(Some(Ref::from_schema_name("Refusal")));
    ResponseBuilder::new().description(description).content("application/json", body).build()
}

fn header(description: &str) -> Header {
    let mut header = Header::default();
    header.description = Some(description.to_owned());
    header
}
