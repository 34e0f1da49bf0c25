//! The bare server: tonic as its documentation shows it, on the stock multi-thread runtime with one worker, with tonic's
//! own codec. It decodes the request, answers a message that was prepared, and decides nothing.

use anyhow::Context as _;
use prost::Message;
use quotad::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use quotad::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
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

/// Which service it stands for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    /// `CheckLimit`.
    Native,
    /// `ShouldRateLimit`.
    RateLimit,
    /// ext_authz's `Check`.
    ExtAuthz,
}

/// Serves until it is killed. The first line on standard output is the address.
pub(crate) fn serve(kind: Kind, answer: &Path) -> anyhow::Result<()> {
    match kind {
        Kind::Native => run::<Native>(answer),
        Kind::RateLimit => run::<RateLimit>(answer),
        Kind::ExtAuthz => run::<ExtAuthz>(answer),
    }
}

/// One method: its service, what it takes and what it answers.
trait Method: Clone + Send + Sync + 'static {
    const SERVICE: &'static str;
    type Question: Message + Default + Send + 'static;
    type Answer: Message + Default + Clone + Send + Sync + 'static;
}

#[derive(Clone)]
struct Native;

impl Method for Native {
    const SERVICE: &'static str = "quotad.v1.DecisionService";
    type Question = CheckLimitRequest;
    type Answer = CheckLimitResponse;
}

#[derive(Clone)]
struct RateLimit;

impl Method for RateLimit {
    const SERVICE: &'static str = "envoy.service.ratelimit.v3.RateLimitService";
    type Question = RateLimitRequest;
    type Answer = RateLimitResponse;
}

#[derive(Clone)]
struct ExtAuthz;

impl Method for ExtAuthz {
    const SERVICE: &'static str = "envoy.service.auth.v3.Authorization";
    type Question = CheckRequest;
    type Answer = CheckResponse;
}

fn run<M: Method>(answer: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(answer).with_context(|| format!("cannot read {}", answer.display()))?;
    let service = Echo::<M> { answer: Arc::new(M::Answer::decode(bytes.as_slice())?) };
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

struct Echo<M: Method> {
    answer: Arc<M::Answer>,
}

impl<M: Method> Clone for Echo<M> {
    fn clone(&self) -> Self {
        Self { answer: Arc::clone(&self.answer) }
    }
}

impl<M: Method> NamedService for Echo<M> {
    const NAME: &'static str = M::SERVICE;
}

/// As generated code has it: a boxed future of the whole call.
type Serving = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl<M: Method> tower_service::Service<http::Request<Body>> for Echo<M> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Serving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Serving {
        let echo = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<M::Answer, M::Question>::default();
            Ok(Grpc::new(codec).unary(echo, request).await)
        })
    }
}

impl<M: Method> UnaryService<M::Question> for Echo<M> {
    type Response = M::Answer;
    type Future = Ready<Result<Response<M::Answer>, Status>>;

    fn call(&mut self, _: Request<M::Question>) -> Self::Future {
        ready(Ok(Response::new(M::Answer::clone(&self.answer))))
    }
}
