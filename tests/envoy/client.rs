//! Clients of Envoy: HTTP/1.1 by hand, so that each header line is seen as it came; HTTP/2; WebSockets.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request.
#[derive(Clone)]
pub struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

impl Ask {
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new() }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: api.example.com\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }
}

/// An answer. Status 0: the connection ended without one.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that stands exactly once.
    pub fn once(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} stands {} times in {self:?}", all.len());
        all[0]
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What the application saw of a header.
    pub fn reached(&self, name: &str) -> Vec<String> {
        let told = self.json();
        let values = told["headers"][name].as_array().cloned().unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }
}

/// Asks over HTTP/1.1, on a connection of its own.
pub async fn send(address: SocketAddr, ask: &Ask) -> Answer {
    let Ok(mut stream) = TcpStream::connect(address).await else { return Answer::default() };
    let length = if ask.method == "POST" { "content-length: 0\r\n" } else { "" };
    let head = format!("{}{length}connection: close\r\n\r\n", ask.head());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, read_answer(&mut stream, &mut bytes)).await;
    if read.expect("an answer in time").is_err() || bytes.is_empty() {
        return Answer::default();
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    let mut answer = parse(&bytes[..end]);
    let body = &bytes[end..];
    answer.body = if answer.all("transfer-encoding").is_empty() { text(body) } else { unchunked(body) };
    answer
}

/// To the end of the connection, or of a body whose length is told: Envoy lingers before it closes.
async fn read_answer(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    while stream.read_buf(bytes).await? > 0 {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        if let [length] = parse(&bytes[..end + 4]).all("content-length")[..]
            && bytes.len() >= end + 4 + length.parse::<usize>().unwrap()
        {
            break;
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn parse(head: &[u8]) -> Answer {
    let head = text(head);
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Answer { status, headers, body: String::new() }
}

fn unchunked(mut bytes: &[u8]) -> String {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(&text(&bytes[..end]), 16).unwrap();
        if length == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 2 + length + 2..];
    }
    text(&body)
}

/// Asks over HTTP/2. Trailers stand among the headers.
pub async fn send_h2(address: SocketAddr, ask: &Ask) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let uri = format!("http://api.example.com{}", ask.path);
    let mut request = Request::builder().method(ask.method.as_str()).uri(uri);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let sent = sender.send_request(request.body(Full::<Bytes>::default()).unwrap());
    let answer = tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time").unwrap();
    let status = answer.status().as_u16();
    let mut maps = vec![answer.headers().clone()];
    let collected = answer.into_body().collect().await.unwrap();
    maps.extend(collected.trailers().cloned());
    let headers =
        maps.iter().flatten().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    driver.abort();
    Answer { status, headers, body: text(&collected.to_bytes()) }
}

/// An open socket.
pub struct Socket {
    stream: TcpStream,
    pub answer: Answer,
}

impl Socket {
    /// Sends a handshake over HTTP/1.1; status 101 is an open socket.
    pub async fn open(address: SocketAddr, ask: &Ask) -> Self {
        Self::shake(TcpStream::connect(address).await.unwrap(), ask).await
    }

    /// The same for a client that has this address of the loopback's.
    pub async fn open_from(client: [u8; 4], address: SocketAddr, ask: &Ask) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((client, 0))).unwrap();
        Self::shake(socket.connect(address).await.unwrap(), ask).await
    }

    async fn shake(mut stream: TcpStream, ask: &Ask) -> Self {
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
        let head = format!("{}{upgrade}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", ask.head());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time");
            let Ok(byte) = byte else { return Self { stream, answer: Answer::default() } };
            bytes.push(byte);
        }
        let mut answer = parse(&bytes);
        if let [length] = answer.all("content-length")[..] {
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            answer.body = text(&body);
        }
        Self { stream, answer }
    }

    /// Sends bytes through and back.
    pub async fn talks(&mut self) -> bool {
        let mut back = [0; 4];
        let turn = async {
            self.stream.write_all(b"ping").await?;
            self.stream.read_exact(&mut back).await
        };
        tokio::time::timeout(PATIENCE, turn).await.expect("an answer in time").is_ok() && &back == b"ping"
    }

    /// Ends the connection without a goodbye.
    pub fn reset(self) {
        let stream = self.stream.into_std().unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A WebSocket over HTTP/2 (RFC 8441). Status 200 is an open one.
pub struct H2Socket {
    pub status: u16,
    stream: Option<TokioIo<hyper::upgrade::Upgraded>>,
    /// Without it the connection ends.
    _sender: hyper::client::conn::http2::SendRequest<Empty<Bytes>>,
}

impl H2Socket {
    pub async fn open(address: SocketAddr, ask: &Ask) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        // Its settings have come with the first answer; extended CONNECT is one of them.
        let first = Request::get("http://api.example.com/healthz").body(Empty::new()).unwrap();
        assert_eq!(sender.send_request(first).await.unwrap().status(), 200);
        let uri = format!("http://api.example.com{}", ask.path);
        let mut request = Request::builder().method("CONNECT").uri(uri);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let protocol = hyper::ext::Protocol::from_static("websocket");
        let request = request.extension(protocol).body(Empty::new()).unwrap();
        let sent = sender.send_request(request);
        let mut answer = tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time").unwrap();
        let status = answer.status().as_u16();
        let upgraded = if status == 200 { hyper::upgrade::on(&mut answer).await.ok() } else { None };
        Self { status, stream: upgraded.map(TokioIo::new), _sender: sender }
    }

    /// Sends bytes through and back.
    pub async fn talks(&mut self) -> bool {
        let stream = self.stream.as_mut().unwrap();
        let mut back = [0; 4];
        let turn = async {
            stream.write_all(b"ping").await?;
            stream.flush().await?;
            stream.read_exact(&mut back).await
        };
        tokio::time::timeout(PATIENCE, turn).await.expect("an answer in time").is_ok() && &back == b"ping"
    }
}
