//! Limits the length of answers: kube collects those to writes whole, and logs one that is no JSON.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::Limited;
use kube::client::Body;
use tower::Service;

/// The most bytes of an answer: more than a part of a list, which has a limit of its own.
const ANSWER_BYTES: usize = 64 << 20;
/// The most bytes of the answer to a write, which has the object: more than what etcd takes.
const WRITTEN_BYTES: usize = 4 << 20;

/// A client's service whose answers are limited. Watches are not: their events are.
#[derive(Clone, Debug)]
pub(super) struct Bounded<S>(pub(super) S);

/// Returns the limit of the answer to a request.
fn limit_of<B>(request: &Request<B>) -> usize {
    let is_watch =
        || request.uri().query().is_some_and(|query| query.split('&').any(|part| part.starts_with("watch=")));
    match *request.method() {
        http::Method::GET if is_watch() => usize::MAX,
        http::Method::GET => ANSWER_BYTES,
        _ => WRITTEN_BYTES,
    }
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Limited<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = limit_of(&request);
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Limited::new(body, limit))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_that_of_the_request() {
        let limit = |method: &str, path: &str| limit_of(&Request::builder().method(method).uri(path).body(()).unwrap());
        assert_eq!(limit("GET", "/apis/a/v1/b?limit=500"), ANSWER_BYTES);
        assert_eq!(limit("GET", "/apis/a/v1/b?watch=1&resourceVersion=7"), usize::MAX);
        assert_eq!(limit("GET", "/apis/a/v1/b?fieldSelector=watch=1"), ANSWER_BYTES);
        for method in ["PATCH", "POST", "PUT", "DELETE"] {
            assert_eq!(limit(method, "/apis/a/v1/b?watch=1"), WRITTEN_BYTES);
        }
    }
}
