//! The rate limit service: bound the request, call the service, render the answer.
//!
//! A denial is an answer with OVER_LIMIT; a status is only for what cannot be answered.

mod answer;
mod bounds;
mod json;
mod once;

use super::Envoy;
use crate::deadline;
use crate::pb::envoy::service::ratelimit::v3 as pb;
use crate::service::{Deadline, RateLimitCall};
use crate::store::Store;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<S: Store> pb::rate_limit_service_server::RateLimitService for Envoy<S> {
    async fn should_rate_limit(
        &self,
        request: Request<pb::RateLimitRequest>,
    ) -> Result<Response<pb::RateLimitResponse>, Status> {
        let deadline = deadline::of(&request)?;
        Ok(Response::new(self.limited(&request.into_inner(), deadline).await?))
    }
}

impl<S: Store> Envoy<S> {
    /// The one way of a request, in whichever form it came.
    async fn limited(
        &self,
        request: &pb::RateLimitRequest,
        deadline: Deadline,
    ) -> Result<pb::RateLimitResponse, Status> {
        let descriptors = bounds::descriptors(request)?;
        let call = RateLimitCall {
            domain: &request.domain,
            descriptors: &descriptors,
            hits_addend: request.hits_addend,
        };
        let limited = self.service.rate_limit(call, deadline).await?;
        Ok(answer::of(limited))
    }
}
