//! What a bench does: how much load, of what kind, for how long.

use super::frames::{Depth, Question};
use super::keys::Distribution;
use crate::client::Address;
use std::time::Duration;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Each lane sends its next request when the last one is answered.
    Closed,
    /// So many requests a second in all, on a schedule of their own; latency counts from the moment that a request was
    /// due, so that a server that stalls cannot hide it.
    Open {
        /// Requests a second.
        rate: u32,
    },
}

/// When it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time of measuring.
    Elapsed(Duration),
    /// After this many measured requests.
    Requests(u64),
}

/// Which call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `CheckLimit`.
    Unary,
    /// `CheckLimits`: one stream a connection.
    Stream {
        /// Checks a message.
        batch: u32,
    },
}

/// What a bench does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where quotad listens.
    pub address: Address,
    /// Connections in all.
    pub connections: u32,
    /// Calls (of a stream: messages) in flight on each.
    pub lanes: u32,
    /// Threads of this process that make the load.
    pub threads: u32,
    /// When requests are sent.
    pub load: Load,
    /// Time before anything is measured.
    pub warmup: Duration,
    /// When it ends.
    pub until: Until,
    /// Which call is made.
    pub call: Call,
    /// What is asked.
    pub question: Question,
    /// How many different keys.
    pub keys: u32,
    /// How requests spread over them.
    pub distribution: Distribution,
    /// How much of the answers is looked at; all of it for the oracle.
    pub depth: Depth,
    /// Whose processor time is reported as the server's.
    pub server: Option<u32>,
    /// Whose as that of Redis.
    pub redis: Option<u32>,
}

impl Plan {
    /// Connections of the `number`-th thread: they are dealt out evenly.
    #[must_use]
    pub fn connections_of(&self, number: u32) -> u32 {
        let threads = self.threads.max(1);
        self.connections / threads + u32::from(number < self.connections % threads)
    }

    /// Checks that one message carries.
    #[must_use]
    pub fn batch(&self) -> u32 {
        match self.call {
            Call::Unary => 1,
            Call::Stream { batch } => batch.max(1),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A short closed loop, to be changed by tests.
    pub(crate) fn plan(address: Address) -> Plan {
        Plan {
            address,
            connections: 2,
            lanes: 4,
            threads: 1,
            load: Load::Closed,
            warmup: Duration::from_millis(20),
            until: Until::Elapsed(Duration::from_millis(200)),
            call: Call::Unary,
            question: Question {
                domain: "default".to_owned(),
                key_entry: "user".to_owned(),
                ..Question::default()
            },
            keys: 10,
            distribution: Distribution::Uniform,
            depth: Depth::Outcome,
            server: None,
            redis: None,
        }
    }

    #[test]
    fn connections_are_dealt_out_evenly() {
        let plan = Plan { connections: 7, threads: 3, ..plan("127.0.0.1:1".parse().unwrap()) };
        let dealt: Vec<_> = (0..3).map(|number| plan.connections_of(number)).collect();
        assert_eq!(dealt, [3, 2, 2]);
    }
}
