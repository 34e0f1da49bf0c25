//! Clients that read no answers, on every other kind of call: streams of Envoy's, watches of health, large and small calls.

use crate::connections::connection;
use crate::harness::{Quotad, check, decide};
use crate::leases_envoy::{CONFIG, asks, entry, message};
use crate::tokens::mint;
use crate::unread::{Deaf, MIB, OF_ONE, at_rest, framed, resident};
use bytes::Bytes;
use proc::processing_request::Request as Message;
use prost::Message as _;
use prost_types::Struct;
use quotad::pb::envoy::data::accesslog::v3::AccessLogType as Type;
use quotad::pb::envoy::service::ext_proc::v3 as proc;
use quotad::pb::quotad::v1 as pb;
use tonic_health::pb::HealthCheckRequest;

const LOG: &str = "envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const PROCESS: &str = "envoy.service.ext_proc.v3.ExternalProcessor/Process";
const WATCH: &str = "grpc.health.v1.Health/Watch";
const RENEW: &str = "quotad.v1.DecisionService/RenewConnections";
const VALIDATE: &str = "quotad.v1.DecisionService/ValidateToken";

/// What a client sends on each of its streams, and how many those are.
struct Flood {
    method: &'static str,
    streams: usize,
    sent: Bytes,
}

/// One connection sends it and reads nothing, with windows that are closed or as large as ever.
async fn is_bounded(quotad: &Quotad, flood: &Flood) {
    for window in [0, 65_535] {
        let mut polite = quotad.client().await;
        let ask = || pb::CheckLimitRequest { cost: Some(0), ..check("any", &[]) };
        decide(&mut polite, ask()).await;
        let before = resident(quotad);
        let mut deaf = Deaf::with_window(quotad, window).await;
        for _ in 0..flood.streams {
            deaf.open(flood.method, flood.sent.clone()).await;
        }
        let taken = at_rest(quotad).await.saturating_sub(before);
        // Everybody else is served meanwhile.
        decide(&mut polite, ask()).await;
        let Flood { method, streams, .. } = flood;
        assert!(taken < OF_ONE, "{method}, {streams} streams, window {window}: {} MiB", taken / MIB);
    }
}

fn start() -> Quotad {
    Quotad::start(&CONFIG.replace("policies:\n", "policies:\n  - {name: any, limit: 5, window: 1h}\n"))
}

#[tokio::test]
async fn access_logs_that_are_sent_on_and_on() {
    let quotad = start();
    // A malformed lease is the longest to look at; a message is nearly a mebibyte.
    let long = message(vec![entry(Type::DownstreamPeriodic, &Struct::default()); 22_000]).encode_to_vec();
    assert!((MIB / 2..MIB).contains(&long.len()), "{}", long.len());
    is_bounded(&quotad, &Flood { method: LOG, streams: 64, sent: framed(&long).repeat(3).into() }).await;
    let short = message(vec![entry(Type::DownstreamPeriodic, &Struct::default())]).encode_to_vec();
    is_bounded(&quotad, &Flood { method: LOG, streams: 1_000, sent: framed(&short).repeat(200).into() })
        .await;
}

#[tokio::test]
async fn answers_of_ext_proc_that_nobody_reads() {
    let quotad = start();
    let token = mint(&quotad.config_path(), "alice");
    let ask = |request| framed(&proc::ProcessingRequest { request, ..Default::default() }.encode_to_vec());
    // Allowed without a lease: there are more streams than a user may have leases.
    let mut sent = ask(Some(asks("/about", &token)));
    sent.extend(ask(Some(Message::ResponseTrailers(proc::HttpTrailers::default()))).repeat(400));
    is_bounded(&quotad, &Flood { method: PROCESS, streams: 1_000, sent: sent.into() }).await;
}

#[tokio::test]
async fn watches_of_health_that_nobody_reads() {
    let quotad = start();
    let sent = framed(&HealthCheckRequest::default().encode_to_vec());
    is_bounded(&quotad, &Flood { method: WATCH, streams: 1_000, sent: sent.into() }).await;
}

#[tokio::test]
async fn renewals_of_thousands_that_nobody_reads() {
    let quotad = start();
    let leases = (0..4_096).map(|id| connection(&["five"], "alice", &format!("lease-{id}"))).collect();
    let sent: Bytes = framed(&pb::RenewConnectionsRequest { connections: leases }.encode_to_vec()).into();
    assert!(sent.len() < MIB, "{}", sent.len());
    is_bounded(&quotad, &Flood { method: RENEW, streams: 500, sent }).await;
}

#[tokio::test]
async fn token_checks_that_nobody_reads() {
    let quotad = start();
    let good = mint(&quotad.config_path(), &"s".repeat(200));
    for token in [good, "x".repeat(8 * 1_024)] {
        let sent = framed(&pb::ValidateTokenRequest { token, ..Default::default() }.encode_to_vec());
        is_bounded(&quotad, &Flood { method: VALIDATE, streams: 1_000, sent: sent.into() }).await;
    }
}
