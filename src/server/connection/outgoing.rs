//! A socket whose peer must read.
//!
//! Promise: a write that makes no progress for the given time ends the connection with an error, whatever the peer says
//! meanwhile. A peer that reads slowly goes on: each byte that it takes begins the time anew.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A socket, and how long a write may wait.
pub(super) struct Outgoing<S> {
    socket: S,
    within: Duration,
    /// While a write waits.
    late: Option<Pin<Box<Sleep>>>,
}

impl<S> Outgoing<S> {
    pub(super) fn new(socket: S, within: Duration) -> Self {
        Self { socket, within, late: None }
    }

    /// Passes on what a write said; one that waits too long has failed.
    fn bounded<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.late = None;
            return written;
        }
        let within = self.within;
        ready!(self.late.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outgoing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outgoing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.bounded(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.bounded(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_peer_that_reads_nothing_ends_the_write_and_one_that_reads_slowly_does_not() {
        let (server, client) = tokio::io::duplex(16);
        let ended = Outgoing::new(server, SHORT).write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(client);
        let (server, mut client) = tokio::io::duplex(16);
        let mut server = Outgoing::new(server, Duration::from_secs(5));
        let read = async {
            let mut byte = [0];
            while client.read(&mut byte).await.unwrap() > 0 {
                // The pace of a slow peer.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let write = async {
            server.write_all(&[0; 256]).await.unwrap();
            drop(server);
        };
        tokio::join!(read, write);
    }
}
