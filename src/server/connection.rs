//! One connection with our bounds, until the client leaves, its age is over, or the process drains.
//!
//! Promise: a peer that reads no answers is given [`Lives::unread`] and then closed, however many keepalives it answers; one
//! that reads slowly goes on. A connection that has come of age takes no new streams, and its streams that hold leases go on
//! until they end by themselves, up to [`Lives::longest`] more; a silent one is found by its keepalive all the same.

mod http1;
mod http2;
mod outgoing;

use super::dispatch::Dispatch;
use super::listener::{Face, Socket, Stream};
use crate::budget::Account;
use crate::shutdown::Stop;
use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long answers may wait of which nothing is read: long enough for a line that is broken for a while, and short beside
/// the usual age of a connection.
const UNREAD: Duration = Duration::from_secs(20);

/// How long a connection lives, and how it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lives {
    /// It takes no new streams from this age on, so that load spreads over new replicas; with a tenth of jitter.
    age: Duration,
    /// Then what is in flight has this time to finish.
    grace: Duration,
    /// A stream that holds leases may go on after that, and one of checks that is answered at least once in this time.
    look: Duration,
    /// But no longer than this after the age, with a tenth of jitter: such streams are then ended well, and what they hold runs out.
    longest: Duration,
    /// A peer that has taken nothing of the answers that wait for it is closed after this time.
    unread: Duration,
    /// A peer that says nothing is asked whether it is there after this time,
    silence: Duration,
    /// and is gone when it has not answered after this one.
    answer: Duration,
}

impl Lives {
    /// With the age that is configured. A working day's sockets end within a day after it, and not all of them in one hour.
    pub(super) const fn of_age(age: Duration) -> Self {
        Self {
            age,
            grace: Duration::from_secs(10),
            look: Duration::from_secs(60),
            longest: Duration::from_secs(24 * 3_600),
            unread: UNREAD,
            silence: Duration::from_secs(30),
            answer: Duration::from_secs(10),
        }
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Serves a socket to its end.
pub(super) async fn serve(lives: Lives, socket: Socket, dispatch: Dispatch, stop: Stop) {
    let Socket { face, stream } = socket;
    let result = match stream {
        Stream::Tcp(stream) => match on_tcp(stream) {
            Ok(stream) => drive(lives, face, stream, dispatch, stop).await,
            Err(error) => Err(error.into()),
        },
        Stream::Unix(stream) => match UnixStream::from_std(stream) {
            Ok(stream) => drive(lives, face, stream, dispatch, stop).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}

fn on_tcp(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}

async fn drive<S>(lives: Lives, face: Face, stream: S, dispatch: Dispatch, stop: Stop) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match face {
        Face::Grpc => http2::drive(lives, stream, dispatch, stop).await,
        Face::Http => http1::drive(lives, stream, dispatch.pages(), stop).await,
    }
}

/// Whether a connection has asked anything, and by when it must have: hyper puts no end to a handshake.
struct First {
    asked: Rc<Cell<bool>>,
    within: Duration,
}

impl First {
    fn within(within: Duration) -> Self {
        Self { asked: Rc::default(), within }
    }

    /// Ends when a connection that asked nothing has had its time.
    async fn missed(&self) {
        tokio::time::sleep(self.within).await;
        if self.asked.get() {
            std::future::pending::<()>().await;
        }
    }
}

/// What bounds the life of one connection.
struct Bounds {
    first: First,
    lives: Lives,
    account: Arc<Account>,
    stop: Stop,
}

/// Drives a connection until it ends by itself, or has to: then it may `finish` what is in flight, and at its age the
/// streams that hold leases may go on.
///
/// A request that is here when it has to end is in flight. The head of another one, half of which is here, is not.
async fn to_the_end<C>(mut connection: Pin<&mut C>, finish: fn(Pin<&mut C>), bounds: &Bounds) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    let Bounds { first, lives, account, stop } = bounds;
    tokio::select! {
        // What has arrived is read before anything else is looked at.
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        () = draining(stop) => {}
        () = first.missed() => tracing::debug!("a connection asked nothing; closing it"),
        () = tokio::time::sleep(jittered(lives.age)) => {}
    }
    finish(connection.as_mut());
    let over = async {
        tokio::select! {
            () = draining(stop) => {}
            () = unneeded(lives, account) => {}
            () = tokio::time::sleep(jittered(lives.longest)) => account.end_streams(),
        }
    };
    tokio::select! {
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        () = over => {}
    }
    // A peer that never finishes its handshake would hold the shutdown for ever; dropping the connection ends it.
    match tokio::time::timeout(lives.grace, connection).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Ok(()),
    }
}

/// Ends when nothing that may outlive the age of its connection is there any more.
async fn unneeded(lives: &Lives, account: &Account) {
    // A stream of checks that was ever answered has until the next look.
    let mut answered = 0;
    while account.is_needed(&mut answered) {
        tokio::time::sleep(lives.look).await;
    }
}

/// Waits for the drain, and once for the runtime to look at its sockets: of one that is new, or whose bytes came with the
/// drain, it does not know yet that there is something to read.
async fn draining(stop: &Stop) {
    stop.draining().await;
    tokio::task::yield_now().await;
}

/// The span less up to a tenth.
fn jittered(span: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1_000;
    let jitter = span.as_millis() / 10 * u128::from(random) / 1_000;
    span.saturating_sub(Duration::from_millis(u64::try_from(jitter).unwrap_or(0)))
}
