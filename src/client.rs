//! A gRPC connection to a quotad, over TCP or a unix socket: what `quotad check` and `quotad bench` talk through.
//!
//! Promise: one call of [`connect`] is one connection; nothing reconnects or retries behind the caller's back, so what
//! is measured or reported is what happened. All work of a connection stays on the thread that opened it.
//!
//! Must never: wait without a bound, or send a request twice.

use crate::shutdown::spawn_local;
use bytes::Bytes;
use http::uri::{Authority, Scheme, Uri};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Bytes a peer may send ahead on one stream: a decision is some hundred bytes, a batch of them fits.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Longest path of a unix socket on Linux, without its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Where a quotad listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`; a name is looked up.
    Tcp(Authority),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is no address.
    #[error("`{0}` is not an address; write HOST:PORT, such as 127.0.0.1:50051, or unix:/path")]
    NoAddress(String),
    /// Nobody listens there, or the way is barred.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// As asked for.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody listens there who does not speak HTTP/2.
    #[error("{address} does not speak gRPC: {source}")]
    Handshake {
        /// As asked for.
        address: Address,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It takes too long.
    #[error("cannot connect to {address} within {patience:?}")]
    Timeout {
        /// As asked for.
        address: Address,
        /// How long it was waited.
        patience: Duration,
    },
}

impl ClientError {
    /// What to do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoAddress(_) => "an IPv6 address stands in brackets: [::1]:50051",
            Self::Unreachable { .. } | Self::Timeout { .. } => {
                "is quotad running there? start it with `quotad`, or name where it listens with --addr"
            }
            Self::Handshake { .. } => "the decision service listens on `listen.grpc` of the configuration",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(out, "{authority}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::NoAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let fits = !path.is_empty() && path.len() <= MAX_SOCKET_PATH && !path.contains('\0');
            return if fits { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let authority: Authority = text.parse().map_err(|_| wrong())?;
        let plain = !authority.host().is_empty() && !authority.as_str().contains('@');
        match authority.port_u16() {
            Some(port) if port > 0 && plain => Ok(Self::Tcp(authority)),
            _ => Err(wrong()),
        }
    }
}

impl Address {
    /// The origin that requests carry; behind a unix socket there is no host, so it is `localhost`.
    #[must_use]
    pub fn origin(&self) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(match self {
            Self::Tcp(authority) => authority.clone(),
            Self::Unix(_) => Authority::from_static("localhost"),
        });
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// A connection as a service of HTTP requests: what the generated clients are built on.
pub struct Connection<B> {
    sender: SendRequest<B>,
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl<B> Clone for Connection<B> {
    /// Another handle to the same connection.
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

/// The answer to one request, in time.
type Answering = Pin<Box<dyn Future<Output = Result<http::Response<Incoming>, hyper::Error>>>>;

impl<B> tower_service::Service<http::Request<B>> for Connection<B>
where
    B: Body + 'static,
{
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Answering {
        Box::pin(self.sender.send_request(request))
    }
}

/// Opens a connection. Must be called inside a [`tokio::task::LocalSet`], whose end also ends the connection.
///
/// # Errors
/// Nobody listens, the peer does not speak HTTP/2, or `patience` ran out.
pub async fn connect<B>(address: &Address, patience: Duration) -> Result<Connection<B>, ClientError>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    match tokio::time::timeout(patience, open(address)).await {
        Ok(opened) => opened,
        Err(_) => Err(ClientError::Timeout { address: address.clone(), patience }),
    }
}

async fn open<B>(address: &Address) -> Result<Connection<B>, ClientError>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (sender, connection) = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(dial(address).await?))
        .await
        .map_err(|source| ClientError::Handshake { address: address.clone(), source: source.into() })?;
    // It ends with the last handle; what it ends with is told to every request in flight.
    spawn_local(async move { drop(connection.await) });
    Ok(Connection { sender })
}

/// Opens a connection of bare HTTP/2 streams, for a client that makes its calls by hand. Must be called inside a
/// [`tokio::task::LocalSet`], whose end also ends the connection.
///
/// # Errors
/// Nobody listens, the peer does not speak HTTP/2, or `patience` ran out.
pub async fn streams(
    address: &Address,
    patience: Duration,
) -> Result<h2::client::SendRequest<Bytes>, ClientError> {
    let open = async {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(dial(address).await?)
            .await
            .map_err(|source| ClientError::Handshake { address: address.clone(), source: source.into() })?;
        spawn_local(async move { drop(connection.await) });
        Ok(sender)
    };
    match tokio::time::timeout(patience, open).await {
        Ok(opened) => opened,
        Err(_) => Err(ClientError::Timeout { address: address.clone(), patience }),
    }
}

/// Bytes to and from a server.
trait Transport: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

async fn dial(address: &Address) -> Result<Box<dyn Transport>, ClientError> {
    let unreachable = |source| ClientError::Unreachable { address: address.clone(), source };
    match address {
        Address::Tcp(authority) => {
            let stream = TcpStream::connect(authority.as_str()).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            Ok(Box::new(stream))
        }
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?)),
    }
}

/// Runs what hyper starts for a connection on the connection's own thread.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, task: F) {
        spawn_local(async move { drop(task.await) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_or_paths() {
        for good in ["127.0.0.1:50051", "localhost:1", "[::1]:50051", "unix:/run/quotad.sock", "unix:q.sock"]
        {
            let address: Address = good.parse().unwrap();
            assert_eq!(address.to_string(), good);
        }
        assert_eq!("unix:///run/q".parse::<Address>().unwrap().to_string(), "unix:/run/q");
        for bad in [
            "",
            "50051",
            ":50051",
            "localhost",
            "host:0",
            "host:70000",
            "a@b:1",
            "http://h:1",
            "unix:",
            "::1:5",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad} must not pass");
        }
    }

    #[test]
    fn the_origin_of_a_socket_is_localhost() {
        assert_eq!("unix:/x".parse::<Address>().unwrap().origin().to_string(), "http://localhost/");
        assert_eq!("[::1]:5".parse::<Address>().unwrap().origin().to_string(), "http://[::1]:5/");
    }

    #[tokio::test]
    async fn nobody_listening_is_said_with_a_hint() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address: Address = free.to_string().parse().unwrap();
        let local = tokio::task::LocalSet::new();
        let outcome =
            local.run_until(connect::<http_body_util::Empty<Bytes>>(&address, Duration::from_secs(5))).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&free.to_string()) && error.hint().contains("--addr"));
    }
}
