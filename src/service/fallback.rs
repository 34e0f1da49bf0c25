//! What happens while the store cannot answer: each policy's own choice, said in every answer.

use crate::engine::ask::{Answer, Ask, Demand, Reading, Take};
use crate::engine::decision::{Decision, Judged, Mode};
use crate::engine::policy::OnStoreError;
use crate::engine::rule::Rule;
use crate::service::plan::{Plan, Planned};
use crate::service::settle::{CountedBy, Receipt};
use crate::service::{Deadline, Service, ServiceError, repeat};
use crate::store::{Store, StoreError};
use smallvec::SmallVec;

/// The decision of a plan that the store answered.
pub(super) fn exact(plan: &Plan<'_>, answer: &Answer) -> Decision {
    let judged: SmallVec<[Judged<'_>; 4]> = plan
        .0
        .iter()
        .zip(&answer.readings)
        .map(|(planned, reading)| judge(planned, planned.policy.rule, Some(*reading), Mode::Exact))
        .collect();
    Decision::combine(&judged, answer.now)
}

impl<S: Store> Service<S> {
    /// The decision of a plan that the store could not answer.
    ///
    /// # Errors
    /// An enforced policy says `error`.
    pub(super) async fn without_store(
        &self,
        plan: &Plan<'_>,
        receipt: &mut Receipt<'_>,
        error: StoreError,
    ) -> Result<Decision, ServiceError> {
        self.note(&error);
        let choices: SmallVec<[OnStoreError; 4]> = plan.0.iter().map(choice).collect();
        // A denial is surer than an error, which careless callers take for leave.
        let denied = choices.contains(&OnStoreError::Deny);
        if !denied && choices.contains(&OnStoreError::Error) {
            return Err(error.into());
        }
        let replicas = self.store.replicas();
        let parts = replicas.unwrap_or(1);
        let shares: SmallVec<[Rule; 4]> =
            plan.0.iter().map(|planned| planned.policy.rule.share(parts)).collect();
        let local = |i: usize| choices.get(i) == Some(&OnStoreError::Local);
        let demand = |(planned, share): (&Planned<'_>, &Rule)| {
            let demand = planned.demand(planned.key.clone(), *share);
            // When one policy denies, nobody is charged, in this process neither.
            Demand { take: if denied { Take::Peek } else { demand.take }, ..demand }
        };
        let each = plan.0.iter().zip(&shares).enumerate().filter(|(i, _)| local(*i)).map(|(_, pair)| pair);
        let request_id = receipt.request_id();
        let ask = Ask { demands: each.map(demand).collect(), request_id, ..Ask::default() };
        let kept = receipt.kept(&ask.demands);
        let answer = repeat::take(&self.local, ask, Deadline(None)).await??;
        receipt.note(kept.as_deref(), &answer, CountedBy::Process(self.local.instance()));
        let mut readings = answer.readings.iter();
        let mut judged: SmallVec<[Judged<'_>; 4]> = SmallVec::new();
        for (i, ((planned, share), choice)) in plan.0.iter().zip(&shares).zip(&choices).enumerate() {
            let (reading, mode) = match choice {
                _ if local(i) => (readings.next().copied(), Mode::Local),
                OnStoreError::Deny => (None, Mode::FailedClosed),
                _ => (None, Mode::FailedOpen),
            };
            judged.push(match mode {
                Mode::Local => judge_locally(planned, reading, replicas),
                _ => judge(planned, *share, reading, mode),
            });
        }
        Ok(Decision::combine(&judged, answer.now))
    }
}

/// A shadow policy never denies, whatever it says about a store that is away.
pub(super) fn choice(planned: &Planned<'_>) -> OnStoreError {
    match planned.policy.on_store_error {
        OnStoreError::Deny | OnStoreError::Error if planned.policy.shadow => OnStoreError::Allow,
        choice => choice,
    }
}

/// What a policy says that this process has decided alone, for one of so many replicas.
pub(super) fn judge_locally<'a>(
    planned: &Planned<'a>,
    reading: Option<Reading>,
    replicas: Option<u64>,
) -> Judged<'a> {
    let share = planned.policy.rule.share(replicas.unwrap_or(1));
    // Before the store went away a whole window may have passed; since then each replica its share, and at least one
    // unit. Of how many replicas nobody knows, nobody knows what they admit together.
    let apart = |replicas| share.bound().saturating_mul(replicas);
    let bound = replicas.map(|replicas| planned.policy.rule.bound().saturating_add(apart(replicas)));
    Judged { bound, ..judge(planned, share, reading, Mode::Local) }
}

pub(super) fn judge<'a>(
    planned: &Planned<'a>,
    rule: Rule,
    reading: Option<Reading>,
    mode: Mode,
) -> Judged<'a> {
    let bound = Some(if mode == Mode::FailedOpen { u64::MAX } else { rule.bound() });
    Judged { policy: planned.policy, rule, cost: planned.cost, take: planned.take, reading, mode, bound }
}
