//! The access log: it renews and releases the leases that ext_authz took.
//!
//! Promise: messages are handled in the order that they came, so that no release overtakes its renewal; a malformed
//! entry is skipped and the stream goes on. Must never: close a connection, which no access log can.

mod entries;

use super::Envoy;
use super::lease::{Lease, PATIENCE, within};
use crate::budget::ending;
use crate::pb::envoy::service::accesslog::v3 as pb;
use crate::service::RenewalState;
use crate::store::Store;
use entries::Work;
use futures_util::future::join_all;
use tonic::{Request, Response, Status};

/// Leases of one call to the store.
const RENEWED_AT_ONCE: usize = 1_024;
/// Releases under way at once.
const RELEASED_AT_ONCE: usize = 32;

#[tonic::async_trait]
impl<S: Store> pb::access_log_service_server::AccessLogService for Envoy<S> {
    async fn stream_access_logs(
        &self,
        request: Request<tonic::Streaming<pb::StreamAccessLogsMessage>>,
    ) -> Result<Response<pb::StreamAccessLogsResponse>, Status> {
        let mut draining = ending(request.extensions(), (self.draining)());
        let mut messages = request.into_inner();
        loop {
            let message = tokio::select! {
                biased;
                () = &mut draining => break,
                message = messages.message() => message?,
            };
            let Some(message) = message else { break };
            let work = Work::of(message);
            self.renew(&work.renewals).await;
            for leases in work.releases.chunks(RELEASED_AT_ONCE) {
                join_all(leases.iter().map(|lease| self.end(lease))).await;
            }
        }
        Ok(Response::new(pb::StreamAccessLogsResponse {}))
    }
}

impl<S: Store> Envoy<S> {
    /// Renews; while the store is away nothing: the next periodic entry tries again.
    async fn renew(&self, leases: &[Lease]) {
        for leases in leases.chunks(RENEWED_AT_ONCE) {
            let calls: Vec<_> = leases.iter().map(Lease::call).collect();
            match self.service.renew(&calls, within(PATIENCE)).await {
                Ok(renewed) => {
                    let over =
                        |state: &RenewalState| !matches!(state, RenewalState::Held | RenewalState::Unknown);
                    for (state, _) in renewed.iter().filter(|(state, _)| over(state)) {
                        tracing::debug!(?state, "a connection behind Envoy goes on without its lease");
                    }
                }
                Err(error) => tracing::debug!(%error, "leases of an access log were not renewed"),
            }
        }
    }
}
