//! Listeners over TCP and unix sockets.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;

/// Where a listener stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: Address,
    source: io::Error,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// gRPC, on HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    face: Face,
    bound: Bound,
}

#[derive(Debug)]
enum Bound {
    Tcp(StdTcpListener),
    /// Removed when it is dropped.
    Unix(StdUnixListener, PathBuf),
}

/// An accepted socket, of no runtime yet.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) face: Face,
    pub(super) stream: Stream,
}

/// What it runs over.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(StdTcpStream),
    Unix(StdUnixStream),
}

impl Listener {
    /// Binds an address for a face. A unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(address: &Address, face: Face) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp(address) => bind_tcp(*address).map(Bound::Tcp),
            Address::Unix(path) => bind_unix(path).map(|listener| Bound::Unix(listener, path.clone())),
        };
        match bound {
            Ok(bound) => Ok(Self { face, bound }),
            Err(source) => Err(BindError { address: address.clone(), source }),
        }
    }

    /// What is spoken there.
    #[must_use]
    pub fn face(&self) -> Face {
        self.face
    }

    /// Where it stands; a port of 0 has become a real one.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match &self.bound {
            Bound::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Bound::Unix(_, path) => Some(Address::Unix(path.clone())),
        }
    }

    /// Accepts on the current runtime until the future is dropped.
    pub(super) async fn accept_each(&self, mut deal: impl FnMut(Socket)) -> io::Result<()> {
        let mut deal = |stream| deal(Socket { face: self.face, stream });
        match &self.bound {
            Bound::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => deal(Stream::Tcp(stream.into_std()?)),
                        Err(error) => pause_after(&error).await,
                    }
                }
            }
            Bound::Unix(listener, _) => {
                let listener = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => deal(Stream::Unix(stream.into_std()?)),
                        Err(error) => pause_after(&error).await,
                    }
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Bound::Unix(_, path) = &self.bound {
            // The socket is of no use without its listener; one that is gone already is fine.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Out of file descriptors: accepting again at once would spin. Anything else was one client's trouble.
async fn pause_after(error: &io::Error) {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
        tracing::error!(%error, "cannot accept; raise the limit of open files");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    let stale = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && StdUnixStream::connect(path).is_err();
    if stale {
        std::fs::remove_file(path)?;
    }
    let listener = StdUnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
