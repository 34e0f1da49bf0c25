//! One configured issuer at work: its rules, and its keys as they are now.

use super::algorithm::Algorithm;
use super::claims::{BadClaims, Claims};
use super::form::Form;
use super::good::Good;
use super::key_set::KeySet;
use super::revoked_key::Template;
use super::rules;
use super::user::Users;
use crate::engine::decision::Reason;
use crate::engine::issuer::{IssuerSpec, KeySource};
use crate::engine::revocation::Probe;
use crate::engine::units::{Micros, Moment};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use tokio::sync::Notify;

/// One issuer.
pub(super) struct Issuer {
    pub(super) spec: IssuerSpec,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) template: Option<Template>,
    users: Users,
    /// None: not fetched yet.
    pub(super) keys: ArcSwapOption<KeySet>,
    /// Told when a token names a key that is not there; the refresher listens.
    pub(super) missing: Arc<Notify>,
}

impl Issuer {
    /// One of those whose users are named so.
    pub(super) fn new(
        spec: IssuerSpec,
        users: Users,
        algorithms: Vec<Algorithm>,
        keys: Option<Arc<KeySet>>,
    ) -> Self {
        let template = spec.revoked_key.as_deref().and_then(|text| Template::parse(text).ok());
        Self {
            spec,
            users,
            algorithms,
            template,
            keys: ArcSwapOption::new(keys),
            missing: Arc::new(Notify::new()),
        }
    }

    /// Checks a token that says it is of this issuer.
    pub(super) fn check(&self, form: Form<'_>, now: Moment) -> Result<Good, Reason> {
        let algorithm = form.algorithm.filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(Reason::TokenAlgorithmNotAllowed)?;
        let keys = self.keys.load();
        let Some(key) = keys.as_ref().and_then(|keys| keys.find(form.key_id.as_deref())) else {
            self.missing.notify_one();
            return Err(Reason::TokenKeyUnknown);
        };
        if key.algorithm() != algorithm {
            return Err(Reason::TokenAlgorithmNotAllowed);
        }
        if !key.verifies(form.signed, &form.signature) {
            return Err(Reason::TokenSignatureInvalid);
        }
        let mut claims = Claims::read(form.claims).map_err(|bad| match bad {
            BadClaims::Malformed => Reason::TokenMalformed,
            BadClaims::NoExpiry => Reason::TokenClaimMissing,
        })?;
        claims.user = claims.subject.as_deref().map(|subject| self.users.name(&claims.issuer, subject));
        rules::check(&claims, form.media_type.as_deref(), &self.spec, now)?;
        Ok(self.good(claims))
    }

    fn good(&self, claims: Claims) -> Good {
        Good {
            probe: self.probe(claims.subject.clone(), claims.token_id.clone(), claims.issued_at),
            revocation_cache: self.spec.revocation_cache,
            on_store_error: self.spec.on_store_error,
            ends: claims.expires_at.plus(self.spec.leeway),
            max_lifetime: self.spec.max_lifetime,
            leeway: self.spec.leeway,
            claims,
        }
    }

    /// What to ask the store about a token of this issuer. Its clock may be the leeway ahead of the store's, so `iat`
    /// less the leeway is the earliest that the token may have been issued: a revocation of the subject at T reaches `iat`
    /// up to T plus leeway, and also refuses what is issued anew in that time.
    pub(super) fn probe(
        &self,
        subject: Option<Box<str>>,
        token_id: Option<Box<str>>,
        issued_at: Option<Moment>,
    ) -> Probe {
        let foreign = |id: &str| self.template.as_ref().map(|template| template.render(id));
        Probe {
            issuer: self.spec.issuer.as_str().into(),
            foreign_key: token_id.as_deref().and_then(foreign),
            token_id,
            subject,
            issued_at: issued_at.map(|at| Moment(at.0.saturating_sub(self.spec.leeway.0)).seconds()),
        }
    }

    /// The longest that a token of this issuer can be good from now on: `iat` may be the leeway ahead of now, and the end
    /// is forgiven as much again.
    pub(super) fn longest(&self) -> Micros {
        Micros(self.spec.max_lifetime.0.saturating_add(self.spec.leeway.0.saturating_mul(2)))
    }

    /// The address of its key set.
    pub(super) fn url(&self) -> Option<&str> {
        match &self.spec.key {
            KeySource::JwksUrl(url) => Some(url),
            _ => None,
        }
    }
}
