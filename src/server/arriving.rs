//! The body of a request on its way in, with a bound on how long a single message may take.
//!
//! Promise: who sends headers and then no message, or a byte now and then, holds a stream for [`MESSAGE`] and no longer.
//! A message that is here when it is looked for costs no timer.
//!
//! Must never: bound a call whose messages come as long as it lives.

use hyper::body::{Body, Frame, SizeHint};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// The longest that one message may take to come: far more than 1 MiB needs on a poor line, and far less than the age of
/// a connection, which would else be the bound.
pub(super) const MESSAGE: Duration = Duration::from_secs(10);

/// A body, and how long it may take.
pub struct Arriving<B> {
    body: B,
    wait: Wait,
}

/// What bounds the wait.
enum Wait {
    /// Nothing.
    Unbounded,
    /// This long from the first time that there is nothing to read.
    Within(Duration),
    /// There was nothing to read; it ends then.
    Until(Pin<Box<Sleep>>),
}

impl<B> Arriving<B> {
    /// The body of a call with one message.
    pub(super) fn message(body: B) -> Self {
        Self { body, wait: Wait::Within(MESSAGE) }
    }

    /// The body of a call with as many messages as the caller likes.
    pub(super) fn stream(body: B) -> Self {
        Self { body, wait: Wait::Unbounded }
    }
}

impl<B> fmt::Debug for Arriving<B> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Arriving")
    }
}

impl Wait {
    /// Ready when the time is over. The timer begins with the first call, which is the first wait.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Within(span) = *self {
            *self = Self::Until(Box::pin(sleep(span)));
        }
        match self {
            Self::Until(end) => end.as_mut().poll(context),
            Self::Unbounded | Self::Within(_) => Poll::Pending,
        }
    }
}

impl<B> Body for Arriving<B>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => this.wait.poll(context).map(|()| Some(Err(late().into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The status that the caller gets; nothing was asked, so nothing was charged.
fn late() -> Status {
    Status::deadline_exceeded("request: the message did not come in time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, StreamBody};
    use std::convert::Infallible;
    use std::task::Waker;
    use tokio::sync::mpsc::{Sender, channel};
    use tokio_stream::wrappers::ReceiverStream;

    const SHORT: Duration = Duration::from_millis(30);
    const PATIENCE: Duration = Duration::from_secs(20);

    type Sent = Result<Frame<Bytes>, Infallible>;

    fn bytes() -> (Sender<Sent>, StreamBody<ReceiverStream<Sent>>) {
        let (sender, receiver) = channel(4);
        (sender, StreamBody::new(ReceiverStream::new(receiver)))
    }

    fn drop_of_it() -> Sent {
        Ok(Frame::data(Bytes::from_static(b"x")))
    }

    fn within<B>(body: B, span: Duration) -> Arriving<B> {
        Arriving { body, wait: Wait::Within(span) }
    }

    async fn ends_with<B>(body: Arriving<B>) -> tonic::Code
    where
        B: Body + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let collected = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap();
        collected.map_or_else(|error| Status::from_error(error).code(), |_| tonic::Code::Ok)
    }

    #[tokio::test]
    async fn a_message_that_never_comes_ends_and_so_does_one_that_comes_in_drops() {
        let (sender, body) = bytes();
        assert_eq!(ends_with(within(body, SHORT)).await, tonic::Code::DeadlineExceeded);
        assert!(sender.is_closed(), "the body is let go");
        // Each drop comes in time, all of them together never do.
        let (sender, body) = bytes();
        let drops = async move {
            while sender.send(drop_of_it()).await.is_ok() {
                // The pace of the drops, not a wait for anything.
                tokio::time::sleep(SHORT / 4).await;
            }
        };
        let (code, ()) = tokio::join!(ends_with(within(body, SHORT)), drops);
        assert_eq!(code, tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_message_that_is_here_costs_no_timer() {
        let (sender, body) = bytes();
        sender.send(drop_of_it()).await.unwrap();
        drop(sender);
        let mut body = within(body, SHORT);
        let mut frames = 0;
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            frames += 1;
        }
        assert!(frames == 1 && matches!(body.wait, Wait::Within(_)));
    }

    #[tokio::test]
    async fn a_stream_has_no_timer_at_all() {
        let (sender, body) = bytes();
        let mut body = Arriving::stream(body);
        let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending() && matches!(body.wait, Wait::Unbounded));
        drop(sender);
        assert!(body.frame().await.is_none());
    }
}
