//! What the process says of its health, over gRPC and at `/healthcheck` alike.
//!
//! Promise: once it drains it is never called healthy again.

use crate::config::{Config, RateLimitHealth};
use crate::engine::rate_limit::RateLimits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Names that health checks may ask for, whatever limits there are.
const SERVICES: [&str; 3] = ["", "quotad.v1.DecisionService", "envoy.service.auth.v3.Authorization"];
/// Names of the rate limit service; the second is envoyproxy/ratelimit's.
const RATE_LIMITS: [&str; 2] = ["envoy.service.ratelimit.v3.RateLimitService", "ratelimit"];

/// The health of the process; clones are one.
#[derive(Clone)]
pub(super) struct Health {
    /// Held while all names are told, so that who comes last has told all.
    reporter: Arc<Mutex<HealthReporter>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    draining: AtomicBool,
    without_limits: AtomicBool,
}

impl Health {
    /// Healthy as soon as the first word is said.
    pub(super) fn new(reporter: HealthReporter) -> Self {
        Self { reporter: Arc::new(Mutex::new(reporter)), state: Arc::default() }
    }

    /// Says how it is under these limits.
    pub(super) async fn limits(&self, config: &Config, limits: &RateLimits) {
        let has_some = matches!(limits, RateLimits::Set(set) if set.domains() > 0);
        let lacks = config.envoy.ratelimit_health == RateLimitHealth::WithLimits && !has_some;
        self.state.without_limits.store(lacks, Ordering::Release);
        self.tell().await;
    }

    /// Says that the process is about to end.
    pub(super) async fn drain(&self) {
        self.state.draining.store(true, Ordering::Release);
        self.tell().await;
    }

    /// Whether the rate limit service takes requests.
    pub(super) fn serves_rate_limits(&self) -> bool {
        self.serves() && !self.state.without_limits.load(Ordering::Acquire)
    }

    fn serves(&self) -> bool {
        !self.state.draining.load(Ordering::Acquire)
    }

    async fn tell(&self) {
        let reporter = self.reporter.lock().await;
        let of = |serves| if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in SERVICES {
            reporter.set_service_status(name, of(self.serves())).await;
        }
        for name in RATE_LIMITS {
            reporter.set_service_status(name, of(self.serves_rate_limits())).await;
        }
    }
}
