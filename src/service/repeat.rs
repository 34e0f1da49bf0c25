//! A request that asks again by its `request_id`, and for a connection.
//!
//! Promise: what a repeated request charged stays charged once, and its answer claims no lease that is gone. The store
//! repeats its first answer; since then the lease may have been released or have ended. To take a lease that is held
//! changes nothing but its end, so it is taken again: while there is room the first answer holds, else the request is
//! denied for want of a lease.

use crate::engine::ask::{Answer, Ask, Demand};
use crate::service::{Deadline, ServiceError};
use crate::store::{Store, StoreError};
use smallvec::SmallVec;
use std::time::Duration;

/// Asks a store; where it repeats an answer that gave a lease, once more for the lease alone.
///
/// # Errors
/// Outside: the deadline passed before anything was asked. Inside: the store's.
pub(super) async fn take<S: Store>(
    store: &S,
    ask: Ask,
    deadline: Deadline,
) -> Result<Result<Answer, StoreError>, ServiceError> {
    let leased = ask.request_id.is_some() && ask.demands.iter().any(|demand| demand.lease.is_some());
    let demands = if leased { ask.demands.clone() } else { SmallVec::new() };
    let first = store.take(ask, deadline.left()?).await;
    match first {
        Ok(first) if first.repeated && leased && first.passed(&demands) => {
            // A caller that has no time left learns it from the store.
            let patience = deadline.left().unwrap_or(Duration::ZERO);
            Ok(hold(store, first, &demands, patience).await)
        }
        first => Ok(first),
    }
}

async fn hold<S: Store>(
    store: &S,
    mut first: Answer,
    demands: &[Demand],
    patience: Duration,
) -> Result<Answer, StoreError> {
    let leases: SmallVec<[Demand; 2]> =
        demands.iter().filter(|demand| demand.lease.is_some()).cloned().collect();
    let again = store.take(Ask { demands: leases.clone(), ..Ask::default() }, patience).await?;
    if again.passed(&leases) {
        return Ok(first);
    }
    first.now = again.now;
    let held = demands.iter().zip(&mut first.readings).filter(|(demand, _)| demand.lease.is_some());
    for ((_, reading), seen) in held.zip(again.readings) {
        *reading = seen;
    }
    Ok(first)
}
