//! The verifier: all issuers of a configuration, and the cache in front of them.

use super::cache::Cache;
use super::form::{Form, MAX_TOKEN_BYTES, Malformed};
use super::good::{Good, Refusal};
use super::issuer::Issuer;
use super::key_set::KeySet;
use super::load::{self, Keys};
use super::refresh::Refresher;
use super::user::Users;
use super::{check_spec, claims, rules};
use crate::engine::decision::Reason;
use crate::engine::issuer::{IssuerSpec, KeySource, OnRevocationError, TokenSource};
use crate::engine::mistake::Mistake;
use crate::engine::units::{Micros, Moment};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Checks tokens of the configured issuers. One is shared by all threads.
pub struct Verifier {
    state: Arc<State>,
}

/// What reading the key files again came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Keys changed, and cached verdicts were flushed.
    pub changed: bool,
    /// Entries whose files could not be used; they keep the keys they had.
    pub mistakes: Vec<(usize, Mistake)>,
}

/// Shared with the refreshers, which hold it weakly: they end when their verifier is gone.
pub(super) struct State {
    pub(super) issuers: Vec<Issuer>,
    by_name: HashMap<String, usize>,
    cache: Cache,
    /// Goes up with every change of a key; a verdict of an earlier number is not used again.
    keys: AtomicU64,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.state.issuers.iter().map(|issuer| &issuer.spec.name);
        out.debug_list().entries(names).finish()
    }
}

impl Verifier {
    /// Builds the verifier of a configuration's `tokens`. Reads key files; fetches nothing.
    ///
    /// # Errors
    /// Every mistake, with the index of its entry.
    pub fn build(specs: Vec<IssuerSpec>, how: Keys) -> Result<Self, Vec<(usize, Mistake)>> {
        Self::build_beside(specs, how, None)
    }

    /// Builds the verifier of a changed configuration. A key set that `self` fetched from a URL that is still
    /// configured is taken over, so a reload refuses no token that was good. The refreshers of `self` end when it is
    /// dropped; those of the new one are to be started.
    ///
    /// # Errors
    /// Every mistake, with the index of its entry.
    pub fn rebuild(&self, specs: Vec<IssuerSpec>, how: Keys) -> Result<Self, Vec<(usize, Mistake)>> {
        Self::build_beside(specs, how, Some(self))
    }

    fn build_beside(
        specs: Vec<IssuerSpec>,
        how: Keys,
        before: Option<&Self>,
    ) -> Result<Self, Vec<(usize, Mistake)>> {
        let mut mistakes = check_spec::doubles(&specs);
        let users = Users::of(specs.len());
        let mut issuers = Vec::with_capacity(specs.len());
        for (index, spec) in specs.into_iter().enumerate() {
            let (algorithms, found) = check_spec::check(&spec);
            // With its algorithms in doubt, what the key is good for is in doubt too.
            let in_doubt = found.iter().any(|mistake| mistake.field == "algorithms");
            mistakes.extend(found.into_iter().map(|mistake| (index, mistake)));
            let taken_over = before.and_then(|before| before.fetched(&spec));
            match load::keys(&spec.key, &algorithms, Keys::CheckOnly) {
                Ok(keys) => {
                    issuers.push(Issuer::new(spec, users, algorithms, taken_over.or(keys.map(Arc::new))))
                }
                Err(_) if in_doubt => {}
                Err(mistake) => mistakes.push((index, mistake)),
            }
        }
        if mistakes.is_empty() && how == Keys::Make {
            mistakes = make_absent(&issuers); // for a configuration that is right in all else
        }
        if !mistakes.is_empty() {
            mistakes.sort_by_key(|(index, _)| *index);
            return Err(mistakes);
        }
        let name = |(index, issuer): (usize, &Issuer)| (issuer.spec.issuer.clone(), index);
        let by_name = issuers.iter().enumerate().map(name).collect();
        let state = State { issuers, by_name, cache: Cache::default(), keys: AtomicU64::new(0) };
        Ok(Self { state: Arc::new(state) })
    }

    /// The set that this verifier fetched for the same URL and algorithms.
    fn fetched(&self, spec: &IssuerSpec) -> Option<Arc<KeySet>> {
        let same = |issuer: &&Issuer| {
            issuer.url().is_some() && issuer.spec.key == spec.key && issuer.spec.algorithms == spec.algorithms
        };
        self.state.issuers.iter().find(same)?.keys.load_full()
    }

    /// Checks a token of one of `allowed` (issuers by their `iss`; empty: any that is configured) at `now`.
    ///
    /// # Errors
    /// The reason, the first one by this order: form, issuer, algorithm, key, signature, claims. Reasons about claims
    /// are given only after a good signature.
    pub fn check(&self, token: &str, allowed: &[String], now: Moment) -> Result<Arc<Good>, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TokenMalformed.into());
        }
        // Before the keys are read: a verdict by keys that are swapped meanwhile is of the earlier number.
        let keys = self.state.keys.load(Ordering::Acquire);
        let digest = super::digest(token.as_bytes());
        let Some(good) = self.state.cache.get(&digest, keys) else {
            let good = Arc::new(self.verify(token, allowed, now)?);
            self.state.cache.put(digest, keys, Arc::clone(&good), token.len());
            return Ok(good);
        };
        if !is_allowed(allowed, &good.claims.issuer) {
            return Err(Reason::TokenIssuerInvalid.into());
        }
        if let Err(reason) = rules::times(&good.claims, good.leeway, now) {
            if reason == Reason::TokenExpired {
                self.state.cache.forget(&digest);
            }
            return Err(reason.into());
        }
        Ok(good)
    }

    /// Checks a token that [`extract::find`](super::extract::find) found. It must come from a place that its own
    /// issuer's `from` names: a token in a query, which ends in access logs, is good only where that was chosen.
    ///
    /// # Errors
    /// As [`Verifier::check`]; `TokenMissing` when it came from another place.
    pub fn check_found(
        &self,
        token: &str,
        place: &TokenSource,
        allowed: &[String],
        now: Moment,
    ) -> Result<Arc<Good>, Refusal> {
        let good = self.check(token, allowed, now)?;
        let named = self.issuer(&good.claims.issuer).is_some_and(|issuer| issuer.spec.from.contains(place));
        if named { Ok(good) } else { Err(Reason::TokenMissing.into()) }
    }

    fn verify(&self, token: &str, allowed: &[String], now: Moment) -> Result<Good, Reason> {
        let form = Form::of(token).map_err(|Malformed| Reason::TokenMalformed)?;
        let name = claims::issuer(&form.claims).map_err(|_| Reason::TokenMalformed)?;
        let name = name.filter(|name| is_allowed(allowed, name));
        let issuer = name.and_then(|name| self.issuer(name)).ok_or(Reason::TokenIssuerInvalid)?;
        issuer.check(form, now)
    }

    /// The places where a token of one of `allowed` (empty: of any issuer) may stand, in the configuration's order.
    #[must_use]
    pub fn places(&self, allowed: &[String]) -> Vec<TokenSource> {
        let mut places = Vec::new();
        for issuer in self.state.issuers.iter().filter(|issuer| is_allowed(allowed, &issuer.spec.issuer)) {
            for place in issuer.spec.from.iter().filter(|place| !places.contains(*place)).collect::<Vec<_>>()
            {
                places.push(place.clone());
            }
        }
        places
    }

    /// The clock difference that is forgiven to an issuer; none when it is not configured.
    #[must_use]
    pub fn leeway(&self, issuer: &str) -> Option<Micros> {
        self.issuer(issuer).map(|issuer| issuer.spec.leeway)
    }

    /// What happens when the store cannot say whether an issuer's token was revoked; none when it is not configured.
    #[must_use]
    pub fn on_store_error(&self, issuer: &str) -> Option<OnRevocationError> {
        self.issuer(issuer).map(|issuer| issuer.spec.on_store_error)
    }

    /// Whether any issuer is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.issuers.is_empty()
    }

    /// The tasks that keep key sets fresh, one for each URL; the application runs them.
    #[must_use]
    pub fn refreshers(&self) -> Vec<Refresher> {
        let urls = self.state.issuers.iter().enumerate().filter(|(_, issuer)| issuer.url().is_some());
        urls.map(|(index, issuer)| {
            Refresher::new(Arc::downgrade(&self.state), index, &issuer.spec, &issuer.missing)
        })
        .collect()
    }

    /// The files whose change calls for [`Verifier::reload_files`].
    #[must_use]
    pub fn watched_files(&self) -> Vec<PathBuf> {
        let file = |issuer: &Issuer| match &issuer.spec.key {
            KeySource::File { path, .. } | KeySource::JwksFile(path) => Some(path.clone()),
            KeySource::Env { .. } | KeySource::JwksUrl(_) => None,
        };
        self.state.issuers.iter().filter_map(file).collect()
    }

    /// Reads key and set files again. A file that cannot be used leaves the keys as they are.
    #[must_use]
    pub fn reload_files(&self) -> Reload {
        let mut reload = Reload::default();
        for (index, issuer) in self.state.issuers.iter().enumerate() {
            let source = match &issuer.spec.key {
                // A secret that went missing is a mistake: a new one would make every token bad.
                KeySource::File { path, .. } => KeySource::File { path: path.clone(), generate: false },
                KeySource::JwksFile(path) => KeySource::JwksFile(path.clone()),
                KeySource::Env { .. } | KeySource::JwksUrl(_) => continue,
            };
            match load::keys(&source, &issuer.algorithms, Keys::CheckOnly) {
                Ok(Some(keys)) => reload.changed |= self.state.replace(index, keys),
                Ok(None) => {}
                Err(mistake) => reload.mistakes.push((index, mistake)),
            }
        }
        reload
    }

    pub(super) fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.state.by_name.get(name).and_then(|index| self.state.issuers.get(*index))
    }
}

impl State {
    /// Puts in new keys; false when they are those that were there.
    pub(super) fn replace(&self, index: usize, keys: KeySet) -> bool {
        let Some(issuer) = self.issuers.get(index) else { return false };
        if issuer.keys.load().as_deref() == Some(&keys) {
            return false;
        }
        issuer.keys.store(Some(Arc::new(keys)));
        self.keys.fetch_add(1, Ordering::AcqRel);
        true
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for issuer in &self.issuers {
            issuer.missing.notify_one(); // its refresher wakes up, and finds that it can go
        }
    }
}

/// Makes the secrets that are absent and may be made.
fn make_absent(issuers: &[Issuer]) -> Vec<(usize, Mistake)> {
    let mut mistakes = Vec::new();
    for (index, issuer) in issuers.iter().enumerate() {
        if issuer.keys.load().is_some() {
            continue;
        }
        match load::keys(&issuer.spec.key, &issuer.algorithms, Keys::Make) {
            Ok(keys) => issuer.keys.store(keys.map(Arc::new)),
            Err(mistake) => mistakes.push((index, mistake)),
        }
    }
    mistakes
}

fn is_allowed(allowed: &[String], issuer: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|one| one == issuer)
}
