//! A quotad for tests of its clients: real gRPC on a real socket, with answers that the test chooses.

use crate::client::Address;
use crate::pb::quotad::v1::check_limits_response::{
    Error, Result as CheckAnswer, result::Result as CheckResult,
};
use crate::pb::quotad::v1::decision_service_server::{DecisionService, DecisionServiceServer};
use crate::pb::quotad::v1::*;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

type Judge = dyn Fn(&CheckLimitRequest) -> Result<Decision, Status> + Send + Sync;

/// A server on a thread of its own; it ends with this value.
pub(super) struct Fake {
    pub(super) address: Address,
    calls: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    hang_up: watch::Sender<()>,
}

#[derive(Clone)]
struct Service {
    judge: Arc<Judge>,
    calls: Arc<AtomicU64>,
    hang_up: watch::Receiver<()>,
}

enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Fake {
    pub(super) fn start(
        judge: impl Fn(&CheckLimitRequest) -> Result<Decision, Status> + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::serve(
            &address,
            move || Listener::Tcp(tokio::net::TcpListener::from_std(listener).unwrap()),
            judge,
        )
    }

    pub(super) fn start_unix(
        path: &Path,
        judge: impl Fn(&CheckLimitRequest) -> Result<Decision, Status> + Send + Sync + 'static,
    ) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("unix:{}", path.display());
        let open = move || Listener::Unix(tokio::net::UnixListener::from_std(listener).unwrap());
        Self::serve(&address, open, judge)
    }

    fn serve(
        address: &str,
        listener: impl FnOnce() -> Listener + Send + 'static,
        judge: impl Fn(&CheckLimitRequest) -> Result<Decision, Status> + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::new(AtomicU64::new(0));
        let (hang_up, hung_up) = watch::channel(());
        let service = Service { judge: Arc::new(judge), calls: Arc::clone(&calls), hang_up: hung_up };
        let (stop, mut stopped) = watch::channel(false);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = listener();
                tokio::select! {
                    () = accept(&listener, service) => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        });
        Self { address: address.parse().unwrap(), calls, stop, hang_up }
    }

    /// Checks judged so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Asks every client that is connected now to go, as a server does that drains or finds a connection too old.
    pub(super) fn hang_up(&self) {
        self.hang_up.send_replace(());
    }

    /// Closes every connection and listens no more.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

async fn accept(listener: &Listener, service: Service) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let service = service.clone();
        match listener {
            Listener::Tcp(listener) => connections.spawn(serve(listener.accept().await.unwrap().0, service)),
            Listener::Unix(listener) => connections.spawn(serve(listener.accept().await.unwrap().0, service)),
        };
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Service) {
    let mut hang_up = service.hang_up.clone();
    hang_up.mark_unchanged();
    let service = TowerToHyperService::new(DecisionServiceServer::new(service));
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = hang_up.changed() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

impl Service {
    fn judge(&self, request: &CheckLimitRequest) -> Result<Decision, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.judge)(request)
    }

    fn answer(&self, request: CheckLimitsRequest) -> CheckLimitsResponse {
        let results = request.checks.into_iter().map(|check| {
            let result = match self.judge(&check.request.unwrap_or_default()) {
                Ok(decision) => CheckResult::Decision(decision),
                Err(status) => CheckResult::Error(Error {
                    code: status.code().into(),
                    message: status.message().to_owned(),
                }),
            };
            CheckAnswer { id: check.id, result: Some(result) }
        });
        CheckLimitsResponse { results: results.collect() }
    }
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the fake only checks"))
}

#[tonic::async_trait]
impl DecisionService for Service {
    type CheckLimitsStream = Pin<Box<dyn Stream<Item = Result<CheckLimitsResponse, Status>> + Send>>;

    async fn check_limit(
        &self,
        request: Request<CheckLimitRequest>,
    ) -> Result<Response<CheckLimitResponse>, Status> {
        let decision = self.judge(request.get_ref())?;
        Ok(Response::new(CheckLimitResponse { decision: Some(decision) }))
    }

    async fn check_limits(
        &self,
        request: Request<Streaming<CheckLimitsRequest>>,
    ) -> Result<Response<Self::CheckLimitsStream>, Status> {
        let service = self.clone();
        let answers = request.into_inner().map(move |asked| asked.map(|asked| service.answer(asked)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn acquire_connection(
        &self,
        _: Request<AcquireConnectionRequest>,
    ) -> Result<Response<AcquireConnectionResponse>, Status> {
        unused()
    }

    async fn renew_connections(
        &self,
        _: Request<RenewConnectionsRequest>,
    ) -> Result<Response<RenewConnectionsResponse>, Status> {
        unused()
    }

    async fn release_connection(
        &self,
        _: Request<ReleaseConnectionRequest>,
    ) -> Result<Response<ReleaseConnectionResponse>, Status> {
        unused()
    }

    async fn validate_token(
        &self,
        _: Request<ValidateTokenRequest>,
    ) -> Result<Response<ValidateTokenResponse>, Status> {
        unused()
    }

    async fn revoke_token(
        &self,
        _: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        unused()
    }

    async fn settle_cost(
        &self,
        _: Request<SettleCostRequest>,
    ) -> Result<Response<SettleCostResponse>, Status> {
        unused()
    }

    async fn authorize(&self, _: Request<AuthorizeRequest>) -> Result<Response<AuthorizeResponse>, Status> {
        unused()
    }
}
