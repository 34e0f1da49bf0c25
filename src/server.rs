//! Connections: one acceptor, and one current-thread runtime a core that serves them.
//!
//! A connection, its requests and its store client stay on one thread: no wake-up crosses threads, and
//! nothing is locked between them. gRPC has listeners of its own, HTTP/1.1 has others. docs/performance.md has the
//! figures beside tonic's own transport.
//!
//! Promises: every listener is bound before anything else starts; connections are dealt to the thread that holds
//! fewest; each has bounds on streams, headers, age and the wait for a message; a drain finishes what is in flight and
//! ends in time.

mod arriving;
mod call;
mod connection;
mod dispatch;
mod listener;
mod worker;

pub use arriving::Arriving;
pub use call::{Leaving, Piece};
pub use dispatch::{Answering, Dispatch, Pages, plain};
pub use listener::{Address, BindError, Face, Listener};
pub use worker::{Pool, WorkerError};

use std::time::Duration;

/// Most time that connections get to finish what is in flight.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
