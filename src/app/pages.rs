//! The pages of HTTP/1.1: those that envoyproxy/ratelimit has on its port 8080.

use super::health::Health;
use crate::envoy::Envoy;
use crate::server::{Pages, plain};
use crate::store::Store;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use std::rc::Rc;
use std::sync::Arc;

/// All pages of one thread.
pub(super) fn pages<S: Store>(envoy: &Arc<Envoy<S>>, health: Health) -> Pages {
    let envoy = Arc::clone(envoy);
    Rc::new(move |request| {
        let (envoy, health) = (Arc::clone(&envoy), health.clone());
        Box::pin(async move { page(&envoy, &health, &request).await })
    })
}

async fn page<S: Store>(envoy: &Envoy<S>, health: &Health, request: &Request<Bytes>) -> Response<Bytes> {
    match request.uri().path() {
        "/json" => envoy.rate_limit_json(request.body()).await.unwrap_or_else(plain),
        "/healthcheck" => healthcheck(health),
        _ => plain(StatusCode::NOT_FOUND),
    }
}

fn healthcheck(health: &Health) -> Response<Bytes> {
    let (status, words) = if health.serves_rate_limits() {
        (StatusCode::OK, "OK")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "")
    };
    plain(status).map(|_| Bytes::from_static(words.as_bytes()))
}
