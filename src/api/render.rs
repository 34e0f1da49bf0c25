//! Answers of the service as messages.

use crate::engine::decision::{Mode, Outcome, PolicyStatus, Reason};
use crate::engine::http::{Body, Header};
use crate::engine::rule::Algorithm;
use crate::engine::units::Micros;
use crate::pb::quotad::v1 as pb;
use crate::service::{
    Answered, Authorized, LeaseGrant, RenewalState, Reservation, SettledCost, TokenReference,
};
use crate::token::Claims;
use crate::well_known::{duration, object, timestamp};

impl From<Answered> for pb::Decision {
    fn from(answered: Answered) -> Self {
        let (decision, rendered) = (answered.decision, answered.rendered);
        Self {
            outcome: pb::Outcome::from(decision.outcome).into(),
            reason: pb::Reason::from(decision.reason).into(),
            mode: pb::Mode::from(decision.mode).into(),
            retry_after: decision.retry_after.map(duration),
            statuses: decision.statuses.into_iter().map(Into::into).collect(),
            http_status: u32::from(rendered.status),
            headers: rendered.headers.into_iter().map(Into::into).collect(),
            body: rendered.body.map(Into::into),
            reservation: answered.reservation.map(|reservation| (*reservation).into()),
        }
    }
}

impl From<Reservation> for pb::Reservation {
    fn from(reservation: Reservation) -> Self {
        let settle_within = Some(duration(reservation.settle_within));
        Self { ticket: reservation.ticket, settle_within }
    }
}

impl From<SettledCost> for pb::SettleCostResponse {
    fn from(settled: SettledCost) -> Self {
        use pb::settle_cost_response::State;
        let state = if settled.is_in_time { State::Settled } else { State::TooLate };
        let policies = settled.policies.into_iter().map(|one| pb::PolicySettlement {
            policy: one.policy,
            reserved: one.reserved,
            cost: one.movement.cost,
            returned: one.movement.returned,
            charged: one.movement.charged,
            remaining: one.remaining,
            beyond_limit: one.beyond_limit,
            delay: one.delay.map(duration),
        });
        Self { state: state.into(), policies: policies.collect(), delay: settled.delay.map(duration) }
    }
}

impl From<PolicyStatus> for pb::PolicyStatus {
    fn from(status: PolicyStatus) -> Self {
        Self {
            policy: status.policy.to_string(),
            algorithm: pb::Algorithm::from(status.algorithm).into(),
            limit: status.limit,
            window: status.window.map(duration),
            remaining: status.remaining,
            reset_after: Some(duration(status.reset_after)),
            violated: status.violated,
            shadow: status.shadow,
            mode: pb::Mode::from(status.mode).into(),
            bound: status.bound,
        }
    }
}

/// The answer to a request that offered this connection.
pub(super) fn authorized(
    authorized: Authorized,
    offer: Option<pb::authorize_request::ConnectionOffer>,
) -> pb::AuthorizeResponse {
    let holder = offer.map(|offer| offer.holder).unwrap_or_default();
    pb::AuthorizeResponse {
        decision: Some(authorized.answered.into()),
        route: authorized.route,
        claims: authorized.good.map(|good| claims(&good.claims)),
        lease: authorized.lease.map(|granted| lease(granted, holder)),
        upstream_headers: authorized.upstream_headers.into_iter().map(Into::into).collect(),
        remove_headers: authorized.remove_headers,
        client_address: authorized.client_address.unwrap_or_default(),
    }
}

impl From<Header> for pb::Header {
    fn from(header: Header) -> Self {
        Self { name: header.name.into_owned(), value: header.value }
    }
}

impl From<Body> for pb::Body {
    fn from(body: Body) -> Self {
        Self { content_type: body.content_type.to_owned(), content: body.content }
    }
}

/// A lease with what renews and releases it.
pub(super) fn lease(granted: LeaseGrant, holder: String) -> pb::Lease {
    let terms = granted.terms;
    pb::Lease {
        ttl: Some(duration(granted.ttl)),
        renew_after: Some(duration(granted.renew_after)),
        connection: Some(pb::Connection {
            domain: terms.domain,
            entries: terms.entries,
            policies: terms.policies,
            lease_id: granted.lease_id.clone(),
            holder,
            token: terms.token.map(Into::into),
        }),
        lease_id: granted.lease_id,
    }
}

impl From<TokenReference> for pb::TokenReference {
    fn from(token: TokenReference) -> Self {
        Self {
            issuer: token.issuer,
            subject: token.subject,
            token_id: token.token_id,
            issued_at: token.issued_at.map(timestamp),
            expires_at: token.expires_at.map(timestamp),
        }
    }
}

impl From<Outcome> for pb::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allow => Self::Allow,
            Outcome::Deny => Self::Deny,
        }
    }
}

impl From<Mode> for pb::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Exact => Self::Exact,
            Mode::Leased => Self::Leased,
            Mode::Local => Self::Local,
            Mode::FailedOpen => Self::FailedOpen,
            Mode::FailedClosed => Self::FailedClosed,
        }
    }
}

impl From<Algorithm> for pb::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::SlidingWindow => Self::SlidingWindow,
            Algorithm::TokenBucket => Self::TokenBucket,
            Algorithm::FixedWindow => Self::FixedWindow,
            Algorithm::Concurrency => Self::Concurrency,
        }
    }
}

impl From<Reason> for pb::Reason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::WithinLimit => Self::WithinLimit,
            Reason::NoPolicy => Self::NoPolicy,
            Reason::LimitExceeded => Self::LimitExceeded,
            Reason::CostExceedsLimit => Self::CostExceedsLimit,
            Reason::ConnectionLimitExceeded => Self::ConnectionLimitExceeded,
            Reason::PartitionMissing => Self::PartitionMissing,
            Reason::StoreUnavailable => Self::StoreUnavailable,
            Reason::TokenValid => Self::TokenValid,
            Reason::TokenMissing => Self::TokenMissing,
            Reason::TokenMalformed => Self::TokenMalformed,
            Reason::TokenSignatureInvalid => Self::TokenSignatureInvalid,
            Reason::TokenAlgorithmNotAllowed => Self::TokenAlgorithmNotAllowed,
            Reason::TokenKeyUnknown => Self::TokenKeyUnknown,
            Reason::TokenExpired => Self::TokenExpired,
            Reason::TokenNotYetValid => Self::TokenNotYetValid,
            Reason::TokenIssuerInvalid => Self::TokenIssuerInvalid,
            Reason::TokenAudienceInvalid => Self::TokenAudienceInvalid,
            Reason::TokenTypeInvalid => Self::TokenTypeInvalid,
            Reason::TokenClaimMissing => Self::TokenClaimMissing,
            Reason::TokenLifetimeTooLong => Self::TokenLifetimeTooLong,
            Reason::TokenRevoked => Self::TokenRevoked,
            Reason::OriginNotAllowed => Self::OriginNotAllowed,
            Reason::PathAmbiguous => Self::PathAmbiguous,
        }
    }
}

impl From<RenewalState> for pb::renew_connections_response::State {
    fn from(state: RenewalState) -> Self {
        match state {
            RenewalState::Held => Self::Held,
            RenewalState::Lost => Self::Lost,
            RenewalState::Revoked => Self::Revoked,
            RenewalState::Expired => Self::Expired,
            RenewalState::Unknown => Self::Unknown,
        }
    }
}

/// One renewal; only a lease that may still be held has a time to renew again.
pub(super) fn renewal(
    lease_id: String,
    state: RenewalState,
    after: Micros,
) -> pb::renew_connections_response::Renewal {
    let again = matches!(state, RenewalState::Held | RenewalState::Unknown);
    pb::renew_connections_response::Renewal {
        lease_id,
        state: pb::renew_connections_response::State::from(state).into(),
        renew_after: again.then(|| duration(after)),
    }
}

/// A token's claims.
pub(super) fn claims(claims: &Claims) -> pb::Claims {
    pb::Claims {
        issuer: claims.issuer.to_string(),
        subject: claims.subject.as_deref().unwrap_or_default().to_owned(),
        audience: claims.audience.clone(),
        expires_at: Some(timestamp(claims.expires_at)),
        not_before: claims.not_before.map(timestamp),
        issued_at: claims.issued_at.map(timestamp),
        token_id: claims.token_id.as_deref().unwrap_or_default().to_owned(),
        all: Some(object(&claims.all)),
        user: claims.user.as_deref().unwrap_or_default().to_owned(),
    }
}
