//! The life of one stream: judge, hold, release.

use super::answer::{IsGrpc, allowed, denied, go_on};
use crate::budget::Ending;
use crate::engine::address::parse_ip_and_port;
use crate::engine::decision::Outcome;
use crate::engine::http::{Header, Refusal};
use crate::engine::units::Micros;
use crate::envoy::Envoy;
use crate::envoy::http::Exchange;
use crate::envoy::judge::{Asked, Told, Verdict, lease_id};
use crate::envoy::lease::{Lease, within};
use crate::pb::envoy::service::ext_proc::v3 as pb;
use crate::service::{Deadline, RenewalState};
use crate::store::Store;
use pb::processing_request::Request;
use prost_types::value::Kind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

/// The shortest time between renewals.
const SHORTEST: Duration = Duration::from_millis(100);
/// The attributes that Envoy sends on request.
const ATTRIBUTES: &str = "envoy.filters.http.ext_proc";

/// One stream of Envoy's: one HTTP request.
pub(super) struct Exchanged<S> {
    pub(super) envoy: Envoy<S>,
    pub(super) metadata: MetadataMap,
    pub(super) deadline: Deadline,
    pub(super) messages: Streaming<pb::ProcessingRequest>,
    pub(super) answers: Sender<Result<pb::ProcessingResponse, Status>>,
    /// Set with the first answer.
    pub(super) answered: Arc<AtomicBool>,
    /// The drain, or the end of the longest life of its connection.
    pub(super) ending: Ending,
}

/// What goes on after a request was allowed.
struct Goes {
    /// To be set on the response.
    headers: Vec<Header>,
    /// With the time between its renewals.
    lease: Option<(Lease, Duration)>,
}

/// How a stream ended.
enum End {
    /// The request is over, or Envoy is gone.
    Over,
    /// This process drains, or the connection is too old: the request goes on, its lease ends by itself.
    Drained,
}

impl<S: Store> Exchanged<S> {
    /// Until the stream ends.
    pub(super) async fn run(mut self) {
        let first = match self.messages.message().await {
            Ok(Some(first)) => first,
            Ok(None) => return,
            // To end well without a verdict would be leave to pass.
            Err(status) => {
                tracing::debug!(%status, "a malformed message is refused");
                let refused = self.envoy.service.refuse(Refusal::Malformed);
                self.say(Ok(denied(refused, IsGrpc::No)));
                return;
            }
        };
        let Some(Goes { headers, lease }) = self.open(&first).await else { return };
        let end = self.follow(headers, lease.as_ref()).await;
        drop(self.answers);
        if let (End::Over, Some((lease, _))) = (end, lease) {
            self.envoy.end(&lease).await;
        }
    }

    /// Judges the request; none: the stream is over.
    async fn open(&self, first: &pb::ProcessingRequest) -> Option<Goes> {
        let (verdict, is_grpc) = self.judge(first).await;
        match verdict {
            Verdict::Judged(authorized) if authorized.answered.decision.outcome == Outcome::Allow => {
                let answer = allowed(authorized.upstream_headers, authorized.remove_headers);
                let lease = authorized.lease.and_then(|grant| {
                    let every = between(grant.renew_after);
                    Some((Lease::of(grant)?, every))
                });
                if !self.say(Ok(answer)) {
                    if let Some((lease, _)) = &lease {
                        self.envoy.end(lease).await;
                    }
                    return None;
                }
                Some(Goes { headers: authorized.answered.rendered.headers, lease })
            }
            Verdict::Judged(authorized) => {
                self.say(Ok(denied(authorized.answered.rendered, is_grpc)));
                None
            }
            Verdict::Refused(rendered) => {
                self.say(Ok(denied(rendered, is_grpc)));
                None
            }
            // ext_proc has no other word for it: `failure_mode_allow` decides.
            Verdict::Undecided(_) => {
                self.say(Err(Status::unavailable("the store cannot answer now")));
                None
            }
        }
    }

    async fn judge(&self, first: &pb::ProcessingRequest) -> (Verdict, IsGrpc) {
        let service = &self.envoy.service;
        let Some(Request::RequestHeaders(headers)) = &first.request else {
            let mistake =
                &"ext_proc: the first message has no request headers; set request_header_mode: SEND";
            return (Verdict::Refused(service.refuse_unconfigured(mistake)), IsGrpc::No);
        };
        let none = Default::default();
        let exchange = match Exchange::of_headers(headers.headers.as_ref().unwrap_or(&none)) {
            Ok(exchange) => exchange,
            Err(malformed) => {
                tracing::debug!(%malformed, "a malformed request is refused");
                return (Verdict::Refused(service.refuse(Refusal::Malformed)), IsGrpc::No);
            }
        };
        let is_grpc = if exchange.is_grpc() { IsGrpc::Yes } else { IsGrpc::No };
        let Some(lease_id) = lease_id() else {
            return (Verdict::Refused(service.refuse(Refusal::Unavailable)), is_grpc);
        };
        let asked = Asked {
            exchange: &exchange,
            told: &Told::default(),
            peer: peer(first),
            metadata: &self.metadata,
            lease_id: &lease_id,
        };
        (self.envoy.judge(asked, self.deadline).await, is_grpc)
    }

    /// Answers what comes and renews, until the stream ends.
    async fn follow(&mut self, mut headers: Vec<Header>, lease: Option<&(Lease, Duration)>) -> End {
        let mut ticks = interval(lease.map_or(Duration::from_secs(3_600), |(_, every)| *every));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once.
        ticks.tick().await;
        loop {
            let message = tokio::select! {
                biased;
                () = self.answers.closed() => return End::Over,
                message = self.messages.message() => message,
                () = &mut self.ending => return End::Drained,
                _ = ticks.tick() => {
                    let Some((lease, every)) = lease else { continue };
                    if let Err(status) = hold(&self.envoy, lease, *every).await {
                        self.say(Err(status));
                        return End::Over;
                    }
                    continue;
                }
            };
            let request = match message {
                Ok(Some(message)) => message.request,
                Ok(None) => return End::Over,
                // Its place is free now, so that its connection must end. When Envoy is gone nobody hears it.
                Err(status) => {
                    tracing::debug!(%status, "a stream ends in the middle");
                    self.say(Err(Status::invalid_argument("a message is malformed, too long, or cut")));
                    return End::Over;
                }
            };
            // A message of nothing but flow control asks for no answer.
            let Some(request) = request else { continue };
            let answer = go_on(&request, &mut headers)
                .ok_or_else(|| Status::invalid_argument("request_headers: one request a stream"));
            let wrong = answer.is_err();
            if !self.say(answer) || wrong {
                return End::Over;
            }
        }
    }

    /// False when Envoy is gone, or reads no more.
    fn say(&self, answer: Result<pb::ProcessingResponse, Status>) -> bool {
        let said = self.answers.try_send(answer).is_ok();
        self.answered.fetch_or(said, Ordering::Relaxed);
        said
    }
}

/// Renews. A lease that was lost is taken again while there is room.
///
/// # Errors
/// The connection must end: its token is over, or its place is somebody else's.
async fn hold<S: Store>(envoy: &Envoy<S>, lease: &Lease, every: Duration) -> Result<(), Status> {
    let renewed = envoy.service.renew(&[lease.call()], within(every)).await;
    let state = match renewed {
        Ok(renewed) => renewed.first().map_or(RenewalState::Unknown, |(state, _)| *state),
        Err(error) => {
            tracing::debug!(%error, "a lease was not renewed");
            RenewalState::Unknown
        }
    };
    match state {
        RenewalState::Held | RenewalState::Unknown => Ok(()),
        RenewalState::Revoked => Err(Status::permission_denied("the token was revoked")),
        RenewalState::Expired => Err(Status::permission_denied("the token's life is over")),
        RenewalState::Lost => match envoy.service.acquire(lease.call(), within(every)).await {
            Ok(taken) if taken.answered.decision.outcome == Outcome::Deny => {
                Err(Status::aborted("the lease was lost and its place is taken"))
            }
            Ok(_) | Err(_) => Ok(()),
        },
    }
}

fn between(renew_after: Micros) -> Duration {
    Duration::from_micros(renew_after.0).max(SHORTEST)
}

/// The peer, where Envoy is told to send it: `request_attributes: [source.address]`.
fn peer(message: &pb::ProcessingRequest) -> Option<IpAddr> {
    match message.attributes.get(ATTRIBUTES)?.fields.get("source.address")?.kind.as_ref()? {
        Kind::StringValue(address) => parse_ip_and_port(address),
        _ => None,
    }
}
