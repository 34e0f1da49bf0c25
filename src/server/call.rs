//! What one call holds of its connection's budget, from the first byte of its message to the last of its answer.
//!
//! Promise: what was counted is given back when the call is gone, however it ends. A call with one message holds it
//! until its answer is sent; a stream holds the message that it reads or works on.

use crate::budget::{Account, Wait};
use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tonic::Status;

/// The share of one call.
#[derive(Debug)]
pub(super) struct Call {
    account: Arc<Account>,
    /// Bytes of messages that it holds.
    messages: AtomicUsize,
    holds: Holds,
}

/// What a call holds beside its message, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing: it can be made again elsewhere.
    Nothing,
    /// Leases, which are lost or cut with it.
    Leases,
    /// A stream of checks.
    Checks,
}

impl Holds {
    fn of(self, account: &Account) -> Option<&AtomicUsize> {
        match self {
            Self::Nothing => None,
            Self::Leases => Some(&account.leases),
            Self::Checks => Some(&account.check_streams),
        }
    }
}

impl Call {
    pub(super) fn new(account: Arc<Account>, holds: Holds) -> Arc<Self> {
        if let Some(count) = holds.of(&account) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Arc::new(Self { account, messages: AtomicUsize::new(0), holds })
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Bytes of messages that it holds.
    pub(super) fn held(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    /// Holds this much of messages from now on.
    pub(super) fn hold(&self, bytes: usize) {
        let before = self.messages.swap(bytes, Ordering::Relaxed);
        if bytes > before {
            self.account.messages.add(bytes - before);
        } else if bytes < before {
            self.account.messages.remove(before - bytes);
        }
    }

    /// Gives back what it holds of messages.
    pub(super) fn let_go(&self) {
        self.hold(0);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.let_go();
        if let Some(count) = self.holds.of(&self.account) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The body of an answer on its way out.
pub struct Leaving {
    body: tonic::body::Body,
    call: Arc<Call>,
    room: Wait,
}

impl Leaving {
    pub(super) fn new(body: tonic::body::Body, call: Arc<Call>) -> Self {
        Self { body, call, room: Wait::default() }
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Leaving")
    }
}

impl Body for Leaving {
    type Data = Piece;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        let this = self.get_mut();
        // No answer is made while too many wait to be read.
        ready!(this.call.account.answers.poll_room(1, &mut this.room, context));
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        let counted = |frame: Frame<Bytes>| frame.map_data(|bytes| Piece::new(bytes, &this.call));
        Poll::Ready(frame.map(|frame| frame.map(counted)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer, counted until the peer has taken it.
pub struct Piece {
    bytes: Bytes,
    counted: usize,
    call: Arc<Call>,
}

impl Piece {
    fn new(bytes: Bytes, call: &Arc<Call>) -> Self {
        let counted = bytes.len();
        call.account.answers.add(counted);
        Self { bytes, counted, call: Arc::clone(call) }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Piece").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.call.account.note_sent(count);
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.call.account.note_sent(length);
        self.bytes.copy_to_bytes(length)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.call.account.answers.remove(self.counted);
    }
}
