//! HTTP/1.1, for callers that have no gRPC: a request is read whole, within bounds, and then answered.
//!
//! Promise: what is beyond a bound is answered with the status that says so, and its connection ends; nothing that a
//! client sends ends more than that.

use super::outgoing::Outgoing;
use super::{Bounds, Ended, First, Lives, UNREAD, to_the_end};
use crate::budget::Account;
use crate::server::dispatch::{Pages, plain};
use crate::shutdown::Stop;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Bytes of the request line and all headers.
const MAX_HEAD: usize = 16 * 1_024;
/// Bytes of a body. A connection reads one at a time, and this is less than what is each connection's own
/// ([`crate::budget`]), so that bodies count nothing of what all connections share.
const MAX_BODY: usize = 64 * 1_024;
/// Bytes of a body beyond its bound that are read all the same: to a client that is still sending, the end of the
/// connection would be a reset, and the answer lost.
const MAX_DROPPED: usize = 1_024 * 1_024;
/// Bytes that wait to be read or written.
const BUFFER: usize = 64 * 1_024;

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the first request of a connection.
    first: Duration,
    /// From the answer to the end of the next request's headers: an idle connection is closed then.
    head: Duration,
    /// For the whole body.
    body: Duration,
    /// For the next byte of an answer to be taken.
    unread: Duration,
}

const PATIENCE: Patience = Patience {
    first: Duration::from_secs(10),
    head: Duration::from_secs(60),
    body: Duration::from_secs(10),
    unread: UNREAD,
};

pub(super) async fn drive<S>(lives: Lives, stream: S, pages: Pages, stop: Stop) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    with(PATIENCE, lives, stream, pages, stop).await
}

async fn with<S>(patience: Patience, lives: Lives, stream: S, pages: Pages, stop: Stop) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        // A client that has said all may close its side and still wait for the answer.
        .half_close(true)
        .header_read_timeout(patience.head)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(BUFFER);
    let first = First::within(patience.first);
    let asked = Rc::clone(&first.asked);
    let service = service_fn(move |request| {
        asked.set(true);
        let pages = Rc::clone(&pages);
        async move { Ok::<_, Infallible>(answer(request, &pages, patience).await.map(Full::new)) }
    });
    let connection =
        pin!(builder.serve_connection(TokioIo::new(Outgoing::new(stream, patience.unread)), service));
    let bounds = Bounds { first, lives, account: Arc::<Account>::default(), stop };
    to_the_end(connection, Connection::graceful_shutdown, &bounds).await
}

async fn answer(request: Request<Incoming>, pages: &Pages, patience: Patience) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(patience.body, whole(&head.headers, body));
    let refused = match read.await {
        Ok(Ok(body)) => return pages(Request::from_parts(head, body)).await,
        Ok(Err(status)) => status,
        Err(_) => StatusCode::REQUEST_TIMEOUT,
    };
    let mut answer = plain(refused);
    // What is left of the body is no request.
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The whole body.
///
/// # Errors
/// It has too many bytes, or is broken off.
async fn whole(headers: &HeaderMap, body: Incoming) -> Result<Bytes, StatusCode> {
    let waits =
        headers.get(header::EXPECT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let announced = body.size_hint().lower();
    if waits && announced > u64::try_from(MAX_BODY).unwrap_or(u64::MAX) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let (mut kept, mut size, mut body) = (BytesMut::new(), 0_usize, body);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(StatusCode::BAD_REQUEST) };
        let Ok(data) = frame.into_data() else { continue };
        size = size.saturating_add(data.len());
        if size <= MAX_BODY {
            kept.extend_from_slice(&data);
        } else if size > MAX_DROPPED {
            break;
        }
    }
    if size > MAX_BODY { Err(StatusCode::PAYLOAD_TOO_LARGE) } else { Ok(kept.freeze()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    const LIVES: Lives = Lives::of_age(Duration::from_secs(600));
    const QUICK: Patience = Patience {
        first: Duration::from_secs(20),
        head: Duration::from_millis(200),
        body: Duration::from_millis(200),
        unread: Duration::from_millis(200),
    };

    fn echo() -> Pages {
        Rc::new(|request| Box::pin(ready(Response::new(request.into_body()))))
    }

    /// What a connection that echoes bodies says to the bytes, until it ends.
    async fn said(patience: Patience, sent: &[u8]) -> String {
        let (mut client, server): (DuplexStream, _) = tokio::io::duplex(4 * 1_024 * 1_024);
        client.write_all(sent).await.unwrap();
        let serve = with(patience, LIVES, server, echo(), Stop::default());
        let mut answer = Vec::new();
        let read = client.read_to_end(&mut answer);
        let (_, read) = tokio::join!(serve, read);
        read.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn what_a_client_leaves_unfinished_has_an_end() {
        let idle = said(QUICK, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(idle.starts_with("HTTP/1.1 200 OK\r\n"), "{idle}");
        assert_eq!(idle.matches("HTTP/1.1").count(), 1, "{idle}");
        let head = said(QUICK, b"GET / HTTP/1.1\r\nhost:").await;
        assert!(!head.contains(" 200 "), "{head}");
        let body = said(QUICK, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await;
        assert!(body.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{body}");
        assert!(body.contains("\r\nconnection: close\r\n"), "{body}");
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_is_closed_sooner_than_one_that_has_asked() {
        let first = Duration::from_millis(50);
        let patience = Patience {
            first,
            head: Duration::from_secs(600),
            body: Duration::from_secs(600),
            unread: UNREAD,
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), said(patience, b"")).await;
        assert_eq!(ended.as_deref(), Ok(""));
        let asked = Patience { head: Duration::from_millis(500), ..patience };
        let began = tokio::time::Instant::now();
        let kept = said(asked, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(kept.starts_with("HTTP/1.1 200 OK\r\n") && began.elapsed() >= asked.head, "{kept}");
    }

    #[tokio::test]
    async fn a_connection_that_is_kept_ends_at_its_age() {
        let (mut client, server) = tokio::io::duplex(4_096);
        let lives = Lives::of_age(Duration::from_millis(300));
        let patience = Patience { head: Duration::from_secs(600), ..QUICK };
        let began = tokio::time::Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let both = async {
            tokio::join!(with(patience, lives, server, echo(), Stop::default()), async {
                client.read_to_string(&mut answer).await
            })
        };
        let (served, read) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("its end");
        assert!(served.is_ok() && read.is_ok() && answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(began.elapsed() >= lives.age - lives.age / 10, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_client_that_asks_on_and_on_and_reads_nothing_is_closed() {
        const ONE: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab";
        let (mut client, server) = tokio::io::duplex(1_024);
        let asks = async {
            let mut asked = 0_usize;
            while client.write_all(ONE).await.is_ok() {
                asked += 1;
            }
            asked
        };
        let served = with(QUICK, LIVES, server, echo(), Stop::default());
        let both = async { tokio::join!(served, asks) };
        let (served, asked) =
            tokio::time::timeout(Duration::from_secs(20), both).await.expect("the end of the connection");
        assert!(served.is_err() && asked > 0, "{served:?} {asked}");
    }

    #[tokio::test]
    async fn a_request_that_arrived_before_the_drain_is_answered() {
        const ONE: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab";
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Each time the socket is new, and the drain has begun.
        for _ in 0..20 {
            let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(ONE).await.unwrap();
            let accepted = listener.accept().await.unwrap().0.into_std().unwrap();
            let server = tokio::net::TcpStream::from_std(accepted).unwrap();
            let stop = Stop::default();
            stop.drain();
            let mut answer = String::new();
            let (_, read) =
                tokio::join!(with(PATIENCE, LIVES, server, echo(), stop), client.read_to_string(&mut answer));
            assert!(read.is_ok() && answer.starts_with("HTTP/1.1 200 OK\r\n"), "{read:?} {answer}");
            assert!(answer.ends_with("ab"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_client_that_has_said_all_still_hears_the_answer() {
        let late: Pages = Rc::new(|request| {
            Box::pin(async {
                // The end of the client's side comes first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Response::new(request.into_body())
            })
        });
        let (mut client, server) = tokio::io::duplex(4_096);
        client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        let (served, read) = tokio::join!(
            with(PATIENCE, LIVES, server, late, Stop::default()),
            client.read_to_string(&mut answer)
        );
        assert!(served.is_ok() && read.is_ok());
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ab"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_refused_after_it_came() {
        let post = |length: usize| {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
            [head.into_bytes(), vec![b'x'; length]].concat()
        };
        let largest = said(QUICK, &post(MAX_BODY)).await;
        assert!(largest.starts_with("HTTP/1.1 200 OK\r\n") && largest.ends_with("xx"), "{}", largest.len());
        for length in [MAX_BODY + 1, MAX_DROPPED * 2] {
            let refused = said(PATIENCE, &post(length)).await;
            assert!(refused.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{refused}");
            assert!(refused.contains("\r\nconnection: close\r\n"), "{refused}");
        }
        let waiting = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 65537\r\n\r\n";
        let refused = said(PATIENCE, waiting).await;
        assert!(refused.starts_with("HTTP/1.1 413 "), "not asked to go on: {refused}");
        let other = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: something\r\ncontent-length: 65537\r\n\r\n";
        let refused = said(QUICK, other).await;
        assert!(refused.starts_with("HTTP/1.1 408 "), "it is waited for: {refused}");
    }
}
