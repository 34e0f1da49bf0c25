//! Keeping a key set from a URL fresh.
//!
//! Promise: one fetch at a time for each URL, every ten minutes with jitter, and when a token names a key that is not
//! there at most once in thirty seconds, so that a flood of made-up key ids is no flood at the issuer's door. Whatever
//! goes wrong, the last good set stays. Until the first one came, tokens of that issuer are refused as of an unknown
//! key, and everything else works.

use super::fetch::{FetchError, Fetcher, Schemes};
use super::key_set::{KeySet, MAX_SET_BYTES, Origin, SetError};
use super::verifier::State;
use crate::engine::issuer::{IssuerSpec, KeySource};
use aws_lc_rs::rand;
use std::error::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How often.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two fetches, all being well.
    every: Duration,
    /// At least between two fetches that tokens called for.
    gap: Duration,
    /// After the first failure; doubles up to `gap`.
    retry: Duration,
    /// For one fetch.
    patience: Duration,
}

const PACE: Pace = Pace {
    every: Duration::from_secs(600),
    gap: Duration::from_secs(30),
    retry: Duration::from_secs(1),
    patience: Duration::from_secs(5),
};

/// Keeps the key set of one issuer fresh. [`Refresher::run`] is a task for the application to start.
pub struct Refresher {
    state: Weak<State>,
    index: usize,
    name: String,
    url: String,
    missing: Arc<Notify>,
    pace: Pace,
    schemes: Schemes,
    /// Told when the first set is here.
    first: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// Why the set stays as it is.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the URL is not one")]
    Url(#[from] http::uri::InvalidUri),
    #[error("the key set cannot be used")]
    Set(#[from] SetError),
    #[error("the verifier is gone")]
    Gone,
}

impl std::fmt::Debug for Refresher {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Refresher").field("issuer", &self.name).finish_non_exhaustive()
    }
}

impl Refresher {
    pub(super) fn new(state: Weak<State>, index: usize, spec: &IssuerSpec, missing: &Arc<Notify>) -> Self {
        let url = match &spec.key {
            KeySource::JwksUrl(url) => url.clone(),
            _ => String::new(),
        };
        let (name, missing) = (spec.name.clone(), Arc::clone(missing));
        Self { state, index, name, url, missing, pace: PACE, schemes: Schemes::Https, first: None }
    }

    /// The configuration's name of the issuer, to name the task by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// With a word to be said when the first set is here.
    #[must_use]
    pub fn telling(self, first: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { first: Some(Box::new(first)), ..self }
    }

    /// Fetches again and again; ends only after its [`Verifier`](super::Verifier) was dropped. Harmless to cancel.
    pub async fn run(mut self) {
        let mut failures: u32 = 0;
        let mut fetcher = None;
        loop {
            match self.refresh(&mut fetcher).await {
                Err(RefreshError::Gone) => return,
                Ok(changed) => {
                    if changed || failures > 0 {
                        tracing::info!(issuer = %self.name, changed, "fetched the key set");
                    }
                    failures = 0;
                    if let Some(tell) = self.first.take() {
                        tell();
                    }
                    self.wait_for_cause().await;
                }
                Err(error) => {
                    // The first of a row; the others say the same.
                    if failures == 0 {
                        tracing::warn!(issuer = %self.name, error = %chain(&error),
                            "cannot refresh the key set; the last good one stays");
                    }
                    failures = failures.saturating_add(1);
                    fetcher = None; // the next one reads the system's roots again: they may have been renewed
                    sleep(jittered(self.pace.after(failures))).await;
                }
            }
        }
    }

    /// Fetches once; whether the keys changed. Reading the system's roots takes milliseconds, so a client that works
    /// is kept.
    async fn refresh(&self, kept: &mut Option<Fetcher>) -> Result<bool, RefreshError> {
        if self.state.strong_count() == 0 {
            return Err(RefreshError::Gone);
        }
        let url = self.url.parse()?;
        let fetcher = match kept.take() {
            Some(fetcher) => fetcher,
            None => Fetcher::new(self.schemes)?,
        };
        let bytes = kept.insert(fetcher).get(&url, MAX_SET_BYTES, self.pace.patience).await?;
        let state = self.state.upgrade().ok_or(RefreshError::Gone)?;
        let issuer = state.issuers.get(self.index).ok_or(RefreshError::Gone)?;
        let set = KeySet::read(&bytes, &issuer.algorithms, Origin::Url)?;
        Ok(state.replace(self.index, set))
    }

    /// Until it is time, or a token names a key that is not there and the last fetch is not too close.
    async fn wait_for_cause(&self) {
        let gap = self.pace.gap;
        sleep(gap).await;
        let rest = jittered(self.pace.every).saturating_sub(gap);
        // Told while we slept: the permit waits for us. Elapsed or told, it is time.
        let _: Result<(), _> = timeout(rest, self.missing.notified()).await;
    }
}

impl Pace {
    fn after(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.retry.saturating_mul(doubled).min(self.gap)
    }
}

/// Up to a tenth more or less, so that the replicas of a fleet do not ask all at once.
fn jittered(span: Duration) -> Duration {
    let mut random = [0_u8; 1];
    if rand::fill(&mut random).is_err() {
        return span; // no jitter is no harm
    }
    let thousandths = 900 + u32::from(random[0]) * 200 / 255;
    span.saturating_mul(thousandths) / 1000
}

/// An error with its causes, for the log.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::decision::Reason;
    use crate::engine::units::Moment;
    use crate::token::{Keys, Verifier};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use parking_lot::Mutex;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    const NOW: Moment = Moment(1_790_000_000_000_000);
    const FAST: Pace = Pace {
        every: Duration::from_millis(20),
        gap: Duration::from_millis(10),
        retry: Duration::from_millis(5),
        patience: Duration::from_secs(5),
    };

    /// Answers every request with the same bytes, and counts them.
    struct Server {
        url: String,
        shared: Arc<Shared>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    #[derive(Default)]
    struct Shared {
        answer: Mutex<Vec<u8>>,
        asked: AtomicUsize,
        over: AtomicBool,
    }

    impl Server {
        fn start(answer: impl Into<Vec<u8>>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
            let shared = Arc::new(Shared { answer: Mutex::new(answer.into()), ..Shared::default() });
            let theirs = Arc::clone(&shared);
            let serve = move || {
                for stream in listener.incoming() {
                    if theirs.over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(mut stream) = stream else { continue };
                    let answer = theirs.answer.lock().clone();
                    theirs.asked.fetch_add(1, Ordering::SeqCst);
                    // A client that is dropped right after it connected sends nothing until its runtime ends.
                    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(&answer);
                }
            };
            Self { url, shared, thread: Some(std::thread::spawn(serve)) }
        }

        fn answer(&self, answer: impl Into<Vec<u8>>) {
            *self.shared.answer.lock() = answer.into();
        }

        fn asked(&self) -> usize {
            self.shared.asked.load(Ordering::SeqCst)
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.shared.over.store(true, Ordering::SeqCst);
            let address = self.url.trim_start_matches("http://").trim_end_matches("/jwks.json");
            drop(std::net::TcpStream::connect(address));
            if let Some(thread) = self.thread.take() {
                thread.join().unwrap();
            }
        }
    }

    struct Issuer(Ed25519KeyPair, &'static str);

    impl Issuer {
        fn new(key_id: &'static str) -> Self {
            Self(Ed25519KeyPair::generate().unwrap(), key_id)
        }

        fn token(&self) -> String {
            let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.1);
            let claims = r#"{"iss":"remote","sub":"a","exp":1790000600}"#;
            let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()));
            format!("{signed}.{signature}")
        }

        fn jwk(&self) -> String {
            let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{}","x":"{x}"}}"#, self.1)
        }
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    fn set(issuers: &[&Issuer]) -> String {
        let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
        ok(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
    }

    fn verifier() -> Verifier {
        let key = KeySource::JwksUrl("https://issuer.example/jwks.json".to_owned());
        let algorithms = vec!["EdDSA".to_owned(), "HS256".to_owned()];
        let spec = IssuerSpec { algorithms, ..IssuerSpec::named("remote", "remote", key) };
        Verifier::build(vec![spec], Keys::Make).unwrap()
    }

    fn refresher(verifier: &Verifier, server: &Server, pace: Pace) -> Refresher {
        let mut refresher = verifier.refreshers().pop().unwrap();
        (refresher.url, refresher.pace, refresher.schemes) = (server.url.clone(), pace, Schemes::Any);
        refresher
    }

    fn said(verifier: &Verifier, token: &str) -> Option<Reason> {
        verifier.check(token, &[], NOW).err().map(|refusal| refusal.reason)
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        for _ in 0..2_000 {
            if holds() {
                return;
            }
            // A poll of a condition with a deadline.
            sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}");
    }

    /// Runs `test` beside the refresher.
    async fn beside(refresher: Refresher, test: impl Future<Output = ()>) {
        tokio::select! {
            () = refresher.run() => panic!("it ends only when its verifier is gone"),
            () = test => {}
        }
    }

    #[tokio::test]
    async fn the_first_set_is_told_of_when_it_can_be_used_and_once() {
        let (issuer, verifier) = (Issuer::new("k1"), verifier());
        let server = Server::start("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let telling = refresher(&verifier, &server, FAST).telling(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        beside(telling, async {
            until("two failures", || server.asked() >= 2).await;
            assert_eq!(told.load(Ordering::SeqCst), 0);
            server.answer(set(&[&issuer]));
            until("the word", || told.load(Ordering::SeqCst) == 1).await;
            assert_eq!(said(&verifier, &issuer.token()), None);
            let asked = server.asked();
            until("more sets", || server.asked() > asked + 1).await;
            assert_eq!(told.load(Ordering::SeqCst), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn tokens_are_of_an_unknown_key_until_the_set_comes() {
        let (issuer, verifier) = (Issuer::new("k1"), verifier());
        let server = Server::start("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(said(&verifier, &issuer.token()), Some(Reason::TokenKeyUnknown));
        beside(refresher(&verifier, &server, FAST), async {
            until("it tries again", || server.asked() > 2).await;
            assert_eq!(said(&verifier, &issuer.token()), Some(Reason::TokenKeyUnknown));
            server.answer(set(&[&issuer]));
            until("it is good", || said(&verifier, &issuer.token()).is_none()).await;
        })
        .await;
    }

    #[tokio::test]
    async fn the_last_good_set_stays_whatever_comes() {
        let (issuer, verifier) = (Issuer::new("k1"), verifier());
        let server = Server::start(set(&[&issuer]));
        let large = ok(&format!(r#"{{"keys":[{}],"x":"{}"}}"#, issuer.jwk(), "x".repeat(MAX_SET_BYTES)));
        beside(refresher(&verifier, &server, FAST), async {
            until("it is good", || said(&verifier, &issuer.token()).is_none()).await;
            for (name, bad) in [
                ("an error", "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned()),
                ("nothing", String::new()),
                ("no HTTP", "hello".to_owned()),
                ("no JSON", ok("<html>")),
                ("an empty set", ok(r#"{"keys":[]}"#)),
                (
                    "a secret",
                    ok(r#"{"keys":[{"kty":"oct","kid":"k1","k":"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"}]}"#),
                ),
                ("one kid twice", set(&[&issuer, &Issuer::new("k1")])),
                ("an empty answer", ok("")),
                ("less than announced", ok("{\"keys\":[]}").replace("content-length: 1", "content-length: 9")),
                ("too much", large.clone()),
                ("created", set(&[&Issuer::new("k1")]).replace("200 OK", "201 Created")),
            ] {
                server.answer(bad);
                let before = server.asked();
                until("it asks twice more", || server.asked() > before + 1).await;
                assert_eq!(said(&verifier, &issuer.token()), None, "{name}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        let (issuer, verifier) = (Issuer::new("k1"), verifier());
        let elsewhere = Server::start(set(&[&issuer]));
        for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
            let redirect =
                format!("HTTP/1.1 {status}\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
            let server = Server::start(redirect);
            let error = refresher(&verifier, &server, FAST).refresh(&mut None).await.unwrap_err();
            assert!(matches!(error, RefreshError::Fetch(FetchError::Redirect)), "{error:?}");
        }
        assert_eq!(elsewhere.asked(), 0);
    }

    #[tokio::test]
    async fn plain_http_is_not_spoken() {
        let (issuer, verifier) = (Issuer::new("k1"), verifier());
        let server = Server::start(set(&[&issuer]));
        let refresher = Refresher { schemes: Schemes::Https, ..refresher(&verifier, &server, FAST) };
        let error = refresher.refresh(&mut None).await.unwrap_err();
        assert!(matches!(error, RefreshError::Fetch(FetchError::Ask(_))), "{error:?}");
        assert_eq!(server.asked(), 0);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        let verifier = verifier();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts, and never answers
        let server = Server::start("");
        let pace = Pace { patience: Duration::from_millis(50), ..FAST };
        let mut refresher = refresher(&verifier, &server, pace);
        refresher.url = format!("http://{}/", silent.local_addr().unwrap());
        let error = refresher.refresh(&mut None).await.unwrap_err();
        assert!(matches!(error, RefreshError::Fetch(FetchError::Timeout(_))), "{error:?}");
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_makes_few_fetches_and_a_new_key_is_found() {
        let (old, new, verifier) = (Issuer::new("k1"), Issuer::new("k2"), verifier());
        let server = Server::start(set(&[&old]));
        let gap = Duration::from_millis(100);
        let pace = Pace { every: Duration::from_secs(3600), gap, ..FAST };
        beside(refresher(&verifier, &server, pace), async {
            until("it is good", || said(&verifier, &old.token()).is_none()).await;
            assert_eq!(server.asked(), 1);
            let started = crate::clock::monotonic();
            while started.elapsed() < gap * 5 {
                assert_eq!(said(&verifier, &new.token()), Some(Reason::TokenKeyUnknown));
                // A poll of a condition with a deadline.
                sleep(Duration::from_millis(1)).await;
            }
            let most = 1 + started.elapsed().as_millis() / gap.as_millis() + 1;
            let asked = server.asked();
            assert!(asked > 1 && asked <= usize::try_from(most).unwrap(), "{asked} fetches, at most {most}");
            server.answer(set(&[&old, &new]));
            until("the new key is known", || said(&verifier, &new.token()).is_none()).await;
            assert_eq!(said(&verifier, &old.token()), None);
        })
        .await;
    }

    #[tokio::test]
    async fn a_key_that_is_withdrawn_takes_its_cached_verdicts_along() {
        let (old, new, verifier) = (Issuer::new("k1"), Issuer::new("k2"), verifier());
        let server = Server::start(set(&[&old, &new]));
        beside(refresher(&verifier, &server, FAST), async {
            until("it is good", || said(&verifier, &old.token()).is_none()).await;
            assert_eq!(said(&verifier, &old.token()), None, "from the cache");
            server.answer(set(&[&new]));
            until("it is refused", || said(&verifier, &old.token()) == Some(Reason::TokenKeyUnknown)).await;
            assert_eq!(said(&verifier, &new.token()), None);
        })
        .await;
    }

    #[tokio::test]
    async fn a_rebuilt_verifier_takes_the_set_over_and_the_old_refresher_ends() {
        let (issuer, verifier) = (Issuer::new("k1"), verifier());
        let server = Server::start(set(&[&issuer]));
        let pace = Pace { every: Duration::from_secs(3600), ..FAST };
        let run = refresher(&verifier, &server, pace).run();
        let test = async move {
            until("it is good", || said(&verifier, &issuer.token()).is_none()).await;
            let spec = verifier.issuer("remote").unwrap().spec.clone();
            let next = verifier.rebuild(vec![spec.clone()], Keys::Make).unwrap();
            assert_eq!(said(&next, &issuer.token()), None);
            let fewer = IssuerSpec { algorithms: vec!["ES256".to_owned()], ..spec };
            let other = verifier.rebuild(vec![fewer], Keys::Make).unwrap();
            assert_eq!(said(&other, &issuer.token()), Some(Reason::TokenAlgorithmNotAllowed));
            assert!(other.issuer("remote").unwrap().keys.load().is_none(), "a set read for other algorithms");
        };
        let ended = timeout(Duration::from_secs(10), async { tokio::join!(run, test) }).await;
        assert!(ended.is_ok(), "the refresher outlived its verifier");
    }

    #[test]
    fn the_pace_backs_off_and_jitter_is_a_tenth() {
        let waits: Vec<_> = (1..8).map(|failures| PACE.after(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(PACE.after(u32::MAX), PACE.gap);
        let span = Duration::from_secs(600);
        let seen: Vec<_> = (0..500).map(|_| jittered(span)).collect();
        assert!(seen.iter().all(|one| (Duration::from_secs(540)..=Duration::from_secs(660)).contains(one)));
        assert!(seen.iter().any(|one| *one < span) && seen.iter().any(|one| *one > span));
    }

    #[test]
    fn an_error_shows_its_causes_and_a_refresher_no_address() {
        let error = RefreshError::Set(SetError::NotSet);
        assert!(
            chain(&error).starts_with("the key set cannot be used: it is not a JWK set"),
            "{}",
            chain(&error)
        );
        let verifier = verifier();
        assert!(!format!("{:?}", verifier.refreshers()).contains("issuer.example"));
    }

    #[test]
    fn it_can_run_on_any_thread() {
        fn takes<T: Send + 'static>(task: T) -> T {
            task
        }
        let verifier = verifier();
        drop(verifier.refreshers().into_iter().map(|refresher| takes(refresher.run())).collect::<Vec<_>>());
    }
}
