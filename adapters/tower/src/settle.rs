//! Reservations: what a request really cost is known after its response.
//!
//! To settle twice does no harm, so it is asked again until somebody answers; a reservation that nobody settles stays
//! charged.

use crate::{client::Client, error::Cause, tasks::Tasks, v1 as pb};
use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode};
use std::{collections::HashMap, fmt, sync::Arc, time::Duration};
use tokio::{runtime::Handle, time::Instant};

const TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);
/// A service that is away longer than this leaves the reservation as it was charged.
const TRIES: u32 = 30;

/// A response that is over, as a settlement looks at it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered {
    /// What was answered; 500 when the handler panicked.
    pub status: StatusCode,
    /// The response's headers.
    pub headers: HeaderMap,
    /// What the handler put into the response's extensions, such as a count of its own.
    pub extensions: Extensions,
    /// Bytes of the body that went out.
    pub body_bytes: u64,
    /// Whether the whole body went out; false when the client left, or the stream broke off.
    pub is_whole: bool,
}

pub(crate) type SettleFn = Arc<dyn Fn(&Answered) -> u32 + Send + Sync>;

/// A reservation that waits for the end of a response.
pub(crate) struct Settlement {
    pub(crate) reservation: Reservation,
    pub(crate) cost: SettleFn,
}

/// Units that were charged ahead, and may be settled once to what they really were.
pub struct Reservation {
    pub(crate) ticket: Bytes,
    pub(crate) policies: Vec<String>,
    pub(crate) until: Instant,
    pub(crate) client: Arc<Client>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) runtime: Handle,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reservation").field("policies", &self.policies).finish_non_exhaustive()
    }
}

impl Reservation {
    /// Sends what it really cost, in the background; 0 gives all back. Without this, or when the service does not
    /// answer in the reservation's time, it stays as it was charged.
    pub fn settle(self, cost: u32) {
        let Self { ticket, policies, until, client, tasks, runtime } = self;
        // By name, so that what else the ticket holds (the policies of the route) keeps its charge.
        let costs: HashMap<String, u32> = policies.into_iter().map(|policy| (policy, cost)).collect();
        let asked = pb::SettleCostRequest { ticket: ticket.to_vec(), cost: None, policy_costs: costs };
        tasks.spawn(&runtime, async move {
            for _ in 0..TRIES {
                let outcome = match client.settle_cost(asked.clone(), TIMEOUT).await {
                    Ok(answer) if answer.state == i32::from(pb::settle_cost_response::State::Settled) => {
                        "settled"
                    }
                    Ok(_) => "too_late",
                    Err(error) if matches!(error.cause, Cause::Away | Cause::Undecided) => {
                        if Instant::now() + AGAIN >= until {
                            break;
                        }
                        // The service is away: the pause is the breaker's.
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(target: "quotad::settle", %error, "a reservation cannot be settled");
                        return;
                    }
                };
                tracing::debug!(target: "quotad::settle", outcome, "a reservation");
                return;
            }
            tracing::warn!(target: "quotad::settle", "nobody settled a reservation; it stays as it was charged");
        });
    }
}
