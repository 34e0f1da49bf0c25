//! The HTTP/1.1 port of the real binary: `/json` and `/healthcheck`, as callers of envoyproxy/ratelimit know them.

use crate::harness::{Quotad, Start, check, until};
use crate::http_client::{Http, request};
use crate::server::{Kind, Server};
use quotad::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use quotad::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use quotad::pb::envoy::service::ratelimit::v3 as pb;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use serde_json::json;
use std::fs;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const CONFIG: &str = "listen: {http: ['127.0.0.1:0']}\nenvoy: {ratelimit_config: limits}\n";

const LIMITS: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: {name: per-user, unit: hour, requests_per_unit: 3}
  - key: free
    rate_limit: {unlimited: true}
";

const ONE: &str = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"7"}]}]}"#;

fn start() -> Quotad {
    Start::with(CONFIG).file("limits/shop.yaml", LIMITS).start()
}

async fn open(quotad: &Quotad) -> Http<TcpStream> {
    Http::open(quotad.http.as_deref().expect("HTTP on the screen")).await
}

async fn channel(quotad: &Quotad) -> Channel {
    Channel::from_shared(format!("http://{}", quotad.address)).unwrap().connect().await.unwrap()
}

async fn health(quotad: &Quotad, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(channel(quotad).await);
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn json_is_counted_and_answered_as_grpc_is() {
    let quotad = start();
    let mut http = open(&quotad).await;
    let free = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"7"}]},{"entries":[{"key":"free"}]},{"entries":[{"key":"other"}]}]}"#;
    let first = http.post(free).await;
    assert_eq!((first.status, first.version.as_str()), (200, "HTTP/1.1"));
    let mut answer = first.json();
    let until_reset = answer["statuses"][0]["durationUntilReset"].take();
    let seconds: u64 = until_reset.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&seconds), "{seconds}");
    let limit = json!({"requestsPerUnit": 3, "unit": "HOUR", "name": "per-user"});
    let wanted = json!({"overallCode": "OK", "statuses": [
        {"code": "OK", "currentLimit": limit, "limitRemaining": 2, "durationUntilReset": null},
        {"code": "OK", "limitRemaining": 4_294_967_295_u32},
        {"code": "OK"},
    ]});
    assert_eq!(answer, wanted);
    // One counter for both forms.
    let entries = vec![Entry { key: "user".into(), value: "7".into() }];
    let descriptors = vec![RateLimitDescriptor { entries, ..Default::default() }];
    let same = pb::RateLimitRequest { domain: "shop".into(), descriptors, hits_addend: 0 };
    let mut grpc = RateLimitServiceClient::new(channel(&quotad).await);
    assert_eq!(grpc.should_rate_limit(same).await.unwrap().into_inner().statuses[0].limit_remaining, 1);
    assert_eq!(http.post(ONE).await.status, 200);
    let over = http.post(ONE).await;
    assert_eq!(over.status, 429);
    let mut answer = over.json();
    answer["statuses"][0]["durationUntilReset"].take();
    let wanted = json!({"overallCode": "OVER_LIMIT", "statuses": [
        {"code": "OVER_LIMIT", "currentLimit": limit, "durationUntilReset": null},
    ]});
    assert_eq!(answer, wanted, "what is nothing is left out");
}

#[tokio::test]
async fn every_spelling_and_every_method_is_one_request() {
    let quotad = start();
    let mut http = open(&quotad).await;
    let mut spent = 0;
    for (method, path, body) in [
        (
            "POST",
            "/json",
            r#"{"domain":"shop","hits_addend":"5","descriptors":[{"entries":[{"key":"user","value":"a"}],"limit":{"requests_per_unit":"1000","unit":3}}]}"#,
        ),
        (
            "PUT",
            "/json",
            r#"{"domain":"shop","hitsAddend":5,"descriptors":[{"entries":[{"key":"user","value":"a"}],"limit":{"requestsPerUnit":1000,"unit":"HOUR"}}]}"#,
        ),
        (
            "GET",
            "/json?verbose=1",
            r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}],"hitsAddend":"5","limit":{"requestsPerUnit":1e3,"unit":3}}]}"#,
        ),
        (
            "DELETE",
            "/json",
            "\n{ \"domain\": \"shop\", \"descriptors\": [ { \"hits_addend\": 5, \"entries\": [ { \"value\": \"a\", \"key\": \"user\" } ], \"limit\": { \"requests_per_unit\": 1000, \"unit\": \"HOUR\" } } ] }\n",
        ),
        (
            "QUERY",
            "/json",
            r#"{"domain":"shop","hitsAddend":1,"descriptors":[{"entries":[{"key":"user","value":"a"}],"hitsAddend":5,"limit":{"requestsPerUnit":1000,"unit":"HOUR"},"isNegativeHits":false}]}"#,
        ),
    ] {
        let answer = http.ask(method, path, body).await;
        spent += 5;
        assert_eq!(answer.status, 200, "{method} {path} {body}: {answer:?}");
        assert_eq!(answer.json()["statuses"][0]["limitRemaining"], 1_000 - spent, "{body}");
    }
    http.send(request("HEAD", "/json", ONE)).await;
    assert_eq!(http.head().await.status, 200);
    let back = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}],"hitsAddend":"5","isNegativeHits":true,"limit":{"requestsPerUnit":1000,"unit":"HOUR"}}]}"#;
    assert_eq!(http.post(back).await.json()["overallCode"], "OK");
    let look = back.replace("\"5\"", "0");
    assert_eq!(http.post(&look).await.json()["statuses"][0]["limitRemaining"], 1_000 - spent + 5);
}

#[tokio::test]
async fn what_is_no_request_is_a_bad_one_and_the_connection_goes_on() {
    let quotad = start();
    let mut http = open(&quotad).await;
    for body in [
        "",
        "null",
        "{",
        "{}{}",
        &format!("{ONE} x"),
        &format!("\u{feff}{ONE}"),
        r#"{"domain":"shop","unknown":1,"descriptors":[{"entries":[{"key":"user","value":"7"}]}]}"#,
        r#"{"domain":"shop","domain":"shop","descriptors":[{"entries":[{"key":"user","value":"7"}]}]}"#,
        // A service error.
        "{}",
        r#"{"domain":"shop"}"#,
        r#"{"descriptors":[{"entries":[{"key":"user","value":"7"}]}]}"#,
        r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"7"}],"limit":{"requestsPerUnit":1}}]}"#,
        r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"7"}],"limit":{"requestsPerUnit":1,"unit":99}}]}"#,
    ] {
        let answer = http.post(body).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, "Bad Request\n"), "{body}");
        assert_eq!(answer.once("content-type"), "text/plain; charset=utf-8");
        assert!(!answer.closes(), "{body}");
    }
    http.send("GET /json HTTP/1.1\r\nhost: quotad\r\n\r\n").await;
    assert_eq!(http.answer().await.status, 400, "no body at all");
    assert_eq!(http.post(ONE).await.json()["statuses"][0]["limitRemaining"], 2, "nothing was counted");
    for path in ["/", "/json/", "/JSON", "/healthcheck/", "/stats", "/quotad.v1.DecisionService/CheckLimit"] {
        let answer = http.ask("POST", path, ONE).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "Not Found\n"), "{path}");
    }
}

#[tokio::test]
async fn connections_are_kept_as_the_client_asks() {
    let quotad = start();
    let mut http = open(&quotad).await;
    // Two at once: answered in order.
    http.send(request("POST", "/json", ONE) + &request("GET", "/healthcheck", "")).await;
    assert_eq!(http.answer().await.json()["statuses"][0]["limitRemaining"], 2);
    assert_eq!(http.answer().await.body, "OK");
    let chunks: String = ONE
        .as_bytes()
        .chunks(7)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)))
        .collect();
    let head = "POST /json HTTP/1.1\r\nhost: quotad\r\ntransfer-encoding: chunked\r\n\r\n";
    http.send(format!("{head}{chunks}0\r\n\r\n")).await;
    assert_eq!(http.answer().await.json()["statuses"][0]["limitRemaining"], 1);
    // curl waits like this with bodies above a kilobyte.
    http.send(format!(
        "POST /json HTTP/1.1\r\nhost: q\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        ONE.len()
    ))
    .await;
    assert_eq!(http.head().await.status, 100);
    http.send(ONE).await;
    assert!(http.answer().await.json()["statuses"][0].get("limitRemaining").is_none());
    http.send("GET /healthcheck HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n").await;
    assert!(http.answer().await.closes());
    http.closed().await;
    let mut old = open(&quotad).await;
    old.send(format!("POST /json HTTP/1.0\r\ncontent-length: {}\r\n\r\n{ONE}", ONE.len())).await;
    let answer = old.answer().await;
    assert_eq!((answer.status, answer.version.as_str()), (429, "HTTP/1.0"));
    old.closed().await;
    let mut kept = open(&quotad).await;
    for _ in 0..2 {
        kept.send("GET /healthcheck HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
        assert_eq!(kept.answer().await.body, "OK");
    }
}

#[tokio::test]
async fn what_is_beyond_a_bound_is_an_answer_and_the_process_goes_on() {
    let quotad = start();
    let fits = ONE.to_owned() + &" ".repeat(64 * 1_024 - ONE.len());
    assert_eq!(open(&quotad).await.post(&fits).await.status, 200);
    let mut large = open(&quotad).await;
    let refused = large.post(&(fits.clone() + " ")).await;
    assert_eq!((refused.status, refused.closes()), (413, true));
    large.closed().await;
    let mut endless = open(&quotad).await;
    endless.send("POST /json HTTP/1.1\r\nhost: q\r\ntransfer-encoding: chunked\r\n\r\n").await;
    endless.send(format!("10001\r\n{}\r\n0\r\n\r\n", "x".repeat(65_537))).await;
    assert_eq!(endless.answer().await.status, 413);
    let headers: String = (0..65).map(|number| format!("x-{number}: y\r\n")).collect();
    for (sent, status) in [
        (format!("GET /healthcheck HTTP/1.1\r\nhost: q\r\n{headers}\r\n"), 431),
        (format!("GET /healthcheck HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000)), 431),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(20_000)), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /healthcheck HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("POST /json HTTP/1.1\r\ncontent-length: many\r\n\r\n".to_owned(), 400),
        ("POST /json HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".to_owned(), 400),
        ("POST /json HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), 400),
    ] {
        let mut http = open(&quotad).await;
        http.send(&sent).await;
        let answer = http.head().await;
        assert_eq!(answer.status, status, "{}: {answer:?}", &sent[..40.min(sent.len())]);
    }
    // Half a body, and gone.
    open(&quotad).await.send("POST /json HTTP/1.1\r\ncontent-length: 100\r\n\r\n{").await;
    assert_eq!(open(&quotad).await.ask("GET", "/healthcheck", "").await.body, "OK");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
    let quotad = start();
    let mut slow = open(&quotad).await;
    slow.send("POST /json HTTP/1.1\r\nhost: q\r\ncontent-length: 100\r\n\r\n{").await;
    let answer = slow.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (408, "Request Timeout\n"));
    slow.closed().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_says_so_to_health_checks() {
    let mut quotad = start();
    let mut idle = open(&quotad).await;
    let up = idle.ask("GET", "/healthcheck", "").await;
    assert_eq!((up.status, up.body.as_str()), (200, "OK"));
    let (mut asking, mut checking) = (open(&quotad).await, open(&quotad).await);
    let whole = request("POST", "/json", ONE);
    let (begun, rest) = whole.split_at(whole.len() - 1);
    asking.send(begun).await;
    checking.send("GET /healthcheck HTTP/1.1\r\nhost: q\r\ncontent-length: 1\r\n\r\n").await;
    // Both are under way when they have been accepted before this one.
    assert_eq!(open(&quotad).await.ask("GET", "/healthcheck", "").await.status, 200);
    quotad.signal("TERM");
    let address = quotad.http.clone().unwrap();
    until("nobody is accepted any more", async || TcpStream::connect(&address).await.is_err()).await;
    idle.closed().await;
    asking.send(rest).await;
    let answer = asking.answer().await;
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(answer.json()["statuses"][0]["limitRemaining"], 2);
    checking.send("x").await;
    let down = checking.answer().await;
    assert_eq!((down.status, down.body.as_str()), (500, ""));
    asking.closed().await;
    assert_eq!(quotad.ended().await, Some(0));
}

#[tokio::test]
async fn several_listeners_of_both_kinds_and_none_unless_asked_for() {
    let quotad = Start::with("policies: [{name: p, limit: 1, window: 1m, partition: [ip]}]\n").start();
    assert_eq!(quotad.http, None);
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("h.sock").display());
    let quotad = Start::with(CONFIG)
        .file("limits/shop.yaml", LIMITS)
        .variable("QUOTAD_LISTEN_HTTP", &format!("{socket},127.0.0.1:0"))
        .start();
    assert_eq!(quotad.http.as_ref(), Some(&socket), "the first that is shown");
    let mut http = Http::open_unix(&socket).await;
    assert_eq!(http.post(ONE).await.json()["statuses"][0]["limitRemaining"], 2);
    assert_eq!(health(&quotad, "ratelimit").await, ServingStatus::Serving);
    // Each speaks its own.
    let mut grpc = Http::open(&quotad.address).await;
    grpc.send("GET /healthcheck HTTP/1.1\r\nhost: quotad\r\nx-long-enough: for a preface\r\n\r\n").await;
    assert!(!grpc.rest().await.contains("HTTP/1.1"));
    http.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!http.rest().await.contains(" 200 "));
    let (code, said) = Start::with(CONFIG).arg("--http").arg(quotad.address.clone()).fails();
    assert!(code != 0 && said.contains(&quotad.address), "{said}");
    quotad.stop("TERM").await;
    assert!(!folder.path().join("h.sock").exists(), "a socket goes with its listener");
}

/// Under the variables of the original, with a directory of its own.
fn as_original(limits: &str, variables: &[(&str, &str)]) -> Quotad {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("root/config")).unwrap();
    fs::write(folder.path().join("root/config/shop.yaml"), limits).unwrap();
    as_original_on(folder, variables)
}

/// The same, whose directory is `root/config` in this folder.
fn as_original_on(folder: tempfile::TempDir, variables: &[(&str, &str)]) -> Quotad {
    fs::write(folder.path().join("quotad.yaml"), "{}\n").unwrap();
    let root = folder.path().join("root").display().to_string();
    let mut start = Start::again(folder).arg("--ratelimit-env").variable("RUNTIME_ROOT", &root);
    for (name, value) in [("HOST", "127.0.0.1"), ("PORT", "0")].iter().chain(variables) {
        start = start.variable(name, value);
    }
    start.start()
}

#[tokio::test]
async fn a_directory_that_is_refused_is_healthy_or_not_as_the_variable_says() {
    let bad = "domain: shop\ndescriptors: [{key: ''}]\n";
    let healthy = as_original(bad, &[]);
    let mut http = open(&healthy).await;
    assert_eq!(http.post(ONE).await.status, 400, "no configuration is a service error");
    assert_eq!(http.ask("GET", "/healthcheck", "").await.status, 200);
    assert_eq!(health(&healthy, "ratelimit").await, ServingStatus::Serving);

    let quotad = as_original(bad, &[("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true")]);
    let mut http = open(&quotad).await;
    let down = http.ask("GET", "/healthcheck", "").await;
    assert_eq!((down.status, down.body.as_str()), (500, ""));
    assert_eq!(health(&quotad, "ratelimit").await, ServingStatus::NotServing);
    assert_eq!(health(&quotad, "quotad.v1.DecisionService").await, ServingStatus::Serving);
    let file = quotad.folder.path().join("root/config/shop.yaml");
    fs::write(&file, LIMITS).unwrap();
    until("it is healed", async || http.ask("GET", "/healthcheck", "").await.status == 200).await;
    until("over gRPC too", async || health(&quotad, "ratelimit").await == ServingStatus::Serving).await;
    assert_eq!(http.post(ONE).await.status, 200);
    fs::write(&file, bad).unwrap();
    reload(&quotad, "seen").await;
    for _ in 0..20 {
        assert_eq!(http.ask("GET", "/healthcheck", "").await.status, 200, "what was in force stays");
    }
    assert_eq!(health(&quotad, "ratelimit").await, ServingStatus::Serving);
}

/// Loads everything again. A policy that can be seen says that the reload has been.
async fn reload(quotad: &Quotad, seen: &str) {
    fs::write(quotad.config_path(), format!("policies: [{{name: {seen}, limit: 1, window: 1h}}]\n")).unwrap();
    quotad.signal("HUP");
    until("quotad.yaml is in force", async || {
        quotad.client().await.check_limit(check(seen, &[])).await.is_ok()
    })
    .await;
}

/// The health of the rate limit service, each time that it can be asked for, which must be the same.
async fn is_healthy(quotad: &Quotad) -> bool {
    let page = open(quotad).await.ask("GET", "/healthcheck", "").await;
    let names = ["ratelimit", "envoy.service.ratelimit.v3.RateLimitService"];
    let told = [health(quotad, names[0]).await, health(quotad, names[1]).await];
    match (page.status, page.body.as_str()) {
        (200, "OK") => assert_eq!(told, [ServingStatus::Serving; 2]),
        (500, "") => assert_eq!(told, [ServingStatus::NotServing; 2]),
        other => panic!("{other:?}"),
    }
    assert_eq!(health(quotad, "quotad.v1.DecisionService").await, ServingStatus::Serving);
    page.status == 200
}

#[tokio::test]
async fn a_directory_that_is_empty_or_made_later_is_unhealthy_until_a_domain_is_in_force() {
    const WITH_LIMITS: (&str, &str) = ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true");
    for directory in ["root/config", "root"] {
        let made = || {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join(directory)).unwrap();
            folder
        };
        let always = as_original_on(made(), &[]);
        assert!(is_healthy(&always).await, "{directory}: nobody asked for limits");
        let quotad = as_original_on(made(), &[WITH_LIMITS]);
        assert!(!is_healthy(&quotad).await, "{directory}");
        let config = quotad.folder.path().join("root/config");
        if !config.exists() {
            fs::create_dir(&config).unwrap();
            reload(&quotad, "made").await;
            assert!(!is_healthy(&quotad).await, "it is there, and empty");
        }
        // Limits of no domain are refused.
        fs::write(config.join("shop.yaml"), LIMITS.replace("domain: shop", "domain: ''")).unwrap();
        reload(&quotad, "refused").await;
        assert!(!is_healthy(&quotad).await, "{directory}");
        let mut http = open(&quotad).await;
        let is_limited = async |http: &mut Http<_>| {
            !http.post(ONE).await.json()["statuses"][0]["limitRemaining"].is_null()
        };
        assert!(!is_limited(&mut http).await, "{directory}");
        fs::write(config.join("shop.yaml"), LIMITS).unwrap();
        until("a domain is in force", async || is_limited(&mut http).await).await;
        // Health is told after the limits are in force.
        until("it is healthy", async || http.ask("GET", "/healthcheck", "").await.status == 200).await;
        until("over gRPC too", async || health(&quotad, "ratelimit").await == ServingStatus::Serving).await;
        until("by the other name", async || is_healthy(&quotad).await).await;
    }
}

#[tokio::test]
async fn headers_and_metadata_stand_in_the_answer() {
    let limits = LIMITS.replace("  - key: free", "    metadata: {tier: 5, share: 0.5}\n  - key: free");
    let quotad = as_original(
        &limits,
        &[("LIMIT_RESPONSE_HEADERS_ENABLED", "true"), ("RESPONSE_DYNAMIC_METADATA", "true")],
    );
    let answer = open(&quotad).await.post(ONE).await;
    let json = answer.json();
    let headers = json["responseHeadersToAdd"].as_array().unwrap();
    assert_eq!(headers[0], json!({"key": "RateLimit-Limit", "value": "3"}));
    assert_eq!(headers[1], json!({"key": "RateLimit-Remaining", "value": "2"}));
    assert_eq!(json["dynamicMetadata"]["domain"], "shop");
    assert_eq!(json["dynamicMetadata"]["metadata"], json!({"tier": 5, "share": 0.5}), "{}", answer.body);
}

/// Whether a request is counted where a second process sees it.
async fn is_shared(one: &Quotad, other: &Quotad, user: &str) -> bool {
    let body = ONE.replace("\"7\"", &format!("\"{user}\""));
    let (first, second) = (open(one).await.post(&body).await, open(other).await.post(&body).await);
    let left = |answer: &crate::http_client::Answer| answer.json()["statuses"][0]["limitRemaining"].clone();
    (left(&first), left(&second)) == (json!(2), json!(1))
}

#[tokio::test]
async fn redis_over_a_unix_socket_by_the_variables_and_by_our_own_url() {
    let redis = Server::start_with(Kind::Redis7, &["--requirepass", "hunter2"]);
    let path = redis.socket_path().display().to_string();
    // A machine that builds something else beside is not a store that is away.
    let patient = ("QUOTAD_STORE_TIMEOUT", "2s");
    let variables =
        [("REDIS_SOCKET_TYPE", "unix"), ("REDIS_URL", &*path), ("REDIS_AUTH", "hunter2"), patient];
    let original = as_original(LIMITS, &variables);
    let ours = Start::with(CONFIG)
        .file("limits/shop.yaml", LIMITS)
        .variable(patient.0, patient.1)
        .arg("--store")
        .arg(format!("redis+unix://:hunter2@{path}"))
        .start();
    let mut tries = 0;
    until("both are at Redis", async || {
        tries += 1;
        is_shared(&original, &ours, &format!("u{tries}")).await
    })
    .await;
    // Another database is another store.
    let elsewhere = Start::with(CONFIG)
        .file("limits/shop.yaml", LIMITS)
        .variable(patient.0, patient.1)
        .arg("--store")
        .arg(format!("redis+unix://default:hunter2@localhost{path}?db=3"))
        .start();
    let third = Start::with(CONFIG)
        .file("limits/shop.yaml", LIMITS)
        .variable(patient.0, patient.1)
        .arg("--store")
        .arg(format!("unix://:hunter2@{path}?db=3"))
        .start();
    until("both are in that database", async || {
        tries += 1;
        is_shared(&elsewhere, &third, &format!("u{tries}")).await
    })
    .await;
    let user = format!("u{tries}");
    assert!(is_shared(&original, &ours, &user).await, "counted from the start there");
}
