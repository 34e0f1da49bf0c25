//! ext_proc: a stream that lives as long as its request is one lease.
//!
//! Promise: a task owns the stream, and however the stream ends the lease is released at once. A stream whose request
//! has not been judged never ends well: Envoy would let the request pass.

mod answer;
mod stream;

use super::Envoy;
use crate::budget::ending;
use crate::deadline;
use crate::pb::envoy::service::ext_proc::v3 as pb;
use crate::shutdown::spawn_local;
use crate::store::Store;
use futures_util::StreamExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stream::Exchanged;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Answers that wait for Envoy to read them; it waits for each before it says more of its request. One more ends the
/// stream. No budget counts them until they are written, so they are few: a connection has a thousand streams.
const WAITING: usize = 16;

type Answers = Pin<Box<dyn Stream<Item = Result<pb::ProcessingResponse, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store> pb::external_processor_server::ExternalProcessor for Envoy<S> {
    type ProcessStream = Answers;

    async fn process(
        &self,
        request: Request<tonic::Streaming<pb::ProcessingRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let deadline = deadline::of(&request)?;
        let (metadata, extensions, messages) = request.into_parts();
        let ending = ending(&extensions, (self.draining)());
        let (answers, receiver) = mpsc::channel(WAITING);
        let answered = Arc::<AtomicBool>::default();
        let given = Arc::clone(&answered);
        let exchanged =
            Exchanged { envoy: self.clone(), metadata, deadline, messages, answers, answered, ending };
        spawn_local(exchanged.run());
        // A task that ended without a word, by a panic too, must not look like leave to pass.
        let unanswered = async move {
            (!given.load(Ordering::Relaxed)).then(|| Err(Status::internal("the request was not judged")))
        };
        let end = futures_util::stream::once(unanswered).filter_map(std::future::ready);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).chain(end))))
    }
}
