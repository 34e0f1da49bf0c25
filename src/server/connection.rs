//! One connection with our bounds, until the client leaves, its age is over, or the process drains.
//!
//! Promise: a peer that reads no answers is given [`UNREAD`] and then closed, however many keepalives it answers; one that
//! reads slowly goes on.

mod http1;
mod http2;
mod outgoing;

use super::dispatch::Dispatch;
use super::listener::{Face, Socket, Stream};
use crate::shutdown::Stop;
use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A connection is asked to close at this age, so that load spreads over new replicas; with a tenth of jitter.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// Time to finish what is in flight after that.
const GRACE: Duration = Duration::from_secs(10);

/// A peer that has taken nothing of the answers that wait for it is closed after this time: long enough for a line that
/// is broken for a while, and short beside the age of a connection.
const UNREAD: Duration = Duration::from_secs(20);

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Serves a socket to its end.
pub(super) async fn serve(socket: Socket, dispatch: Dispatch, stop: Stop) {
    let Socket { face, stream } = socket;
    let result = match stream {
        Stream::Tcp(stream) => match on_tcp(stream) {
            Ok(stream) => drive(face, stream, dispatch, stop).await,
            Err(error) => Err(error.into()),
        },
        Stream::Unix(stream) => match UnixStream::from_std(stream) {
            Ok(stream) => drive(face, stream, dispatch, stop).await,
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

async fn drive<S>(face: Face, stream: S, dispatch: Dispatch, stop: Stop) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match face {
        Face::Grpc => http2::drive(stream, dispatch, stop).await,
        Face::Http => http1::drive(stream, dispatch.pages(), stop).await,
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

/// Drives a connection until it ends by itself, or has to: then it may `finish` what is in flight.
///
/// A request that is here when it has to end is in flight. The head of another one, half of which is here, is not.
async fn to_the_end<C>(
    mut connection: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    first: &First,
    stop: Stop,
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        // What has arrived is read before anything else is looked at.
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        () = draining(&stop) => {}
        () = first.missed() => tracing::debug!("a connection asked nothing; closing it"),
        () = tokio::time::sleep(age()) => {}
    }
    finish(connection.as_mut());
    // A peer that never finishes its handshake would hold the shutdown for ever; dropping the connection ends it.
    match tokio::time::timeout(GRACE, connection).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Ok(()),
    }
}

/// Waits for the drain, and once for the runtime to look at its sockets: of one that is new, or whose bytes came with the
/// drain, it does not know yet that there is something to read.
async fn draining(stop: &Stop) {
    stop.draining().await;
    tokio::task::yield_now().await;
}

/// The age at which a connection is asked to close: [`MAX_AGE`] less up to a tenth.
fn age() -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1_000;
    let jitter = MAX_AGE.as_millis() / 10 * u128::from(random) / 1_000;
    MAX_AGE - Duration::from_millis(u64::try_from(jitter).unwrap_or(0))
}
