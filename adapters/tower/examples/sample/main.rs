//! An application behind quotad: `cargo run -p quotad-tower --example sample --features local`.
//!
//! QUOTAD says where quotad is (127.0.0.1:50051), LISTEN where to serve (127.0.0.1:8080), ENVIRONMENT and ALLOWED_ORIGINS
//! who may read answers in a browser.

mod app;

use quotad_tower::{Local, OnUnavailable, Rule, Shield};
use std::{env, error::Error, net::SocketAddr, time::Duration};
use tokio::net::TcpListener;

#[tokio::main]
#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program, not a library")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let shield = Shield::connect(variable("QUOTAD", "127.0.0.1:50051"))
        .deadline(Duration::from_millis(variable("DEADLINE_MS", "50").parse()?))
        .rule(
            Rule::new("POST /login")
                .on_unavailable(OnUnavailable::Local(Local::new(10, Duration::from_secs(60)).replicas(4))),
        )
        .rule(Rule::new("/health").skip())
        .build()?;
    shield.ready().await;

    let app = app::router(&shield, app::State::default());
    let listener = TcpListener::bind(variable("LISTEN", "127.0.0.1:8080")).await?;
    println!("serving on {}", listener.local_addr()?);
    // Without the addresses of clients nobody could be counted by theirs.
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    shield.close().await;
    Ok(())
}
