//! WebSockets and streams behind axum's own server, against a real quotad.

use crate::{
    sample::{State, router},
    support::{ORIGIN, Quotad, Server, bearer, eventually, shield, uuid},
};
use axum::{Router, extract::WebSocketUpgrade, routing::get};
use quotad_tower::{Messages, OnDenied, Shield, SocketUpgrade};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Setup {
    quotad: Quotad,
    shield: Shield,
    server: Server,
    state: State,
}

async fn setup_with(change: impl FnOnce(String) -> String) -> Setup {
    let quotad = Quotad::new("memory:", change).await;
    let shield = shield(&quotad.target()).build().unwrap();
    let state = State::default();
    let server = Server::start(router(&shield, state.clone())).await;
    Setup { quotad, shield, server, state }
}

async fn setup() -> Setup {
    setup_with(|config| config).await
}

async fn given_back(shield: &Shield) {
    eventually("the lease is given back", async || shield.held() == 0).await;
    assert!(shield.idle().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_reads_gives_its_lease_back() {
    let Setup { shield, server, state, quotad: _quotad } = setup().await;
    let user = uuid();
    let mut one = server.open("/ws/silent", &[bearer(&user)]).await;
    let two = server.open("/ws/silent", &[bearer(&user)]).await;
    assert_eq!((one.answer.status, two.answer.status, shield.held()), (101, 101, 2));
    assert_eq!(server.open("/ws/silent", &[bearer(&user)]).await.answer.status, 429);
    // What is sent to it is read ahead, and hides nothing.
    for _ in 0..8 {
        one.send("hello").await;
    }
    one.close().await;
    drop(two); // Without a goodbye.
    given_back(&shield).await;
    assert_eq!(server.open("/ws/silent", &[bearer(&user)]).await.answer.status, 101);
    eventually("cancel_after ends the handlers", async || state.ended.lock().unwrap().len() >= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_ends_closes_the_socket() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).build().unwrap();
    let app = Router::new().route(
        "/ws/once",
        get(async |upgrade: SocketUpgrade| {
            upgrade.on_upgrade(async |mut socket| {
                let message = socket.recv().await.unwrap();
                socket.send(message).await.unwrap();
            })
        }),
    );
    let server = Server::start(app.layer(shield.layer())).await;
    let mut socket = server.open("/ws/once", &[bearer(&uuid())]).await;
    socket.send("hello").await;
    assert_eq!(socket.text().await, "hello");
    assert_eq!(socket.closed().await, None, "a close without a code");
    given_back(&shield).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_gives_its_lease_back() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).build().unwrap();
    let app = Router::new().route(
        "/ws/panic",
        get(async |upgrade: SocketUpgrade| {
            upgrade.on_upgrade(async |mut socket| {
                socket.recv().await;
                panic!("boom")
            })
        }),
    );
    let server = Server::start(app.layer(shield.layer())).await;
    let mut socket = server.open("/ws/panic", &[bearer(&uuid())]).await;
    assert_eq!(shield.held(), 1);
    socket.send("go").await;
    socket.closed().await;
    given_back(&shield).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_together_and_live_beyond_their_ttl() {
    // The contract's lease_ttl is 3 s, so a renewal comes each second.
    let Setup { shield, server, quotad: _quotad, .. } = setup().await;
    let user = uuid();
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(server.open("/ws/echo", &[bearer(&user)]).await);
    }
    // Real time passes: what is shown is that nothing ends in it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(server.open("/ws/echo", &[bearer(&user)]).await.answer.status, 429, "both are still held");
    for socket in &mut open {
        socket.send("still").await;
        assert_eq!(socket.text().await, "still");
    }
    drop(open);
    given_back(&shield).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_closes_its_sockets_with_4401() {
    let Setup { shield, server, quotad, .. } = setup().await;
    let user = uuid();
    let mut here = server.open("/ws/silent", &[bearer(&user)]).await;
    assert!(shield.revoke_subject("example-app", &user).await.unwrap());
    assert_eq!(here.closed().await, Some(4401), "at once");
    given_back(&shield).await;

    // By another process: found out at the next renewal.
    let other = uuid();
    let mut there = server.open("/ws/echo", &[bearer(&other)]).await;
    let elsewhere = crate::support::shield(&quotad.target()).build().unwrap();
    assert!(elsewhere.revoke_subject("example-app", &other).await.unwrap());
    assert_eq!(there.closed().await, Some(4401));
    given_back(&shield).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_lost_closes_with_1013() {
    let Setup { shield, server, mut quotad, .. } = setup().await;
    let user = uuid();
    let mut first = server.open("/ws/echo", &[bearer(&user)]).await;
    let mut second = server.open("/ws/echo", &[bearer(&user)]).await;
    // The store was in its memory, so both leases are gone; where two were, there is room for one now.
    quotad.stop();
    quotad.change(|config| {
        config.replace("algorithm: concurrency, limit: 2,", "algorithm: concurrency, limit: 1,")
    });
    quotad.start().await;
    let (lost, mut kept) = tokio::select! {
        code = first.closed() => (code, second),
        code = second.closed() => (code, first),
    };
    assert_eq!(lost, Some(1013));
    kept.send("still").await;
    assert_eq!(kept.text().await, "still");
    assert_eq!(shield.held(), 1);
    drop(kept);
    given_back(&shield).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_limited_by_their_cost() {
    let Setup { server, quotad: _quotad, shield, .. } = setup().await;
    let mut socket = server.open("/ws/audio", &[bearer(&uuid())]).await;
    socket.send("abc").await;
    assert_eq!(socket.text().await, "abc");
    socket.send("abc").await; // 6 of 5.
    assert_eq!(socket.closed().await, Some(4429));
    given_back(&shield).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_can_be_dropped() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).build().unwrap();
    let app = Router::new().route(
        "/ws/drop",
        get(async |upgrade: SocketUpgrade| {
            let length = |message: &axum::extract::ws::Message| {
                u32::try_from(message.to_text().unwrap().len()).unwrap()
            };
            let messages = Messages::new("ai-per-user").cost(length).on_denied(OnDenied::Drop);
            upgrade.messages(messages).on_upgrade(async |mut socket| {
                while let Some(message) = socket.recv().await {
                    socket.send(message).await.unwrap();
                }
            })
        }),
    );
    let server = Server::start(app.layer(shield.layer())).await;
    let mut socket = server.open("/ws/drop", &[bearer(&uuid())]).await;
    for text in ["abc", "too long", "de"] {
        socket.send(text).await;
    }
    assert_eq!(socket.text().await, "abc");
    assert_eq!(socket.text().await, "de");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_could_not_be_held_is_not_opened() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).build().unwrap();
    let app = Router::new()
        .route("/ws/bare", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |_| {})))
        .route("/bare", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |_| {})));
    let server = Server::start(app.layer(shield.layer())).await;
    let refused = server.open("/ws/bare", &[bearer(&uuid())]).await;
    assert_eq!(refused.answer.status, 500, "{:?}", refused.answer);
    given_back(&shield).await;
    assert_eq!(server.open("/bare", &[]).await.answer.status, 101, "where no lease is taken it may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_origin_takes_no_lease() {
    let Setup { shield, server, quotad: _quotad, .. } = setup().await;
    let origin = |origin: &str| ("origin", origin.to_owned());
    let evil = server.open("/ws/echo", &[bearer(&uuid()), origin("https://evil.example")]).await;
    assert_eq!((evil.answer.status, shield.held()), (403, 0));
    assert_eq!(server.open("/ws/echo", &[bearer(&uuid()), origin(ORIGIN)]).await.answer.status, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_holds_a_lease_until_its_client_leaves() {
    let Setup { shield, server, state, quotad: _quotad } = setup().await;
    let user = uuid();
    let request = |(name, value): (&str, String)| {
        format!("GET /events HTTP/1.1\r\nhost: api.example.com\r\n{name}: {value}\r\n\r\n")
    };
    let mut first = server.connect().await;
    first.write_all(request(bearer(&user)).as_bytes()).await.unwrap();
    read_until(&mut first, "data: 1").await;
    assert_eq!(shield.held(), 1);
    let mut second = server.connect().await;
    second.write_all(request(bearer(&user)).as_bytes()).await.unwrap();
    read_until(&mut second, "HTTP/1.1 429").await;
    drop(first);
    given_back(&shield).await;
    eventually("the stream is dropped", async || state.ended.lock().unwrap().contains(&"events")).await;

    // A revoked token ends the stream whole, so that its client asks again.
    let mut third = server.connect().await;
    third.write_all(request(bearer(&user)).as_bytes()).await.unwrap();
    read_until(&mut third, "data: 1").await;
    assert!(shield.revoke_subject("example-app", &user).await.unwrap());
    read_until(&mut third, "0\r\n\r\n").await;
    given_back(&shield).await;
}

async fn read_until(stream: &mut tokio::net::TcpStream, text: &str) {
    let (mut seen, mut buffer) = (String::new(), [0_u8; 4_096]);
    while !seen.contains(text) {
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut buffer)).await;
        let count = read.expect("it comes").unwrap();
        assert_ne!(count, 0, "no {text:?} in {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
}
