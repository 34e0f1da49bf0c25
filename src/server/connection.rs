//! One connection with our bounds, until the client leaves, its age is over, or the process drains.

mod http1;
mod http2;

use super::dispatch::Dispatch;
use super::listener::{Face, Socket, Stream};
use crate::shutdown::Stop;
use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A connection is asked to close at this age, so that load spreads over new replicas; with a tenth of jitter.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// A connection that has asked nothing by then is closed: hyper puts no end to a handshake.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// Time to finish what is in flight after that.
const GRACE: Duration = Duration::from_secs(10);

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

/// Drives a connection until it ends by itself, or has to: then it may `finish` what is in flight.
async fn to_the_end<C>(
    mut connection: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    asked: &Cell<bool>,
    stop: Stop,
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = silent(asked) => tracing::debug!("a connection asked nothing; closing it"),
        () = stop.draining() => {}
        () = tokio::time::sleep(age()) => {}
    }
    finish(connection.as_mut());
    // A peer that never finishes its handshake would hold the shutdown for ever; dropping the connection ends it.
    match tokio::time::timeout(GRACE, connection).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Ok(()),
    }
}

/// Ends when a connection that asked nothing has had its time.
async fn silent(asked: &Cell<bool>) {
    tokio::time::sleep(FIRST_REQUEST).await;
    if asked.get() {
        std::future::pending::<()>().await;
    }
}

/// The age at which a connection is asked to close: [`MAX_AGE`] less up to a tenth.
fn age() -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1_000;
    let jitter = MAX_AGE.as_millis() / 10 * u128::from(random) / 1_000;
    MAX_AGE - Duration::from_millis(u64::try_from(jitter).unwrap_or(0))
}
