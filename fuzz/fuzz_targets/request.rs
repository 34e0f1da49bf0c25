//! Bytes of requests, through decoding, bounds, service, embedded store and rendering: an answer that keeps its form, or
//! a status that blames the request; never a crash, never INTERNAL.
//!
//! Input: requests one after the other on one fresh store. Of each: a byte (three low bits: which message; the others: how far
//! the store's clock goes on), the length in two bytes, the message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use quotad::api::Api;
use quotad::pb::quotad::v1::decision_service_server::DecisionService;
use quotad::pb::quotad::v1::{
    AcquireConnectionRequest, AuthorizeRequest, AuthorizeResponse, CheckLimitRequest, CheckLimitsRequest,
    Decision, Header, Outcome, ReleaseConnectionRequest, RenewConnectionsRequest, RevokeTokenRequest,
    ValidateTokenRequest,
};
use quotad::store::memory::{MemoryOptions, StoreClock};
use quotad_fuzz::{PLAIN, RUNTIME, service};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::{Code, Request, Status};

/// 2026-01-01, in microseconds.
const START: u64 = 1_767_225_600_000_000;
/// Requests of one input.
const MOST: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let clock = Arc::new(AtomicU64::new(START));
    let options = MemoryOptions { clock: StoreClock::Manual(Arc::clone(&clock)), ..MemoryOptions::default() };
    let api = Api::new(service(&PLAIN, options));
    let mut rest = bytes;
    for _ in 0..MOST {
        let [kind, low, high, after @ ..] = rest else { return };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (message, after) = after.split_at(length);
        clock.fetch_add((1 << (kind >> 3)) - 1, Ordering::SeqCst);
        RUNTIME.block_on(call(&api, kind & 7, message));
        rest = after;
    }
});

async fn call(api: &impl DecisionService, kind: u8, bytes: &[u8]) {
    match kind {
        0 => {
            if let Some(request) = decode::<CheckLimitRequest>(bytes) {
                check(api, request).await;
            }
        }
        1 => {
            let checks = decode::<CheckLimitsRequest>(bytes).map(|request| request.checks);
            for request in checks.into_iter().flatten().take(MOST).filter_map(|check| check.request) {
                check(api, request).await;
            }
        }
        2 => {
            let Some(request) = decode::<AcquireConnectionRequest>(bytes) else { return };
            if let Some(answer) = answer(api.acquire_connection(Request::new(request)).await) {
                let allowed = decided(&answer.decision) == Outcome::Allow;
                assert!(allowed || answer.lease.is_none(), "a lease beside a denial");
            }
        }
        3 => {
            let Some(request) = decode::<RenewConnectionsRequest>(bytes) else { return };
            let asked = request.connections.len();
            if let Some(answer) = answer(api.renew_connections(Request::new(request)).await) {
                assert_eq!(answer.renewals.len(), asked, "one for each");
            }
        }
        4 => {
            let Some(request) = decode::<ReleaseConnectionRequest>(bytes) else { return };
            answer(api.release_connection(Request::new(request)).await);
        }
        5 => {
            let Some(request) = decode::<ValidateTokenRequest>(bytes) else { return };
            if let Some(answer) = answer(api.validate_token(Request::new(request)).await) {
                assert_eq!(decided(&answer.decision) == Outcome::Allow, answer.claims.is_some());
            }
        }
        6 => {
            let Some(request) = decode::<RevokeTokenRequest>(bytes) else { return };
            answer(api.revoke_token(Request::new(request)).await);
        }
        _ => {
            let Some(request) = decode::<AuthorizeRequest>(bytes) else { return };
            if let Some(answer) = answer(api.authorize(Request::new(request)).await) {
                authorized(&answer);
            }
        }
    }
}

/// What decodes survives its own encoding.
fn decode<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message), "a message does not survive its own encoding");
    Some(message)
}

/// The answer; a refusal must be one of the request, with words that are safe to log.
fn answer<T>(result: Result<tonic::Response<T>, Status>) -> Option<T> {
    let status = match result {
        Ok(answer) => return Some(answer.into_inner()),
        Err(status) => status,
    };
    assert!(matches!(status.code(), Code::InvalidArgument | Code::NotFound), "{status:?}");
    assert!(!status.message().is_empty(), "a status without words");
    assert!(!status.message().contains(char::is_control), "control characters in {:?}", status.message());
    None
}

async fn check(api: &impl DecisionService, request: CheckLimitRequest) {
    let peek = request.cost == Some(0);
    let Some(answer) = answer(api.check_limit(Request::new(request.clone())).await) else { return };
    decided(&answer.decision);
    if peek && request.request_id.is_empty() {
        let again = api.check_limit(Request::new(request)).await.expect("it answered before");
        assert_eq!(again.into_inner(), answer, "a peek changed something");
    }
}

fn authorized(answer: &AuthorizeResponse) {
    let outcome = decided(&answer.decision);
    safe(&answer.upstream_headers);
    assert!(outcome == Outcome::Allow || answer.lease.is_none(), "a lease beside a denial");
    for header in &answer.upstream_headers {
        let forged = answer.remove_headers.iter().any(|name| name.eq_ignore_ascii_case(&header.name));
        assert!(forged, "`{}` is set and a client's own is not removed", header.name);
    }
}

fn decided(decision: &Option<Decision>) -> Outcome {
    let decision = decision.as_ref().expect("an answer has a decision");
    let outcome = decision.outcome();
    assert!(outcome != Outcome::Unspecified && decision.reason != 0 && decision.mode != 0, "{decision:?}");
    match outcome {
        Outcome::Allow => assert_eq!(decision.http_status, 200),
        _ => assert!([401, 403, 429, 503].contains(&decision.http_status), "{decision:?}"),
    }
    assert!(outcome == Outcome::Deny || decision.retry_after.is_none(), "allowed, and told to wait");
    assert_eq!(outcome == Outcome::Deny, decision.body.is_some(), "{decision:?}");
    for status in &decision.statuses {
        assert!(status.algorithm != 0 && status.mode != 0 && !status.policy.is_empty(), "{status:?}");
        assert!(
            !status.shadow || !status.violated || outcome == Outcome::Allow || decision.statuses.len() > 1
        );
    }
    if let Some(wait) = &decision.retry_after {
        assert!(wait.seconds >= 0 && wait.nanos >= 0 && (wait.seconds, wait.nanos) != (0, 0), "{wait:?}");
    }
    safe(&decision.headers);
    outcome
}

/// Nothing that a caller sent may end a header and begin another.
fn safe(headers: &[Header]) {
    for Header { name, value } in headers {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert!(!name.is_empty() && name.bytes().all(token), "a header is named {name:?}");
        assert!(!value.contains(|c: char| c.is_control() && c != '\t'), "{name}: {value:?}");
    }
}
