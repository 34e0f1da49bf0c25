//! Envoy's protocols: ext_authz, the rate limit service, the access log, ext_proc. They bound the request, call the
//! service, render the answer.
//!
//! Must never: decide anything; let a denial be a gRPC status, which Envoy takes for a failure and may let pass.

mod access_log;
mod authz;
mod ext_proc;
mod http;
mod judge;
mod lease;
mod rate_limit;

use crate::service::Service;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// Makes a future that ends when the process begins to drain.
pub type Draining = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Envoy's services over one service of ours.
pub struct Envoy<S> {
    service: Arc<Service<S>>,
    draining: Draining,
}

impl<S> Clone for Envoy<S> {
    fn clone(&self) -> Self {
        Self { service: Arc::clone(&self.service), draining: Arc::clone(&self.draining) }
    }
}

impl<S> fmt::Debug for Envoy<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Envoy")
    }
}

impl<S> Envoy<S> {
    /// Envoy's services over `service`, of a process that never drains.
    #[must_use]
    pub fn new(service: Arc<Service<S>>) -> Self {
        Self { service, draining: Arc::new(|| Box::pin(std::future::pending())) }
    }

    /// With the signal at which streams end.
    #[must_use]
    pub fn until(self, draining: Draining) -> Self {
        Self { draining, ..self }
    }
}
