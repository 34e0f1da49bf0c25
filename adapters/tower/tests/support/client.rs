//! Requests into an application, with and without a server between.

use axum::{Router, body::Body, extract::ConnectInfo};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};
use tower::ServiceExt as _;

/// Waits for a condition; fails when it does not come.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < end, "it did not come to that in time: {what}");
        // Between two looks.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client that no other test has been.
pub(crate) fn address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("198.{}.{}.{}", 18 + number / 62_500, number / 250 % 250, number % 250 + 1)
}

/// A response as it was sent, header by header.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    /// The one value of a header.
    pub(crate) fn header(&self, name: &str) -> String {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        all[0].clone()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// A request to be sent.
pub(crate) struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    peer: Option<String>,
    body: String,
}

pub(crate) fn get(path: &str) -> Ask {
    Ask::new("GET", path)
}

pub(crate) fn post(path: &str) -> Ask {
    Ask::new("POST", path)
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: vec![("host".to_owned(), "api.example.com".to_owned())],
            peer: Some(address()),
            body: String::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if name == "host" {
            self.headers.clear();
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn with(self, (name, value): (&str, String)) -> Self {
        self.header(name, &value)
    }

    pub(crate) fn from(mut self, peer: &str) -> Self {
        self.peer = Some(peer.to_owned());
        self
    }

    pub(crate) fn nameless(mut self) -> Self {
        self.peer = None;
        self
    }

    pub(crate) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string();
        self.header("content-type", "application/json")
    }

    pub(crate) fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(&*self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::from(self.body)).unwrap();
        if let Some(peer) = self.peer {
            let peer = SocketAddr::new(peer.parse().unwrap(), 12345);
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        request
    }

    pub(crate) async fn to(self, app: &Router) -> Answer {
        let response = app.clone().oneshot(self.request()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body).unwrap(),
        }
    }
}

/// An application behind axum's own server, on a free port. To drop it ends it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, task }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A handshake, and what became of it.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, String)]) -> Handshake {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tokio_tungstenite::client_async(request, self.connect().await).await {
            Ok((socket, response)) => Handshake {
                answer: Answer { status: 101, headers: response.headers().clone(), body: String::new() },
                socket: Some(socket),
            },
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                let answer = Answer {
                    status: response.status().as_u16(),
                    headers: response.headers().clone(),
                    body: String::from_utf8(body).unwrap(),
                };
                Handshake { answer, socket: None }
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The client's side of a handshake.
pub(crate) struct Handshake {
    pub(crate) answer: Answer,
    socket: Option<WebSocketStream<TcpStream>>,
}

impl Handshake {
    #[track_caller]
    pub(crate) fn socket(&mut self) -> &mut WebSocketStream<TcpStream> {
        self.socket.as_mut().unwrap_or_else(|| panic!("refused: {:?}", self.answer))
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket().send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.socket().next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The code with which the application's side closes it.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let next = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                match self.socket().next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| u16::from(frame.code)),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        });
        next.await.expect("it is closed")
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        let farewell = async {
            let _ = self.socket().close(None).await;
            while let Some(Ok(_)) = self.socket().next().await {}
        };
        tokio::time::timeout(Duration::from_secs(60), farewell).await.expect("the other side agrees");
    }
}
