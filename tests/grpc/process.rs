//! The life of the process: start, reload, drain, several listeners.

use crate::harness::{Quotad, Start, check, decide, output_in_time, quotad, until};
use quotad::pb::quotad::v1 as pb;
use quotad::pb::quotad::v1::decision_service_client::DecisionServiceClient;
use std::time::{Duration, Instant};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn limit(limit: u64) -> String {
    format!("policies:\n  - {{name: p, partition: [ip], limit: {limit}, window: 1h}}\n")
}

async fn left(quotad: &Quotad) -> u64 {
    let mut client = quotad.client().await;
    let peek = pb::CheckLimitRequest { cost: Some(0), ..check("p", &[("ip", "203.0.113.7")]) };
    decide(&mut client, peek).await.statuses[0].remaining
}

#[tokio::test]
async fn health_answers_for_the_server_and_each_service() {
    let quotad = Quotad::start(&limit(10));
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", quotad.address)).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    for service in ["", "quotad.v1.DecisionService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let unknown = health.check(HealthCheckRequest { service: "nope".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_success() {
    let mut quotad = Quotad::start(&limit(10_000));
    let address = quotad.address.clone();
    let busy = tokio::spawn(async move {
        let mut client = crate::harness::connect(&address).await;
        let mut answered = 0;
        while client.check_limit(check("p", &[("ip", "203.0.113.7")])).await.is_ok() {
            answered += 1;
        }
        answered
    });
    let mut client = quotad.client().await;
    until("the other client is under way", async || {
        let peek = pb::CheckLimitRequest { cost: Some(0), ..check("p", &[("ip", "203.0.113.7")]) };
        decide(&mut client, peek).await.statuses[0].remaining < 9_900
    })
    .await;
    let start = Instant::now();
    quotad.signal("TERM");
    assert_eq!(quotad.ended().await, Some(0));
    // Before the drain would cut what is left, after ten seconds.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert!(busy.await.unwrap() >= 100);
}

#[tokio::test]
async fn a_stream_of_checks_ends_with_the_drain_and_leaves_nothing_unanswered() {
    let mut quotad = Quotad::start(&limit(10_000));
    let mut client = quotad.client().await;
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = client.check_limits(requests).await.unwrap().into_inner();
    let checks = (0..100)
        .map(|id| pb::check_limits_request::Check { id, request: Some(check("p", &[("ip", "203.0.113.7")])) })
        .collect();
    send.send(pb::CheckLimitsRequest { checks }).await.unwrap();
    let mut answered = answers.message().await.unwrap().unwrap().results.len();
    let start = Instant::now();
    quotad.signal("TERM");
    while let Some(message) = answers.message().await.unwrap() {
        answered += message.results.len();
    }
    assert_eq!(answered, 100);
    assert_eq!(quotad.ended().await, Some(0));
    // Before the drain would cut what is left, after ten seconds.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

#[tokio::test]
async fn sighup_and_a_changed_file_reload_and_keep_the_counters() {
    let quotad = Quotad::start(&limit(10));
    let mut client = quotad.client().await;
    for _ in 0..4 {
        decide(&mut client, check("p", &[("ip", "203.0.113.7")])).await;
    }
    assert_eq!(left(&quotad).await, 6);
    std::fs::write(quotad.config_path(), limit(20)).unwrap();
    until("the changed file is in force", async || left(&quotad).await == 16).await;
    // A bad file changes nothing, whoever asks for it.
    std::fs::write(quotad.config_path(), "policies: [{name: p, limit: 0, window: 1m}]").unwrap();
    quotad.signal("HUP");
    std::fs::write(quotad.config_path(), limit(20) + "nonsense: 1\n").unwrap();
    quotad.signal("HUP");
    let steady = Instant::now();
    while steady.elapsed() < Duration::from_millis(600) {
        assert_eq!(left(&quotad).await, 16);
    }
    std::fs::write(quotad.config_path(), limit(30)).unwrap();
    quotad.signal("HUP");
    until("the mended file is in force", async || left(&quotad).await == 26).await;
    // As a mounted volume does it: a new file is renamed over the old one.
    let beside = quotad.folder.path().join("new.yaml");
    std::fs::write(&beside, limit(40)).unwrap();
    std::fs::rename(beside, quotad.config_path()).unwrap();
    until("the renamed file is in force", async || left(&quotad).await == 36).await;
}

#[tokio::test]
async fn several_listeners_at_once_with_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("q.sock");
    let unix = format!("unix:{}", socket.display());
    let start = || {
        Start::with(&limit(10)).arg("--listen").arg("127.0.0.1:0").arg("--listen").arg(unix.clone()).start()
    };
    let quotad = start();
    let through = async || {
        let path = socket.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move {
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                    tokio::net::UnixStream::connect(path).await?,
                ))
            }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
        DecisionServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    };
    decide(&mut through().await, check("p", &[("ip", "203.0.113.7")])).await;
    assert_eq!(left(&quotad).await, 9, "both listeners serve one store");
    // The socket of a dead process is no obstacle.
    drop(quotad.stop("KILL").await);
    assert!(socket.exists());
    let again = start();
    decide(&mut through().await, check("p", &[("ip", "203.0.113.7")])).await;
    again.stop("TERM").await;
    assert!(!socket.exists(), "a socket goes with its listener");
}

#[tokio::test]
async fn a_taken_port_is_said_and_ends_the_start() {
    let quotad = Quotad::start(&limit(10));
    let (code, text) = Start::with(&limit(10)).arg("--listen").arg(quotad.address.clone()).fails();
    assert_ne!(code, 0);
    assert!(text.contains(&quotad.address) && text.contains("cannot listen"), "{text}");
}

#[test]
fn a_bad_file_is_refused_in_the_words_of_config_check() {
    let bad = "policies:\n  - {name: p, limit: 0, window: 1m}\n  - {name: p, limit: 1, window: 0s}\nroutes:\n  - {name: r, policies: [nope]}\ntypo: 1\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, bad).unwrap();
    let checked = output_in_time(quotad().args(["config", "check"]).arg(&file));
    assert_eq!(checked.status.code(), Some(2));
    let told =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    for word in ["bad.yaml:2:", "limit is 0", "window", "nope", "typo", "hint"] {
        assert!(told.contains(word), "`{word}` is not in\n{told}");
    }
    let served = output_in_time(quotad().args(["--listen", "127.0.0.1:0", "--config"]).arg(&file));
    assert_eq!(served.status.code(), Some(2));
    let refused = String::from_utf8_lossy(&served.stderr).into_owned();
    assert!(refused.contains(told.trim().lines().next().unwrap()), "{refused}\n---\n{told}");
    let good = output_in_time(quotad().args(["config", "check", "config/quotad.yaml"]));
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
}

#[test]
fn a_short_secret_is_refused_at_check_and_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("short.yaml");
    std::fs::write(folder.path().join("key"), "only-16-bytes-xx").unwrap();
    std::fs::write(&file, "tokens:\n  - {name: a, issuer: i, algorithms: [HS256], key: {file: key}}\n")
        .unwrap();
    for args in [&["config", "check"][..], &["--listen", "127.0.0.1:0", "--config"][..]] {
        let output = output_in_time(quotad().args(args).arg(&file));
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("32") && text.contains("short.yaml:2:"), "{text}");
        assert!(!text.contains("only-16"), "a secret never shows");
    }
}
