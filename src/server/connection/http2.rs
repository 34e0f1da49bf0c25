//! gRPC: HTTP/2 with our bounds.

use super::outgoing::Outgoing;
use super::{Bounds, Ended, First, Lives, to_the_end};
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

pub(super) async fn drive<S>(lives: Lives, stream: S, dispatch: Dispatch, stop: Stop) -> Ended
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
        .keep_alive_interval(lives.silence)
        .keep_alive_timeout(lives.answer);
    let first = First::within(FIRST_REQUEST);
    let asked = Rc::clone(&first.asked);
    let account = Arc::<Account>::default();
    let counted = Arc::clone(&account);
    let service = service_fn(move |request| {
        asked.set(true);
        dispatch.call(request, &counted)
    });
    let connection =
        pin!(builder.serve_connection(TokioIo::new(Outgoing::new(stream, lives.unread)), service));
    let bounds = Bounds { first, lives, account: Arc::clone(&account), stop };
    tokio::select! {
        // What has arrived is read before anything else is looked at.
        biased;
        ended = to_the_end(connection, Connection::graceful_shutdown, &bounds) => ended,
        () = unread_for(lives.unread, &account) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ending;
    use crate::server::Arriving;
    use bytes::Bytes;
    use h2::client::SendRequest;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use std::convert::Infallible;
    use std::task::{Context, Poll};
    use tonic::body::Body;
    use tonic::service::Routes;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LEASES: &str = "envoy.service.ext_proc.v3.ExternalProcessor/Process";
    const QUICK: Lives = Lives {
        age: Duration::from_millis(300),
        grace: Duration::from_millis(100),
        look: Duration::from_millis(100),
        longest: Duration::from_secs(3),
        unread: Duration::from_secs(600),
        silence: Duration::from_secs(600),
        answer: Duration::from_secs(600),
    };

    type Answer = std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    /// A client that is driven until it is told to be silent.
    struct Driven(tokio::sync::oneshot::Sender<()>);

    /// Answers `large` with a mebibyte; everything else when its connection ends it.
    #[derive(Clone)]
    struct Fake;

    impl tower_service::Service<http::Request<Arriving<Incoming>>> for Fake {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Answer;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Arriving<Incoming>>) -> Answer {
            let is_large = request.uri().path().ends_with("large");
            let over = ending(request.extensions(), Box::pin(std::future::pending()));
            Box::pin(async move {
                if is_large {
                    return Ok(http::Response::new(Body::new(Full::from(vec![0; 1_024 * 1_024]))));
                }
                over.await;
                Ok(http::Response::new(Body::empty()))
            })
        }
    }

    /// A connection that is served until it ends; what ends is told by the instant.
    async fn connect(lives: Lives) -> (SendRequest<Bytes>, tokio::sync::oneshot::Receiver<()>) {
        let (sender, ended, _) = connect_driven(lives).await;
        (sender, ended)
    }

    /// The same, with what stops the client from answering anything while its side stays open.
    async fn connect_driven(
        lives: Lives,
    ) -> (SendRequest<Bytes>, tokio::sync::oneshot::Receiver<()>, Driven) {
        let (client, server) = tokio::io::duplex(64 * 1_024);
        let dispatch = Dispatch::new(Fake, Fake, Routes::default())
            .with("/envoy.service.ext_proc.v3.ExternalProcessor/", Fake);
        let (over, ended) = tokio::sync::oneshot::channel();
        spawn_local(async move {
            let _ = drive(lives, server, dispatch, Stop::default()).await;
            let _ = over.send(());
        });
        let (sender, mut connection) = h2::client::handshake(client).await.unwrap();
        let (driven, silent) = tokio::sync::oneshot::channel::<()>();
        spawn_local(async move {
            let told = async {
                if silent.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = &mut connection => {}
                () = told => std::future::pending().await,
            }
        });
        (sender, ended, Driven(driven))
    }

    async fn open(
        client: &SendRequest<Bytes>,
        method: &str,
    ) -> Result<h2::client::ResponseFuture, h2::Error> {
        let request = http::Request::post(format!("http://quotad/{method}")).body(()).unwrap();
        Ok(client.clone().ready().await?.send_request(request, true)?.0)
    }

    async fn in_time<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, what).await.expect("in time")
    }

    #[tokio::test]
    async fn streams_of_leases_outlive_the_age_of_their_connection_and_end_well_at_its_longest_life() {
        let test = async {
            let (client, ended) = connect(QUICK).await;
            let begun = crate::clock::monotonic();
            let mut sockets = Vec::new();
            for _ in 0..20 {
                sockets.push(open(&client, LEASES).await.unwrap());
            }
            // It takes no more of them from its age on.
            in_time(async {
                while let Ok(more) = open(&client, LEASES).await {
                    sockets.push(more);
                    // A poll of a condition with a deadline.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            let refused = begun.elapsed();
            assert!(refused >= QUICK.age - QUICK.age / 10, "{refused:?}");
            let mut lived = 0;
            for socket in sockets {
                // One that was under way with the end of the age may be refused; those before it are not.
                match in_time(socket).await {
                    Ok(answer) => {
                        assert_eq!(answer.status(), 200);
                        lived += 1;
                    }
                    Err(error) => assert!(error.is_go_away() || error.is_reset(), "{error}"),
                }
            }
            assert!(lived >= 20, "{lived}");
            assert!(begun.elapsed() >= QUICK.longest - QUICK.longest / 10, "{:?}", begun.elapsed());
            in_time(ended).await.unwrap();
        };
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_silent_peer_ends_a_connection_that_has_come_of_age_long_before_its_longest_life() {
        let (silence, answer) = (Duration::from_millis(200), Duration::from_secs(1));
        let lives = Lives { longest: PATIENCE * 9, silence, answer, ..QUICK };
        let test = async {
            let (client, mut ended, driven) = connect_driven(lives).await;
            let mut sockets = vec![open(&client, LEASES).await.unwrap()];
            in_time(async {
                while let Ok(more) = open(&client, LEASES).await {
                    sockets.push(more);
                    // A poll of a condition with a deadline.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            // A peer that answers goes on, however often it is asked.
            assert!(tokio::time::timeout((silence + answer) * 2, &mut ended).await.is_err());
            // Its socket stays open, and nobody is there any more.
            driven.0.send(()).unwrap();
            let begun = crate::clock::monotonic();
            in_time(ended).await.unwrap();
            assert!(begun.elapsed() >= answer / 2, "it was asked and waited for: {:?}", begun.elapsed());
        };
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn other_calls_have_the_grace_after_the_age_and_no_more() {
        let test = async {
            let (client, ended) = connect(Lives { longest: PATIENCE * 3, ..QUICK }).await;
            let answer = open(&client, "quotad.v1.DecisionService/CheckLimit").await.unwrap();
            let silent = open(&client, "quotad.v1.DecisionService/CheckLimits").await.unwrap();
            assert!(in_time(answer).await.is_err() && in_time(silent).await.is_err());
            in_time(ended).await.unwrap();
        };
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_peer_that_reads_no_answer_is_closed_and_one_that_reads_slowly_is_not() {
        let unread = Duration::from_secs(3);
        let lives = Lives { age: PATIENCE * 9, longest: PATIENCE * 9, unread, ..QUICK };
        let test = async {
            // The connection is driven, so that it answers every PING; the answer alone is not read.
            let (client, ended) = connect(lives).await;
            let answer =
                in_time(open(&client, "quotad.v1.DecisionService/large").await.unwrap()).await.unwrap();
            in_time(ended).await.unwrap();
            drop(answer);
        };
        let slow = async {
            let (client, _ended) = connect(lives).await;
            let begun = crate::clock::monotonic();
            let mut body = in_time(open(&client, "quotad.v1.DecisionService/large").await.unwrap())
                .await
                .unwrap()
                .into_body();
            let mut read = 0;
            while let Some(data) = in_time(body.data()).await {
                let data = data.expect("a slow reader is not cut");
                read += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
                // The pace of a slow reader.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(read, 1_024 * 1_024);
            assert!(begun.elapsed() > unread, "{:?}", begun.elapsed());
        };
        tokio::task::LocalSet::new().run_until(async { tokio::join!(test, slow) }).await;
    }
}
