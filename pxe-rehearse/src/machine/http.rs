//! Fetching a file over HTTP.

use std::{net::SocketAddrV4, time::Duration};

use super::{Activity, Machine, Output, failure::Failure, want::Want};
use crate::{
    http::{HttpRequest, HttpResponse},
    report::{Bytes, Direction},
    script::url::{Scheme, Url},
};

const IPXE_AGENT: &str = "iPXE/1.21.1";
const EDK_AGENT: &str = "UefiHttpBoot/1.0";

impl Machine {
    /// Requests a file. The `content_length` is what HEAD has announced.
    pub(super) fn request_http(
        &mut self,
        now: Duration,
        url: Url,
        want: Want,
        redirects: u32,
        content_length: Option<u64>,
    ) {
        let is_firmware = matches!(want, Want::LoaderSize | Want::Loader);
        let head_only = want == Want::LoaderSize;
        self.note(now, Direction::Asked, |_| format!("{} {url}", if head_only { "HEAD" } else { "GET" }));
        // EDK2 never names the port, iPXE does not name the default one.
        let host_header =
            if is_firmware || url.port == 80 { url.host.to_string() } else { format!("{}:{}", url.host, url.port) };
        self.outputs.push(Output::Http(Box::new(HttpRequest {
            head_only,
            host: SocketAddrV4::new(url.host, url.port),
            host_header,
            path: url.path.clone(),
            user_agent: if is_firmware { EDK_AGENT } else { IPXE_AGENT },
            keep: want.keeps(),
        })));
        self.url = Some(url);
        self.activity = Activity::Http { want, redirects, content_length };
    }

    /// Handles the response to the current request.
    pub(crate) fn on_http(&mut self, now: Duration, result: Result<HttpResponse, String>) {
        let Activity::Http { want, redirects, content_length } = self.activity else { return };
        let Some(url) = self.url.clone() else { return };
        let response = match result {
            Ok(response) => response,
            Err(reason) => return self.on_file(now, want, Err(Failure::Lost(reason))),
        };
        self.note(now, Direction::Answered, |_| match response.content_length {
            Some(length) => format!("{} {}", response.status, Bytes(length)),
            None => format!("{} no Content-Length", response.status),
        });
        match (response.status, &response.location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) if redirects < 5 => match url.resolve(location) {
                Ok(url) if url.scheme == Scheme::Http => {
                    self.request_http(now, url, want, redirects + 1, content_length);
                }
                Ok(url) => self.on_file(now, want, Err(Failure::Refused(format!("redirected to {url}")))),
                Err(reason) => self.on_file(now, want, Err(Failure::Refused(reason))),
            },
            (200, _) if want == Want::LoaderSize => {
                self.request_http(now, url, Want::Loader, 0, response.content_length);
            }
            (200, _) => {
                let promised = response.content_length.or(content_length);
                let result = match promised.filter(|promised| *promised != response.bytes) {
                    Some(promised) => {
                        Err(Failure::Refused(format!("{url}: {promised} bytes promised, {} sent", response.bytes)))
                    }
                    None => Ok((response.bytes, response.kept)),
                };
                self.on_file(now, want, result);
            }
            (status, _) => self.on_file(now, want, Err(Failure::Refused(format!("{url}: HTTP status {status}")))),
        }
    }
}
