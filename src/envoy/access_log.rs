//! The access log: it renews and releases the leases that ext_authz took.
//!
//! Promise: messages are handled in the order that they came, so that no release overtakes its renewal; a malformed
//! entry is skipped and the stream goes on. Must never: close a connection, which no access log can.

mod entries;

use super::Envoy;
use super::lease::Lease;
use crate::clock;
use crate::pb::envoy::service::accesslog::v3 as pb;
use crate::service::{Deadline, RenewalState, ServiceError};
use crate::store::Store;
use entries::Work;
use futures_util::future::join_all;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How long one renewal or release waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// Leases of one call to the store.
const RENEWED_AT_ONCE: usize = 1_024;
/// Releases under way at once.
const RELEASED_AT_ONCE: usize = 32;
/// Most tries of one release: the lease ends by itself in the end.
const MAX_TRIES: u32 = 5;
/// Until a release that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Most releases that wait for another try.
const MAX_OWED: usize = 4_096;

/// A release that is not done yet.
struct Owed {
    lease: Lease,
    tries: u32,
}

#[tonic::async_trait]
impl<S: Store> pb::access_log_service_server::AccessLogService for Envoy<S> {
    async fn stream_access_logs(
        &self,
        request: Request<tonic::Streaming<pb::StreamAccessLogsMessage>>,
    ) -> Result<Response<pb::StreamAccessLogsResponse>, Status> {
        let (mut messages, mut draining) = (request.into_inner(), (self.draining)());
        let mut owed: Vec<Owed> = Vec::new();
        loop {
            let pause = if owed.is_empty() { Duration::MAX } else { PAUSE };
            let message = tokio::select! {
                biased;
                () = &mut draining => break,
                message = tokio::time::timeout(pause, messages.message()) => message,
            };
            match message {
                Ok(Ok(Some(message))) => {
                    let work = Work::of(message);
                    self.renew(&work.renewals).await;
                    let new = work.releases.into_iter().map(|lease| Owed { lease, tries: 0 });
                    owed.append(&mut self.release(new.collect()).await);
                    owed.truncate(MAX_OWED);
                }
                Ok(Ok(None)) => break,
                Ok(Err(status)) => {
                    self.release(owed).await;
                    return Err(status);
                }
                Err(_) => owed = self.release(owed).await,
            }
        }
        self.release(owed).await;
        Ok(Response::new(pb::StreamAccessLogsResponse {}))
    }
}

impl<S: Store> Envoy<S> {
    /// Renews; while the store is away nothing: the next periodic entry tries again.
    async fn renew(&self, leases: &[Lease]) {
        for leases in leases.chunks(RENEWED_AT_ONCE) {
            let calls: Vec<_> = leases.iter().map(Lease::call).collect();
            match self.service.renew(&calls, patience()).await {
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

    /// Releases; answers what is to be tried again.
    async fn release(&self, owed: Vec<Owed>) -> Vec<Owed> {
        let mut again = Vec::new();
        let mut owed = owed.into_iter();
        loop {
            let some: Vec<Owed> = owed.by_ref().take(RELEASED_AT_ONCE).collect();
            if some.is_empty() {
                return again;
            }
            let released = join_all(some.into_iter().map(|owed| self.release_one(owed))).await;
            again.extend(released.into_iter().flatten());
        }
    }

    async fn release_one(&self, owed: Owed) -> Option<Owed> {
        let released = self.service.release(&owed.lease.call(), patience()).await;
        let tries = owed.tries + 1;
        match released {
            Err(ServiceError::Store(_) | ServiceError::TooLate) if tries < MAX_TRIES => {
                Some(Owed { tries, ..owed })
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "a lease was not released; it ends by itself");
                None
            }
        }
    }
}

fn patience() -> Deadline {
    Deadline(clock::monotonic().checked_add(PATIENCE))
}
