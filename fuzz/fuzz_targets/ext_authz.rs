//! Bytes of a CheckRequest, as Envoy would call with them: an answer that Envoy takes for what it is, whatever a client put
//! into the request; never a gRPC status.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use quotad::envoy::Envoy;
use quotad::pb::envoy::config::core::v3::HeaderValueOption;
use quotad::pb::envoy::service::auth::v3::authorization_server::Authorization;
use quotad::pb::envoy::service::auth::v3::check_response::HttpResponse;
use quotad::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use quotad::store::memory::MemoryOptions;
use quotad_fuzz::{PLAIN, RUNTIME, service};
use tonic::Request;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = CheckRequest::decode(bytes) else { return };
    let again = CheckRequest::decode(request.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&request), "a message does not survive its own encoding");
    let envoy = Envoy::new(service(&PLAIN, MemoryOptions::default()));
    // Twice: what is charged once may be refused the second time.
    for _ in 0..2 {
        let called = RUNTIME.block_on(envoy.check(Request::new(request.clone())));
        judge(&called.expect("a gRPC status is leave for some").into_inner());
    }
});

fn judge(answer: &CheckResponse) {
    let code = answer.status.as_ref().expect("a status").code;
    match answer.http_response.as_ref().expect("a response") {
        HttpResponse::OkResponse(ok) => {
            assert_eq!(code, 0, "{answer:?}");
            safe(&ok.response_headers_to_add);
            safe(&ok.headers);
            for header in ok.headers.iter().filter_map(|option| option.header.as_ref()) {
                let removed = ok.headers_to_remove.iter().any(|name| name.eq_ignore_ascii_case(&header.key));
                assert!(!removed, "`{}` is set, and then Envoy removes it", header.key);
            }
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(code, 0, "Envoy would let this pass: {answer:?}");
            let status = denied.status.as_ref().expect("a status").code;
            assert!([400, 401, 403, 429, 503].contains(&status), "{answer:?}");
            assert!(!denied.body.is_empty());
            safe(&denied.headers);
        }
        HttpResponse::ErrorResponse(_) => panic!("the embedded store is never away: {answer:?}"),
    }
}

/// Nothing that a caller sent may end a header and begin another, and none stands twice.
fn safe(options: &[HeaderValueOption]) {
    let mut names: Vec<&str> = Vec::new();
    for header in options.iter().filter_map(|option| option.header.as_ref()) {
        assert!(!header.value.contains(|c: char| c.is_control()), "{header:?}");
        assert!(header.raw_value.is_empty() && !names.contains(&header.key.as_str()), "{header:?}");
        names.push(&header.key);
    }
}
