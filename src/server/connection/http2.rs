//! gRPC: HTTP/2 with our bounds.

use super::{Ended, First, to_the_end};
use crate::server::dispatch::Dispatch;
use crate::shutdown::{Stop, spawn_local};
use hyper::rt::Executor;
use hyper::server::conn::http2::{Builder, Connection};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

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
/// A connection that has asked nothing by then is closed. Proxies open some before they need them.
const FIRST_REQUEST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(async {
            task.await;
        });
    }
}

pub(super) async fn drive<S>(stream: S, dispatch: Dispatch, stop: Stop) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
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
    let first = First::within(FIRST_REQUEST);
    let asked = Rc::clone(&first.asked);
    let service = service_fn(move |request| {
        asked.set(true);
        dispatch.call(request)
    });
    let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    to_the_end(connection, Connection::graceful_shutdown, &first, stop).await
}
