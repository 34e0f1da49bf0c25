//! Leases that this process granted while the store was away, and what becomes of them when it is back.
//!
//! Promise: such a lease is taken on the store at its next renewal where there is room, and is as exact as any from then
//! on; where there is none it is lost. What the store cannot answer stays as it is, until the next renewal.
//!
//! Must never: take again what the store itself has known and lost, or what was given back meanwhile; its place may be
//! another's.

use crate::engine::ask::{Ask, Demand, Take};
use crate::engine::rule::Rule;
use crate::service::connection::Named;
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
        leases: &[&Named],
        states: &mut [RenewalState],
        deadline: Deadline,
    ) -> Result<(), ServiceError> {
        let lost = leases.iter().zip(states).filter(|(_, state)| **state == RenewalState::Lost);
        let lost = lost.filter_map(|(named, state)| Some((&named.lease, named.here()?, state)));
        let lost: Vec<_> = lost.collect();
        if lost.is_empty() {
            return Ok(());
        }
        let here = lost.iter().map(|(_, here, _)| here.clone()).collect();
        let renewed = self.local.renew(here, Duration::MAX).await?;
        let own = lost.into_iter().zip(renewed).filter(|(_, renewed)| *renewed == Renewed::Held);
        futures_util::stream::iter(own)
            .for_each_concurrent(AT_ONCE, async |((lease, here, state), _)| {
                *state = self.adopt_one(lease, here, deadline).await;
            })
            .await;
        Ok(())
    }

    async fn adopt_one(&self, lease: &HeldLease, here: HeldLease, deadline: Deadline) -> RenewalState {
        let Ok(patience) = deadline.left() else { return RenewalState::Unknown };
        let demands = lease.limits.iter().map(|limit| demand(lease, limit)).collect();
        let ask = Ask { demands, token: lease.token.clone(), ..Ask::default() };
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
        let released = self.local.release(here, Duration::MAX).await;
        if state == RenewalState::Held && released == Ok(false) {
            // Its holder gave it back while it was taken: the store was asked too early then.
            let _ = self.store.release(lease.clone(), patience).await;
            return RenewalState::Lost;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::LeaseTerms;
    use crate::service::away::{Away, away, service, slow, takes, under};
    use crate::service::connection::held;

    async fn state(service: &Service<Away>, terms: &LeaseTerms, id: &str) -> RenewalState {
        service.renew(&[terms.call(id)], Deadline::default()).await.unwrap()[0].0
    }

    #[tokio::test]
    async fn what_was_given_back_while_it_was_taken_stays_given_back() {
        let (service, two) = (service(), under("two"));
        away(&service, true);
        assert!(takes(&service, "two", "a").await);
        // The store took it too, and lost its word; now it has forgotten it.
        away(&service, false);
        let lease = held(&service.live.load(), &two.call("a")).unwrap().lease;
        service.store.release(lease, Duration::MAX).await.unwrap();
        slow(&service, true);
        let call = two.call("a");
        let (state, released) =
            tokio::join!(state(&service, &two, "a"), service.release(&call, Deadline::default()));
        slow(&service, false);
        assert_eq!((state, released.unwrap()), (RenewalState::Lost, true));
        assert!(
            takes(&service, "two", "b").await && takes(&service, "two", "c").await,
            "nobody holds a place"
        );
    }

    #[tokio::test]
    async fn a_lease_is_kept_here_under_those_limits_that_are_counted_here() {
        let service = service();
        let both =
            LeaseTerms { policies: vec!["two".to_owned(), "open".to_owned()], ..LeaseTerms::default() };
        let acquire = async |id: &str| {
            let acquired = service.acquire(both.call(id), Deadline::default()).await.unwrap();
            acquired.lease.is_some()
        };
        away(&service, true);
        assert!(acquire("a").await && acquire("b").await);
        for id in ["a", "b"] {
            assert_eq!(state(&service, &both, id).await, RenewalState::Unknown);
        }
        assert!(!acquire("c").await, "two are held");
    }
}
