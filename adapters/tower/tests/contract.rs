//! The vectors of `adapters/contract`, on the embedded store and on Redis.

use crate::support::{
    Answer, Ask, Handshake, ORIGIN, Quotad, Redis, Server, contract, eventually, now, shield, token,
};
use axum::{
    Json, Router,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use quotad_tower::{Environment, OnUnavailable, Shield, ShieldBuilder, Socket, SocketUpgrade};
use regex::Regex;
use serde_json::{Value, json};
use std::{collections::HashMap, fs};

/// As `adapters/contract/README.md` describes it.
fn application() -> Router {
    async fn fine() -> Json<Value> {
        Json(json!({"ok": true}))
    }
    async fn user(headers: HeaderMap) -> Json<Value> {
        Json(json!({"user": headers.get("x-user-id").map(|user| user.to_str().unwrap())}))
    }
    async fn own_headers() -> impl IntoResponse {
        let headers = [
            (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
            (header::VARY, "Accept"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ];
        (headers, Json(json!({"ok": true})))
    }
    async fn boom() -> Response {
        panic!("boom")
    }
    async fn echo(upgrade: SocketUpgrade) -> Response {
        upgrade.on_upgrade(|mut socket: Socket| async move {
            while let Some(message) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    }
    Router::new()
        .route("/login", post(fine))
        .route("/signup", post(fine))
        .route("/closed", get(fine))
        .route("/undecided", get(fine))
        .route("/plain", get(fine))
        .route("/me", get(user))
        .route("/maybe", get(user))
        .route("/ai/translate", post(user))
        .route("/own-headers", get(own_headers))
        .route("/boom", get(boom))
        .route("/ws/echo", get(echo))
        .nest("/mounted", Router::new().route("/login", post(fine)))
}

fn vectors() -> Vec<(String, Value)> {
    let mut files: Vec<_> =
        fs::read_dir(contract().join("vectors")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["away", "cors", "headers", "limits", "sockets", "tokens"]);
    let vectors = files.iter().flat_map(|file| {
        let read: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        read.into_iter().map(move |vector| (format!("{stem}: {}", text(&vector["name"])), vector))
    });
    vectors.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A setting that this runner does not know would be a test of something else.
fn adapter(mut builder: ShieldBuilder, settings: &Value) -> Shield {
    for (name, value) in settings.as_object().into_iter().flatten() {
        builder = match name.as_str() {
            "environment" => {
                assert_eq!(value, "development");
                builder.environment(Environment::Development)
            }
            "origins" => builder.origins(value.as_array().unwrap().iter().map(text)),
            "on_unavailable" => {
                assert_eq!(value, "open");
                builder.on_unavailable(OnUnavailable::Open)
            }
            "security_headers" => value
                .as_object()
                .unwrap()
                .iter()
                .fold(builder, |builder, (name, value)| builder.security_header(name, value.as_str())),
            _ => panic!("no setting {name}"),
        };
    }
    builder.build().unwrap()
}

fn headers(asked: &Value) -> Vec<(String, String)> {
    let given = asked["headers"].as_object().into_iter().flatten();
    let mut headers: Vec<(String, String)> =
        given.map(|(name, value)| (name.clone(), text(value).to_owned())).collect();
    if let Some(claims) = asked["token"].as_object() {
        let mut claims = claims.clone();
        let bent = claims.remove("bent").is_some();
        for name in ["iat", "exp"] {
            if let Some(seconds) = claims.get(name).and_then(Value::as_i64) {
                claims.insert(name.to_owned(), (now() + seconds).into());
            }
        }
        let subject = text(&claims.remove("sub").unwrap()).to_owned();
        let mut token = token(&subject, &claims.into());
        if bent {
            let (rest, tail) = token.split_at(token.len() - 4);
            token = format!("{rest}{}", if tail == "AAAA" { "BBBB" } else { "AAAA" });
        }
        headers.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    headers
}

fn holds(expected: &Value, value: &str) -> bool {
    match expected.get("matches") {
        Some(pattern) => Regex::new(&format!("(?s)^(?:{})$", text(pattern))).unwrap().is_match(value),
        None => text(expected) == value,
    }
}

fn compare(answer: &Answer, expected: &Value, place: &str) {
    if let Some(status) = expected.get("status") {
        assert_eq!(status, answer.status, "{place}: {answer:?}");
    }
    for (name, value) in expected["headers"].as_object().into_iter().flatten() {
        let all = answer.all(name);
        assert!(all.len() == 1 && holds(value, &all[0]), "{place}: {name}: {all:?} for {value}");
    }
    for name in expected["absent"].as_array().into_iter().flatten() {
        assert_eq!(answer.all(text(name)), [""; 0], "{place}: {name}");
    }
    if let Some(body) = expected.get("body") {
        assert!(holds(body, &answer.body), "{place}: {}", answer.body);
    }
}

/// Plays the steps of one vector.
struct Player {
    shield: Shield,
    app: Router,
    server: Server,
    open: HashMap<String, Handshake>,
}

impl Player {
    async fn play(&mut self, step: &Value, place: &str) {
        let Some(asked) = step.get("socket") else {
            for _ in 0..step["times"].as_u64().unwrap_or(1) {
                let asked = &step["request"];
                let ask = Ask::new(text(&asked["method"]), text(&asked["path"])).from("127.0.0.1");
                let ask = headers(asked).iter().fold(ask, |ask, (name, value)| ask.header(name, value));
                compare(&ask.to(&self.app).await, &step["response"], place);
            }
            return;
        };
        if let Some(name) = asked.get("close") {
            let held = self.shield.held();
            self.open.remove(text(name)).unwrap().close().await;
            eventually("the lease is given back", async || self.shield.held() + 1 == held).await;
            assert!(self.shield.idle().await);
            return;
        }
        let headers = headers(asked);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, value.clone())).collect();
        let handshake = self.server.open(text(&asked["open"]), &headers).await;
        compare(&handshake.answer, &step["response"], place);
        if handshake.answer.status == 101 {
            self.open.insert(text(&asked["name"]).to_owned(), handshake);
        }
    }
}

async fn play_all(quotad: &Quotad) {
    for (name, vector) in vectors() {
        let target = if vector["service"] == "down" { "127.0.0.1:1".to_owned() } else { quotad.target() };
        let shield = adapter(shield(&target), &vector["adapter"]);
        let app = application().layer(shield.layer());
        let server = Server::start(app.clone()).await;
        let mut player = Player { shield, app, server, open: HashMap::new() };
        for (number, step) in vector["steps"].as_array().unwrap().iter().enumerate() {
            player.play(step, &format!("{name}, step {number}")).await;
        }
        assert!(player.shield.close().await, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_holds_on_the_embedded_store() {
    play_all(&Quotad::memory().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_holds_on_redis() {
    let redis = Redis::start();
    play_all(&Quotad::new(&redis.url, |config| config).await).await;
}

#[test]
fn the_origin_of_the_vectors_is_the_default_of_the_runner() {
    assert_eq!(ORIGIN, "https://app.example.com");
}
