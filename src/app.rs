//! The process: what is built in which order, and how it ends.
//!
//! Start: configuration (no socket yet) → keys → listeners → workers, each with its store → what has to stand → ready. A
//! store that is late does not stop the start. Stop: NOT_SERVING → no new connections → what is in flight ends → exit. Every step has a deadline.

pub mod commands;
mod health;
mod memory;
mod pages;
mod rate_limits;
mod reload;
mod screen;
mod standing;
mod stores;
mod watch;

use crate::codec::MAX_REQUEST;
use crate::config::{Bind, Config, Diagnostic, Item, Source};
use crate::engine::rate_limit::RateLimits;
use crate::pb;
use crate::server::{Address, BindError, Face, Listener, Pool, WorkerError};
use crate::service::Live;
use crate::shutdown::{Stop, asked_to_stop, spawn_local};
use crate::store::memory::DataDirError;
use crate::store::redis::BadUrl;
use crate::token::{Keys, Verifier};
use arc_swap::ArcSwap;
use health::Health;
use rate_limits::Directory;
use standing::{Standing, Waited};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use stores::Stores;

/// Between NOT_SERVING and the end of accepting: load balancers see the first before the second hurts. A process that has
/// accepted nobody yet does not wait.
const DRAIN_DELAY: Duration = Duration::from_millis(200);

/// Why the process cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Mistakes that only the content of key files shows.
    #[error("{}", list(.0))]
    Keys(Vec<Diagnostic>),
    /// The shared store's URL.
    #[error(transparent)]
    Store(#[from] BadUrl),
    /// A part of the process that must last ended; the log says which.
    #[error("a part of the process ended unasked")]
    TaskEnded,
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The embedded store's folder.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A thread.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The reflection service.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The operating system.
    #[error(transparent)]
    System(#[from] io::Error),
}

fn list(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Builds the verifier of a configuration; its mistakes come with file, line and hint.
///
/// # Errors
/// Keys that cannot be used.
pub fn verifier(config: &Config, how: Keys) -> Result<Verifier, Vec<Diagnostic>> {
    Verifier::build(config.issuers.clone(), how).map_err(|mistakes| located(config, mistakes))
}

fn located(config: &Config, mistakes: Vec<(usize, crate::engine::mistake::Mistake)>) -> Vec<Diagnostic> {
    mistakes.into_iter().map(|(index, mistake)| config.locate(Item::Token(index), mistake)).collect()
}

/// What of a configuration is swapped on reload.
pub(crate) fn live(config: &Config, verifier: Arc<Verifier>, rate_limits: &RateLimits) -> Live {
    Live {
        policies: Arc::clone(&config.policies),
        face: config.http.face.clone(),
        trusted_proxies: config.http.trusted_proxies.clone(),
        client_ip: config.envoy.client_ip.clone(),
        identity_headers: config.http.identity_headers.clone(),
        verifier,
        rate_limits: rate_limits.clone(),
        rate_limit_options: config.envoy.ratelimit_options.clone(),
    }
}

/// Serves until the process is asked to stop. Runs inside a `LocalSet` on a current-thread runtime.
///
/// # Errors
/// The process cannot start, or a part of it ended unasked.
pub async fn serve(source: Source, config: Config) -> Result<(), AppError> {
    let started = crate::clock::monotonic();
    let verifier = Arc::new(verifier(&config, Keys::Make).map_err(AppError::Keys)?);
    let listeners = listen(&config)?;
    let stop = Stop::default();
    let directory = Directory::open(&config);
    let shared = Arc::new(ArcSwap::from_pointee(live(&config, verifier, directory.limits())));
    let stores = Stores::open(&config)?;
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health_service = health_service.max_decoding_message_size(MAX_REQUEST);
    let health = Health::new(reporter);
    let threads = threads(&config);
    let standing = Standing::new();
    let services = stores::Services::new(
        Arc::clone(&shared),
        stores,
        (health.clone(), health_service),
        standing.part(),
    )?;
    let lasting = stop.clone();
    let pool = Pool::start(threads, config.listen.max_connection_age, &stop, move |index| {
        services.clone().dispatch(index, lasting.clone())
    })?;
    health.limits(&config, directory.limits()).await;
    let key_sets = reload::start(
        source,
        (config.clone(), directory),
        Arc::clone(&shared),
        (&stop, health.clone(), standing.part()),
    )?;
    let drain_delay = Rc::new(Cell::new(Duration::ZERO));
    stop_when_asked(&stop, health, Rc::clone(&drain_delay));
    match standing.wait(threads + key_sets, config.store.start_grace, &stop).await {
        Waited::Stopped => {}
        waited => {
            if waited == Waited::Late && !config.store.start_grace.is_zero() {
                tracing::warn!(
                    "the store or a key set did not come within store.start_grace; serving without"
                );
            }
            drain_delay.set(DRAIN_DELAY);
            screen::show(&config, &listeners, threads, started.elapsed())?;
        }
    }
    let accepted = pool.accept(&listeners).await;
    drop(listeners);
    // The workers' own deadline bounds this.
    let joined = tokio::task::spawn_blocking(move || pool.join()).await.map_err(io::Error::other)?;
    accepted?;
    joined?;
    if stop.has_failed() {
        return Err(AppError::TaskEnded);
    }
    tracing::info!("stopped");
    Ok(())
}

/// Begins the drain when the process is asked to stop, so long after it is called unhealthy.
fn stop_when_asked(stop: &Stop, health: Health, delay: Rc<Cell<Duration>>) {
    let asked = stop.clone();
    spawn_local(async move {
        match asked_to_stop().await {
            Ok(signal) => tracing::info!(signal, "stopping"),
            Err(error) => tracing::error!(%error, "cannot listen for signals; stopping"),
        }
        health.drain().await;
        tokio::time::sleep(delay.get()).await;
        asked.drain();
    });
}

fn threads(config: &Config) -> usize {
    match config.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Binds every listener; none is left when one cannot be.
fn listen(config: &Config) -> Result<Vec<Listener>, BindError> {
    let faces = [(Face::Grpc, &config.listen.grpc), (Face::Http, &config.listen.http)];
    let all = faces.into_iter().flat_map(|(face, binds)| binds.iter().map(move |bind| (face, bind)));
    all.map(|(face, bind)| Listener::bind(&address(bind), face)).collect()
}

fn address(bind: &Bind) -> Address {
    match bind {
        Bind::Tcp(address) => Address::Tcp(*address),
        Bind::Unix(path) => Address::Unix(path.clone()),
    }
}

/// Reflection of our services in the form that `version` asks for.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
