//! Calls of the service under a deadline and a breaker.
//!
//! Must never: repeat a call that may have been sent; what it charged would be charged twice. tonic sends each once; a
//! settlement or a revocation, which do no harm twice, are repeated by those who ask for them.

#[cfg(feature = "testing")]
use crate::testing::FakeDecisions;
use crate::{
    breaker::{Breaker, Change},
    error::{Cause, ConfigurationError, NoDecision},
    notice::{Notice, Notices},
    v1::{self as pb, decision_service_client::DecisionServiceClient},
};
use std::{
    error::Error as _,
    fmt::Write as _,
    future::Future,
    net::IpAddr,
    process,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::{Handle, Id},
    time::Instant,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// A connection that a firewall forgot is found out in 22 seconds; the breaker stands in until then.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// An attempt that hangs is given up, so that the next one comes within two seconds of a restart.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Runtimes whose channels are kept; tests of one process make many.
const MAX_RUNTIMES: usize = 8;

pub(crate) enum Transport {
    Grpc(Box<Grpc>),
    #[cfg(feature = "testing")]
    Fake(FakeDecisions),
}

/// A channel for each runtime: the connection of one that has ended is of no use to another.
pub(crate) struct Grpc {
    endpoint: Endpoint,
    channels: Mutex<Vec<(Id, Channel)>>,
}

impl Grpc {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, channels: Mutex::default() }
    }

    fn client(&self) -> DecisionServiceClient<Channel> {
        let runtime = Handle::current().id();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = channels.iter().find(|(id, _)| *id == runtime) {
            return DecisionServiceClient::new(channel.clone());
        }
        if channels.len() == MAX_RUNTIMES {
            channels.remove(0);
        }
        let channel = self.endpoint.connect_lazy();
        channels.push((runtime, channel.clone()));
        DecisionServiceClient::new(channel)
    }
}

/// Where quotad is, and that tokens may be sent there.
pub(crate) fn endpoint(target: &str, transit: Transit) -> Result<Endpoint, ConfigurationError> {
    let fault = |why| ConfigurationError::Target { target: target.to_owned(), why };
    if target.is_empty() {
        return Err(fault("it is empty; give HOST:PORT or unix:/path of quotad"));
    }
    let uri = match target.strip_prefix("unix:") {
        Some(path) => format!("unix://{}", path.strip_prefix("//").unwrap_or(path)),
        None if target.contains("://") => target.to_owned(),
        None => format!("http://{target}"),
    };
    let endpoint = Endpoint::from_shared(uri.clone()).map_err(|_| fault("no address"))?;
    let endpoint = if uri.starts_with("https://") {
        with_tls(endpoint).ok_or_else(|| fault("https needs the crate's feature `tls`"))?
    } else {
        if transit == Transit::Checked && !uri.starts_with("unix:") && !is_here(&endpoint) {
            return Err(fault(
                "not on this machine: tokens would cross the network in plain text; write https://, or say \
                 insecure() inside a network that encrypts by itself",
            ));
        }
        endpoint
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Whether plain text may leave this machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Transit {
    #[default]
    Checked,
    Insecure,
}

fn is_here(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(feature = "tls")]
fn with_tls(endpoint: Endpoint) -> Option<Endpoint> {
    endpoint.tls_config(tonic::transport::ClientTlsConfig::new().with_native_roots()).ok()
}

#[cfg(not(feature = "tls"))]
fn with_tls(_: Endpoint) -> Option<Endpoint> {
    None
}

/// What a gRPC error means here. What the service said has no source; what tonic made of a broken or refused
/// connection has one.
fn cause(status: &Status) -> Cause {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Cause::Malformed,
        Code::NotFound | Code::Unimplemented | Code::FailedPrecondition => Cause::NotConfigured,
        Code::DeadlineExceeded | Code::Cancelled => Cause::Away,
        _ if status.source().is_some() => Cause::Away,
        _ => Cause::Undecided,
    }
}

/// The transport, and the breaker in front of it.
pub(crate) struct Client {
    transport: Transport,
    breaker: Breaker,
}

macro_rules! calls {
    ($($name:ident($asked:ident) -> $answered:ident;)*) => {
        impl Client {
            $(
                /// One call. While the breaker is open it costs no wait.
                pub(crate) async fn $name(
                    &self,
                    asked: pb::$asked,
                    deadline: Duration,
                ) -> Result<pb::$answered, NoDecision> {
                    self.guarded(async {
                        match &self.transport {
                            Transport::Grpc(grpc) => {
                                let mut request = tonic::Request::new(asked);
                                request.set_timeout(deadline);
                                let mut client = grpc.client();
                                // tonic's future is large, and every request holds one.
                                Box::pin(within(deadline, client.$name(request))).await
                            }
                            #[cfg(feature = "testing")]
                            Transport::Fake(fake) => fake.$name(asked, deadline).await,
                        }
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    authorize(AuthorizeRequest) -> AuthorizeResponse;
    check_limit(CheckLimitRequest) -> CheckLimitResponse;
    acquire_connection(AcquireConnectionRequest) -> AcquireConnectionResponse;
    renew_connections(RenewConnectionsRequest) -> RenewConnectionsResponse;
    release_connection(ReleaseConnectionRequest) -> ReleaseConnectionResponse;
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse;
    settle_cost(SettleCostRequest) -> SettleCostResponse;
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, NoDecision> {
    match tokio::time::timeout(deadline, call).await {
        Err(_) => Err(NoDecision::away("no answer in time")),
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(NoDecision {
            cause: cause(&status),
            detail: format!("{:?}: {}", status.code(), status.message()),
        }),
    }
}

impl Client {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, breaker: Breaker::default() }
    }

    async fn guarded<T>(&self, call: impl Future<Output = Result<T, NoDecision>>) -> Result<T, NoDecision> {
        if !self.breaker.admits(Instant::now()) {
            return Err(NoDecision::away("the breaker is open"));
        }
        let answer = call.await;
        let change = match &answer {
            Err(NoDecision { cause: Cause::Away, .. }) => self.breaker.failed(Instant::now()),
            _ => self.breaker.succeeded(),
        };
        match change {
            Change::None => {}
            Change::Opened => Notices::change(Notice::Away, ""),
            Change::Closed => Notices::change(Notice::Back, ""),
        }
        answer
    }

    /// Connects, so that the first request need not wait for it. Charges nothing.
    pub(crate) async fn is_ready(&self, timeout: Duration) -> bool {
        let asked = pb::RenewConnectionsRequest::default();
        !matches!(self.renew_connections(asked, timeout).await, Err(NoDecision { cause: Cause::Away, .. }))
    }
}

/// A request or lease id: 128 random bits, made here, never taken from a client.
pub(crate) fn new_id() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without the system's randomness: std's keys are random as well, once a process, and the rest counts on.
        use std::hash::{BuildHasher as _, RandomState};
        let (first, second) = (RandomState::new(), RandomState::new());
        bytes[..8].copy_from_slice(&first.hash_one(0_u8).to_le_bytes());
        bytes[8..].copy_from_slice(&second.hash_one(1_u8).to_le_bytes());
    }
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Who holds this process's leases, as operators see it: `host/pid`.
pub(crate) fn holder() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(100).collect();
    format!("{}/{}", if name.is_empty() { "host" } else { &name }, process::id())
}

#[cfg(test)]
mod tests {
    use super::{Transit, endpoint, new_id};

    #[test]
    fn plain_text_stays_on_this_machine() {
        for target in ["127.0.0.1:50051", "http://[::1]:1", "localhost:1", "unix:/run/quotad.sock"] {
            endpoint(target, Transit::Checked).expect(target);
        }
        for target in ["", "10.0.0.1:50051", "http://quotad:50051", "http://localhost.example.com:1", " x"] {
            endpoint(target, Transit::Checked).expect_err(target);
        }
        endpoint("quotad:50051", Transit::Insecure).unwrap();
    }

    #[test]
    fn ids_are_128_bits_of_their_own() {
        let (one, other) = (new_id(), new_id());
        assert_eq!((one.len(), other.len()), (32, 32));
        assert_ne!(one, other);
    }
}
