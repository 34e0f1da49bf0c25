//! gRPC: HTTP/2 with our bounds.

use super::outgoing::Outgoing;
use super::{Ended, First, UNREAD, to_the_end};
use crate::budget::Account;
use crate::server::dispatch::Dispatch;
use crate::shutdown::{Stop, spawn_local};
use hyper::rt::Executor;
use hyper::server::conn::http2::{Builder, Connection};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
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
    with(UNREAD, stream, dispatch, stop).await
}

async fn with<S>(unread: Duration, stream: S, dispatch: Dispatch, stop: Stop) -> Ended
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
    let account = Arc::<Account>::default();
    let counted = Arc::clone(&account);
    let service = service_fn(move |request| {
        asked.set(true);
        dispatch.call(request, &counted)
    });
    let connection = pin!(builder.serve_connection(TokioIo::new(Outgoing::new(stream, unread)), service));
    tokio::select! {
        // What has arrived is read before anything else is looked at.
        biased;
        ended = to_the_end(connection, Connection::graceful_shutdown, &first, stop) => ended,
        () = unread_for(unread, &account) => {
            tracing::debug!("a peer reads no answers; closing its connection");
            Ok(())
        }
    }
}

/// Ends when the peer has taken nothing of its answers for a whole `span` while some waited; it is looked at four times in
/// one, so that this comes at most a quarter late.
async fn unread_for(span: Duration, account: &Account) {
    let (mut looks, mut before) = (0, None);
    while looks < 5 {
        tokio::time::sleep(span / 4).await;
        let now = account.unread_after();
        looks = if now.is_some() && now == before { looks + 1 } else { 1 };
        before = now;
    }
}
