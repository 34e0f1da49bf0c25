//! HTTP/1 by hand, so that a test says every byte that it sends.

use crate::harness::PATIENCE;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// A connection.
pub struct Http<S> {
    stream: BufReader<S>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header that must stand there once.
    #[track_caller]
    pub fn once(&self, name: &str) -> &str {
        let found: Vec<&str> =
            self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(found.len(), 1, "{name} in {self:?}");
        found[0]
    }

    pub fn closes(&self) -> bool {
        self.headers.iter().any(|(name, value)| name == "connection" && value == "close")
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.once("content-type"), "application/json");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Http<TcpStream> {
    pub async fn open(address: &str) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }
}

impl Http<UnixStream> {
    pub async fn open_unix(address: &str) -> Self {
        let path = address.strip_prefix("unix:").unwrap();
        Self { stream: BufReader::new(UnixStream::connect(path).await.unwrap()) }
    }
}

/// A request with a body.
pub fn request(method: &str, path: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: quotad\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub async fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.send(request(method, path, body)).await;
        self.answer().await
    }

    pub async fn post(&mut self, body: &str) -> Answer {
        self.ask("POST", "/json", body).await
    }

    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length: usize = answer.once("content-length").parse().unwrap();
        let mut body = vec![0; length];
        timeout(PATIENCE, self.stream.read_exact(&mut body)).await.unwrap().unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// An answer whose body does not come along.
    pub async fn head(&mut self) -> Answer {
        let first = self.line().await;
        let mut words = first.splitn(3, ' ');
        let version = words.next().unwrap().to_owned();
        let status = words.next().unwrap_or_else(|| panic!("no answer: {first:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return Answer { status, version, headers, body: String::new() };
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("an answer in time").unwrap();
        line.trim_end().to_owned()
    }

    /// What the other side says until it closes, or breaks off.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Waits for the other side to close in good order, having said no more.
    pub async fn closed(&mut self) {
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        assert!(rest.is_empty() && ended.is_ok(), "{ended:?}: {}", String::from_utf8_lossy(&rest));
    }
}
