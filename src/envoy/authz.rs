//! ext_authz: `Authorize` in the words of Envoy.
//!
//! Promise: every answer is a message whose status says what its response says. Must never: answer a client's request with
//! a gRPC status, whatever is in it.

mod answer;
mod metadata;

use super::Envoy;
use super::http::Exchange;
use super::judge::{Asked, Told, Verdict, lease_id};
use crate::deadline;
use crate::engine::address::parse_ip;
use crate::engine::http::Refusal;
use crate::pb::envoy::config::core::v3::address::Address;
use crate::pb::envoy::service::auth::v3 as pb;
use crate::service::Deadline;
use crate::store::Store;
use answer::{Client, answer};
use std::net::IpAddr;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<S: Store> pb::authorization_server::Authorization for Envoy<S> {
    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        // The call's own header, which no client of Envoy's writes.
        let deadline = deadline::of(&request)?;
        let (metadata, _, request) = request.into_parts();
        Ok(Response::new(self.authorize(&metadata, &request, deadline).await))
    }
}

impl<S: Store> Envoy<S> {
    async fn authorize(
        &self,
        metadata: &MetadataMap,
        request: &pb::CheckRequest,
        deadline: Deadline,
    ) -> pb::CheckResponse {
        let refused = |mistake| {
            let refused = Verdict::Refused(self.service.refuse_unconfigured(mistake));
            answer(refused, Client::Http)
        };
        let attributes = request.attributes.as_ref();
        let http = attributes.and_then(|attributes| attributes.request.as_ref()?.http.as_ref());
        let (Some(attributes), Some(http)) = (attributes, http) else {
            return refused(&"attributes.request.http: missing; ext_authz stands among the HTTP filters");
        };
        let told = match Told::read(&attributes.context_extensions) {
            Ok(told) => told,
            Err(mistake) => return refused(&mistake),
        };
        let exchange = match Exchange::of_request(http) {
            Ok(exchange) => exchange,
            Err(malformed) => {
                tracing::debug!(%malformed, "a malformed request is refused");
                let refused = Verdict::Refused(self.service.refuse(Refusal::Malformed));
                return answer(refused, Client::Http);
            }
        };
        let client = if exchange.is_grpc() { Client::Grpc } else { Client::Http };
        let Some(lease_id) = lease_id() else {
            return answer(Verdict::Refused(self.service.refuse(Refusal::Unavailable)), client);
        };
        let asked = Asked {
            exchange: &exchange,
            told: &told,
            peer: peer(attributes.source.as_ref()),
            metadata,
            lease_id: &lease_id,
        };
        answer(self.judge(asked, deadline).await, client)
    }
}

/// The peer that Envoy saw; none when it has no address, such as a socket file.
fn peer(source: Option<&pb::attribute_context::Peer>) -> Option<IpAddr> {
    match source?.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => parse_ip(&socket.address),
        Address::Pipe(_) | Address::EnvoyInternalAddress(_) => None,
    }
}
