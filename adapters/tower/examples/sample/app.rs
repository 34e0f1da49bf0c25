//! The routes: what the service decides by itself, what a route or a handler asks for, streams and sockets.

use axum::{
    Json, Router,
    extract::{Query, State as Shared},
    http::{HeaderMap, header, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::{get, post},
};
use quotad_tower::{
    Ask, Claims, Denied, Environment, Limits, Logout, LogoutError, Messages, SessionCookie, Shield,
    SocketUpgrade,
    types::{MultilineText, PersonName, PlainText, SafeUrl, SlugText},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_stream::{Stream, StreamExt as _};

/// What the handlers share.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// Lets those go on that wait.
    pub(crate) release: Arc<Notify>,
    /// Which handlers have ended.
    pub(crate) ended: Arc<Mutex<Vec<&'static str>>>,
}

/// Tells that a handler has ended, however it did.
struct Ends(State, &'static str);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Ok(mut ended) = self.0.ended.lock() {
            ended.push(self.1);
        }
    }
}

/// The whole application, with its Shield.
pub(crate) fn router(shield: &Shield, state: State) -> Router {
    router_of(shield, state).layer(shield.layer())
}

/// The routes, and those of their own limits.
pub(crate) fn router_of(shield: &Shield, state: State) -> Router {
    let auth = shield.limit("auth-per-ip");
    let mounted = Router::new()
        .route("/login", post(login))
        .route("/boom", get(boom))
        .route("/dependency", post(login).layer(auth.clone()));
    let sockets = Router::new()
        .route("/ws/silent", get(silent))
        .route("/ws/echo", get(echo))
        .route("/ws/audio", get(audio))
        .route("/limited-socket", get(echo).layer(auth.clone()));
    Router::new()
        .route("/health", get(async || "up"))
        .route("/login", post(login))
        .route("/signup", post(login))
        .route("/plain", get(plain))
        .route("/own-headers", get(own_headers))
        .route("/boom", get(boom))
        .route("/me", get(me))
        .route("/maybe", get(maybe))
        .route("/logout", post(logout))
        .route("/ai/translate", post(plain))
        .route("/dependency", post(login).layer(auth))
        .route(
            "/account",
            post(login).layer(shield.limit("per-account").by("account", account).cost(cost).skip(skips)),
        )
        .route("/settled", get(settled).layer(settling(shield)))
        .route("/inside", get(inside))
        .route("/rooms", post(room))
        .route("/stream", get(stream))
        .route("/events", get(events))
        .route(
            "/held",
            get(events).layer(shield.hold("streams-per-user").by("user", |_| Some("held".into()))),
        )
        .route("/leased", get(leased))
        .merge(sockets)
        .nest("/mounted", mounted)
        .with_state(state)
}

/// Charges two units ahead; what it really was, the handler knows.
fn settling(shield: &Shield) -> quotad_tower::Limit {
    shield
        .limit("per-account")
        .by("account", account)
        .cost(2_u32)
        .settle(Duration::from_secs(60), |answered| {
            answered.extensions.get::<Spent>().map_or(0, |spent| spent.0)
        })
}

/// Units that a handler really spent.
#[derive(Clone, Copy)]
struct Spent(u32);

async fn login() -> Json<Value> {
    Json(json!({"hello": "world"}))
}

async fn plain(headers: HeaderMap) -> Json<Value> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Json(json!({"user": text("x-user-id"), "forged": text("x_user_id")}))
}

async fn own_headers() -> impl IntoResponse {
    let headers = [
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
        (header::VARY, "Accept"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::SERVER, "x"),
        (header::HeaderName::from_static("x-powered-by"), "y"),
    ];
    (headers, Json(json!({})))
}

#[expect(clippy::panic, reason = "what a 500 looks like")]
async fn boom() -> Response {
    panic!("boom")
}

async fn me(claims: Claims) -> Json<Value> {
    Json(json!({"user": claims.subject, "plan": claims.all.get("plan")}))
}

async fn maybe(claims: Option<Claims>) -> Json<Value> {
    Json(json!({"user": claims.map(|claims| claims.subject)}))
}

async fn logout(limits: Limits, query: Query<HashMap<String, String>>) -> Result<HeaderMap, LogoutError> {
    let everywhere = query.contains_key("everywhere");
    limits.logout(if everywhere { Logout::Everywhere } else { Logout::Token }).await?;
    let mut headers = HeaderMap::new();
    // Once it is revoked: an answer that says "logged out" must be true.
    let cookie = SessionCookie::new("refresh_token").and_then(|cookie| cookie.path("/auth"));
    let cookie = cookie.map(|cookie| cookie.environment(Environment::Production));
    let _ = cookie.and_then(|cookie| cookie.delete(&mut headers));
    Ok(headers)
}

/// A parameter of the query, without a decoder: the sample's are plain.
fn parameter(parts: &Parts, name: &str) -> Option<String> {
    let mut pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(one, _)| *one == name).map(|(_, value)| value.to_owned())
}

fn account(parts: &Parts) -> Option<String> {
    parameter(parts, "account")
}

fn cost(parts: &Parts) -> u32 {
    parameter(parts, "cost").and_then(|cost| cost.parse().ok()).unwrap_or(1)
}

fn skips(parts: &Parts) -> bool {
    parts.headers.get("x-skip").is_some_and(|value| value == "yes")
}

async fn settled(query: Query<HashMap<String, String>>) -> Response {
    let spent = query.get("spent").and_then(|spent| spent.parse().ok()).unwrap_or(0);
    let mut response = "done".into_response();
    response.extensions_mut().insert(Spent(spent));
    response
}

async fn inside(limits: Limits, query: Query<HashMap<String, String>>) -> Result<Json<Value>, Denied> {
    let ask = Ask::policy("per-account").entry("account", query.get("account").cloned().unwrap_or_default());
    let before = limits.peek(&ask).await;
    let decision = limits.check(ask.clone().cost(2)).await?;
    let after = limits.peek(ask).await;
    let left =
        [&before, &decision, &after].map(|decision| decision.statuses.first().map(|status| status.remaining));
    Ok(Json(json!({"left": left, "after": after.allowed})))
}

/// Texts that were trimmed, brought to one form, and looked through.
#[derive(Deserialize, Serialize)]
struct Room {
    slug: SlugText,
    title: PlainText,
    host: PersonName,
    about: Option<MultilineText>,
    link: Option<SafeUrl>,
}

async fn room(Json(room): Json<Room>) -> Json<Room> {
    Json(room)
}

async fn stream(Shared(state): Shared<State>) -> Response {
    let chunks = futures_util::stream::unfold(0, move |number| {
        let state = state.clone();
        async move {
            match number {
                0 => Some((Ok::<_, Infallible>("first"), 1)),
                1 => {
                    state.release.notified().await;
                    Some((Ok("second"), 2))
                }
                _ => None,
            }
        }
    });
    axum::body::Body::from_stream(chunks).into_response()
}

async fn events(Shared(state): Shared<State>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ends = Ends(state.clone(), "events");
    let last = futures_util::stream::once(async move {
        state.release.notified().await;
        drop(ends);
        Ok(Event::default().data("2"))
    });
    Sse::new(tokio_stream::once(Ok(Event::default().data("1"))).chain(last))
}

async fn leased(limits: Limits, Shared(state): Shared<State>) -> Result<&'static str, Denied> {
    let _lease = limits.lease(Ask::policy("streams-per-user").entry("user", "leased")).await?;
    let _ends = Ends(state.clone(), "leased");
    state.release.notified().await;
    Ok("done")
}

async fn silent(upgrade: SocketUpgrade, Shared(state): Shared<State>) -> Response {
    upgrade.cancel_after(Duration::ZERO).on_upgrade(|socket| async move {
        let _ends = Ends(state, "silent");
        let _socket = socket;
        // Never reads.
        std::future::pending::<()>().await;
    })
}

async fn echo(upgrade: SocketUpgrade, Shared(state): Shared<State>) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        let _ends = Ends(state, "echo");
        while let Some(message) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// As many units as a message has letters.
async fn audio(upgrade: SocketUpgrade, Shared(state): Shared<State>) -> Response {
    let messages = Messages::new("ai-per-user")
        .cost(|message| u32::try_from(message.clone().into_data().len()).unwrap_or(u32::MAX));
    echo(upgrade.messages(messages), Shared(state)).await
}
