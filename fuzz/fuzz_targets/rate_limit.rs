//! Bytes of a RateLimitRequest: a status for each descriptor, in a form that Envoy takes, or words about the request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use quotad::envoy::Envoy;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use quotad::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use quotad::store::memory::MemoryOptions;
use quotad_fuzz::{LIMITED, RUNTIME, service};
use tonic::{Code as Status, Request};

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = RateLimitRequest::decode(bytes) else { return };
    let envoy = Envoy::new(service(&LIMITED, MemoryOptions::default()));
    // Twice: what is counted once may be over the second time.
    for _ in 0..2 {
        match RUNTIME.block_on(envoy.should_rate_limit(Request::new(request.clone()))) {
            Ok(answer) => judge(&request, &answer.into_inner()),
            // UNKNOWN is the original's word for a request without a domain or descriptors.
            Err(status) => {
                let code = status.code();
                assert!(matches!(code, Status::InvalidArgument | Status::Unknown), "{status:?}");
                assert!(!status.message().is_empty());
            }
        }
    }
});

fn judge(request: &RateLimitRequest, answer: &RateLimitResponse) {
    assert_eq!(answer.statuses.len(), request.descriptors.len(), "one status a descriptor: {answer:?}");
    assert!(matches!(answer.overall_code(), Code::Ok | Code::OverLimit), "{answer:?}");
    for status in &answer.statuses {
        assert!(matches!(status.code(), Code::Ok | Code::OverLimit), "{answer:?}");
        let wait = status.duration_until_reset.as_ref();
        assert!(wait.is_none_or(|wait| wait.seconds >= 0 && wait.nanos >= 0), "{answer:?}");
        if let Some(limit) = &status.current_limit {
            assert!(status.limit_remaining <= limit.requests_per_unit, "more left than there is: {answer:?}");
        }
    }
    for header in &answer.response_headers_to_add {
        assert!(!header.value.contains(|c: char| c.is_control()), "{header:?}");
    }
}
