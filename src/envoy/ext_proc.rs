//! ext_proc: a stream that lives as long as its request is one lease.

use super::Envoy;
use crate::pb::envoy::service::ext_proc::v3 as pb;
use crate::store::Store;
use tonic::{Request, Response, Status};

type Answers =
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::ProcessingResponse, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store> pb::external_processor_server::ExternalProcessor for Envoy<S> {
    type ProcessStream = Answers;

    async fn process(
        &self,
        _: Request<tonic::Streaming<pb::ProcessingRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Err(Status::unimplemented("Process"))
    }
}
