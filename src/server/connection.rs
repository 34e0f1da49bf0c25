//! One connection: HTTP/2 with our bounds, until the client leaves, its age is over, or the process drains.

use super::dispatch::Dispatch;
use super::listener::Socket;
use crate::shutdown::{Stop, spawn_local};
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Streams of one connection at once; tonic would leave this without a bound.
const MAX_STREAMS: u32 = 1_024;
/// Bytes of all headers of a request.
const MAX_HEADER_LIST: u32 = 16 * 1_024;
/// Streams that a peer may reset before they are accepted (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const STREAM_WINDOW: u32 = 64 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;
const SEND_BUFFER: usize = 64 * 1_024;
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is asked to close at this age, so that load spreads over new replicas; with a tenth of jitter.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// A connection that has asked nothing by then is closed: hyper puts no end to a handshake.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// Time to finish what is in flight after that.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(async {
            task.await;
        });
    }
}

/// Serves a socket to its end.
pub(super) async fn serve(socket: Socket, dispatch: Dispatch, stop: Stop) {
    let result = match socket {
        Socket::Tcp(stream) => match on_tcp(stream) {
            Ok(stream) => drive(stream, dispatch, stop).await,
            Err(error) => Err(error.into()),
        },
        Socket::Unix(stream) => match UnixStream::from_std(stream) {
            Ok(stream) => drive(stream, dispatch, stop).await,
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

async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    dispatch: Dispatch,
    stop: Stop,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let asked = Rc::new(Cell::new(false));
    let first = Rc::clone(&asked);
    let service = service_fn(move |request| {
        first.set(true);
        dispatch.call(request)
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = silent(&asked) => tracing::debug!("a connection asked nothing; closing it"),
        () = stop.draining() => {}
        () = tokio::time::sleep(age()) => {}
    }
    connection.as_mut().graceful_shutdown();
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
