//! From a path to a service: the native API by hand, everything else (health, reflection) by tonic's router; and the one
//! function that answers all of HTTP/1.1.

use super::arriving::{Arriving, MESSAGE, Messages, Terms};
use super::call::{Call, Holds, Leaving};
use crate::budget::Account;
use crate::clock;
use crate::deadline;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;

type Request = http::Request<Arriving<Incoming>>;
type Response = http::Response<Body>;
type Boxed = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// The answer to come: the service's own future, so that no second one is allocated around it.
pub struct Answering {
    answer: Boxed,
    call: Arc<Call>,
    turn: Turn,
}

/// Whether a call is answered when it is first looked at.
///
/// A process that stood still finds calls and their cancellations together, in one read. hyper looks for a cancellation
/// when an answer has to be waited for, and only then, so one that is ready at once would charge for a caller who left
/// long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Now,
    /// After hyper has looked whether the caller is still there.
    Next,
}

impl Future for Answering {
    type Output = Result<http::Response<Leaving>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.turn, Turn::Now) == Turn::Next {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let answer = self.answer.as_mut().poll(context);
        let leaving = |body| Leaving::new(body, Arc::clone(&self.call));
        answer.map(|answer| answer.map(|answer| in_our_words(answer).map(leaving)))
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Answering")
    }
}

/// What answers HTTP/1.1: requests are whole when it sees them.
pub type Pages = Rc<dyn Fn(http::Request<Bytes>) -> Pin<Box<dyn Future<Output = http::Response<Bytes>>>>>;

/// A thread that took no call with a deadline for this long may have stood still, and its next ones may have waited.
const STILL: Duration = Duration::from_millis(10);
/// So long after that every call may be one of those that waited: thousands are taken in that time.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// When a thread took calls that have a deadline. Under load this never makes a call wait for a turn.
#[derive(Debug, Default)]
struct Stillness {
    last: Cell<Option<Instant>>,
    until: Cell<Option<Instant>>,
}

impl Stillness {
    /// The turn of a call that is taken now.
    fn turn(&self, now: Instant) -> Turn {
        let last = self.last.replace(Some(now));
        if last.is_none_or(|last| now.saturating_duration_since(last) > STILL) {
            self.until.set(now.checked_add(AFTERWARDS));
        }
        if self.until.get().is_some_and(|until| now <= until) { Turn::Next } else { Turn::Now }
    }
}

/// A service of one thread by its path.
#[derive(Clone)]
pub struct Dispatch {
    native: Rc<dyn Fn(Request) -> Boxed>,
    batches: Rc<dyn Fn(Request) -> Boxed>,
    /// By their paths up to the method.
    more: Rc<Vec<(&'static str, Shared)>>,
    others: Routes,
    pages: Pages,
    stillness: Rc<Stillness>,
}

type Shared = Rc<dyn Fn(Request) -> Boxed>;

impl fmt::Debug for Dispatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Dispatch")
    }
}

/// Paths of the native API.
const NATIVE: &str = "/quotad.v1.DecisionService/";
/// Those whose messages hold many questions, and may be larger.
const BATCHES: [&str; 2] =
    ["/quotad.v1.DecisionService/RenewConnections", "/quotad.v1.DecisionService/CheckLimits"];

/// Reflection answers a question of a few bytes with a whole file.
const REFLECTION: &str = "/grpc.reflection.";
/// Bytes of such a file.
const DESCRIPTOR: usize = 64 * 1_024;

/// Calls whose messages come as long as they live, and what they hold meanwhile; every other call has one message.
const STREAMS: [(&str, Holds); 5] = [
    ("/quotad.v1.DecisionService/CheckLimits", Holds::Checks),
    ("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs", Holds::Leases),
    ("/envoy.service.ext_proc.v3.ExternalProcessor/Process", Holds::Leases),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Holds::Nothing),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Holds::Nothing),
];

impl Dispatch {
    /// The native service, the same with the bound of batches, and the router of the others.
    #[must_use]
    pub fn new<N>(native: N, batches: N, others: Routes) -> Self
    where
        N: Service<Request, Response = Response, Error = Infallible, Future = Boxed> + Clone + 'static,
    {
        let (native, batches) = (shared(native), shared(batches));
        let pages: Pages = Rc::new(|_| Box::pin(std::future::ready(plain(StatusCode::NOT_FOUND))));
        Self {
            native,
            batches,
            more: Rc::default(),
            others: others.prepare(),
            pages,
            stillness: Rc::default(),
        }
    }

    /// With what answers HTTP/1.1; without it nothing is found there.
    #[must_use]
    pub fn with_pages(self, pages: Pages) -> Self {
        Self { pages, ..self }
    }

    pub(super) fn pages(&self) -> Pages {
        Rc::clone(&self.pages)
    }

    /// With one more service, whose methods stand under `prefix` (`/package.Service/`).
    #[must_use]
    pub fn with<N>(mut self, prefix: &'static str, service: N) -> Self
    where
        N: Service<Request, Response = Response, Error = Infallible, Future = Boxed> + Clone + 'static,
    {
        Rc::make_mut(&mut self.more).push((prefix, shared(service)));
        self
    }
}

/// An answer that says no more than its status, as text.
#[must_use]
pub fn plain(status: StatusCode) -> http::Response<Bytes> {
    let words = format!("{}\n", status.canonical_reason().unwrap_or("Error"));
    let mut answer = http::Response::new(Bytes::from(words));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn shared<N>(service: N) -> Shared
where
    N: Service<Request, Response = Response, Error = Infallible, Future = Boxed> + Clone + 'static,
{
    Rc::new(move |request| service.clone().call(request))
}

impl Dispatch {
    /// Answers a call of the connection that `account` counts for.
    pub(super) fn call(&self, mut request: http::Request<Incoming>, account: &Arc<Account>) -> Answering {
        let path = request.uri().path();
        let (messages, holds) = match STREAMS.iter().find(|(stream, _)| *stream == path) {
            Some((_, holds)) => {
                request.extensions_mut().insert(Arc::clone(account));
                (Messages::Many, *holds)
            }
            None => (Messages::One, Holds::Nothing),
        };
        let call = Call::new(Arc::clone(account), holds);
        let deadline = deadline::note(&mut request);
        let answer = if request.uri().path().starts_with(REFLECTION) { DESCRIPTOR } else { 0 };
        let terms = Terms { messages, within: MESSAGE, deadline, answer };
        let request = request.map(|body| Arriving::new(body, terms, Arc::clone(&call)));
        let turn = deadline.map_or(Turn::Now, |_| self.stillness.turn(clock::monotonic()));
        Answering { answer: self.route(request), call, turn }
    }

    fn route(&self, request: Request) -> Boxed {
        let path = request.uri().path();
        if path.starts_with(NATIVE) {
            let service = if BATCHES.contains(&path) { &self.batches } else { &self.native };
            return service(request);
        }
        if let Some((_, service)) = self.more.iter().find(|(prefix, _)| path.starts_with(prefix)) {
            return service(request);
        }
        // The router is always ready.
        Box::pin(self.others.clone().call(request.map(Body::new)))
    }
}

/// tonic says OUT_OF_RANGE to a message over its bound and INTERNAL to a call without one, as if the fault were the
/// server's; both are the caller's, and INVALID_ARGUMENT as for every other bound.
fn in_our_words(mut response: Response) -> Response {
    const INVALID_ARGUMENT: http::HeaderValue = http::HeaderValue::from_static("3");
    let Some(status) = response.headers().get("grpc-status") else { return response };
    let message = response.headers().get("grpc-message").map(http::HeaderValue::as_bytes);
    let said = match (status.as_bytes(), message) {
        (b"11", _) => {
            "request:%20more%20bytes%20than%20a%20request%20may%20have%20(64%20KiB;%201%20MiB%20for%20a%20batch)"
        }
        (b"13", Some(b"Missing%20request%20message.")) => "request:%20missing",
        _ => return response,
    };
    response.headers_mut().insert("grpc-status", INVALID_ARGUMENT);
    response.headers_mut().insert("grpc-message", http::HeaderValue::from_static(said));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_for_a_turn_after_a_stillness_and_not_under_load() {
        let (stillness, begin) = (Stillness::default(), clock::monotonic());
        let turn = |millis| stillness.turn(begin + Duration::from_millis(millis));
        assert_eq!(
            [turn(0), turn(5), turn(100)],
            [Turn::Next; 3],
            "the first, and what may have come with it"
        );
        assert_eq!(turn(400), Turn::Next, "a stillness again");
        let under_load: Vec<Turn> = (1..=60).map(|step| turn(400 + 5 * step)).collect();
        assert!(under_load[..20].iter().all(|turn| *turn == Turn::Next));
        assert!(under_load[20..].iter().all(|turn| *turn == Turn::Now), "{under_load:?}");
    }
}
