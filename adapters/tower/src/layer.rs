//! The tower layers: one for the application, others for routes.

use crate::{
    Ask, Shield,
    body::Body,
    error::{BoxError, Denied},
    exchange,
    limits::Limits,
    rule::{Asks, Cost},
    settings::Routes,
    settle::{Answered, SettleFn},
};
use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body as HttpBody;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// Who asks the service about a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Routing {
    /// The outermost layer, by the service's routes.
    ByService,
    /// The layers of routes.
    ByLayers,
}

type EntryFn = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;
type SkipFn = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// What a layer asks.
#[derive(Clone)]
pub(crate) enum Terms {
    Application(Routing),
    Limit(Arc<LimitTerms>),
    Hold(Arc<LimitTerms>),
}

#[derive(Clone)]
pub(crate) struct LimitTerms {
    ask: Ask,
    cost: Option<Cost>,
    entries: Vec<(String, EntryFn)>,
    skip: Option<SkipFn>,
    settle: Option<SettleFn>,
}

impl LimitTerms {
    fn new(ask: Ask) -> Self {
        Self { ask, cost: None, entries: Vec::new(), skip: None, settle: None }
    }

    /// For this request.
    fn ask(&self, parts: &Parts) -> Ask {
        let mut ask = self.ask.clone();
        let entry = |(name, entry): &(String, EntryFn)| Some((name.clone(), entry(parts)?));
        ask.entries.extend(self.entries.iter().filter_map(entry));
        if let Some(cost) = &self.cost {
            ask.cost = Some(cost.of(parts));
        }
        if ask.cost == Some(0) {
            // A peek reserves nothing.
            ask.settle_within = None;
        }
        ask
    }
}

impl Terms {
    pub(crate) async fn ask(&self, limits: &Limits, parts: &mut Parts) -> Result<(), Denied> {
        let routes = limits.shield().0.settings.routes;
        let is_free = limits.rule().asks == Asks::Nothing || routes == Routes::Ignored;
        match self {
            Self::Application(Routing::ByService) if !is_free => {
                limits.authorize(parts, &Ask::default()).await
            }
            Self::Application(_) => {
                // Who is not asked can say nothing about the caller, and the client must not.
                limits.forbid_identity(parts);
                Ok(())
            }
            Self::Limit(terms) => {
                if terms.skip.as_ref().is_some_and(|skip| skip(parts)) {
                    return Ok(());
                }
                let ask = terms.ask(parts);
                let decision = if is_free || limits.is_asked() {
                    Some(limits.check(&ask).await?)
                } else {
                    limits.authorize(parts, &ask).await?;
                    limits.authorized()
                };
                if let (Some(decision), Some(cost)) = (decision, &terms.settle) {
                    limits.settle_after(&ask, &decision, cost);
                }
                Ok(())
            }
            Self::Hold(terms) => {
                if terms.skip.as_ref().is_some_and(|skip| skip(parts)) {
                    return Ok(());
                }
                let lease = limits.lease(terms.ask(parts)).await?;
                limits.keep(lease);
                Ok(())
            }
        }
    }
}

/// For a whole application; see [`Shield::layer`] and [`Shield::headers_and_cors`].
#[derive(Clone, Debug)]
pub struct ShieldLayer {
    shield: Shield,
    routing: Routing,
}

impl ShieldLayer {
    pub(crate) fn new(shield: &Shield, routing: Routing) -> Self {
        Self { shield: shield.clone(), routing }
    }
}

impl<S> Layer<S> for ShieldLayer {
    type Service = ShieldService<S>;

    fn layer(&self, inner: S) -> ShieldService<S> {
        ShieldService::new(inner, &self.shield, Terms::Application(self.routing))
    }
}

/// For routes: see [`Shield::limit`].
#[derive(Clone)]
pub struct Limit {
    shield: Shield,
    terms: LimitTerms,
}

impl fmt::Debug for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Limit").field("ask", &self.terms.ask).finish_non_exhaustive()
    }
}

impl Limit {
    pub(crate) fn new(shield: &Shield, ask: Ask) -> Self {
        Self { shield: shield.clone(), terms: LimitTerms::new(ask) }
    }

    /// This policy too: all are charged, or none.
    #[must_use]
    pub fn and(mut self, policy: impl Into<String>) -> Self {
        self.terms.ask = self.terms.ask.and(policy);
        self
    }

    /// Units, or a function of the request that says them. Where this layer makes the request's `Authorize` it is the
    /// cost under the policies of the service's route, too.
    #[must_use]
    pub fn cost(mut self, cost: impl Into<Cost>) -> Self {
        self.terms.cost = Some(cost.into());
        self
    }

    /// A fact of the request that policies count by, beside `ip`, `user`, `claim:NAME`, `method` and `route`. `None`
    /// leaves it out, and a policy that needs it refuses.
    #[must_use]
    pub fn by(
        mut self,
        name: impl Into<String>,
        entry: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.terms.entries.push((name.into(), Arc::new(entry)));
        self
    }

    /// Requests about which nothing is asked here.
    #[must_use]
    pub fn skip(mut self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.terms.skip = Some(Arc::new(skip));
        self
    }

    /// The cost is a reservation: after the response, within this time, it is settled to what the function says.
    #[must_use]
    pub fn settle(
        mut self,
        within: Duration,
        cost: impl Fn(&Answered) -> u32 + Send + Sync + 'static,
    ) -> Self {
        self.terms.ask = self.terms.ask.settle_within(within);
        self.terms.settle = Some(Arc::new(cost));
        self
    }
}

impl<S> Layer<S> for Limit {
    type Service = ShieldService<S>;

    fn layer(&self, inner: S) -> ShieldService<S> {
        ShieldService::new(inner, &self.shield, Terms::Limit(Arc::new(self.terms.clone())))
    }
}

/// For routes: see [`Shield::hold`].
#[derive(Clone)]
pub struct Hold {
    shield: Shield,
    terms: LimitTerms,
}

impl fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hold").field("ask", &self.terms.ask).finish_non_exhaustive()
    }
}

impl Hold {
    pub(crate) fn new(shield: &Shield, ask: Ask) -> Self {
        Self { shield: shield.clone(), terms: LimitTerms::new(ask) }
    }

    /// As [`Limit::by`].
    #[must_use]
    pub fn by(
        mut self,
        name: impl Into<String>,
        entry: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.terms.entries.push((name.into(), Arc::new(entry)));
        self
    }

    /// As [`Limit::skip`].
    #[must_use]
    pub fn skip(mut self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.terms.skip = Some(Arc::new(skip));
        self
    }
}

impl<S> Layer<S> for Hold {
    type Service = ShieldService<S>;

    fn layer(&self, inner: S) -> ShieldService<S> {
        ShieldService::new(inner, &self.shield, Terms::Hold(Arc::new(self.terms.clone())))
    }
}

/// What the layers make of a service.
#[derive(Clone)]
pub struct ShieldService<S> {
    inner: S,
    shield: Shield,
    terms: Terms,
}

impl<S: fmt::Debug> fmt::Debug for ShieldService<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ShieldService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> ShieldService<S> {
    fn new(inner: S, shield: &Shield, terms: Terms) -> Self {
        shield.0.warm();
        Self { inner, shield: shield.clone(), terms }
    }
}

impl<S, B, R> Service<Request<B>> for ShieldService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready goes; its clone waits for the next.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(exchange::serve(inner, self.shield.clone(), self.terms.clone(), request))
    }
}
