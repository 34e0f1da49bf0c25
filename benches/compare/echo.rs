//! The bare server: tonic as its documentation shows it, on the stock multi-thread runtime with one worker, with tonic's
//! own codec. It decodes the request, answers a message that was prepared, and decides nothing.

use anyhow::Context as _;
use prost::Message as _;
use quotad::pb::quotad::v1::{CheckLimitRequest, CheckLimitResponse};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// Serves until it is killed. The first line on standard output is the address.
pub(crate) fn serve(answer: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(answer).with_context(|| format!("cannot read {}", answer.display()))?;
    let service = Echo { answer: Arc::new(CheckLimitResponse::decode(bytes.as_slice())?) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout().lock(), "{}", listener.local_addr()?)?;
        // What tonic's own listener does by default.
        let incoming = tokio_stream::StreamExt::map(TcpListenerStream::new(listener), |stream| {
            stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        });
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await?;
        Ok(())
    })
}

#[derive(Clone)]
struct Echo {
    answer: Arc<CheckLimitResponse>,
}

impl NamedService for Echo {
    const NAME: &'static str = "quotad.v1.DecisionService";
}

/// As generated code has it: a boxed future of the whole call.
type Serving = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl tower_service::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Serving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Serving {
        let echo = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<CheckLimitResponse, CheckLimitRequest>::default();
            Ok(Grpc::new(codec).unary(echo, request).await)
        })
    }
}

impl UnaryService<CheckLimitRequest> for Echo {
    type Response = CheckLimitResponse;
    type Future = Ready<Result<Response<CheckLimitResponse>, Status>>;

    fn call(&mut self, _: Request<CheckLimitRequest>) -> Self::Future {
        ready(Ok(Response::new(CheckLimitResponse::clone(&self.answer))))
    }
}
