//! Leases whose holder is gone: given back now, or once the store can be asked again.
//!
//! Promise: what the store cannot take back now is offered again each second until the lease has ended by itself, and
//! nobody waits for it. Must never: hold more than [`MAX_OWED`]; give back anything but the lease that was named.

use crate::clock;
use crate::engine::ask::Take;
use crate::engine::policy::Facts;
use crate::service::connection::{ConnectionCall, held};
use crate::service::plan::{Plan, Planned};
use crate::service::{Deadline, Service, ServiceError};
use crate::store::{HeldLease, Store, StoreError};
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// Releases under way at once.
const AT_ONCE: usize = 32;
/// How long one of them waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most leases that wait, a few hundred bytes each; of more, the newest end by themselves.
const MAX_OWED: usize = 16_384;

/// The leases that the store is to be offered again.
#[derive(Debug, Default)]
pub(super) struct Owed {
    waiting: Mutex<VecDeque<Debt>>,
    more: Notify,
}

#[derive(Debug)]
struct Debt {
    lease: HeldLease,
    /// It has ended by itself then.
    until: Instant,
    taken: Taken,
}

/// Whether the store is known to have taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It is, or its release comes after whatever took it.
    Surely,
    /// The taking may be under way still, on another connection than its release.
    Perhaps,
}

impl Owed {
    fn add(&self, lease: HeldLease, taken: Taken) {
        let ttl = lease.limits.iter().map(|limit| limit.limit.ttl).max().unwrap_or_default();
        let until = clock::monotonic().checked_add(Duration::from_micros(ttl.0));
        let mut waiting = self.waiting.lock();
        let Some(until) = until.filter(|_| waiting.len() < MAX_OWED) else {
            tracing::debug!("too many leases wait for the store; this one ends by itself");
            return;
        };
        waiting.push_back(Debt { lease, until, taken });
        self.more.notify_one();
    }

    fn take(&self, most: usize) -> Vec<Debt> {
        let mut waiting = self.waiting.lock();
        let some = most.min(waiting.len());
        waiting.drain(..some).collect()
    }

    fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// A release under way. However it ends but well, also when its caller goes away in the middle, the lease is owed.
struct Pending<'a> {
    owed: &'a Owed,
    lease: Option<HeldLease>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.owed.add(lease, Taken::Surely);
        }
    }
}

impl<S: Store> Service<S> {
    /// Gives back the lease of a holder that is gone. What the store cannot take now is kept for
    /// [`pay_owed`](Self::pay_owed).
    ///
    /// # Errors
    /// As [`Service::release`], but never for a store that is away or a deadline that has passed.
    pub async fn end_lease<F: Facts>(
        &self,
        call: &ConnectionCall<'_, F>,
        deadline: Deadline,
    ) -> Result<(), ServiceError> {
        let lease = held(&self.live.load(), call)?.lease;
        self.end_held(lease, deadline).await
    }

    /// What an unanswered call may have taken all the same, for a holder that is refused and will never give it back.
    /// Must never be told of an id that may come again: its lease would be taken from whoever holds it then.
    pub(super) fn owe_taken(&self, plan: &Plan<'_>, error: &StoreError) {
        let took = |planned: &&Planned<'_>| planned.lease.is_some() && planned.take == Take::Charge;
        let mut taken = plan.0.iter().filter(took).peekable();
        let id = taken.peek().and_then(|planned| planned.lease.clone());
        if let (StoreError::Timeout(_), Some(id)) = (error, id) {
            let limits = taken.filter_map(Planned::lease_limit).collect();
            self.owed.add(HeldLease { id, limits, token: None, token_ends: None }, Taken::Perhaps);
        }
    }

    pub(super) async fn end_held(&self, lease: HeldLease, deadline: Deadline) -> Result<(), ServiceError> {
        // It may have been granted here while the store was away.
        self.local.release(lease.clone(), Duration::MAX).await?;
        let mut unless_done = Pending { owed: &self.owed, lease: Some(lease.clone()) };
        let Ok(patience) = deadline.left() else { return Ok(()) };
        match self.store.release(lease, patience).await {
            Ok(_) => unless_done.lease = None,
            Err(error) => self.note(&error),
        }
        Ok(())
    }

    /// Gives back what is owed, and never ends: a lasting task beside each service.
    pub async fn pay_owed(&self) {
        loop {
            if self.owed.len() == 0 {
                self.owed.more.notified().await;
            }
            tokio::time::sleep(PAUSE).await;
            self.pay_once().await;
        }
    }

    /// Offers each once; while the store takes none at all, the rest waits for the next round.
    async fn pay_once(&self) {
        let mut left = self.owed.len();
        while left > 0 {
            let some = self.owed.take(left.min(AT_ONCE));
            let asked = some.len();
            let again = join_all(some.into_iter().map(|debt| self.pay(debt))).await;
            let again: Vec<Debt> = again.into_iter().flatten().collect();
            let is_away = again.len() == asked;
            self.owed.waiting.lock().extend(again);
            if is_away {
                return;
            }
            left = left.saturating_sub(asked);
        }
    }

    async fn pay(&self, debt: Debt) -> Option<Debt> {
        if debt.until <= clock::monotonic() {
            tracing::debug!("a lease was not released; it has ended by itself");
            return None;
        }
        match self.store.release(debt.lease.clone(), PATIENCE).await {
            Ok(false) if debt.taken == Taken::Perhaps => Some(Debt { taken: Taken::Surely, ..debt }),
            Ok(_) => None,
            Err(_) => Some(debt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::LeaseTerms;
    use crate::service::MadeBy;
    use crate::service::away::{away, opens, service, taken, takes, terms, under};
    use futures_util::FutureExt as _;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_refused_attempt_whose_answer_was_lost_holds_nothing_for_long() {
        for policy in ["closed", "loud"] {
            let service = service();
            away(&service, true);
            assert!(!opens(&service, policy, "a", MadeBy::Us).await, "{policy}");
            away(&service, false);
            assert!(!takes(&service, policy, "b").await, "{policy}: the store had taken it");
            service.pay_once().await;
            assert!(takes(&service, policy, "b").await, "{policy}");
            service.pay_once().await;
            assert!(!takes(&service, policy, "c").await, "{policy}: what is held stays");
        }
        let service = service();
        away(&service, true);
        assert!(opens(&service, "open", "a", MadeBy::Us).await);
        assert_eq!(service.owed.len(), 0, "who was let in gives it back by itself");
    }

    #[tokio::test]
    async fn who_asks_again_with_an_id_of_its_own_keeps_what_it_got() {
        for policy in ["closed", "loud"] {
            let service = service();
            away(&service, true);
            assert!(!takes(&service, policy, "a").await, "{policy}");
            assert!(!opens(&service, policy, "a", MadeBy::Caller).await, "{policy}");
            away(&service, false);
            assert!(takes(&service, policy, "a").await, "{policy}: its own");
            service.pay_once().await;
            assert!(!takes(&service, policy, "b").await, "{policy}: it is held");
        }
    }

    #[tokio::test]
    async fn a_release_that_overtook_its_taking_is_offered_once_more() {
        let service = service();
        let id: Arc<str> = "a".into();
        let lease = held(&service.live.load(), &under("closed").call("a")).unwrap().lease;
        service.owed.add(lease, Taken::Perhaps);
        service.pay_once().await;
        assert!(takes(&service, "closed", &id).await, "only now");
        service.pay_once().await;
        assert!(takes(&service, "closed", "b").await);
        assert_eq!(service.owed.len(), 0);
    }

    #[tokio::test]
    async fn what_the_store_cannot_take_back_is_offered_until_it_can() {
        let service = service();
        for id in 0..40 {
            assert!(taken(&service, &id.to_string()).await);
        }
        assert!(!taken(&service, "more").await);
        away(&service, true);
        for id in 0..40 {
            service.end_lease(&terms().call(&id.to_string()), Deadline::default()).await.unwrap();
        }
        service.pay_once().await;
        assert_eq!(service.owed.len(), 40, "all of them are owed still");
        away(&service, false);
        assert!(!taken(&service, "more").await);
        service.pay_once().await;
        assert_eq!(service.owed.len(), 0);
        for id in 0..40 {
            assert!(taken(&service, &format!("new {id}")).await);
        }
        assert!(!taken(&service, "more").await, "each was given back once");
    }

    #[tokio::test]
    async fn a_release_whose_caller_goes_away_in_the_middle_is_owed() {
        let service = service();
        assert!(taken(&service, "a").await);
        away(&service, true);
        let given_up = service.end_lease(&terms().call("a"), Deadline::default()).now_or_never();
        assert!(given_up.is_none(), "it was under way");
        away(&service, false);
        assert_eq!(service.owed.len(), 1);
        service.pay_once().await;
        assert_eq!(service.owed.len(), 0);
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_owes_too_and_an_unknown_policy_does_not() {
        let service = service();
        assert!(taken(&service, "a").await);
        let late = Deadline(Some(clock::monotonic()));
        service.end_lease(&terms().call("a"), late).await.unwrap();
        assert_eq!(service.owed.len(), 1);
        let unknown = LeaseTerms { policies: vec!["q".to_owned()], ..LeaseTerms::default() };
        assert!(service.end_lease(&unknown.call("a"), Deadline::default()).await.is_err());
        service.pay_once().await;
        assert_eq!(service.owed.len(), 0);
    }

    #[tokio::test]
    async fn a_lease_that_has_ended_by_itself_is_owed_no_more_and_the_list_is_bounded() {
        let service = service();
        let lease = held(&service.live.load(), &terms().call("a")).unwrap().lease;
        let until = clock::monotonic();
        service.owed.waiting.lock().push_back(Debt { lease: lease.clone(), until, taken: Taken::Surely });
        service.pay_once().await;
        assert_eq!(service.owed.len(), 0);
        for _ in 0..=MAX_OWED {
            service.owed.add(lease.clone(), Taken::Surely);
        }
        assert_eq!(service.owed.len(), MAX_OWED);
    }
}
