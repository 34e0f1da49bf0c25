//! The application behind Envoy: it tells what reached it, and talks on WebSockets.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};

/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// A running application. It ends with the test's runtime.
pub struct App {
    pub address: SocketAddr,
    seen: Arc<AtomicUsize>,
}

impl App {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counter)));
            }
        });
        Self { address, seen }
    }

    /// Requests that have reached it.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, seen: Arc<AtomicUsize>) {
    let mut first = [0; 12];
    // Peeking waits for the first bytes; all of the preface comes in one piece from Envoy.
    let Ok(length) = stream.peek(&mut first).await else { return };
    let service = service_fn(move |request| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, Infallible>(answer(request)) }
    });
    let io = TokioIo::new(stream);
    // A client that goes away is no failure of the application's.
    if &first[..length] == PREFACE {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    }
}

fn answer(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if request.headers().contains_key("upgrade") && !path.ends_with("/refuse") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        return response
            .header("upgrade", "websocket")
            .header("connection", "upgrade")
            .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            .body(Full::default())
            .unwrap();
    }
    let response = Response::builder().header("content-type", "application/json");
    let response = match path.as_str() {
        path if path.ends_with("/refuse") => response.status(StatusCode::BAD_REQUEST),
        // An answer with headers of its own that quotad sets too.
        path if path.ends_with("/framed") => response
            .header("x-frame-options", "SAMEORIGIN")
            .header("ratelimit", "\"mine\";r=1")
            .header("x-content-type-options", "off"),
        _ => response,
    };
    let told = serde_json::json!({
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map(http::uri::PathAndQuery::as_str),
        "version": format!("{:?}", request.version()),
        "headers": lists(request.headers()),
    });
    response.body(Full::from(told.to_string())).unwrap()
}

fn lists(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        lists.entry(name.to_string()).or_default().push(value);
    }
    lists
}
