//! One request: asked about once, answered with every header, what it took given back when the response is over.
//!
//! Promise: what the application sends goes out as it comes; nothing is buffered. A handler that panics is a 500 with
//! all headers.

use crate::{
    Shield,
    body::{Body, Held, Kind},
    cors,
    error::{BoxError, Denied},
    facts,
    headers::{CONTENT_TYPE, Fields, SERVER, combined, latin1},
    layer::Terms,
    leases::{self, Ended},
    limits::Limits,
    notice::Notice,
    settle::Answered,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, request::Parts};
use http_body::Body as HttpBody;
use std::any::Any;
use tower_http::catch_panic::CatchPanic;
use tower_service::Service;

/// The outermost layer of ours, which makes the answer whole; or one inside it, which only asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Outermost,
    Inside,
}

/// Runs `inner` for a request, once what `terms` ask has been answered.
pub(crate) async fn serve<S, B, R>(
    mut inner: S,
    shield: Shield,
    terms: Terms,
    request: Request<B>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    let (limits, place) = match parts.extensions.get::<Limits>() {
        Some(limits) => (limits.clone(), Place::Inside),
        None => (Limits::new(&shield, &parts), Place::Outermost),
    };
    if place == Place::Inside {
        if let Err(denied) = terms.ask(&limits, &mut parts).await {
            return Ok(refusal(&parts.headers, &denied));
        }
        let answered = inner.call(Request::from_parts(parts, body)).await?;
        return Ok(answered.map(Body::new));
    }

    let face = Face::new(limits.clone(), &parts);
    if cors::is_preflight(&parts) {
        return Ok(face.preflight());
    }
    if let Err(denied) = face.before(&parts) {
        return Ok(face.refuse(&denied));
    }
    parts.extensions.insert(limits.clone());
    if let Err(denied) = terms.ask(&limits, &mut parts).await {
        return Ok(face.refuse(&denied));
    }
    let bodies = limits.shield().0.settings.bodies;
    let internal = limits.denied(bodies.internal());
    let panicked = move |_: Box<dyn Any + Send>| internal.to_http().map(http_body_util::Full::new);
    let mut inner = CatchPanic::custom(inner, panicked);
    let answer = inner.call(Request::from_parts(parts, body));
    tokio::select! {
        biased;
        answer = answer => Ok(face.dress(answer?.map(Body::new))),
        // The handler is dropped: nobody may go on for a client whose lease was lost.
        how = leases::ended(limits.end_of_lease()) => {
            let decision = if how == Ended::Lost { bodies.unavailable() } else { bodies.token_invalid() };
            Ok(face.refuse(&limits.denied(decision)))
        }
    }
}

/// A refusal as HTTP; for a client of gRPC as a status, which is all that it understands.
fn refusal(asked: &HeaderMap, denied: &Denied) -> Response<Body> {
    let content_type = asked.get(CONTENT_TYPE).map(latin1).unwrap_or_default();
    if content_type.starts_with("application/grpc") {
        return tonic::Status::from(denied.clone()).into_http();
    }
    denied.to_http().map(Body::from)
}

/// What every response looks like: limit headers, security headers, CORS.
struct Face {
    limits: Limits,
    asked: HeaderMap,
    handshake: Handshake,
}

/// What a request would open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Handshake {
    None,
    /// By HTTP/1.1: 101 opens it.
    Upgrade,
    /// By HTTP/2: any success opens it.
    Connect,
}

impl Face {
    fn new(limits: Limits, parts: &Parts) -> Self {
        let mut asked = HeaderMap::new();
        for name in [http::header::ORIGIN, CONTENT_TYPE] {
            if let Some(value) = parts.headers.get(&name) {
                asked.insert(name, value.clone());
            }
        }
        let handshake = match facts::is_socket(parts) {
            true if parts.method == http::Method::CONNECT => Handshake::Connect,
            true => Handshake::Upgrade,
            false => Handshake::None,
        };
        Self { limits, asked, handshake }
    }

    /// What is refused before anybody is asked.
    fn before(&self, parts: &Parts) -> Result<(), Denied> {
        let settings = &self.limits.shield().0.settings;
        if !facts::fits(parts) {
            return Err(self.limits.denied(settings.bodies.too_large()));
        }
        if self.handshake != Handshake::None && !settings.cors.allows_socket(parts) {
            return Err(self.limits.denied(settings.bodies.origin()));
        }
        Ok(())
    }

    fn preflight(&self) -> Response<Body> {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.secure(headers);
        let cors = &self.limits.shield().0.settings.cors;
        cors.preflight(headers, self.asked.get(http::header::ORIGIN));
        response
    }

    fn refuse(&self, denied: &Denied) -> Response<Body> {
        let mut response = refusal(&self.asked, denied);
        self.limits.end(&answered(&response));
        self.secure(response.headers_mut());
        response
    }

    fn dress(&self, mut response: Response<Body>) -> Response<Body> {
        if self.opens(&response) && self.limits.has_leases() {
            // Nobody would see this socket's end, so nobody could give its lease back.
            let inner = &self.limits.shield().0;
            inner.notices.once(Notice::SocketNotHeld, &self.limits.route());
            return self.refuse(&self.limits.denied(inner.settings.bodies.internal()));
        }
        self.secure(response.headers_mut());
        let kind = response.headers().get(CONTENT_TYPE).map(latin1).unwrap_or_default();
        let kind = if kind.starts_with("text/event-stream") { Kind::Events } else { Kind::Other };
        if !self.limits.holds() {
            return response;
        }
        let held = Held::new(self.limits.clone(), kind, answered(&response));
        response.map(|body| body.holding(held))
    }

    fn opens(&self, response: &Response<Body>) -> bool {
        match self.handshake {
            Handshake::None => false,
            Handshake::Upgrade => response.status() == StatusCode::SWITCHING_PROTOCOLS,
            Handshake::Connect => response.status().is_success(),
        }
    }

    /// The service's answer wins over the application, and the application's settings over both.
    fn secure(&self, headers: &mut HeaderMap) {
        let settings = &self.limits.shield().0.settings;
        headers.remove(SERVER);
        headers.remove(HeaderName::from_static("x-powered-by"));
        let (authorized, checks) = self.limits.told_so_far();
        let kept: Vec<&HeaderName> =
            settings.keep.iter().filter(|name| headers.contains_key(*name)).collect();
        let mut new = Vec::new();
        // Where the service was not asked, or did not answer: its defaults.
        if !authorized.as_ref().is_some_and(|decision| decision.is_secured) {
            new.extend(settings.security.iter().cloned());
        }
        new.extend(combined(authorized.as_ref(), &checks));
        let ours: Vec<_> = new.into_iter().filter(|(name, _)| !kept.contains(&name)).collect();
        let edits: Vec<_> =
            settings.edits.iter().filter(|(name, _)| !kept.contains(&name)).cloned().collect();
        headers.set_all(&ours);
        headers.edit(&edits);
        headers.edit(&self.limits.rule().edits);
        settings.cors.dress(headers, self.asked.get(http::header::ORIGIN));
    }
}

fn answered(response: &Response<Body>) -> Answered {
    Answered {
        status: response.status(),
        headers: response.headers().clone(),
        extensions: response.extensions().clone(),
        body_bytes: 0,
        is_whole: response.body().is_end_stream(),
    }
}
