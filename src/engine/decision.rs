//! From readings to a decision: outcome, reason, mode, and one status for each policy consulted.

use super::ask::{Reading, Take};
use super::policy::Policy;
use super::rule::{Algorithm, Rule};
use super::units::{Micros, Moment};
use std::sync::Arc;

/// May it pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Allow,
    /// No; that is an answer, not an error.
    Deny,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Every policy had room.
    WithinLimit,
    /// No policy looks at this request.
    NoPolicy,
    /// A policy had no room.
    LimitExceeded,
    /// The cost is greater than a limit: waiting cannot help.
    CostExceedsLimit,
    /// No lease is free.
    ConnectionLimitExceeded,
    /// A named policy's partition needs an entry that the request lacks.
    PartitionMissing,
    /// The store is away and the policy says deny.
    StoreUnavailable,
    /// The token is good.
    TokenValid,
    /// No token came.
    TokenMissing,
    /// Not a token, or one with a form that is never accepted.
    TokenMalformed,
    /// The signature does not fit the key.
    TokenSignatureInvalid,
    /// The algorithm is not one of the issuer's.
    TokenAlgorithmNotAllowed,
    /// No key of that id.
    TokenKeyUnknown,
    /// `exp` is past.
    TokenExpired,
    /// `nbf` or `iat` is to come.
    TokenNotYetValid,
    /// `iss` is not configured, or not the one asked for.
    TokenIssuerInvalid,
    /// `aud` has none of the allowed values.
    TokenAudienceInvalid,
    /// `typ` or the type claim is not allowed.
    TokenTypeInvalid,
    /// A required claim is absent.
    TokenClaimMissing,
    /// It lives longer than allowed.
    TokenLifetimeTooLong,
    /// It was revoked.
    TokenRevoked,
    /// The WebSocket handshake comes from an origin that is not allowed.
    OriginNotAllowed,
    /// Servers read the path in too many ways, or in ways that cannot be held together.
    PathAmbiguous,
}

/// How exact an answer is; later ones are less exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Decided on the shared state.
    Exact,
    /// Decided on units drawn ahead.
    Leased,
    /// The store is away: enforced in this process.
    Local,
    /// The store is away: allowed by the policy's choice.
    FailedOpen,
    /// The store is away: denied by the policy's choice.
    FailedClosed,
}

/// What one policy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// Its name.
    pub policy: Arc<str>,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Units a window, or leases.
    pub limit: u64,
    /// None for leases.
    pub window: Option<Micros>,
    /// Units, or leases, left.
    pub remaining: u64,
    /// Until the whole quota is there again.
    pub reset_after: Micros,
    /// Until the cost fits; none when it fits now, never can, or nothing was read.
    pub retry_after: Option<Micros>,
    /// It had no room.
    pub violated: bool,
    /// It never denies.
    pub shadow: bool,
    /// How exact its numbers are.
    pub mode: Mode,
    /// Most units that any interval of one window can admit in this mode; none where nobody knows.
    pub bound: Option<u64>,
}

/// The whole answer, before it is rendered for HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// May it pass?
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The least exact mode among the statuses.
    pub mode: Mode,
    /// Denied: a lone caller that waits this long succeeds. None when waiting cannot help.
    pub retry_after: Option<Micros>,
    /// One for each policy consulted, in the order of the configuration.
    pub statuses: Vec<PolicyStatus>,
}

/// A policy with what was asked of it and what was read.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The rule that was enforced: the policy's own, or this replica's share.
    pub rule: Rule,
    /// Units asked for.
    pub cost: u32,
    /// Charge or peek.
    pub take: Take,
    /// What was read; none in a mode that reads nothing.
    pub reading: Option<Reading>,
    /// How exact.
    pub mode: Mode,
    /// The promise of that mode; none where nobody knows.
    pub bound: Option<u64>,
}

impl Decision {
    /// An answer without any policy.
    #[must_use]
    pub fn plain(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason, mode: Mode::Exact, retry_after: None, statuses: Vec::new() }
    }

    /// A denial because the store is away.
    #[must_use]
    pub fn failed_closed() -> Self {
        Self { mode: Mode::FailedClosed, ..Self::plain(Outcome::Deny, Reason::StoreUnavailable) }
    }

    /// Combines what every policy said. Nobody was charged unless every enforced policy had room.
    #[must_use]
    pub fn combine(judged: &[Judged<'_>], now: Moment) -> Self {
        Self::combine_beside(judged, now, Outcome::Allow)
    }

    /// The same where others were asked in the same step: denied, they kept these from being charged too. The outcome is
    /// that of these alone.
    #[must_use]
    pub fn combine_beside(judged: &[Judged<'_>], now: Moment, others: Outcome) -> Self {
        let refuses = |one: &Judged<'_>| !one.policy.shadow && one.violated();
        let passed = !judged.iter().any(refuses);
        let charged = passed && others == Outcome::Allow;
        let statuses: Vec<_> = judged.iter().map(|one| one.status(now, charged)).collect();
        let mode = judged.iter().map(|one| one.mode).max().unwrap_or(Mode::Exact);
        let reason = judged
            .iter()
            .filter(|one| refuses(one))
            .map(Judged::reason)
            .max_by_key(|reason| severity(*reason))
            .unwrap_or(if judged.is_empty() { Reason::NoPolicy } else { Reason::WithinLimit });
        let waiting_helps = matches!(reason, Reason::LimitExceeded | Reason::ConnectionLimitExceeded);
        let retry_after = statuses
            .iter()
            .filter(|status| !status.shadow && status.violated)
            .filter_map(|status| status.retry_after)
            .max()
            .filter(|_| waiting_helps);
        let outcome = if passed { Outcome::Allow } else { Outcome::Deny };
        Self { outcome, reason, mode, retry_after, statuses }
    }
}

impl Judged<'_> {
    fn violated(&self) -> bool {
        match self.reading {
            Some(reading) => !reading.fits,
            None => self.mode == Mode::FailedClosed,
        }
    }

    fn reason(&self) -> Reason {
        if self.reading.is_none() {
            Reason::StoreUnavailable
        } else if u64::from(self.cost) > self.policy.rule.capacity() {
            Reason::CostExceedsLimit
        } else if u64::from(self.cost) > self.rule.capacity() {
            // Only this replica's share is too small; it passes again when the store is back.
            Reason::StoreUnavailable
        } else if self.policy.is_connection() {
            Reason::ConnectionLimitExceeded
        } else {
            Reason::LimitExceeded
        }
    }

    fn status(&self, now: Moment, passed: bool) -> PolicyStatus {
        let charged = match self.reading {
            Some(reading) if passed && reading.fits && self.take == Take::Charge => u64::from(self.cost),
            _ => 0,
        };
        let left = self.reading.map(|reading| self.rule.left(&reading, now, charged));
        let retry_at = self.reading.map(|reading| reading.retry_at).filter(|at| at.0 > 0);
        PolicyStatus {
            policy: Arc::clone(&self.policy.name),
            algorithm: self.rule.algorithm(),
            limit: self.policy.rule.limit(),
            window: self.rule.window(),
            remaining: left.map_or(0, |left| left.remaining),
            reset_after: left.map_or(Micros(0), |left| left.reset_after),
            retry_after: retry_at.map(|at| at.since(now)),
            violated: self.violated(),
            shadow: self.policy.shadow,
            mode: self.mode,
            bound: self.bound,
        }
    }
}

/// Which reason a caller is told when policies refuse for different ones: the one that waiting helps least.
fn severity(reason: Reason) -> u8 {
    match reason {
        Reason::StoreUnavailable => 3,
        Reason::CostExceedsLimit => 2,
        Reason::ConnectionLimitExceeded => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::policy::PolicySpec;
    use crate::engine::window::{Charge, Window};

    const NOW: Moment = Moment(1_700_000_000_000_000);

    fn judged(name: &str, shadow: bool, used: u64, cost: u32) -> Judged<'static> {
        let spec = PolicySpec {
            limit: Some(10),
            window: Some(Micros::from_seconds(60)),
            shadow,
            ..PolicySpec::named(name)
        };
        let policy: &Policy = Box::leak(Box::new(Policy::build(spec).unwrap()));
        let window = Window::new(10, Micros::from_seconds(60));
        let log: Vec<_> = (used > 0).then_some(Charge { at: NOW, cost: used }).into_iter().collect();
        let reading = window.read(&log, NOW.plus(Micros(7)), u64::from(cost));
        Judged {
            rule: policy.rule,
            policy,
            cost,
            take: Take::Charge,
            reading: Some(reading),
            mode: Mode::Exact,
            bound: Some(10),
        }
    }

    #[test]
    fn all_or_nothing_and_the_longest_wait() {
        let now = NOW.plus(Micros(7));
        let decision = Decision::combine(&[judged("a", false, 2, 1), judged("b", false, 10, 1)], now);
        assert_eq!(decision.outcome, Outcome::Deny);
        assert_eq!(decision.reason, Reason::LimitExceeded);
        assert_eq!(decision.retry_after, Some(Micros(59_999_993)));
        assert_eq!(decision.statuses[0].remaining, 8, "nothing was charged");
        assert!(decision.statuses[1].violated);
    }

    #[test]
    fn shadow_counts_and_never_denies() {
        let decision = Decision::combine(&[judged("a", false, 0, 1), judged("b", true, 10, 1)], NOW);
        assert_eq!(decision.outcome, Outcome::Allow);
        assert_eq!(decision.statuses[0].remaining, 9);
        assert!(decision.statuses[1].violated && decision.statuses[1].shadow);
    }

    #[test]
    fn a_cost_that_never_fits_has_its_own_reason_and_no_wait() {
        let decision = Decision::combine(&[judged("a", false, 0, 11), judged("b", false, 10, 1)], NOW);
        assert_eq!(decision.reason, Reason::CostExceedsLimit);
        assert_eq!(decision.retry_after, None);
    }

    #[test]
    fn no_policy_allows() {
        assert_eq!(Decision::combine(&[], NOW), Decision::plain(Outcome::Allow, Reason::NoPolicy));
    }
}
