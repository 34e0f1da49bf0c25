//! The command line: our own client, and the README's lines with a real grpcurl.

use crate::harness::{Quotad, output_in_time, quotad, shipped};
use std::process::{Command, Output};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn grpcurl() -> Command {
    let path = std::env::var("QUOTAD_GRPCURL").unwrap_or_else(|_| "grpcurl".to_owned());
    let mut command = Command::new(path);
    command.arg("-plaintext");
    command
}

#[test]
fn check_prints_a_table_or_json_and_says_the_outcome_by_its_exit_code() {
    let server = Quotad::start(&shipped());
    let check = || {
        let mut command = quotad();
        command.args(["check", "--addr", &server.address, "--policy", "auth-per-ip"]);
        command
    };
    for _ in 0..10 {
        assert_eq!(output_in_time(check().arg("ip=203.0.113.7")).status.code(), Some(0));
    }
    let denied = output_in_time(check().arg("ip=203.0.113.7"));
    assert_eq!(denied.status.code(), Some(1));
    let table = text(&denied);
    for word in ["auth-per-ip", "sliding_window", "Retry-After", "RATE_LIMIT_EXCEEDED"] {
        assert!(table.contains(word), "`{word}` is not in\n{table}");
    }
    let json = output_in_time(check().args(["--json", "ip=203.0.113.7"]));
    assert_eq!(json.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_str(&text(&json)).unwrap();
    assert!(value.is_object());
    for (args, word) in [(&["ip=nonsense"][..], "ip"), (&["--policy", "nope", "ip=203.0.113.7"][..], "nope")]
    {
        let failed = output_in_time(check().args(args));
        assert_eq!(failed.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&failed.stderr).contains(word));
    }
    let nobody = output_in_time(quotad().args(["check", "--addr", "127.0.0.1:1", "ip=203.0.113.7"]));
    assert_eq!(nobody.status.code(), Some(2));
}

#[test]
fn audit_says_by_its_exit_code_whether_a_check_failed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quotad.yaml");
    let audit = |text: &str| {
        std::fs::write(&file, text).unwrap();
        output_in_time(quotad().args(["audit", "--config"]).arg(&file))
    };
    let good = audit(&shipped());
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));
    assert!(text(&good).contains("log-in-limit") && text(&good).contains(", 0 fail, "), "{}", text(&good));
    let open = audit(&shipped().replace("trusted_proxies: []", "trusted_proxies: [0.0.0.0/0]"));
    assert_eq!(open.status.code(), Some(1), "{}", text(&open));
    assert!(text(&open).contains("fail    trusted-proxies"), "{}", text(&open));
    assert!(text(&open).contains("remedy: "), "{}", text(&open));
    let broken = audit("policies: 3");
    assert_eq!(broken.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("policies"));
    // The key of the shipped configuration is made by a start, not by an audit.
    assert!(!folder.path().join("data").exists());
}

#[test]
fn the_readmes_grpcurl_lines_work_without_proto_files() {
    let server = Quotad::start(&shipped());
    let call = |body: &str, method: &str| {
        output_in_time(grpcurl().args([
            "-d",
            body,
            &server.address,
            &format!("quotad.v1.DecisionService/{method}"),
        ]))
    };
    let body = r#"{"policies":["auth-per-ip"],"entries":{"ip":"203.0.113.7"}}"#;
    for _ in 0..10 {
        let allowed = call(body, "CheckLimit");
        assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
        assert!(text(&allowed).contains("OUTCOME_ALLOW"));
    }
    let denied = text(&call(body, "CheckLimit"));
    for word in ["OUTCOME_DENY", "auth-per-ip", "RateLimit-Policy", "Retry-After", "retryAfter"] {
        assert!(denied.contains(word), "`{word}` is not in\n{denied}");
    }
    let list = output_in_time(grpcurl().args([server.address.as_str(), "list"]));
    for service in ["quotad.v1.DecisionService", "grpc.health.v1.Health"] {
        assert!(text(&list).contains(service), "{}", text(&list));
    }
    let described =
        output_in_time(grpcurl().args([server.address.as_str(), "describe", "quotad.v1.CheckLimitRequest"]));
    assert!(text(&described).contains("request_id"));
    let healthy = output_in_time(grpcurl().args([server.address.as_str(), "grpc.health.v1.Health/Check"]));
    assert!(text(&healthy).contains("SERVING"));
    let unknown = call(r#"{"policies":["nope"]}"#, "CheckLimit");
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("NotFound"));
}
