//! Leases behind Envoy: taken by ext_authz and kept by the access log, or held by a stream of ext_proc.

use crate::harness::{PATIENCE, Quotad, until};
use crate::tokens::mint;
use auth::attribute_context::{HttpRequest, Request};
use core::{HeaderMap, HeaderValue};
use log::stream_access_logs_message::{HttpAccessLogEntries, LogEntries};
use logged::AccessLogType as Type;
use proc::external_processor_client::ExternalProcessorClient;
use proc::processing_request::Request as Message;
use proc::processing_response::Response as Answer;
use prost_types::Struct;
use prost_types::value::Kind;
use quotad::pb::envoy::config::core::v3 as core;
use quotad::pb::envoy::data::accesslog::v3 as logged;
use quotad::pb::envoy::service::accesslog::v3 as log;
use quotad::pb::envoy::service::auth::v3 as auth;
use quotad::pb::envoy::service::ext_proc::v3 as proc;
use quotad::pb::quotad::v1 as pb;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// The life of a short lease. A machine that stands still for a part of it makes no test fail.
const TTL: Duration = Duration::from_secs(4);
/// Sooner than by the TTL alone.
const SOON: Duration = Duration::from_millis(2_500);
/// Longer than a TTL.
const LONG: Duration = Duration::from_secs(5);

const NAMESPACE: &str = "envoy.filters.http.ext_authz";

pub const CONFIG: &str = r#"
http:
  identity_headers: {x-user-id: sub}
tokens:
  - {name: app, issuer: example-app, algorithms: [HS256], key: {file: token.key, generate: true}, require: [sub, jti, exp]}
policies:
  - {name: five, partition: [user], match: {path: "/ws/**"}, algorithm: concurrency, limit: 5, lease_ttl: 30s}
  - {name: short, partition: [user], match: {path: "/short/**"}, algorithm: concurrency, limit: 1, lease_ttl: 4s}
routes:
  - {name: five, paths: ["/ws/**"], token: required, connection: [five]}
  - {name: short, paths: ["/short/**"], token: required, connection: [short]}
"#;

pub async fn channel(quotad: &Quotad) -> Channel {
    Channel::from_shared(format!("http://{}", quotad.address)).unwrap().connect().await.unwrap()
}

/// What ext_authz answers: the metadata, when it allowed.
pub async fn authorize(channel: &Channel, path: &str, token: &str) -> Option<Struct> {
    let headers = [("authorization".to_owned(), format!("Bearer {token}"))];
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: path.as_bytes().to_vec(),
        host: b"example.com".to_vec(),
        headers: headers.into_iter().collect(),
        ..HttpRequest::default()
    };
    let attributes = auth::AttributeContext {
        request: Some(Request { http: Some(http), time: None }),
        ..auth::AttributeContext::default()
    };
    let request = auth::CheckRequest { attributes: Some(attributes) };
    let mut client = auth::authorization_client::AuthorizationClient::new(channel.clone());
    let answer = client.check(request).await.unwrap().into_inner();
    let metadata = answer.dynamic_metadata.unwrap();
    let allowed = answer.status.unwrap().code == 0;
    assert_eq!(metadata.fields.contains_key("lease"), allowed, "a refused attempt has no lease");
    allowed.then_some(metadata)
}

/// All places of a user.
pub async fn five(channel: &Channel, token: &str) -> Vec<Struct> {
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(authorize(channel, "/ws/a", token).await.expect("five of five"));
    }
    held
}

pub fn entry(kind: Type, metadata: &Struct) -> logged::HttpAccessLogEntry {
    let filter_metadata = [(NAMESPACE.to_owned(), metadata.clone())].into_iter().collect();
    let common = logged::AccessLogCommon {
        access_log_type: kind.into(),
        metadata: Some(core::Metadata { filter_metadata }),
        ..logged::AccessLogCommon::default()
    };
    logged::HttpAccessLogEntry { common_properties: Some(common), ..logged::HttpAccessLogEntry::default() }
}

pub fn message(log_entry: Vec<logged::HttpAccessLogEntry>) -> log::StreamAccessLogsMessage {
    log::StreamAccessLogsMessage {
        log_entries: Some(LogEntries::HttpLogs(HttpAccessLogEntries { log_entry })),
        ..log::StreamAccessLogsMessage::default()
    }
}

pub fn put(lease: &mut Struct, key: &str, value: &str) {
    let value = prost_types::Value { kind: Some(Kind::StringValue(value.to_owned())) };
    lease.fields.insert(key.to_owned(), value);
}

/// The stream of one Envoy worker.
pub struct Log {
    sender: mpsc::Sender<log::StreamAccessLogsMessage>,
    task: tokio::task::JoinHandle<Result<(), tonic::Status>>,
}

impl Log {
    pub fn open(channel: &Channel) -> Self {
        let (sender, receiver) = mpsc::channel(16);
        let mut client = log::access_log_service_client::AccessLogServiceClient::new(channel.clone());
        let stream = ReceiverStream::new(receiver);
        let task = tokio::spawn(async move { client.stream_access_logs(stream).await.map(drop) });
        Self { sender, task }
    }

    pub async fn say(&self, entries: Vec<logged::HttpAccessLogEntry>) {
        self.sender.send(message(entries)).await.unwrap();
    }

    pub async fn close(self) -> Result<(), tonic::Status> {
        drop(self.sender);
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn the_access_log_renews_beyond_the_ttl_and_releases_at_the_end() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let held = authorize(&channel, "/short/a", &token).await.unwrap();
    let log = Log::open(&channel);
    let (start, mut refused) = (Instant::now(), 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while start.elapsed() < LONG {
        ticks.tick().await;
        log.say(vec![entry(Type::DownstreamPeriodic, &held)]).await;
        assert_eq!(authorize(&channel, "/short/b", &token).await, None, "{:?}", start.elapsed());
        refused += 1;
    }
    assert!(refused > 5, "{refused}");
    // In order: the renewal of the same message does not outlive the end.
    let freed = Instant::now();
    log.say(vec![entry(Type::DownstreamPeriodic, &held), entry(Type::DownstreamEnd, &held)]).await;
    until("the place is free", async || authorize(&channel, "/short/b", &token).await.is_some()).await;
    assert!(freed.elapsed() < SOON, "by the TTL alone: {:?}", freed.elapsed());
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_killed_envoy_gives_its_places_back_within_the_ttl() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let held = authorize(&channel, "/short/a", &token).await.unwrap();
    let log = Log::open(&channel);
    log.say(vec![entry(Type::DownstreamStart, &held)]).await;
    assert_eq!(authorize(&channel, "/short/b", &token).await, None);
    log.task.abort();
    let start = Instant::now();
    until("the place is free", async || authorize(&channel, "/short/b", &token).await.is_some()).await;
    assert!(start.elapsed() < TTL * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn five_of_five_and_only_a_holders_end_frees_a_place() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let held = five(&channel, &token).await;
    assert_eq!(authorize(&channel, "/ws/a", &token).await, None, "the sixth");
    let log = Log::open(&channel);
    // The end of a refused attempt has no lease; these are bent, unknown, or of another kind.
    let bent = |change: fn(&mut Struct)| {
        let mut metadata = held[0].clone();
        let Some(Kind::StructValue(lease)) = &mut metadata.fields.get_mut("lease").unwrap().kind else {
            panic!("no struct")
        };
        change(lease);
        entry(Type::DownstreamEnd, &metadata)
    };
    let entries = vec![
        entry(Type::DownstreamEnd, &Struct::default()),
        logged::HttpAccessLogEntry::default(),
        bent(|lease| drop(lease.fields.remove("id"))),
        bent(|lease| put(lease, "id", "00000000000000000000000000000000")),
        bent(|lease| put(lease, "domain", "nowhere")),
        bent(|lease| put(lease, "policies", "five")),
        bent(|lease| put(lease, "token", "x")),
        bent(|lease| lease.fields.clear()),
        entry(Type::UpstreamEnd, &held[0]),
        entry(Type::NotSet, &held[0]),
        entry(Type::DownstreamPeriodic, &held[0]),
    ];
    log.say(entries).await;
    log.close().await.expect("the stream went on to its end");
    assert_eq!(authorize(&channel, "/ws/a", &token).await, None, "nothing of that freed a place");
    let log = Log::open(&channel);
    log.say(vec![entry(Type::DownstreamEnd, &held[0]), entry(Type::DownstreamEnd, &held[0])]).await;
    log.close().await.unwrap();
    assert!(authorize(&channel, "/ws/a", &token).await.is_some(), "freed");
    assert_eq!(authorize(&channel, "/ws/a", &token).await, None, "freed once");
}

/// One request of Envoy's ext_proc.
pub struct Stream {
    pub sender: mpsc::Sender<proc::ProcessingRequest>,
    pub answers: Streaming<proc::ProcessingResponse>,
}

impl Stream {
    pub async fn open(channel: &Channel) -> Self {
        let (sender, receiver) = mpsc::channel(16);
        let mut client = ExternalProcessorClient::new(channel.clone());
        let answers = client.process(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { sender, answers }
    }

    pub async fn ask(&mut self, message: Message) -> Result<Option<Answer>, tonic::Status> {
        let request = proc::ProcessingRequest { request: Some(message), ..Default::default() };
        self.sender.send(request).await.unwrap();
        self.answer().await
    }

    pub async fn answer(&mut self) -> Result<Option<Answer>, tonic::Status> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("in time")?;
        Ok(answer.map(|answer| answer.response.expect("an answer says what")))
    }
}

pub fn headers(path: &str, headers: &[(&str, &str)]) -> proc::HttpHeaders {
    let pseudo = [(":method", "GET"), (":path", path), (":authority", "example.com")];
    let header = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let headers = pseudo.iter().chain(headers).map(header).collect();
    proc::HttpHeaders { headers: Some(HeaderMap { headers }), ..proc::HttpHeaders::default() }
}

pub fn asks(path: &str, token: &str) -> Message {
    let bearer = format!("Bearer {token}");
    let forged = [("authorization", &*bearer), ("x-user-id", "root"), ("x_user_id", "root")];
    Message::RequestHeaders(headers(path, &forged))
}

/// The stream of an allowed request.
pub async fn allowed(channel: &Channel, path: &str, token: &str) -> Option<Stream> {
    let mut stream = Stream::open(channel).await;
    match stream.ask(asks(path, token)).await.unwrap().unwrap() {
        Answer::RequestHeaders(_) => Some(stream),
        Answer::ImmediateResponse(denied) => {
            assert_eq!(denied.status.unwrap().code, 429);
            assert!(stream.answer().await.unwrap().is_none(), "nothing follows a denial");
            None
        }
        other => panic!("{other:?}"),
    }
}

/// So many of them.
pub async fn streams(channel: &Channel, token: &str, many: usize) -> Vec<Stream> {
    let mut held = Vec::new();
    for _ in 0..many {
        held.push(allowed(channel, "/ws/a", token).await.expect("five of five"));
    }
    held
}

#[tokio::test]
async fn a_stream_of_ext_proc_is_one_lease_until_it_ends_or_is_reset() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let mut held = streams(&channel, &token, 5).await;
    assert!(allowed(&channel, "/ws/a", &token).await.is_none(), "the sixth");
    assert!(allowed(&channel, "/ws/a", &token).await.is_none(), "the refused one freed nothing");
    // The normal end: Envoy half-closes.
    let Stream { sender, mut answers } = held.pop().unwrap();
    drop(sender);
    let end = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap();
    assert!(end.is_none());
    let mut taken = None;
    until("the place is free", async || {
        taken = allowed(&channel, "/ws/a", &token).await;
        taken.is_some()
    })
    .await;
    assert!(allowed(&channel, "/ws/a", &token).await.is_none());
    // The reset: the client drops both halves while the request is open. The lease lives 30 s.
    let reset = Instant::now();
    drop(taken.take());
    until("the place is free", async || {
        taken = allowed(&channel, "/ws/a", &token).await;
        taken.is_some()
    })
    .await;
    assert!(reset.elapsed() < Duration::from_secs(15), "{:?}", reset.elapsed());
    assert!(allowed(&channel, "/ws/a", &token).await.is_none(), "one place, not more");
}

#[tokio::test]
async fn ext_proc_answers_each_message_and_sets_who_asks() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let mut stream = Stream::open(&channel).await;
    let Ok(Some(Answer::RequestHeaders(answer))) = stream.ask(asks("/ws/a", &token)).await else {
        panic!("not allowed")
    };
    let mutation = answer.response.unwrap().header_mutation.unwrap();
    assert_eq!(mutation.remove_headers, ["x-user-id", "x_user_id"], "the client's own, however spelled");
    let set = mutation.set_headers[0].header.clone().unwrap();
    assert_eq!((&*set.key, &*set.raw_value), ("x-user-id", &b"alice"[..]));
    let answer = stream.ask(Message::ResponseHeaders(headers("", &[]))).await.unwrap();
    assert!(matches!(answer, Some(Answer::ResponseHeaders(_))), "{answer:?}");
    let answer = stream.ask(Message::ResponseBody(proc::HttpBody::default())).await.unwrap();
    assert!(matches!(answer, Some(Answer::ResponseBody(_))), "{answer:?}");
    let answer = stream.ask(Message::ResponseTrailers(proc::HttpTrailers::default())).await.unwrap();
    assert!(matches!(answer, Some(Answer::ResponseTrailers(_))), "{answer:?}");
    // Whatever is no request is a response too, not a status that Envoy may let pass.
    for (first, status) in [
        (asks("/ws/a", "bent"), 401),
        (Message::RequestHeaders(proc::HttpHeaders::default()), 400),
        (Message::ResponseHeaders(headers("", &[])), 503),
    ] {
        let mut stream = Stream::open(&channel).await;
        let Ok(Some(Answer::ImmediateResponse(denied))) = stream.ask(first).await else {
            panic!("not denied")
        };
        assert_eq!(denied.status.unwrap().code, status);
        assert!(!denied.body.is_empty());
    }
}

#[tokio::test]
async fn a_stream_renews_its_lease_and_ends_when_its_token_is_revoked() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let mut stream = allowed(&channel, "/short/a", &token).await.unwrap();
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while start.elapsed() < LONG {
        ticks.tick().await;
        assert!(allowed(&channel, "/short/b", &token).await.is_none(), "{:?}", start.elapsed());
    }
    let target = Some(pb::revoke_token_request::Target::Token(token.clone()));
    quotad.client().await.revoke_token(pb::RevokeTokenRequest { target }).await.unwrap();
    let status = stream.answer().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "an error ends the connection behind Envoy");
}

#[tokio::test]
async fn the_drain_ends_streams_well() {
    let mut quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let mut stream = allowed(&channel, "/ws/a", &token).await.unwrap();
    let log = Log::open(&channel);
    log.say(Vec::new()).await;
    let start = Instant::now();
    quotad.signal("TERM");
    assert_eq!(stream.answer().await.unwrap(), None, "Envoy lets the connection live");
    assert_eq!(quotad.ended().await, Some(0));
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    drop(log);
}

#[tokio::test]
async fn the_log_of_a_tcp_proxy_renews_and_releases_too() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let held = authorize(&channel, "/short/a", &token).await.unwrap();
    let log = Log::open(&channel);
    let say = async |kind: Type, metadata: &Struct| {
        let common = entry(kind, metadata).common_properties;
        let entry = logged::TcpAccessLogEntry { common_properties: common, ..Default::default() };
        let bare = logged::TcpAccessLogEntry::default();
        let entries = log::stream_access_logs_message::TcpAccessLogEntries { log_entry: vec![bare, entry] };
        let message = log::StreamAccessLogsMessage {
            log_entries: Some(LogEntries::TcpLogs(entries)),
            ..log::StreamAccessLogsMessage::default()
        };
        log.sender.send(message).await.unwrap();
    };
    say(Type::TcpConnectionStart, &held).await;
    say(Type::TcpConnectionEnd, &Struct::default()).await;
    let (start, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(200)));
    while start.elapsed() < LONG {
        ticks.tick().await;
        say(Type::TcpPeriodic, &held).await;
        assert_eq!(authorize(&channel, "/short/b", &token).await, None, "{:?}", start.elapsed());
    }
    say(Type::TcpPeriodic, &held).await;
    say(Type::TcpConnectionEnd, &held).await;
    let freed = Instant::now();
    until("the place is free", async || authorize(&channel, "/short/b", &token).await.is_some()).await;
    assert!(freed.elapsed() < SOON, "by the TTL alone: {:?}", freed.elapsed());
    log.close().await.unwrap();
}

/// A path that can be read in two ways is of two domains here.
const TWO_DOMAINS: &str = r#"
tokens:
  - {name: app, issuer: example-app, algorithms: [HS256], key: {file: token.key, generate: true}, require: [sub, jti, exp]}
policies:
  - {name: one, partition: [user], algorithm: concurrency, limit: 1, lease_ttl: 4s}
  - {name: two, domain: other, partition: [user], algorithm: concurrency, limit: 1, lease_ttl: 4s}
routes:
  - {name: one, paths: ["/one/**"], token: required, connection: [one]}
  - {name: two, domain: other, paths: ["/two/**"], token: required, connection: [two]}
"#;

/// `/two/x` to who takes steps back, `/one/..%2Ftwo/x` to who does not.
const AMBIGUOUS: &str = "/one/..%2Ftwo/x";

async fn only_the_end_frees(quotad: &Quotad, free: impl AsyncFn(&str) -> bool) {
    let (start, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(200)));
    while start.elapsed() < LONG {
        ticks.tick().await;
        for path in ["/one/a", "/two/a"] {
            assert!(!free(path).await, "{path} {:?} {}", start.elapsed(), quotad.address);
        }
    }
}

#[tokio::test]
async fn a_lease_in_two_domains_is_renewed_and_released_in_both_by_the_access_log() {
    let quotad = Quotad::start(TWO_DOMAINS);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let held = authorize(&channel, AMBIGUOUS, &token).await.unwrap();
    let log = Log::open(&channel);
    only_the_end_frees(&quotad, async |path| {
        log.say(vec![entry(Type::DownstreamPeriodic, &held)]).await;
        authorize(&channel, path, &token).await.is_some()
    })
    .await;
    let freed = Instant::now();
    log.say(vec![entry(Type::DownstreamPeriodic, &held), entry(Type::DownstreamEnd, &held)]).await;
    for path in ["/one/a", "/two/a"] {
        until("the place is free", async || authorize(&channel, path, &token).await.is_some()).await;
    }
    assert!(freed.elapsed() < SOON, "by the TTL alone: {:?}", freed.elapsed());
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_lease_in_two_domains_is_renewed_and_released_in_both_by_ext_proc() {
    let quotad = Quotad::start(TWO_DOMAINS);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let held = allowed(&channel, AMBIGUOUS, &token).await.unwrap();
    only_the_end_frees(&quotad, async |path| allowed(&channel, path, &token).await.is_some()).await;
    let freed = Instant::now();
    drop(held);
    for path in ["/one/a", "/two/a"] {
        until("the place is free", async || allowed(&channel, path, &token).await.is_some()).await;
    }
    assert!(freed.elapsed() < SOON, "by the TTL alone: {:?}", freed.elapsed());
}
