//! A revoked token is never good again: the verifier's question and answer over a store, at every moment of a token's life.

use crate::pairs::Pair;
use crate::world::{NOW, SECOND, inline, token};
use quotad::engine::ask::Ask;
use quotad::engine::decision::Reason;
use quotad::engine::issuer::IssuerSpec;
use quotad::engine::revocation::Revocation;
use quotad::engine::units::{Micros, Moment};
use quotad::store::Store as _;
use quotad::store::memory::{MemoryOptions, MemoryStore, StoreClock};
use quotad::token::{Keys, Verifier};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MINUTE: u64 = 60;
const YEAR: u64 = 366 * 86_400;
const LEEWAY: u64 = 30;
const PATIENCE: Duration = Duration::from_secs(20);

/// An issuer whose tokens live a minute, and a store, by one clock.
struct Bench {
    secret: Pair,
    verifier: Verifier,
    store: MemoryStore,
    clock: Arc<AtomicU64>,
    _home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        std::fs::write(&path, [b'k'; 32]).unwrap();
        let spec = IssuerSpec { max_lifetime: Micros::from_seconds(MINUTE), ..inline("hs", "HS256", path) };
        let clock = Arc::new(AtomicU64::new(NOW.0));
        let options =
            MemoryOptions { clock: StoreClock::Manual(Arc::clone(&clock)), ..MemoryOptions::default() };
        Self {
            secret: Pair::secret(b'k', 32),
            verifier: Verifier::build(vec![spec], Keys::Make).unwrap(),
            store: MemoryStore::new(options).unwrap(),
            clock,
            _home: home,
        }
    }

    fn now(&self) -> Moment {
        Moment(self.clock.load(Ordering::SeqCst))
    }

    /// The clock, in seconds from the beginning.
    fn set(&self, second: u64) {
        self.clock.store(NOW.0 + second * 1_000_000, Ordering::SeqCst);
    }

    fn sign(&self, claims: &Value) -> String {
        token(r#"{"alg":"HS256"}"#, &claims.to_string(), &self.secret, "HS256")
    }

    /// The reason of a token that is good but for what the store knows, or is not good.
    async fn reason(&self, claims: &Value) -> Reason {
        let good = match self.verifier.check(&self.sign(claims), &[], self.now()) {
            Ok(good) => good,
            Err(refusal) => return refusal.reason,
        };
        let ask = Ask { token: Some(Box::new(good.probe.clone())), ..Ask::default() };
        let answer = self.store.take(ask, PATIENCE).await.unwrap();
        if answer.revoked { Reason::TokenRevoked } else { Reason::TokenValid }
    }

    async fn revoke(&self, revocation: Revocation) {
        self.store.revoke(revocation, PATIENCE).await.unwrap();
    }

    async fn revoke_id(&self, expires_at: Option<u64>) {
        let end = expires_at.map(|second| Moment(second * 1_000_000));
        self.revoke(self.verifier.revocation_of_id("hs", "4f1c", end, self.now()).unwrap()).await;
    }

    async fn revoke_subject(&self) {
        self.revoke(self.verifier.revocation_of_subject("hs", "alice").unwrap()).await;
    }
}

fn claims(issued: Option<u64>, ends: u64) -> Value {
    let mut claims = json!({"iss": "hs", "sub": "alice", "jti": "4f1c", "exp": SECOND + ends});
    if let Some(issued) = issued {
        claims["iat"] = (SECOND + issued).into();
    }
    claims
}

#[tokio::test]
async fn a_token_that_is_refused_for_its_life_stays_revoked_when_what_is_left_of_it_is_short() {
    for ends in [MINUTE * 60, YEAR * 80] {
        let bench = Bench::new();
        let long = claims(None, ends);
        assert_eq!(bench.reason(&long).await, Reason::TokenLifetimeTooLong);
        bench.revoke_id(Some(SECOND + ends)).await;
        bench.set(ends - 40);
        assert_eq!(bench.reason(&long).await, Reason::TokenRevoked, "{ends}");
        bench.set(ends + LEEWAY - 1);
        assert_eq!(bench.reason(&long).await, Reason::TokenRevoked, "to its end and leeway");
    }
}

#[tokio::test]
async fn a_subject_is_revoked_for_what_an_issuer_issued_whose_clock_runs_ahead() {
    let bench = Bench::new();
    bench.revoke_subject().await;
    // Issued before the logout, by a clock that is the leeway ahead.
    assert_eq!(bench.reason(&claims(Some(LEEWAY), LEEWAY + MINUTE)).await, Reason::TokenRevoked);
    bench.set(LEEWAY);
    assert_eq!(bench.reason(&claims(Some(LEEWAY), LEEWAY + MINUTE)).await, Reason::TokenRevoked);
    let later = claims(Some(LEEWAY + 1), LEEWAY + 1 + MINUTE);
    assert_eq!(bench.reason(&later).await, Reason::TokenValid, "surely issued afterwards");
}

#[tokio::test]
async fn a_revocation_without_an_end_outlives_what_an_issuer_issued_whose_clock_runs_ahead() {
    for by_subject in [true, false] {
        let bench = Bench::new();
        if by_subject {
            bench.revoke_subject().await
        } else {
            bench.revoke_id(None).await
        }
        let ahead = claims(Some(LEEWAY), LEEWAY + MINUTE);
        for second in [0, LEEWAY + MINUTE, MINUTE + 2 * LEEWAY - 1] {
            bench.set(second);
            assert_eq!(bench.reason(&ahead).await, Reason::TokenRevoked, "{by_subject} {second}");
        }
        bench.set(MINUTE + 2 * LEEWAY);
        assert_eq!(bench.reason(&ahead).await, Reason::TokenExpired);
    }
}

#[tokio::test]
async fn what_a_subjects_revocation_cannot_reach_a_required_iat_refuses() {
    let bench = Bench::new();
    let (long, short) = (claims(None, MINUTE * 60), claims(None, MINUTE));
    bench.revoke_subject().await;
    assert_eq!(bench.reason(&short).await, Reason::TokenRevoked, "nobody knows when it was issued");
    bench.set(MINUTE * 59 + 30);
    // What `config check` warns of with Q311: without `iat` and an end, nothing says that it is as old as that.
    assert_eq!(bench.reason(&long).await, Reason::TokenValid);
}
