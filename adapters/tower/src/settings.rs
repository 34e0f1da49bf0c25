//! Settings as written and as meant. What would be unsafe or without effect is an error before a request comes.

use crate::{
    Shield,
    address::networks,
    answers::ErrorBody,
    client::{self, Client, Grpc, Transit, Transport},
    cors::{Cors, Credentials, Environment},
    decision::Decision,
    error::{ConfigurationError, ErrorBuilder},
    facts::spelling,
    headers::{Edit, SECURITY},
    leases::Keeper,
    notice::{Notice, Notices},
    rule::{OnUnavailable, Rule, Rules, edit},
    shield::Inner,
    tasks::Tasks,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use std::{
    collections::HashSet,
    env, fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tonic::transport::Endpoint;

/// Settings of a [`Shield`], as written.
#[must_use = "call build"]
pub struct ShieldBuilder {
    target: String,
    environment: Option<Environment>,
    origins: Option<Vec<String>>,
    cors: Sharing,
    credentials: Credentials,
    rules: Vec<Rule>,
    on_unavailable: OnUnavailable,
    routes: Routes,
    domain: String,
    deadline: Duration,
    security: Vec<(String, Option<String>)>,
    keep: Vec<String>,
    identity: Vec<String>,
    trusted: Vec<String>,
    error: Option<Arc<ErrorBuilder>>,
    error_body: ErrorBody,
    transit: Transit,
    endpoint: Option<Endpoint>,
    transport: Option<Transport>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sharing {
    On,
    Off,
}

/// Whether the service's routes are asked about requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Routes {
    Asked,
    Ignored,
}

/// As meant: checked, with defaults.
pub(crate) struct Settings {
    pub(crate) target: String,
    pub(crate) cors: Cors,
    pub(crate) rules: Rules,
    pub(crate) on_unavailable: OnUnavailable,
    pub(crate) routes: Routes,
    pub(crate) domain: String,
    pub(crate) deadline: Duration,
    pub(crate) security: Vec<(HeaderName, HeaderValue)>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) keep: Vec<HeaderName>,
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) error: Option<Arc<ErrorBuilder>>,
    pub(crate) bodies: ErrorBody,
}

impl fmt::Debug for ShieldBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ShieldBuilder").field("target", &self.target).finish_non_exhaustive()
    }
}

impl ShieldBuilder {
    pub(crate) fn new(target: String) -> Self {
        Self {
            target,
            environment: None,
            origins: None,
            cors: Sharing::On,
            credentials: Credentials::Allowed,
            rules: Vec::new(),
            on_unavailable: OnUnavailable::Closed,
            routes: Routes::Asked,
            domain: String::new(),
            deadline: Duration::from_millis(50),
            security: Vec::new(),
            keep: Vec::new(),
            identity: vec!["x-user-id".to_owned()],
            trusted: Vec::new(),
            error: None,
            error_body: ErrorBody::Uniform,
            transit: Transit::Checked,
            endpoint: None,
            transport: None,
        }
    }

    /// Where the application runs. Default: the variable ENVIRONMENT; not set is production.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Every origin reads, without credentials.
    pub fn development(self) -> Self {
        self.environment(Environment::Development)
    }

    /// As production, by its own name.
    pub fn staging<O: Into<String>>(self, origins: impl IntoIterator<Item = O>) -> Self {
        self.environment(Environment::Staging).origins(origins)
    }

    /// Exactly these origins.
    pub fn production<O: Into<String>>(self, origins: impl IntoIterator<Item = O>) -> Self {
        self.environment(Environment::Production).origins(origins)
    }

    /// Who may read answers and open sockets from a browser. Default: ALLOWED_ORIGINS, commas between.
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// No page of another origin uses this API: no CORS headers, and sockets of its own host's pages only.
    pub fn without_cors(mut self) -> Self {
        self.cors = Sharing::Off;
        self
    }

    /// Allowed origins may not send cookies. In development they never may.
    pub fn without_credentials(mut self) -> Self {
        self.credentials = Credentials::Refused;
        self
    }

    /// For some paths. The first rule that matches holds.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Without an answer, where no rule says otherwise. Default: closed.
    pub fn on_unavailable(mut self, choice: OnUnavailable) -> Self {
        self.on_unavailable = choice;
        self
    }

    /// No `Authorize`: only what the application asks for itself is checked, by one `CheckLimit` each.
    pub fn without_routes(mut self) -> Self {
        self.routes = Routes::Ignored;
        self
    }

    /// Of policies and routes. Default: each route's own; `default` for checks.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = domain.into();
        self
    }

    /// How long a decision may take. Default 50 ms.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Changes a header on every answer, over the service's: `None` takes it away.
    pub fn security_header<'a>(mut self, name: impl Into<String>, value: impl Into<Option<&'a str>>) -> Self {
        self.security.push((name.into(), value.into().map(str::to_owned)));
        self
    }

    /// The application's own value of this header stands, where it sends one.
    pub fn keep_header(mut self, name: impl Into<String>) -> Self {
        self.keep.push(name.into());
        self
    }

    /// A name that clients may not send while the service cannot say which; beside `x-user-id`.
    pub fn identity_header(mut self, name: impl Into<String>) -> Self {
        self.identity.push(name.into());
        self
    }

    /// For checks by `ip` that the application asks for while the service has not said the address. Routes use the
    /// service's own list.
    pub fn trusted_proxies<N: Into<String>>(mut self, networks: impl IntoIterator<Item = N>) -> Self {
        self.trusted = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Makes status, content type and body of refusals. The headers stay the service's.
    pub fn error(
        mut self,
        build: impl Fn(&Decision) -> (StatusCode, HeaderValue, Bytes) + Send + Sync + 'static,
    ) -> Self {
        self.error = Some(Arc::new(build));
        self
    }

    /// The form of the few answers that are given without the service; as `http.error_body` there.
    pub fn error_body(mut self, form: ErrorBody) -> Self {
        self.error_body = form;
        self
    }

    /// Plain text to another machine, inside a network that encrypts by itself.
    pub fn insecure(mut self) -> Self {
        self.transit = Transit::Insecure;
        self
    }

    /// The connection as tonic knows it, such as with certificates of your own; in the place of the target.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`] for what would be unsafe or without effect.
    pub fn build(self) -> Result<Shield, ConfigurationError> {
        let notices = Notices::default();
        let transport = match (self.transport, self.endpoint) {
            (Some(transport), _) => transport,
            (None, Some(endpoint)) => Transport::Grpc(Box::new(Grpc::new(endpoint))),
            (None, None) => {
                Transport::Grpc(Box::new(Grpc::new(client::endpoint(&self.target, self.transit)?)))
            }
        };
        let environment = match self.environment {
            Some(environment) => environment,
            None => Environment::read(&variable("ENVIRONMENT"))?,
        };
        let cors = match self.cors {
            Sharing::Off => Cors::Off,
            Sharing::On => {
                let origins = self.origins.unwrap_or_else(allowed_origins);
                Cors::new(environment, &origins, self.credentials)?
            }
        };
        if self.deadline.is_zero() {
            return Err(ConfigurationError::Number { name: "deadline", why: "is not above 0" });
        }
        let trusted = networks(&self.trusted)?;
        if trusted.iter().any(|network| network.prefix_len() == 0) {
            notices.once(Notice::TrustsEverybody, "");
        }
        if matches!(self.on_unavailable, OnUnavailable::Open) {
            notices.once(Notice::Open, "");
        }
        let edits = self.security.iter().map(|(name, value)| edit(name, value.as_deref()));
        let settings = Settings {
            target: self.target,
            cors,
            rules: Rules::new(self.rules)?,
            on_unavailable: self.on_unavailable,
            routes: self.routes,
            domain: self.domain,
            deadline: self.deadline,
            security: SECURITY
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .to_vec(),
            edits: edits.collect::<Result<_, _>>()?,
            keep: self.keep.iter().map(|name| Ok(edit(name, None)?.0)).collect::<Result<_, _>>()?,
            trusted,
            error: self.error,
            bodies: self.error_body,
        };
        let client = Arc::new(Client::new(transport));
        let tasks = Tasks::new();
        let identity: HashSet<String> = self.identity.iter().map(|name| spelling(name)).collect();
        Ok(Shield(Arc::new(Inner {
            keeper: Keeper::new(Arc::clone(&client), Arc::clone(&tasks)),
            settings,
            client,
            tasks,
            notices,
            identity: Mutex::new(identity),
            warmed: OnceLock::new(),
        })))
    }
}

fn allowed_origins() -> Vec<String> {
    let listed = variable("ALLOWED_ORIGINS");
    listed.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(str::to_owned).collect()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
