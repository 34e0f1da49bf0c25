//! A response's body, which holds what the request took until the last byte is sent or the client is gone.

use crate::{
    error::BoxError,
    leases::{self, Ended},
    limits::Limits,
    settle::Answered,
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// A response's body. A stream of events ends whole when its lease is lost, and its client asks again; any other body
/// breaks off: a short one must not look like a whole one.
pub struct Body {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    held: Option<Box<Held>>,
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Body").field("holds", &self.held.is_some()).finish_non_exhaustive()
    }
}

/// Whether a lease's end may look like the body's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Events,
    Other,
}

pub(crate) struct Held {
    limits: Limits,
    ended: Pin<Box<dyn Future<Output = Ended> + Send>>,
    kind: Kind,
    answered: Option<Answered>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(answered) = self.answered.take() {
            self.limits.end(&answered);
        }
    }
}

impl Held {
    pub(crate) fn new(limits: Limits, kind: Kind, answered: Answered) -> Box<Self> {
        let ended = Box::pin(leases::ended(limits.end_of_lease()));
        Box::new(Self { limits, ended, kind, answered: Some(answered) })
    }
}

impl Body {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { inner: body.map_err(Into::into).boxed_unsync(), held: None }
    }

    pub(crate) fn holding(mut self, held: Box<Held>) -> Self {
        self.held = Some(held);
        self
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes))
    }
}

impl Default for Body {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(held) = &mut this.held
            && let Poll::Ready(how) = held.ended.as_mut().poll(context)
        {
            let kind = held.kind;
            this.held = None;
            this.inner = Full::default().map_err(|never| match never {}).boxed_unsync();
            return Poll::Ready(match kind {
                Kind::Events => None,
                Kind::Other => Some(Err(format!("quotad: the lease was {}", how.as_str()).into())),
            });
        }
        let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(context));
        if let Some(answered) = this.held.as_mut().and_then(|held| held.answered.as_mut()) {
            match &frame {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    answered.body_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
                    // A server that knows the length does not ask for the end.
                    answered.is_whole = this.inner.is_end_stream();
                }
                Some(Err(_)) => {}
                None => answered.is_whole = true,
            }
        }
        if frame.is_none() {
            this.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
