//! ext_authz: `Authorize` in the words of Envoy.

use super::Envoy;
use crate::pb::envoy::service::auth::v3 as pb;
use crate::store::Store;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<S: Store> pb::authorization_server::Authorization for Envoy<S> {
    async fn check(&self, _: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        Err(Status::unimplemented("Check"))
    }
}
