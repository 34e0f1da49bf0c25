//! The access log: it renews and releases the leases that ext_authz took.

use super::Envoy;
use crate::pb::envoy::service::accesslog::v3 as pb;
use crate::store::Store;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<S: Store> pb::access_log_service_server::AccessLogService for Envoy<S> {
    async fn stream_access_logs(
        &self,
        _: Request<tonic::Streaming<pb::StreamAccessLogsMessage>>,
    ) -> Result<Response<pb::StreamAccessLogsResponse>, Status> {
        Err(Status::unimplemented("StreamAccessLogs"))
    }
}
