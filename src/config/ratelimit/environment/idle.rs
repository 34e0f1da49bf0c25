//! Variables of the original that are known there and have no effect here.

use super::super::super::diagnostic::{Place, elsewhere};
use super::{LOCAL_CACHE, Reader};
use crate::engine::mistake::Mistake;
use crate::engine::rate_limit::OverLimit;

/// Beginnings of names that have no effect here; a whole name is its own beginning.
const IDLE: [&str; 26] = [
    "BACKEND_TYPE",
    "CACHE_KEY_PREFIX",
    "CONFIG_GRPC_XDS_",
    "CONFIG_TYPE",
    "DEBUG_HOST",
    "DEBUG_PORT",
    "DISABLE_STATS",
    "DOG_STATSD_",
    "EXPIRATION_JITTER_MAX_SECONDS",
    "EXTRA_TAGS",
    "GRPC_CLIENT_TLS_",
    "GRPC_MAX_CONNECTION_AGE_GRACE",
    "GRPC_SERVER_",
    LOCAL_CACHE,
    "MEMCACHE_",
    "NEAR_LIMIT_RATIO",
    "PROMETHEUS_",
    "REDIS_",
    "SENTINEL_",
    "STATSD_",
    "STATS_",
    "TRACING_",
    "USE_DOG_STATSD",
    "USE_PROMETHEUS",
    "USE_STATSD",
    "XDS_CLIENT_",
];
/// Names that [`IDLE`] would hit and that have an effect.
const HONOURED: [&str; 5] = ["REDIS_URL", "REDIS_SOCKET_TYPE", "REDIS_AUTH", "REDIS_TYPE", "REDIS_TLS"];
/// Values that say what is so here anyway.
const USUAL: [(&str, &str); 2] = [("BACKEND_TYPE", "redis"), ("CONFIG_TYPE", "FILE")];

impl Reader<'_, '_> {
    /// One warning of all that is set in vain.
    pub(super) fn warn_of_idle(&mut self, over_limit: OverLimit) {
        let says_the_same = |name: &str| {
            USUAL
                .iter()
                .any(|(of, usual)| name == *of && self.environment.get(name).is_some_and(|is| is == *usual))
        };
        let mut names: Vec<String> = self.environment.names();
        // Not as a cache, but it says what becomes of a request beside what is over.
        let tells = |name: &str| name == LOCAL_CACHE && over_limit == OverLimit::NothingOnceOver;
        names.retain(|name| is_idle(name) && !says_the_same(name) && !tells(name));
        if names.is_empty() {
            return;
        }
        names.sort();
        let (message, hint) = ("it has no effect here", "docs/envoy/migration.md says what there is instead");
        self.out.warn(elsewhere(Place::Variable(names.join(", ")), Mistake::new("", message, hint)));
    }
}

fn is_idle(name: &str) -> bool {
    IDLE.iter().any(|idle| name.starts_with(idle)) && !HONOURED.contains(&name) && !is_of_kubernetes(name)
}

/// Whether Kubernetes sets it by itself, for a service that is called `redis`, `memcache` and so on.
fn is_of_kubernetes(name: &str) -> bool {
    let of_a_port = |(_, tail): (&str, &str)| tail.starts_with(|first: char| first.is_ascii_digit());
    name == "REDIS_PORT"
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT_").is_some_and(of_a_port)
}
