//! The rate limit service: bound the request, call the service, render the answer.
//!
//! A denial is an answer with OVER_LIMIT; a status is only for what cannot be answered.

mod answer;
mod bounds;

use super::Envoy;
use crate::deadline;
use crate::pb::envoy::service::ratelimit::v3 as pb;
use crate::service::RateLimitCall;
use crate::store::Store;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<S: Store> pb::rate_limit_service_server::RateLimitService for Envoy<S> {
    async fn should_rate_limit(
        &self,
        request: Request<pb::RateLimitRequest>,
    ) -> Result<Response<pb::RateLimitResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let request = request.into_inner();
        let descriptors = bounds::descriptors(&request)?;
        let call = RateLimitCall {
            domain: &request.domain,
            descriptors: &descriptors,
            hits_addend: request.hits_addend,
        };
        let limited = self.service.rate_limit(call, deadline).await?;
        Ok(Response::new(answer::of(limited)))
    }
}
