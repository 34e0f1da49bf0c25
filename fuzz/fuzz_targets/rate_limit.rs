//! Bytes of a RateLimitRequest: a status for each descriptor, in a form that Envoy takes, or words about the request.

#![no_main]

use arc_swap::ArcSwap;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use quotad::config::ratelimit::RateLimitFolder;
use quotad::config::{Environment, Source, load};
use quotad::engine::rate_limit::{RateLimitOptions, RateLimits};
use quotad::envoy::Envoy;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use quotad::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use quotad::service::{Live, Service};
use quotad::store::memory::{MemoryOptions, MemoryStore};
use quotad::token::{Keys, Verifier};
use std::sync::{Arc, LazyLock};
use tokio::runtime::{Builder, Runtime};
use tonic::{Code as Status, Request};

const CONFIGURATION: &str = include_str!("../request.yaml");
const SECRET: &str = "fuzz-secret-of-more-than-thirty-two-bytes";
const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/limits");

static LIVE: LazyLock<Arc<ArcSwap<Live>>> = LazyLock::new(|| {
    let environment = Environment::given([("SECRET", SECRET)]);
    let config = load(&Source::text("request.yaml", CONFIGURATION).with_environment(environment))
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let verifier = Verifier::build(config.issuers.clone(), Keys::CheckOnly).expect("the entry is right");
    let limits = RateLimitFolder::new(LIMITS).load().unwrap_or_else(|mistakes| panic!("{mistakes}"));
    Arc::new(ArcSwap::from_pointee(Live {
        rate_limits: RateLimits::Set(Arc::new(limits.set)),
        rate_limit_options: RateLimitOptions { metadata: true, ..RateLimitOptions::default() },
        policies: Arc::clone(&config.policies),
        face: config.http.face.clone(),
        trusted_proxies: config.http.trusted_proxies.clone(),
        client_ip: config.envoy.client_ip.clone(),
        identity_headers: config.http.identity_headers.clone(),
        verifier: Arc::new(verifier),
    }))
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = RateLimitRequest::decode(bytes) else { return };
    let options = MemoryOptions { max_keys: 64, ..MemoryOptions::default() };
    let store = Arc::new(MemoryStore::new(options).expect("an empty store"));
    let service = Service::new(Arc::clone(&LIVE), Arc::clone(&store), store);
    let envoy = Envoy::new(Arc::new(service));
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
