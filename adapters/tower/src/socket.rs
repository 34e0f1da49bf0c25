//! WebSockets of axum, held as long as the *transport* lives.
//!
//! Promise: the lease is given back when the client is gone, even if the handler never reads: [`MESSAGES`] messages or
//! [`BYTES`] are read ahead of it. A socket whose lease was lost is closed with 1013, one whose token was revoked or has
//! expired with 4401.
//! Bound: a client that sends more than that to a handler that never reads hides its own end until the handler sends
//! something or the lease ends.

use crate::{
    Ask, Denied, Lease,
    axum::NoShield,
    leases::{self, Ended},
    limits::Limits,
};
use axum::{
    extract::{
        FromRequestParts,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse, Response},
};
use futures_util::{
    SinkExt as _, Stream, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use http::request::Parts;
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

const MESSAGES: usize = 16;
const BYTES: usize = 256 * 1024;
/// How long a closing handshake may take, and how long a handler may go on for a socket that we closed.
const GRACE: Duration = Duration::from_secs(5);
const TRY_AGAIN_LATER: u16 = 1013;
const UNAUTHORIZED: u16 = 4401;
const LIMITED: u16 = 4429;

type CostFn = Arc<dyn Fn(&Message) -> u32 + Send + Sync>;

/// What becomes of a message that is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnDenied {
    /// The socket is closed with this code.
    Close(u16),
    /// The handler does not see the message.
    Drop,
}

/// A limit on what a socket's client sends: each message is a check.
#[derive(Clone)]
pub struct Messages {
    ask: Ask,
    cost: Option<CostFn>,
    on_denied: OnDenied,
}

impl fmt::Debug for Messages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Messages").field("ask", &self.ask).finish_non_exhaustive()
    }
}

impl Messages {
    /// By these policies. A refused message closes the socket with 4429.
    pub fn new(policies: impl Into<Ask>) -> Self {
        Self { ask: policies.into(), cost: None, on_denied: OnDenied::Close(LIMITED) }
    }

    /// Units of a message, such as its seconds of sound.
    #[must_use]
    pub fn cost(mut self, cost: impl Fn(&Message) -> u32 + Send + Sync + 'static) -> Self {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// What becomes of a refused message.
    #[must_use]
    pub fn on_denied(mut self, choice: OnDenied) -> Self {
        self.on_denied = choice;
        self
    }
}

/// Why a request does not become a socket.
#[derive(Debug)]
pub enum SocketRejection {
    /// See [`NoShield`].
    NoShield(NoShield),
    /// It is no WebSocket handshake.
    Handshake(WebSocketUpgradeRejection),
}

impl IntoResponse for SocketRejection {
    fn into_response(self) -> Response {
        match self {
            Self::NoShield(rejection) => rejection.into_response(),
            Self::Handshake(rejection) => rejection.into_response(),
        }
    }
}

/// In the place of axum's [`WebSocketUpgrade`]: the socket takes over the leases of its handshake.
#[must_use = "a handshake that is not answered opens nothing"]
pub struct SocketUpgrade {
    upgrade: WebSocketUpgrade,
    limits: Limits,
    messages: Option<Messages>,
    cancel_after: Option<Duration>,
}

impl fmt::Debug for SocketUpgrade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SocketUpgrade").field("upgrade", &self.upgrade).finish_non_exhaustive()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SocketUpgrade {
    type Rejection = SocketRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, SocketRejection> {
        let limits = <Limits as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let limits = limits.map_err(SocketRejection::NoShield)?;
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
        let upgrade = upgrade.map_err(SocketRejection::Handshake)?;
        Ok(Self { upgrade, limits, messages: None, cancel_after: None })
    }
}

impl SocketUpgrade {
    /// Sizes and protocols, as axum knows them.
    pub fn configure(mut self, change: impl FnOnce(WebSocketUpgrade) -> WebSocketUpgrade) -> Self {
        self.upgrade = change(self.upgrade);
        self
    }

    /// A limit on what the client sends.
    pub fn messages(mut self, messages: Messages) -> Self {
        self.messages = Some(messages);
        self
    }

    /// Cancels the handler this long after its client has left. Default: it may go on.
    pub fn cancel_after(mut self, time: Duration) -> Self {
        self.cancel_after = Some(time);
        self
    }

    /// Opens the socket. The handler runs in a task of its own.
    pub fn on_upgrade<F, R>(self, handler: F) -> Response
    where
        F: FnOnce(Socket) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let Self { upgrade, limits, messages, cancel_after } = self;
        let leases = limits.take_leases();
        upgrade.on_upgrade(move |transport| async move {
            let (inbound, messages_in) = mpsc::channel(MESSAGES);
            let (outbound, messages_out) = mpsc::channel(1);
            let ended = limits.end_of_lease();
            let (sink, stream) = transport.split();
            let driver = Driver { leases, sink, stream, inbound, outbound: messages_out };
            // A task of its own: a handler that never gives up the processor must not hide the client's end.
            let driver = tokio::spawn(driver.run(async move { leases::ended(ended).await }));
            let sender = SocketSender { outbound };
            let socket = Socket { limits, messages, inbound: messages_in, sender };
            tokio::select! {
                () = handler(socket) => {}
                () = over(driver, cancel_after) => {}
            }
        })
    }
}

/// Resolves when the handler is to be cancelled.
async fn over(driver: JoinHandle<Closed>, cancel_after: Option<Duration>) {
    let wait = match driver.await {
        Ok(Closed::ByUs) => Some(GRACE),
        Ok(Closed::ByClient) | Err(_) => cancel_after,
    };
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Who ended a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Closed {
    ByClient,
    ByUs,
}

/// A message and its share of the bytes that may be read ahead.
struct Inbound {
    message: Message,
    _bytes: OwnedSemaphorePermit,
}

enum Outbound {
    Message(Message),
    Close(CloseFrame),
}

/// Owns the transport and, with it, the leases.
struct Driver {
    leases: Vec<Lease>,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    inbound: mpsc::Sender<Inbound>,
    outbound: mpsc::Receiver<Outbound>,
}

impl Driver {
    async fn run(self, ended: impl Future<Output = Ended> + Send) -> Closed {
        let Self { leases, mut sink, mut stream, inbound, mut outbound } = self;
        let closed = tokio::select! {
            () = read(&mut stream, inbound) => Closed::ByClient,
            () = write(&mut sink, &mut outbound, ended) => Closed::ByUs,
        };
        drop(leases);
        outbound.close();
        if closed == Closed::ByUs {
            // Until the client has agreed; what it still sends, nobody reads.
            let farewell = async { while let Some(Ok(_)) = stream.next().await {} };
            let _ = tokio::time::timeout(GRACE, farewell).await;
        }
        closed
    }
}

/// Until the client is gone, or nobody reads any more and it is gone.
async fn read(stream: &mut SplitStream<WebSocket>, inbound: mpsc::Sender<Inbound>) {
    let room = Arc::new(Semaphore::new(BYTES));
    while let Some(Ok(message)) = stream.next().await {
        let size = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        // A message beyond the bound waits until it is alone.
        let units = u32::try_from(size.min(BYTES)).unwrap_or(u32::MAX);
        let Ok(bytes) = Arc::clone(&room).acquire_many_owned(units).await else { return };
        // A handler that takes no more messages has left the socket to its senders; what comes is not kept.
        let _ = inbound.send(Inbound { message, _bytes: bytes }).await;
    }
}

/// Until the handler is done, the transport fails, or the lease ends.
async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    outbound: &mut mpsc::Receiver<Outbound>,
    ended: impl Future<Output = Ended>,
) {
    let mut ended = std::pin::pin!(ended);
    loop {
        let (message, is_last) = tokio::select! {
            biased;
            how = &mut ended => {
                let code = if how == Ended::Lost { TRY_AGAIN_LATER } else { UNAUTHORIZED };
                let frame = CloseFrame { code, reason: how.as_str().into() };
                let _ = tokio::time::timeout(GRACE, sink.send(Message::Close(Some(frame)))).await;
                return;
            }
            next = outbound.recv() => match next {
                Some(Outbound::Message(message)) => {
                    let is_last = matches!(message, Message::Close(_));
                    (message, is_last)
                }
                Some(Outbound::Close(frame)) => (Message::Close(Some(frame)), true),
                None => (Message::Close(None), true),
            },
        };
        tokio::select! {
            // A client that does not read any more cannot keep a lease by it.
            _ = &mut ended => return,
            sent = sink.send(message) => if sent.is_err() || is_last { return },
        }
    }
}

/// The socket is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the socket is closed")]
pub struct SocketClosed;

/// An open socket. To drop it, and all its senders, closes it.
pub struct Socket {
    limits: Limits,
    messages: Option<Messages>,
    inbound: mpsc::Receiver<Inbound>,
    sender: SocketSender,
}

impl fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Socket").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Socket {
    /// The next text or binary message; `None` when the client has left, the lease was lost, or a message was refused.
    pub async fn recv(&mut self) -> Option<Message> {
        loop {
            let Inbound { message, .. } = self.inbound.recv().await?;
            let Some(limit) = &self.messages else { return Some(message) };
            let mut ask = limit.ask.clone();
            ask.cost = limit.cost.as_ref().map_or(ask.cost, |cost| Some(cost(&message)));
            let answer = self.limits.check(ask).await;
            self.limits.forget_checks();
            match (answer, limit.on_denied) {
                (Ok(_), _) => return Some(message),
                (Err(_), OnDenied::Drop) => {}
                (Err(denied), OnDenied::Close(code)) => {
                    self.close_with(code, &denied).await;
                    return None;
                }
            }
        }
    }

    /// Sends a message. Waits when the client reads slowly.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when it is closed.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), SocketClosed> {
        self.sender.send(message).await
    }

    /// For another task that sends. The socket stays open as long as one is there.
    #[must_use]
    pub fn sender(&self) -> SocketSender {
        self.sender.clone()
    }

    /// Questions about this socket's user, as in a handler of requests.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Closes a socket whose check was refused, with 4429.
    pub async fn refuse(&mut self, denied: &Denied) {
        self.close_with(LIMITED, denied).await;
    }

    /// As a stream of [`Socket::recv`].
    pub fn into_stream(self) -> impl Stream<Item = Message> + Send {
        futures_util::stream::unfold(self, |mut socket| async move {
            socket.recv().await.map(|message| (message, socket))
        })
    }

    async fn close_with(&mut self, code: u16, denied: &Denied) {
        let reason = denied.decision.reason.to_string().into();
        let _ = self.sender.outbound.send(Outbound::Close(CloseFrame { code, reason })).await;
        self.inbound.close();
    }
}

/// Sends on a socket.
#[derive(Clone)]
pub struct SocketSender {
    outbound: mpsc::Sender<Outbound>,
}

impl fmt::Debug for SocketSender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SocketSender").finish_non_exhaustive()
    }
}

impl SocketSender {
    /// As [`Socket::send`].
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when it is closed.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SocketClosed> {
        self.outbound.send(Outbound::Message(message.into())).await.map_err(|_| SocketClosed)
    }
}
