//! `CheckLimit`: may this request pass?

use crate::engine::ask::Ask;
use crate::engine::decision::{Decision, Outcome, Reason};
use crate::engine::policy::Facts;
use crate::engine::policy_set::Kind;
use crate::engine::units::Micros;
use crate::service::fallback::exact;
use crate::service::plan::{Among, Amount, Plan, check_domain, domain_or_default};
use crate::service::settle::{CountedBy, Receipt};
use crate::service::{Answered, Deadline, Service, ServiceError, answer};
use crate::store::Store;

/// What a caller asks, within the bounds of the API.
#[derive(Clone, Copy, Debug)]
pub struct CheckCall<'a> {
    /// Empty means the default one.
    pub domain: &'a str,
    /// Exactly these; none: every policy that holds.
    pub policies: &'a [String],
    /// Units; none: each policy's own; zero: a peek.
    pub cost: Option<u32>,
    /// Empty: none.
    pub request_id: &'a str,
    /// Present: what is charged is to be settled within this.
    pub settle_within: Option<Micros>,
}

impl<S: Store> Service<S> {
    /// Charges every policy that holds, or none.
    ///
    /// # Errors
    /// An unknown domain or policy, an `ip` that is no address, a deadline that passed, or a store that is away
    /// under a policy that says `error`.
    pub async fn check(
        &self,
        call: CheckCall<'_>,
        facts: &impl Facts,
        deadline: Deadline,
    ) -> Result<Answered, ServiceError> {
        let live = self.live.load();
        let domain = domain_or_default(call.domain);
        let (mut plan, amount) = (Plan::default(), Amount::Cost(call.cost));
        let among = Among { set: &live.policies, domain, kind: Kind::Limit };
        check_domain(&live.policies, domain)?;
        if call.policies.is_empty() {
            plan.add_matching(among, facts, &amount)?;
        } else if let Err(missing) = plan.add_named(among, call.policies, facts, &amount)? {
            return Ok(answer(&live, Decision::from(missing), &[]));
        }
        if plan.0.is_empty() {
            return Ok(answer(&live, Decision::plain(Outcome::Allow, Reason::NoPolicy), &[]));
        }
        let mut receipt = Receipt::new(call.request_id, call.settle_within);
        let decision = self.decide(&mut plan, &mut receipt, deadline).await?;
        Ok(answer(&live, decision, &plan.policies()).with(receipt))
    }

    /// One store call for a plan without a token.
    pub(super) async fn decide(
        &self,
        plan: &mut Plan<'_>,
        receipt: &mut Receipt<'_>,
        deadline: Deadline,
    ) -> Result<Decision, ServiceError> {
        let request_id = receipt.request_id();
        let ask = Ask { demands: plan.demands::<S>(), request_id, ..Ask::default() };
        let kept = receipt.kept(&ask.demands);
        match self.store.take(ask, deadline.left()?).await {
            Ok(answer) => {
                receipt.note(kept.as_deref(), &answer, CountedBy::Store);
                Ok(exact(plan, &answer))
            }
            Err(error) => self.without_store(plan, receipt, error).await,
        }
    }
}
