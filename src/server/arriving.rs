//! The body of a request on its way in, with a bound on how long a message may take and on what it may hold.
//!
//! Promise: who sends headers and then no message, or a byte now and then, holds a stream for [`MESSAGE`] and no longer;
//! on a stream of messages the time of each runs from its first byte, and between two of them it may be silent. A message
//! that is here when it is looked for costs no timer. No message is begun while answers wait unread or its connection
//! holds too much, and none goes on coming after the deadline of its call.
//!
//! Must never: hold bytes that its connection's budget does not count.

use super::call::Call;
use crate::budget::Wait;
use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep_until};
use tonic::Status;

/// The longest that one message may take to come: far more than 1 MiB needs on a poor line, and far less than the age of
/// a connection, which would else be the bound.
pub(super) const MESSAGE: Duration = Duration::from_secs(10);

/// What a message is counted for beside its bytes: the call itself, and the answer to a small question.
const OVERHEAD: usize = 1_024;
/// The most that an announced message is counted for: one that is longer is refused before it comes.
const MOST: usize = crate::codec::MAX_BATCH;

/// How many messages a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Messages {
    /// One; it is held until its answer is sent.
    One,
    /// As many as the caller likes, while the call lives.
    Many,
}

/// How a message of a call may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) messages: Messages,
    /// The longest that one may take.
    pub(super) within: Duration,
    /// The deadline of the call.
    pub(super) deadline: Option<Instant>,
    /// Bytes of the answer to a message, where it may be far longer than its question.
    pub(super) answer: usize,
}

/// A body, and how it may come.
pub struct Arriving<B> {
    body: B,
    terms: Terms,
    frames: Frames,
    /// What is counted for messages before the one that comes now.
    before: usize,
    call: Arc<Call>,
    room: Wait,
    time: Option<Pin<Box<Sleep>>>,
    /// When the message that comes now, or the call, is too late; none while the timer says nothing of the message.
    message_ends: Option<Instant>,
}

/// Where in the messages of gRPC a body stands: a byte, the length in four, the message.
#[derive(Debug, Default)]
struct Frames {
    prefix: usize,
    length: u32,
    /// Bytes of the message that have not come.
    rest: usize,
}

impl Frames {
    fn is_between(&self) -> bool {
        self.prefix == 0 && self.rest == 0
    }

    /// Bytes of the message that comes, with its prefix, as far as they are known.
    fn announced(&self) -> usize {
        match self.prefix {
            0 => usize::try_from(self.length).unwrap_or(MOST).min(MOST).saturating_add(5),
            prefix => prefix,
        }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((first, others)) = bytes.split_first() {
            if self.rest > 0 {
                let part = self.rest.min(bytes.len());
                self.rest -= part;
                bytes = bytes.get(part..).unwrap_or_default();
                continue;
            }
            self.length = if self.prefix == 0 { 0 } else { self.length << 8 | u32::from(*first) };
            self.prefix += 1;
            if self.prefix == 5 {
                self.prefix = 0;
                self.rest = usize::try_from(self.length).unwrap_or(usize::MAX);
            }
            bytes = others;
        }
    }
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, terms: Terms, call: Arc<Call>) -> Self {
        let (frames, room) = (Frames::default(), Wait::default());
        Self { body, terms, frames, before: 0, call, room, time: None, message_ends: None }
    }

    /// Ready when the time of the message or the call is over. No timer is made before the first wait.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let is_coming = self.terms.messages == Messages::One || !self.frames.is_between();
        if is_coming && self.message_ends.is_none() {
            self.message_ends = crate::clock::monotonic().checked_add(self.terms.within);
        }
        let ends = [self.message_ends.filter(|_| is_coming), self.terms.deadline].into_iter().flatten().min();
        let Some(ends) = ends else {
            self.time = None;
            return Poll::Pending;
        };
        let time = self.time.get_or_insert_with(|| Box::pin(sleep_until(ends.into())));
        if time.deadline() != ends.into() {
            time.as_mut().reset(ends.into());
        }
        let words = if self.terms.deadline == Some(ends) { PASSED } else { LATE };
        time.as_mut().poll(context).map(|()| Status::deadline_exceeded(words))
    }

    /// Ready when more may be read: its connection has room for all of the message that was announced.
    ///
    /// tonic asks for more when it has taken out every message that is whole.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let account = self.call.account();
        if self.frames.is_between() {
            match self.terms.messages {
                Messages::One => self.before = self.call.held(),
                Messages::Many => self.call.let_go(),
            }
            return account.poll_begin(self.overhead(), &mut self.room, context);
        }
        let whole = self.before.saturating_add(self.overhead()).saturating_add(self.frames.announced());
        let missing = whole.saturating_sub(self.call.held());
        if missing > 0 {
            ready!(account.messages.poll_room(missing, &mut self.room, context));
        }
        self.call.hold(whole);
        Poll::Ready(())
    }

    /// Counts what came, unless it was counted when it was announced.
    fn came(&mut self, bytes: &[u8]) {
        let mut held = self.call.held();
        if self.frames.is_between() {
            self.message_ends = None;
            held = held.saturating_add(self.overhead());
        }
        self.call.hold(held.saturating_add(bytes.len().saturating_sub(self.frames.rest)));
        self.frames.read(bytes);
    }

    fn overhead(&self) -> usize {
        OVERHEAD.saturating_add(self.terms.answer)
    }
}

impl<B> fmt::Debug for Arriving<B> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Arriving")
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
        let frame = match this.poll_room(context) {
            Poll::Ready(()) => Pin::new(&mut this.body).poll_frame(context),
            Poll::Pending => Poll::Pending,
        };
        let Poll::Ready(frame) = frame else {
            return this.poll_late(context).map(|late| Some(Err(late.into())));
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.came(data.chunk());
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the caller is told; nothing was asked, so nothing was charged.
const LATE: &str = "request: the message did not come in time";
/// The same, of the caller's own time.
const PASSED: &str = "the deadline passed before the request was here";

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

    fn account() -> Arc<Call> {
        Call::new(Arc::default(), crate::server::call::Holds::Nothing)
    }

    fn terms(messages: Messages) -> Terms {
        Terms { messages, within: SHORT, deadline: None, answer: 0 }
    }

    fn within<B>(body: B) -> Arriving<B> {
        Arriving::new(body, terms(Messages::One), account())
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
        assert_eq!(ends_with(within(body)).await, tonic::Code::DeadlineExceeded);
        assert!(sender.is_closed(), "the body is let go");
        // Each drop comes in time, all of them together never do.
        let (sender, body) = bytes();
        let drops = async move {
            while sender.send(drop_of_it()).await.is_ok() {
                // The pace of the drops, not a wait for anything.
                tokio::time::sleep(SHORT / 4).await;
            }
        };
        let (code, ()) = tokio::join!(ends_with(within(body)), drops);
        assert_eq!(code, tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_message_that_is_here_costs_no_timer() {
        let (sender, body) = bytes();
        sender.send(drop_of_it()).await.unwrap();
        drop(sender);
        let mut body = within(body);
        let mut frames = 0;
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            frames += 1;
        }
        assert!(frames == 1 && body.time.is_none());
    }

    #[tokio::test]
    async fn each_message_of_a_stream_has_its_time_and_the_silence_between_has_none() {
        let (sender, body) = bytes();
        let mut body = Arriving::new(body, terms(Messages::Many), account());
        let polled = |body: &mut Arriving<_>| {
            Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        assert!(polled(&mut body) && body.time.is_none(), "nothing has begun");
        for _ in 0..3 {
            sender.send(Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 7])))).await.unwrap();
            body.frame().await.unwrap().unwrap();
            assert!(polled(&mut body) && body.time.is_some(), "half of a message is here");
            sender.send(Ok(Frame::data(Bytes::from_static(&[7])))).await.unwrap();
            body.frame().await.unwrap().unwrap();
            assert!(polled(&mut body) && body.time.is_none(), "it is whole");
        }
        sender.send(Ok(Frame::data(Bytes::from_static(&[0, 0, 0])))).await.unwrap();
        assert_eq!(ends_with(body).await, tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn the_deadline_of_a_call_ends_a_message_that_comes_and_a_silent_stream() {
        for messages in [Messages::One, Messages::Many] {
            let (_sender, body) = bytes();
            let deadline = crate::clock::monotonic().checked_add(SHORT);
            let terms = Terms { messages, within: PATIENCE * 2, deadline, answer: 0 };
            let began = crate::clock::monotonic();
            assert_eq!(ends_with(Arriving::new(body, terms, account())).await, tonic::Code::DeadlineExceeded);
            assert!(began.elapsed() < PATIENCE);
        }
    }

    #[tokio::test]
    async fn a_message_is_counted_as_announced_until_the_next_is_looked_for_or_the_call_is_gone() {
        for messages in [Messages::One, Messages::Many] {
            let (sender, body) = bytes();
            let call = account();
            let mut body = Arriving::new(body, terms(messages), Arc::clone(&call));
            let held = || call.account().messages.held();
            let mut poll = || {
                let _ = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
            };
            sender.send(Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 16, 0, 1])))).await.unwrap();
            poll();
            poll();
            assert_eq!(held(), OVERHEAD + 6 + 4_095);
            sender.send(Ok(Frame::data(Bytes::from(vec![1; 4_095])))).await.unwrap();
            poll();
            assert_eq!(held(), OVERHEAD + 5 + 4_096);
            poll();
            assert_eq!(held(), if messages == Messages::One { OVERHEAD + 5 + 4_096 } else { 0 });
            drop(body);
            call.let_go();
            assert_eq!(held(), 0);
        }
    }
}
