//! Extractors and responses for axum.

use crate::{Claims, Denied, limits::Limits};
use axum::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use std::{convert::Infallible, sync::Arc};

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        self.to_http().map(Body::from)
    }
}

/// No layer of a Shield is around this handler.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no Shield is in front of this handler; put `.layer(shield.layer())` around the router")]
pub struct NoShield;

impl IntoResponse for NoShield {
    fn into_response(self) -> Response {
        tracing::error!(target: "quotad", "{self}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Limits {
    type Rejection = NoShield;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoShield> {
        parts.extensions.get::<Limits>().cloned().ok_or(NoShield)
    }
}

/// Why there are no claims.
#[derive(Debug)]
pub enum ClaimsRejection {
    /// See [`NoShield`].
    NoShield(NoShield),
    /// 401 without a token, 503 when nobody could check it.
    Denied(Denied),
}

impl IntoResponse for ClaimsRejection {
    fn into_response(self) -> Response {
        match self {
            Self::NoShield(rejection) => rejection.into_response(),
            Self::Denied(denied) => denied.into_response(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Claims {
    type Rejection = ClaimsRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ClaimsRejection> {
        let limits = <Limits as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let limits = limits.map_err(ClaimsRejection::NoShield)?;
        limits.require_claims().map(Arc::unwrap_or_clone).map_err(ClaimsRejection::Denied)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Claims {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        let claims = parts.extensions.get::<Limits>().and_then(Limits::claims);
        Ok(claims.map(Arc::unwrap_or_clone))
    }
}
