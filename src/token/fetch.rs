//! One bounded GET over https: what a key set is fetched with.
//!
//! Promise: an answer in time, of at most the bytes asked for, from the host that was configured: no redirect is
//! followed and no plain http is spoken. Certificates are checked against the system's roots
//! (`SSL_CERT_FILE` names others).

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::error::Error;
use std::time::Duration;

/// Which schemes are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemes {
    /// Only https.
    Https,
    /// Http too, for an application that an operator names by hand. Never for a key set.
    Any,
}

/// A client that follows no redirect and keeps no connection.
pub type HttpsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The one place where such a client is made.
///
/// # Errors
/// The system's certificate roots cannot be read.
pub fn https_client(schemes: Schemes) -> Result<HttpsClient, std::io::Error> {
    let builder = HttpsConnectorBuilder::new().with_native_roots()?;
    let builder = match schemes {
        Schemes::Https => builder.https_only(),
        Schemes::Any => builder.https_or_http(),
    };
    let connector = builder.enable_http1().build();
    // Minutes lie between two fetches; a connection kept for that long would only go stale.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the system's certificate roots cannot be read")]
    Roots(#[source] std::io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the server cannot be asked")]
    Ask(#[source] hyper_util::client::legacy::Error),
    #[error("the URL makes no request")]
    Url(#[source] http::Error),
    #[error("it redirects, and a key set is taken from its configured place only: write the final URL")]
    Redirect,
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    #[error("the answer broke off")]
    Body(#[source] Box<dyn Error + Send + Sync>),
}

/// An https client.
pub(super) struct Fetcher {
    client: HttpsClient,
}

impl Fetcher {
    /// Reads the system's certificate roots.
    pub(super) fn new(schemes: Schemes) -> Result<Self, FetchError> {
        Ok(Self { client: https_client(schemes).map_err(FetchError::Roots)? })
    }

    /// Fetches at most `most` bytes; the whole exchange, name look-up to last byte, takes no longer than `patience`.
    pub(super) async fn get(&self, url: &Uri, most: usize, patience: Duration) -> Result<Bytes, FetchError> {
        let answer = tokio::time::timeout(patience, self.exchange(url, most)).await;
        answer.unwrap_or(Err(FetchError::Timeout(patience)))
    }

    async fn exchange(&self, url: &Uri, most: usize) -> Result<Bytes, FetchError> {
        let request = Request::get(url)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("quotad/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(FetchError::Url)?;
        let response = self.client.request(request).await.map_err(FetchError::Ask)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect),
            status => return Err(FetchError::Status(status)),
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| match error.is::<LengthLimitError>() {
            true => FetchError::TooLarge(most),
            false => FetchError::Body(error),
        })
    }
}
