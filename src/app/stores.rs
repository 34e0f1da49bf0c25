//! Which store serves, and the services of one thread over it.

use super::health::Health;
use super::standing::Part;
use super::{AppError, memory, pages, reflection};
use crate::api::Api;
use crate::codec::{MAX_BATCH, MAX_REQUEST};
use crate::config::{Config, StoreKind};
use crate::envoy::Envoy;
use crate::pb::envoy::service::accesslog::v3::access_log_service_server::AccessLogServiceServer;
use crate::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use crate::pb::envoy::service::ext_proc::v3::external_processor_server::ExternalProcessorServer;
use crate::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use crate::pb::quotad::v1::decision_service_server::DecisionServiceServer;
use crate::server::Dispatch;
use crate::service::{Live, Service};
use crate::shutdown::{Stop, spawn_lasting, spawn_local};
use crate::store::Store;
use crate::store::memory::{MemoryOptions, MemoryStore};
use crate::store::redis::{BadUrl, RedisOptions, RedisStore, Replicas};
use arc_swap::ArcSwap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;

/// Between two words to the shared store that this process is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The same before the first was heard: the start waits for it.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(50);

/// Beside an embedded store the other one, for when a store is away, decides nothing: this part of the cap is left for it.
const IDLE_PART: usize = 64;

/// The configured store.
#[derive(Clone, Debug)]
pub(super) enum Stores {
    /// One for all threads.
    Memory(Arc<MemoryStore>, Arc<MemoryStore>),
    /// A client on each thread.
    Redis(RedisOptions, Arc<MemoryStore>),
}

impl Stores {
    /// Opens what has to be there before the first request. Redis may come later.
    pub(super) fn open(config: &Config) -> Result<Self, AppError> {
        let max_memory = memory::cap(config.store.max_memory);
        tracing::info!(max_memory, "most bytes of counters and leases in this process");
        let local = |max_memory| {
            MemoryStore::new(MemoryOptions { max_memory, ..MemoryOptions::default() }).map(Arc::new)
        };
        Ok(match &config.store.kind {
            StoreKind::Memory { data_dir } => {
                let local = local(max_memory / IDLE_PART)?;
                let max_memory = max_memory - max_memory / IDLE_PART;
                let options =
                    MemoryOptions { max_memory, data_dir: data_dir.clone(), ..MemoryOptions::default() };
                let store = Arc::new(MemoryStore::new(options)?);
                for warning in store.health().warnings {
                    tracing::warn!("{warning}");
                }
                Self::Memory(store, local)
            }
            StoreKind::Redis { url } => {
                let options = RedisOptions {
                    timeout: config.store.timeout,
                    replicas: Replicas::at_least(config.store.replicas),
                    ..RedisOptions::new(url.expose())
                };
                // A URL that no worker could use ends the start here.
                drop(RedisStore::connect(options.clone())?);
                Self::Redis(options, local(max_memory)?)
            }
        })
    }
}

/// What every thread builds its services from.
#[derive(Clone)]
pub(super) struct Services {
    live: Arc<ArcSwap<Live>>,
    stores: Stores,
    others: Routes,
    health: Health,
    part: Part,
}

impl Services {
    /// Over `stores`, with the health of the process and the service that tells it. Each thread's store is a part of what
    /// has to stand.
    pub(super) fn new<H>(
        live: Arc<ArcSwap<Live>>,
        stores: Stores,
        (health, health_service): (Health, H),
        part: Part,
    ) -> Result<Self, AppError>
    where
        H: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<tonic::body::Body>,
                Error = std::convert::Infallible,
            > + tonic::server::NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        H::Future: Send + 'static,
    {
        let others = Routes::new(health_service)
            .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_REQUEST))
            .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_REQUEST));
        Ok(Self { live, stores, others, health, part })
    }

    /// The services of one thread.
    ///
    /// # Errors
    /// A URL that the client does not take; [`Stores::open`] has seen to that.
    pub(super) async fn dispatch(self, index: usize, stop: Stop) -> Result<Dispatch, BadUrl> {
        match self.stores {
            Stores::Memory(store, local) => {
                self.part.stands();
                Ok(dispatch(Service::new(self.live, store, local), &stop, self.others, self.health))
            }
            Stores::Redis(options, local) => {
                let (store, driver) = RedisStore::connect(options)?;
                spawn_lasting("redis driver", &stop, driver.run());
                if index == 0 {
                    spawn_lasting("store heartbeat", &stop, heartbeat(store.clone(), self.part));
                } else {
                    let (store, part) = (store.clone(), self.part);
                    spawn_local(async move {
                        store.stands().await;
                        part.stands();
                    });
                }
                Ok(dispatch(Service::new(self.live, store, local), &stop, self.others, self.health))
            }
        }
    }
}

fn dispatch<S: Store>(service: Service<S>, stop: &Stop, others: Routes, health: Health) -> Dispatch {
    let service = Arc::new(service);
    if S::MAY_BE_AWAY {
        let service = Arc::clone(&service);
        spawn_lasting("owed releases", stop, async move { service.pay_owed().await });
    }
    let stop = stop.clone();
    let draining = move || -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let stop = stop.clone();
        Box::pin(async move { stop.draining().await })
    };
    let draining: crate::envoy::Draining = Arc::new(draining);
    let envoy = Arc::new(Envoy::new(Arc::clone(&service)).until(Arc::clone(&draining)));
    let api = Api::new(service).until(draining);
    // A message is held in memory until all of it is here, so the bound holds for what it announces.
    let api = Arc::new(api);
    let of = |bound| DecisionServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(bound);
    let authz = AuthorizationServer::from_arc(Arc::clone(&envoy)).max_decoding_message_size(MAX_BATCH);
    let limits = RateLimitServiceServer::from_arc(Arc::clone(&envoy)).max_decoding_message_size(MAX_BATCH);
    let logs = AccessLogServiceServer::from_arc(Arc::clone(&envoy)).max_decoding_message_size(MAX_BATCH);
    let pages = pages::pages(&envoy, health);
    let processor = ExternalProcessorServer::from_arc(envoy).max_decoding_message_size(MAX_BATCH);
    Dispatch::new(of(MAX_REQUEST), of(MAX_BATCH), others)
        .with_pages(pages)
        .with("/envoy.service.ratelimit.v3.RateLimitService/", limits)
        .with("/envoy.service.auth.v3.Authorization/", authz)
        .with("/envoy.service.accesslog.v3.AccessLogService/", logs)
        .with("/envoy.service.ext_proc.v3.ExternalProcessor/", processor)
}

/// Tells the store again and again that this replica is there, and operators what is wrong with it. The thread that does so
/// stands when the store has heard it once: whoever serves knows how many share the store.
async fn heartbeat(store: RedisStore, part: Part) {
    store.stands().await;
    store.bring_scripts().await;
    let (mut said, mut part) = (Vec::new(), Some(part));
    loop {
        let pause = match store.heartbeat().await {
            Ok(_) => {
                if let Some(part) = part.take() {
                    part.stands();
                }
                HEARTBEAT
            }
            Err(error) => {
                tracing::debug!(%error, "no heartbeat");
                if part.is_some() { FIRST_HEARTBEAT } else { HEARTBEAT }
            }
        };
        let warnings = store.health().warnings;
        for warning in warnings.iter().filter(|warning| !said.contains(*warning)) {
            tracing::warn!("{warning}");
        }
        said = warnings;
        tokio::time::sleep(pause).await;
    }
}
