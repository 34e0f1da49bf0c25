//! The decisions' own connection to Redis: calls go in, replies come out in the same order.
//!
//! It is ours, and not the client's that carries everything else, because of what a decision waits for: measured at one
//! decision in flight, the client's queues, tasks and timers took a sixth of the whole latency (docs/performance.md).
//!
//! Promise: what was sent once is never sent again; a reply belongs to the oldest call without one; every future here can
//! be dropped at any point and called again.

use crate::store::redis::options::{CONNECT, Purpose, connection_name};
use crate::store::redis::plan::Plan;
use crate::store::redis::resp::{self, Reply};
use crate::store::redis::script::Script;
use bytes::BytesMut;
use fred::prelude::{Config, Server, ServerConfig, TlsConnector};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls::pki_types::ServerName;

/// Least room for the next read: the reply to a full batch of simple asks.
const READ: usize = 8 * 1024;

/// What a connection runs over.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Whether a script is called by its name, or brought along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Name,
    Text,
}

/// Whether what was written may wait for a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    Perhaps,
}

/// An open connection.
pub(super) struct Pipe {
    stream: Pin<Box<dyn Stream>>,
    /// Encoded and not written yet.
    outbox: BytesMut,
    /// Written, but kept back by TLS perhaps.
    kept: Kept,
    /// Read and not taken yet.
    inbox: BytesMut,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Pipe")
    }
}

impl Pipe {
    /// Opens one: logged in, the database chosen, and Redis ready to answer, all within [`CONNECT`].
    ///
    /// # Errors
    /// Why not, without a password.
    pub(super) async fn open(config: &Config) -> io::Result<Self> {
        tokio::time::timeout(CONNECT, open(config))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Puts a call in front of the connection; [`Pipe::reply`] writes it.
    pub(super) fn call(&mut self, script: &Script, by: By, plan: &Plan) {
        let out = &mut self.outbox;
        resp::command(out, 3 + plan.keys.len() + plan.args.len());
        match by {
            By::Name => {
                resp::word(out, b"EVALSHA");
                resp::word(out, script.sha.as_bytes());
            }
            By::Text => {
                resp::word(out, b"EVAL");
                resp::word(out, script.source.as_bytes());
            }
        }
        resp::word_of(out, plan.keys.len());
        for key in &plan.keys {
            resp::word(out, key.as_bytes());
        }
        for arg in &plan.args {
            resp::word(out, arg);
        }
    }

    /// The reply to the oldest call without one. Without a call it waits for the end of the connection.
    ///
    /// # Errors
    /// The connection ended, or what came is no reply. The pipe is of no use any more.
    pub(super) async fn reply(&mut self) -> io::Result<Reply> {
        poll_fn(|context| self.poll_reply(context)).await
    }

    fn poll_reply(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Reply>> {
        loop {
            // A reply that is here counts, whatever becomes of what is written next.
            if let Some(reply) = resp::read(&mut self.inbox).map_err(io::Error::other)? {
                return Poll::Ready(Ok(reply));
            }
            self.poll_write(context)?;
            self.inbox.reserve(READ);
            // A read keeps nothing in its future, so a new one each time goes on where the last one was.
            let read = pin!(self.stream.read_buf(&mut self.inbox));
            if ready!(read.poll(context))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Writes what goes out now; the rest when the connection takes it.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.outbox.is_empty() {
            self.kept = Kept::Perhaps;
            let write = pin!(self.stream.write_buf(&mut self.outbox));
            match write.poll(context) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => written?,
                Poll::Pending => return Ok(()),
            };
        }
        if self.kept == Kept::Perhaps
            && let Poll::Ready(flushed) = self.stream.as_mut().poll_flush(context)
        {
            flushed?;
            self.kept = Kept::Nothing;
        }
        Ok(())
    }
}

/// What is said on a new connection before the first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    Auth,
    Select,
    Name,
    Ping,
}

impl Greeting {
    /// Whether an error in reply to it is none to us.
    fn bears(self, words: &str) -> bool {
        match self {
            // A Redis without a password takes everybody, also one who brings a password. The second is Redis 5's text.
            Self::Auth => ["ERR AUTH <password> called without", "ERR Client sent AUTH, but no password"]
                .iter()
                .any(|start| words.starts_with(start)),
            Self::Select => false,
            // A name is a help for operators, and a user who may not set one decides all the same.
            Self::Name => true,
            // A user who may not ping is logged in to a server that is ready.
            Self::Ping => words.starts_with("NOPERM"),
        }
    }
}

async fn open(config: &Config) -> io::Result<Pipe> {
    let stream = connect(config).await?;
    let mut pipe = Pipe { stream, outbox: BytesMut::new(), kept: Kept::Nothing, inbox: BytesMut::new() };
    for greeting in pipe.greet(config) {
        match pipe.reply().await? {
            Reply::Error(words) if !greeting.bears(&words) => return Err(io::Error::other(words)),
            _ => {}
        }
    }
    Ok(pipe)
}

impl Pipe {
    fn greet(&mut self, config: &Config) -> Vec<Greeting> {
        let (out, mut said) = (&mut self.outbox, Vec::with_capacity(4));
        if let Some(password) = &config.password {
            let user = config.username.as_ref().filter(|user| !user.is_empty());
            resp::command(out, 2 + usize::from(user.is_some()));
            resp::word(out, b"AUTH");
            for word in user.into_iter().chain([password]) {
                resp::word(out, word.as_bytes());
            }
            said.push(Greeting::Auth);
        }
        if let Some(database) = config.database.filter(|database| *database > 0) {
            resp::command(out, 2);
            resp::word(out, b"SELECT");
            resp::word_of(out, database.into());
            said.push(Greeting::Select);
        }
        resp::command(out, 3);
        for word in [b"CLIENT", &b"SETNAME"[..], connection_name(Purpose::Decisions).as_bytes()] {
            resp::word(out, word);
        }
        said.push(Greeting::Name);
        // A server that is loading, or wants a password, says so now and not to the first decision.
        resp::command(out, 1);
        resp::word(out, b"PING");
        said.push(Greeting::Ping);
        said
    }
}

async fn connect(config: &Config) -> io::Result<Pin<Box<dyn Stream>>> {
    if let ServerConfig::Unix { path } = &config.server {
        return Ok(Box::pin(UnixStream::connect(path).await?));
    }
    let hosts = config.server.hosts();
    let Some(Server { host, port, tls_server_name }) = hosts.first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no server"));
    };
    let tcp = TcpStream::connect((bare(host), *port)).await?;
    tcp.set_nodelay(true)?;
    match &config.tls {
        None => Ok(Box::pin(tcp)),
        Some(tls) => {
            let TlsConnector::Rustls(connector) = &tls.connector;
            let name = bare(tls_server_name.as_ref().unwrap_or(host)).to_owned();
            let name = ServerName::try_from(name).map_err(io::Error::other)?;
            Ok(Box::pin(connector.connect(name, tcp).await?))
        }
    }
}

/// A host as it is looked up: in a URL an IPv6 address stands in brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::script::Scripts;
    use bytes::Bytes;
    use tokio::io::DuplexStream;

    fn pipe(room: usize) -> (Pipe, DuplexStream) {
        let (stream, other) = tokio::io::duplex(room);
        let pipe = Pipe {
            stream: Box::pin(stream),
            outbox: BytesMut::new(),
            kept: Kept::Nothing,
            inbox: BytesMut::new(),
        };
        (pipe, other)
    }

    fn plan(key: &'static str) -> Plan {
        Plan { keys: vec![key.into()], args: vec![b"\r\n".to_vec()], order: Vec::new(), is_single: true }
    }

    #[tokio::test]
    async fn calls_are_written_whole_and_replies_come_in_their_order() {
        let scripts = Scripts::new(None);
        // Less room than a command needs, so that each is written in pieces.
        let (mut pipe, mut redis) = pipe(16);
        pipe.call(&scripts.one, By::Name, &plan("a"));
        pipe.call(&scripts.take, By::Name, &plan("b"));
        let mut expected = Vec::new();
        for (sha, key) in [(&scripts.one.sha, "a"), (&scripts.take.sha, "b")] {
            let call =
                format!("*5\r\n$7\r\nEVALSHA\r\n$40\r\n{sha}\r\n$1\r\n1\r\n$1\r\n{key}\r\n$2\r\n\r\n\r\n");
            expected.extend_from_slice(call.as_bytes());
        }
        let mut read = vec![0; expected.len()];
        let both = async {
            redis.read_exact(&mut read).await.unwrap();
            redis.write_all(b"$3\r\none\r\n-NOSCRIPT x\r\n").await.unwrap();
        };
        let (first, ()) = tokio::join!(pipe.reply(), both);
        assert_eq!(read, expected);
        assert_eq!(first.unwrap(), Reply::Bulk(Bytes::from_static(b"one")));
        assert_eq!(pipe.reply().await.unwrap(), Reply::Error("NOSCRIPT x".to_owned()));
    }

    #[tokio::test]
    async fn a_dropped_wait_loses_nothing() {
        let (mut pipe, mut redis) = pipe(64);
        redis.write_all(b"$4\r\nab").await.unwrap();
        for _ in 0..3 {
            tokio::select! {
                biased;
                reply = pipe.reply() => panic!("not whole yet: {reply:?}"),
                () = std::future::ready(()) => {}
            }
        }
        redis.write_all(b"cd\r\n").await.unwrap();
        assert_eq!(pipe.reply().await.unwrap(), Reply::Bulk(Bytes::from_static(b"abcd")));
    }

    #[tokio::test]
    async fn the_end_and_what_is_no_redis_are_errors() {
        let (mut ended, redis) = pipe(64);
        drop(redis);
        assert_eq!(ended.reply().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (mut foreign, mut web) = pipe(64);
        web.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
        assert!(foreign.reply().await.is_err());
    }
}
