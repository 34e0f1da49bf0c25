//! What the targets that serve requests have in common: one configuration, an empty store for each input, a runtime.

use arc_swap::ArcSwap;
use quotad::config::ratelimit::RateLimitFolder;
use quotad::config::{Environment, Source, load};
use quotad::engine::rate_limit::{RateLimitOptions, RateLimits};
use quotad::service::{Live, Service};
use quotad::store::memory::{MemoryOptions, MemoryStore};
use quotad::token::{Keys, Verifier};
use std::sync::{Arc, LazyLock};
use tokio::runtime::{Builder, Runtime};

/// Every kind of policy, match, partition and route.
const CONFIGURATION: &str = include_str!("../request.yaml");
const SECRET: &str = "fuzz-secret-of-more-than-thirty-two-bytes";
const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/limits");

/// The runtime of all calls.
pub static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// The configuration alone.
pub static PLAIN: LazyLock<Arc<ArcSwap<Live>>> =
    LazyLock::new(|| live(RateLimits::Off, RateLimitOptions::default()));

/// The same with limits in the format of envoyproxy/ratelimit.
pub static LIMITED: LazyLock<Arc<ArcSwap<Live>>> = LazyLock::new(|| {
    let limits = RateLimitFolder::new(LIMITS).load().unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let options = RateLimitOptions { metadata: true, ..RateLimitOptions::default() };
    live(RateLimits::Set(Arc::new(limits.set)), options)
});

fn live(rate_limits: RateLimits, rate_limit_options: RateLimitOptions) -> Arc<ArcSwap<Live>> {
    let environment = Environment::given([("SECRET", SECRET)]);
    let config = load(&Source::text("request.yaml", CONFIGURATION).with_environment(environment))
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let verifier = Verifier::build(config.issuers.clone(), Keys::CheckOnly).expect("the entry is right");
    Arc::new(ArcSwap::from_pointee(Live {
        rate_limits,
        rate_limit_options,
        policies: Arc::clone(&config.policies),
        face: config.http.face.clone(),
        trusted_proxies: config.http.trusted_proxies.clone(),
        client_ip: config.envoy.client_ip.clone(),
        identity_headers: config.http.identity_headers.clone(),
        verifier: Arc::new(verifier),
    }))
}

/// A service over a small store that is empty.
pub fn service(live: &Arc<ArcSwap<Live>>, options: MemoryOptions) -> Arc<Service<Arc<MemoryStore>>> {
    let options = MemoryOptions { max_keys: 64, ..options };
    let store = Arc::new(MemoryStore::new(options).expect("an empty store"));
    Arc::new(Service::new(Arc::clone(live), Arc::clone(&store), store))
}
