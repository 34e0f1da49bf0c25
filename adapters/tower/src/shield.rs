//! `Shield`: what all requests of an application share.

use crate::{
    Ask, ShieldBuilder,
    client::Client,
    decision::Decision,
    error::{Denied, NoDecision},
    facts::spelling,
    layer::{Hold, Limit, ShieldLayer},
    leases::Keeper,
    limits::Limits,
    notice::{Notice, Notices},
    settings::Settings,
    tasks::Tasks,
    v1 as pb,
};
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::runtime::Handle;

/// How long a start waits for the connection; then it goes on without.
const WARM: Duration = Duration::from_secs(1);
const REVOKE: Duration = Duration::from_secs(1);
/// Header names that the service may name beside our own; it has a handful.
const MAX_IDENTITY: usize = 1_024;

/// In front of an application: one for the process, cheap to clone.
#[derive(Clone)]
pub struct Shield(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) client: Arc<Client>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) notices: Notices,
    /// Headers that clients may not send, by their letters and digits: those of the settings, and what the service has
    /// named since. Bounded by the service's configuration, because a client's spellings of one are one.
    pub(crate) identity: Mutex<HashSet<String>>,
    pub(crate) warmed: OnceLock<()>,
}

impl fmt::Debug for Shield {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shield").field("target", &self.0.settings.target).finish_non_exhaustive()
    }
}

impl Inner {
    /// Connects in the background, once, so that the first request need not wait for it.
    pub(crate) fn warm(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.warmed.set(()).is_ok() {
            let inner = Arc::clone(self);
            runtime.spawn(async move {
                if !inner.client.is_ready(WARM).await {
                    inner.notices.once(Notice::NotThereAtStart, &inner.settings.target);
                }
            });
        }
    }

    pub(crate) fn learn_identity(&self, names: &[String]) {
        let mut known = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names.iter().map(|name| spelling(name)) {
            if known.len() < MAX_IDENTITY {
                known.insert(name);
            }
        }
    }

    pub(crate) fn identity(&self) -> Vec<String> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Shield {
    /// Of the quotad at `target`: `127.0.0.1:50051`, `https://quotad.internal:50051`, `unix:/run/quotad.sock`.
    pub fn connect(target: impl Into<String>) -> ShieldBuilder {
        ShieldBuilder::new(target.into())
    }

    /// For the whole application: preflights, Origin, one `Authorize` a request by the service's routes, security
    /// headers, CORS, leases of sockets and streams. Put it outermost, so last.
    pub fn layer(&self) -> ShieldLayer {
        ShieldLayer::new(self, crate::layer::Routing::ByService)
    }

    /// As [`Shield::layer`] without the `Authorize`: routes that have a [`Shield::limit`] ask by it, and the others ask
    /// nothing, not even whether a token is good.
    pub fn headers_and_cors(&self) -> ShieldLayer {
        ShieldLayer::new(self, crate::layer::Routing::ByLayers)
    }

    /// For routes: charges these policies, all or none. Under [`Shield::headers_and_cors`], and alone, it is the
    /// request's one `Authorize`, with the policies beside those of the service's routes; a further one, and one under
    /// [`Shield::layer`], is a `CheckLimit`.
    pub fn limit(&self, policies: impl Into<Ask>) -> Limit {
        Limit::new(self, policies.into())
    }

    /// For routes: a lease that is held until the response is sent.
    pub fn hold(&self, policies: impl Into<Ask>) -> Hold {
        Hold::new(self, policies.into())
    }

    /// Connects, and waits at most a second for it. Whether the service answered; if not, requests get what
    /// `on_unavailable` says until it does.
    pub async fn ready(&self) -> bool {
        let _ = self.0.warmed.set(());
        let is_ready = self.0.client.is_ready(WARM).await;
        if !is_ready {
            self.0.notices.once(Notice::NotThereAtStart, &self.0.settings.target);
        }
        is_ready
    }

    /// For a job or a script: checks without a request. Every fact is in the entries.
    ///
    /// # Errors
    ///
    /// [`Denied`] when a policy refuses, or nobody answers and the setting says closed.
    pub async fn check(&self, ask: impl Into<Ask>) -> Result<Decision, Denied> {
        Limits::outside(self).check(ask).await
    }

    /// For a job or a script: what a check would say now. Charges nothing.
    pub async fn peek(&self, ask: impl Into<Ask>) -> Decision {
        Limits::outside(self).peek(ask).await
    }

    /// Everything issued to this subject so far is refused from now on; its connections of this process end at once,
    /// those of others at their next renewal. False: it was so already.
    ///
    /// # Errors
    ///
    /// [`NoDecision`] when the service cannot keep it.
    pub async fn revoke_subject(&self, issuer: &str, subject: &str) -> Result<bool, NoDecision> {
        let target = pb::revoke_token_request::Target::Subject(pb::revoke_token_request::Subject {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        });
        let newly = self.revoke(target).await?;
        self.0.keeper.end_token(issuer, subject, "");
        Ok(newly)
    }

    pub(crate) async fn revoke(&self, target: pb::revoke_token_request::Target) -> Result<bool, NoDecision> {
        let asked = pb::RevokeTokenRequest { target: Some(target) };
        Ok(self.0.client.revoke_token(asked, REVOKE).await?.newly_revoked)
    }

    /// Leases that this process holds now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.keeper.len()
    }

    /// Waits until nothing is being given back or settled any more, as long as two calls may take. Whether it is so.
    pub async fn idle(&self) -> bool {
        self.0.tasks.are_done(WARM * 2).await
    }

    /// Gives back what this process holds, and waits for that, and for settlements, as long as two calls may take.
    /// Whether all was done in that time.
    pub async fn close(&self) -> bool {
        self.0.keeper.close();
        self.idle().await
    }
}
