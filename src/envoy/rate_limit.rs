//! The rate limit service.

use super::Envoy;
use crate::pb::envoy::service::ratelimit::v3 as pb;
use crate::store::Store;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<S: Store> pb::rate_limit_service_server::RateLimitService for Envoy<S> {
    async fn should_rate_limit(
        &self,
        _: Request<pb::RateLimitRequest>,
    ) -> Result<Response<pb::RateLimitResponse>, Status> {
        Err(Status::unimplemented("ShouldRateLimit"))
    }
}
