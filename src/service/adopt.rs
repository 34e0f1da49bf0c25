//! Leases that this process granted while the store was away, and what becomes of them when it is back.
//!
//! Promise: such a lease is taken on the store at its next renewal where there is room, and is as exact as any from then
//! on; where there is none it is lost. What the store cannot answer stays as it is, until the next renewal.
//!
//! Must never: take again what the store itself has known and lost; its place may be another's.

use crate::engine::ask::{Ask, Demand, Take};
use crate::engine::rule::Rule;
use crate::service::{Deadline, RenewalState, Service, ServiceError};
use crate::store::{HeldLease, LeaseLimit, Renewed, Store};
use futures_util::StreamExt as _;
use std::time::Duration;

/// Leases that are taken at once: as many as share a call to the store.
const AT_ONCE: usize = 255;

impl<S: Store> Service<S> {
    /// Looks at what the store has lost for leases of this process's own, and mends the states.
    ///
    /// # Errors
    /// The local store's; it has none.
    pub(super) async fn adopt(
        &self,
        leases: &[HeldLease],
        states: &mut [RenewalState],
        deadline: Deadline,
    ) -> Result<(), ServiceError> {
        let lost = leases.iter().zip(states).filter(|(_, state)| **state == RenewalState::Lost);
        let (lost, mut states): (Vec<&HeldLease>, Vec<&mut RenewalState>) = lost.unzip();
        if lost.is_empty() {
            return Ok(());
        }
        let here =
            self.local.renew(lost.iter().map(|lease| (*lease).clone()).collect(), Duration::MAX).await?;
        let own = lost.into_iter().zip(&mut states).zip(here).filter(|(_, here)| *here == Renewed::Held);
        futures_util::stream::iter(own)
            .for_each_concurrent(AT_ONCE, async |((lease, state), _)| {
                **state = self.adopt_one(lease, deadline).await;
            })
            .await;
        Ok(())
    }

    async fn adopt_one(&self, lease: &HeldLease, deadline: Deadline) -> RenewalState {
        let Ok(patience) = deadline.left() else { return RenewalState::Unknown };
        let demands = lease.limits.iter().map(|limit| demand(lease, limit)).collect();
        let ask = Ask { demands, token: lease.token.clone(), request_id: None };
        let state = match self.store.take(ask.clone(), patience).await {
            Ok(answer) if answer.revoked => RenewalState::Revoked,
            Ok(answer) if answer.passed(&ask.demands) => RenewalState::Held,
            Ok(_) => RenewalState::Lost,
            Err(error) => {
                self.note(&error);
                return RenewalState::Unknown;
            }
        };
        // The store answers for it from now on. The local store does not fail; if it did, the lease would end by itself.
        let _ = self.local.release(lease.clone(), Duration::MAX).await;
        state
    }
}

fn demand(lease: &HeldLease, limit: &LeaseLimit) -> Demand {
    Demand {
        key: limit.key.clone(),
        rule: Rule::Leases(limit.limit),
        cost: 1,
        take: Take::Charge,
        weight: limit.weight,
        lease: Some(lease.id.clone()),
    }
}
