//! `quotad.v1.DecisionService`: bound the request, call the service, render the answer.
//!
//! Must never: decide anything. An `if` about limits here is in the wrong file.

pub mod bounds;
mod render;
mod stream;

use crate::budget::ending;
use crate::deadline;
use crate::pb::quotad::v1 as pb;
use crate::service::{
    CheckCall, ConnectionCall, Entries, HttpCall, MadeBy, Offer, RevokeTarget, Service, SettleCall,
    TokenReference,
};
use crate::store::Store;
use bounds::{
    check_entries, check_issuer, check_request, check_token, connection_parts, lease_id, moment,
    settle_within, text,
};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use stream::CheckStream;
use tonic::{Request, Response, Status};

/// Makes a future that ends when the process begins to drain.
pub type Draining = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The native API over one service.
pub struct Api<S> {
    service: Arc<Service<S>>,
    draining: Draining,
}

impl<S> fmt::Debug for Api<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Api")
    }
}

impl<S> Api<S> {
    /// The API over `service`, of a process that never drains.
    #[must_use]
    pub fn new(service: Arc<Service<S>>) -> Self {
        Self { service, draining: Arc::new(|| Box::pin(std::future::pending())) }
    }

    /// With the signal at which streams read no more: they answer what they have read, and end.
    #[must_use]
    pub fn until(self, draining: Draining) -> Self {
        Self { draining, ..self }
    }
}

#[tonic::async_trait]
impl<S: Store> pb::decision_service_server::DecisionService for Api<S> {
    type CheckLimitsStream = CheckStream<S>;

    async fn check_limit(
        &self,
        request: Request<pb::CheckLimitRequest>,
    ) -> Result<Response<pb::CheckLimitResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let request = request.into_inner();
        let answered = check(&self.service, &request, deadline).await?;
        Ok(Response::new(pb::CheckLimitResponse { decision: Some(answered) }))
    }

    async fn check_limits(
        &self,
        request: Request<tonic::Streaming<pb::CheckLimitsRequest>>,
    ) -> Result<Response<Self::CheckLimitsStream>, Status> {
        let deadline = deadline::of(&request)?;
        let draining = ending(request.extensions(), (self.draining)());
        Ok(Response::new(CheckStream::new(Arc::clone(&self.service), request, deadline, draining)))
    }

    async fn acquire_connection(
        &self,
        request: Request<pb::AcquireConnectionRequest>,
    ) -> Result<Response<pb::AcquireConnectionResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let connection = request.into_inner().connection.ok_or_else(missing_connection)?;
        let acquired = self.service.acquire(connection_call(&connection)?, deadline).await?;
        Ok(Response::new(pb::AcquireConnectionResponse {
            decision: Some(acquired.answered.into()),
            lease: acquired.lease.map(|lease| render::lease(lease, connection.holder)),
        }))
    }

    async fn renew_connections(
        &self,
        request: Request<pb::RenewConnectionsRequest>,
    ) -> Result<Response<pb::RenewConnectionsResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let connections = request.into_inner().connections;
        bounds::check_renewals(&connections)?;
        let calls = connections.iter().map(connection_call).collect::<Result<Vec<_>, _>>()?;
        let renewed = self.service.renew(&calls, deadline).await?;
        let renewals = connections
            .iter()
            .zip(renewed)
            .map(|(connection, (state, after))| render::renewal(connection.lease_id.clone(), state, after));
        Ok(Response::new(pb::RenewConnectionsResponse { renewals: renewals.collect() }))
    }

    async fn release_connection(
        &self,
        request: Request<pb::ReleaseConnectionRequest>,
    ) -> Result<Response<pb::ReleaseConnectionResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let connection = request.into_inner().connection.ok_or_else(missing_connection)?;
        let released = self.service.release(&connection_call(&connection)?, deadline).await?;
        Ok(Response::new(pb::ReleaseConnectionResponse { released }))
    }

    async fn validate_token(
        &self,
        request: Request<pb::ValidateTokenRequest>,
    ) -> Result<Response<pb::ValidateTokenResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let request = request.into_inner();
        check_token("token", &request.token)?;
        text("issuer", &request.issuer)?;
        let validated = self.service.validate(&request.token, &request.issuer, deadline).await?;
        Ok(Response::new(pb::ValidateTokenResponse {
            decision: Some(validated.answered.into()),
            claims: validated.good.map(|good| render::claims(&good.claims)),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let target = request.into_inner().target;
        let newly_revoked = self.service.revoke(revoke_target(target.as_ref())?, deadline).await?;
        Ok(Response::new(pb::RevokeTokenResponse { newly_revoked }))
    }

    async fn authorize(
        &self,
        request: Request<pb::AuthorizeRequest>,
    ) -> Result<Response<pb::AuthorizeResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let request = request.into_inner();
        let http = bounds::check_authorize(&request)?;
        let headers: Vec<(&str, &str)> =
            http.headers.iter().map(|header| (&*header.name, &*header.value)).collect();
        let offer = |offer| Offer { lease_id: offer, made_by: MadeBy::Caller };
        let connection = request.connection.as_ref().map(|connection| offer(&*connection.lease_id));
        let call = HttpCall {
            domain: &request.domain,
            method: &http.method,
            host: &http.host,
            path: &http.path,
            peer_address: &http.peer_address,
            client: None,
            route: None,
            policies: &request.policies,
            headers: &headers,
            token: request.token.as_deref(),
            entries: &request.entries,
            cost: request.cost,
            request_id: &request.request_id,
            settle_within: settle_within(request.settle_within.as_ref(), &request.request_id, request.cost)?,
            connection,
        };
        let authorized = self.service.authorize(call, deadline).await?;
        Ok(Response::new(render::authorized(authorized, request.connection)))
    }

    async fn settle_cost(
        &self,
        request: Request<pb::SettleCostRequest>,
    ) -> Result<Response<pb::SettleCostResponse>, Status> {
        let deadline = deadline::of(&request)?;
        let request = request.into_inner();
        bounds::check_settlement(&request)?;
        let call =
            SettleCall { ticket: &request.ticket, cost: request.cost, policy_costs: &request.policy_costs };
        Ok(Response::new(self.service.settle(call, deadline).await?.into()))
    }
}

/// One check, alone or out of a stream.
async fn check<S: Store>(
    service: &Service<S>,
    request: &pb::CheckLimitRequest,
    deadline: crate::service::Deadline,
) -> Result<pb::Decision, Status> {
    check_request(request)?;
    let call = CheckCall {
        domain: &request.domain,
        policies: &request.policies,
        cost: request.cost,
        request_id: &request.request_id,
        settle_within: settle_within(request.settle_within.as_ref(), &request.request_id, request.cost)?,
    };
    Ok(service.check(call, &Entries(&request.entries), deadline).await?.into())
}

fn missing_connection() -> Status {
    Status::invalid_argument("connection: missing")
}

fn connection_call(connection: &pb::Connection) -> Result<ConnectionCall<'_, Entries<'_>>, Status> {
    connection_parts(connection)?;
    check_entries("connection.entries", &connection.entries)?;
    lease_id("connection.lease_id", &connection.lease_id)?;
    let token = connection.token.as_ref().map(token_reference).transpose()?;
    Ok(ConnectionCall {
        domain: &connection.domain,
        policies: &connection.policies,
        elsewhere: &[],
        facts: Entries(&connection.entries),
        lease_id: &connection.lease_id,
        token,
    })
}

fn token_reference(token: &pb::TokenReference) -> Result<TokenReference, Status> {
    check_issuer("connection.token.issuer", &token.issuer)?;
    text("connection.token.subject", &token.subject)?;
    text("connection.token.token_id", &token.token_id)?;
    Ok(TokenReference {
        issuer: token.issuer.clone(),
        subject: token.subject.clone(),
        token_id: token.token_id.clone(),
        issued_at: moment("connection.token.issued_at", token.issued_at.as_ref())?,
        expires_at: moment("connection.token.expires_at", token.expires_at.as_ref())?,
    })
}

fn revoke_target(target: Option<&pb::revoke_token_request::Target>) -> Result<RevokeTarget<'_>, Status> {
    use pb::revoke_token_request::Target;
    match target {
        None => Err(Status::invalid_argument("target: send token, token_id or subject")),
        Some(Target::Token(token)) => {
            check_token("token", token)?;
            Ok(RevokeTarget::Token(token))
        }
        Some(Target::TokenId(id)) => {
            check_issuer("token_id.issuer", &id.issuer)?;
            bounds::required("token_id.id", &id.id)?;
            let expires_at = moment("token_id.expires_at", id.expires_at.as_ref())?;
            Ok(RevokeTarget::Id { issuer: &id.issuer, id: &id.id, expires_at })
        }
        Some(Target::Subject(subject)) => {
            check_issuer("subject.issuer", &subject.issuer)?;
            bounds::required("subject.subject", &subject.subject)?;
            Ok(RevokeTarget::Subject { issuer: &subject.issuer, subject: &subject.subject })
        }
    }
}
