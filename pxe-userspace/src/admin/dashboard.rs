//! The dashboard: a page of several files, which are part of the program, and the stream that it lives by.
//!
//! The page is written for a browser as it is: no build step, nothing from elsewhere. Its layout is described at the head of
//! `page/main.js`.

use axum::{
    Router,
    http::{HeaderName, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

use super::context::Admin;

mod feed;
mod machine_row;

/// The rights of the page in a browser. No text becomes markup: browsers that know `require-trusted-types-for` refuse the attempt.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the page.
#[derive(Clone, Copy, Debug)]
struct File {
    path: &'static str,
    media_type: &'static str,
    content: &'static str,
}

macro_rules! file {
    ($path:literal, $media_type:ident, $file:literal) => {
        File { path: $path, media_type: $media_type, content: include_str!(concat!("dashboard/page/", $file)) }
    };
}

/// All files of the page.
const FILES: &[File] = &[
    file!("/", HTML, "index.html"),
    file!("/dashboard/style.css", STYLE, "style.css"),
    file!("/dashboard/machine.css", STYLE, "machine.css"),
    file!("/dashboard/icon.svg", IMAGE, "icon.svg"),
    file!("/dashboard/main.js", SCRIPT, "main.js"),
    file!("/dashboard/dom.js", SCRIPT, "dom.js"),
    file!("/dashboard/words.js", SCRIPT, "words.js"),
    file!("/dashboard/feed.js", SCRIPT, "feed.js"),
    file!("/dashboard/api.js", SCRIPT, "api.js"),
    file!("/dashboard/fleet.js", SCRIPT, "fleet.js"),
    file!("/dashboard/view.js", SCRIPT, "view.js"),
    file!("/dashboard/shapes.js", SCRIPT, "shapes.js"),
    file!("/dashboard/summary.js", SCRIPT, "summary.js"),
    file!("/dashboard/grid.js", SCRIPT, "grid.js"),
    file!("/dashboard/table.js", SCRIPT, "table.js"),
    file!("/dashboard/machine.js", SCRIPT, "machine.js"),
    file!("/dashboard/waterfall.js", SCRIPT, "waterfall.js"),
    file!("/dashboard/decisions.js", SCRIPT, "decisions.js"),
    file!("/dashboard/server.js", SCRIPT, "server.js"),
];

impl File {
    fn answer(self) -> Response {
        let headers: [(HeaderName, &str); 5] = [
            (header::CONTENT_TYPE, self.media_type),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            // Another version of pxed has other files, which belong together.
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        (headers, self.content).into_response()
    }
}

/// Returns the routes of the dashboard. Those below `/dashboard/` are the page's own, and no part of the API.
pub(super) fn routes() -> Router<Admin> {
    let files =
        FILES.iter().fold(Router::new(), |routes, &file| routes.route(file.path, get(async move || file.answer())));
    files.route("/dashboard/fleet", get(feed::follow))
}

#[cfg(test)]
mod tests;
