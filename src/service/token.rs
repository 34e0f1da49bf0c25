//! `ValidateToken` and `RevokeToken`: is this token good, and make one bad.

use crate::engine::ask::Ask;
use crate::engine::decision::{Decision, Outcome, Reason};
use crate::engine::issuer::OnRevocationError;
use crate::engine::revocation::Probe;
use crate::engine::units::Moment;
use crate::service::{Answered, Deadline, Live, Service, ServiceError, answer};
use crate::store::{Store, StoreError};
use crate::token::{Good, RevokeError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Most tokens remembered as not revoked, a thread.
const MAX_CLEAN: usize = 16_384;

/// The answer about a token.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Good or not, with the 401 ready to send.
    pub answered: Answered,
    /// The token's claims, when it is good.
    pub good: Option<Arc<Good>>,
}

/// What is to be revoked.
#[derive(Clone)]
pub enum RevokeTarget<'a> {
    /// A token that is good now.
    Token(&'a str),
    /// A token id.
    Id {
        /// The `iss` claim.
        issuer: &'a str,
        /// The `jti` claim.
        id: &'a str,
        /// Kept until then.
        expires_at: Option<Moment>,
    },
    /// Everything issued to a subject so far.
    Subject {
        /// The `iss` claim.
        issuer: &'a str,
        /// The `sub` claim.
        subject: &'a str,
    },
}

impl fmt::Debug for RevokeTarget<'_> {
    /// Without the token.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Token(_) => "Token",
            Self::Id { .. } => "Id",
            Self::Subject { .. } => "Subject",
        })
    }
}

/// Tokens that were not revoked a moment ago, for issuers that allow to remember it.
#[derive(Debug, Default)]
pub(super) struct CleanTokens(Mutex<HashMap<Probe, Moment>>);

impl CleanTokens {
    fn holds(&self, probe: &Probe, now: Moment) -> bool {
        self.0.lock().get(probe).is_some_and(|until| *until > now)
    }

    fn remember(&self, probe: Probe, until: Moment) {
        let mut held = self.0.lock();
        if held.len() >= MAX_CLEAN {
            // Forgetting costs a question each; looking for the ones that are over would cost a scan a token.
            held.clear();
        }
        held.insert(probe, until);
    }

    fn forget(&self) {
        self.0.lock().clear();
    }
}

/// A token's revocation state.
pub(super) enum Standing {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked,
    /// It could not be read, and the issuer's entry says deny.
    Unknown,
}

impl<S: Store> Service<S> {
    /// Whether a token is good.
    ///
    /// # Errors
    /// A deadline that passed.
    pub async fn validate(
        &self,
        token: &str,
        issuer: &str,
        deadline: Deadline,
    ) -> Result<Validated, ServiceError> {
        let live = self.live.load();
        let issuers: &[String] = if issuer.is_empty() { &[] } else { &[issuer.to_owned()] };
        let denied = |reason| Validated {
            answered: answer(&live, Decision::plain(Outcome::Deny, reason), &[]),
            good: None,
        };
        if token.is_empty() {
            return Ok(denied(Reason::TokenMissing));
        }
        let good = match live.verifier.check(token, issuers, crate::clock::now()) {
            Ok(good) => good,
            Err(refusal) => return Ok(denied(refusal.reason)),
        };
        match self.standing(&good, deadline).await? {
            Standing::Good => {
                let decision = Decision::plain(Outcome::Allow, Reason::TokenValid);
                Ok(Validated { answered: answer(&live, decision, &[]), good: Some(good) })
            }
            Standing::Revoked => Ok(denied(Reason::TokenRevoked)),
            Standing::Unknown => {
                Ok(Validated { answered: answer(&live, Decision::failed_closed(), &[]), good: None })
            }
        }
    }

    /// Revokes; false when it was revoked already. The wait for the store ends with the caller's deadline.
    ///
    /// # Errors
    /// A token that is not good, one without an id, an unknown issuer, or a store that did not keep it. A deadline that
    /// passed: before the store was asked, or while it was, and then nobody knows whether it was kept.
    pub async fn revoke(&self, target: RevokeTarget<'_>, deadline: Deadline) -> Result<bool, ServiceError> {
        let live = self.live.load();
        let now = crate::clock::now();
        let revocation = match target {
            RevokeTarget::Token(token) => {
                let good = live.verifier.check(token, &[], now).map_err(|refusal| {
                    ServiceError::invalid("token", format!("not a good token ({:?})", refusal.reason))
                })?;
                live.verifier.revocation_of_token(&good).map_err(wrong)?
            }
            RevokeTarget::Id { issuer, id, expires_at } => {
                live.verifier.revocation_of_id(issuer, id, expires_at, now).map_err(wrong)?
            }
            RevokeTarget::Subject { issuer, subject } => {
                live.verifier.revocation_of_subject(issuer, subject).map_err(wrong)?
            }
        };
        let kept = self.store.revoke(revocation, deadline.left()?).await;
        // After a timeout too: it may be in force.
        self.clean.forget();
        match kept {
            Err(StoreError::Timeout(_)) if deadline.left().is_err() => Err(ServiceError::InDoubt),
            kept => Ok(kept?),
        }
    }

    /// Asks the store about a good token alone.
    pub(super) async fn standing(&self, good: &Good, deadline: Deadline) -> Result<Standing, ServiceError> {
        let now = crate::clock::now();
        let Some(probe) = self.probe_to_ask(good, now) else { return Ok(Standing::Good) };
        let ask = Ask { token: Some(Box::new(probe)), ..Ask::default() };
        Ok(match self.store.take(ask, deadline.left()?).await {
            Ok(answer) if answer.revoked => Standing::Revoked,
            Ok(_) => {
                self.remember_clean(good, now);
                Standing::Good
            }
            Err(error) => {
                self.note(&error);
                match good.on_store_error {
                    OnRevocationError::Allow => Standing::Good,
                    OnRevocationError::Deny => Standing::Unknown,
                }
            }
        })
    }

    /// What the store must be asked about a token; none when nothing could revoke it, or it was clean a moment ago.
    pub(super) fn probe_to_ask(&self, good: &Good, now: Moment) -> Option<Probe> {
        let probe = &good.probe;
        let revocable = probe.token_id.is_some() || probe.subject.is_some() || probe.foreign_key.is_some();
        let remembered = good.revocation_cache.0 > 0 && self.clean.holds(probe, now);
        (revocable && !remembered).then(|| probe.clone())
    }

    /// Remembers that a token was not revoked, for as long as its issuer's entry allows.
    pub(super) fn remember_clean(&self, good: &Good, now: Moment) {
        if good.revocation_cache.0 > 0 {
            self.clean.remember(good.probe.clone(), now.plus(good.revocation_cache));
        }
    }
}

/// The verifier's words begin with the field.
pub(super) fn wrong(error: RevokeError) -> ServiceError {
    let text = error.to_string();
    let why = text.split_once(": ").map_or(text.as_str(), |(_, why)| why);
    ServiceError::invalid(error.field(), why)
}

/// The refusal of a request's token.
pub(super) fn refused(live: &Live, reason: Reason) -> Answered {
    answer(live, Decision::plain(Outcome::Deny, reason), &[])
}
