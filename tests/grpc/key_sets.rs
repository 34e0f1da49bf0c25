//! The start of a process that fetches a key set: it waits for it, but no longer than its grace.

use crate::harness::{PATIENCE, Quotad, Start};
use crate::server::free_port;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quotad::pb::quotad::v1 as pb;
use quotad::pb::quotad::v1::decision_service_client::DecisionServiceClient;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

const GRACE: Duration = Duration::from_millis(700);

/// An issuer: its key, and the certificate of its server.
struct Issuer {
    key: EcdsaKeyPair,
    listener: tokio::net::TcpListener,
    tls: TlsAcceptor,
    certificate: String,
}

impl Issuer {
    /// It listens, and answers nobody yet.
    async fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls_key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], tls_key.into()).unwrap();
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            listener: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: TlsAcceptor::from(Arc::new(config)),
            certificate: made.cert.pem(),
        }
    }

    /// A quotad that fetches its set.
    fn start(&self, grace: &str, address: &str) -> Start {
        let url = format!("https://localhost:{}/jwks.json", self.listener.local_addr().unwrap().port());
        let issuer = format!("name: app, issuer: app, algorithms: [ES256], key: {{jwks_url: '{url}'}}");
        let config =
            format!("store: {{start_grace: {grace}}}\ntokens: [{{{issuer}, require: [sub, exp]}}]\n");
        let start = Start::with(&config).file("roots.pem", &self.certificate);
        let roots = start.path("roots.pem").display().to_string();
        start.variable("SSL_CERT_FILE", &roots).arg("--listen").arg(address)
    }

    /// A token that it signed.
    fn token(&self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": "app", "sub": "alice", "iat": now, "exp": now + 600});
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(json!({"alg": "ES256", "kid": "one"})), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Answers one fetch.
    async fn serve(&self) {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one", "x": x, "y": y});
        let set = json!({"keys": [key]}).to_string();
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{set}", set.len());
        let (socket, _) = self.listener.accept().await.unwrap();
        let mut socket = self.tls.accept(socket).await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert!(socket.read_buf(&mut asked).await.unwrap() > 0, "the question breaks off");
        }
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
    }
}

async fn reason(address: &str, token: String) -> pb::Reason {
    let mut client = DecisionServiceClient::new(crate::start::first_connection(address).await);
    let request = pb::ValidateTokenRequest { token, ..Default::default() };
    client.validate_token(request).await.unwrap().into_inner().decision.unwrap().reason()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_that_nobody_answers_for_delays_the_start_by_the_grace_and_no_more() {
    let issuer = Issuer::new().await;
    let started = issuer.start("700ms", "127.0.0.1:0");
    let begin = Instant::now();
    let quotad: Quotad = tokio::task::spawn_blocking(|| started.start()).await.unwrap();
    let took = begin.elapsed();
    assert!(took >= GRACE, "{took:?}");
    // One fetch alone has five seconds.
    assert!(took < GRACE + PATIENCE, "{took:?}");
    assert_ne!(reason(&quotad.address, issuer.token()).await, pb::Reason::TokenValid, "there is no key yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_that_comes_late_within_the_grace_is_waited_for() {
    let issuer = Issuer::new().await;
    let address = format!("127.0.0.1:{}", free_port());
    let started = issuer.start("60s", &address);
    let quotad = tokio::task::spawn_blocking(|| started.start());
    // The port is bound at once, and whoever comes waits: the first answer knows the key.
    let token = issuer.token();
    let asked = tokio::spawn(async move { reason(&address, token).await });
    // Long enough for a quotad that does not wait to have answered.
    tokio::time::sleep(GRACE).await;
    assert!(!asked.is_finished() && !quotad.is_finished(), "nobody is answered yet");
    issuer.serve().await;
    assert_eq!(asked.await.unwrap(), pb::Reason::TokenValid);
    drop(quotad.await.unwrap());
}
