//! The application that is audited, asked as a stranger would ask it.

use crate::token::{HttpsClient, Schemes, https_client};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use std::error::Error;
use std::time::Duration;

/// Most of a body that is read: no error is that long.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Below the URL's path; nobody serves it.
const NOWHERE: &str = "quotad-audit-no-such-page";

/// Why an application cannot be audited.
#[derive(Debug, thiserror::Error)]
pub(super) enum SiteError {
    #[error("the system's certificate roots cannot be read: {0}")]
    Roots(#[source] std::io::Error),
    #[error("no answer from {url} within {patience:?}")]
    Timeout { url: Uri, patience: Duration },
    #[error("{url} cannot be asked: {}", innermost(.source))]
    Ask { url: Uri, source: Box<hyper_util::client::legacy::Error> },
    #[error("the URL makes no request: {0}")]
    Url(#[from] http::Error),
    #[error("the answer of {url} broke off, or has more than a megabyte: {source}")]
    Body { url: Uri, source: Box<dyn Error + Send + Sync> },
}

impl SiteError {
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Roots(_) => "SSL_CERT_FILE names a file with the certificates to trust",
            Self::Timeout { .. } => "wait longer with --timeout",
            Self::Ask { .. } => "is it running there, with a certificate that this machine trusts?",
            Self::Url(_) => "write the whole URL, such as https://app.example.com",
            Self::Body { .. } => "name a URL with a smaller answer",
        }
    }
}

/// What the outer errors only repeat in other words.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// An application.
pub(super) struct Site {
    client: HttpsClient,
    url: Uri,
    patience: Duration,
}

/// What it answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Site {
    pub(super) fn new(url: &Uri, patience: Duration) -> Result<Self, SiteError> {
        let client = https_client(Schemes::Any).map_err(SiteError::Roots)?;
        Ok(Self { client, url: url.clone(), patience })
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    /// The path of its URL.
    pub(super) fn path(&self) -> &str {
        self.url.path()
    }

    /// The page of its URL.
    pub(super) async fn page(&self) -> Result<Answer, SiteError> {
        let path = self.url.path_and_query().map_or("/", PathAndQuery::as_str);
        self.ask(&Method::GET, path, &[]).await
    }

    /// A page that is not there.
    pub(super) async fn nowhere(&self) -> Result<Answer, SiteError> {
        let path = format!("{}/{NOWHERE}", self.path().trim_end_matches('/'));
        self.ask(&Method::GET, &path, &[]).await
    }

    /// One request without a body; the whole exchange takes no longer than the patience.
    pub(super) async fn ask(
        &self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, SiteError> {
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some(path.parse::<PathAndQuery>().map_err(http::Error::from)?);
        let url = Uri::from_parts(parts).map_err(http::Error::from)?;
        match tokio::time::timeout(self.patience, self.exchange(method, &url, headers)).await {
            Ok(answer) => answer,
            Err(_) => Err(SiteError::Timeout { url, patience: self.patience }),
        }
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, SiteError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::USER_AGENT, concat!("quotad-audit/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new())?;
        let response = self.client.request(request).await;
        let response =
            response.map_err(|source| SiteError::Ask { url: url.clone(), source: Box::new(source) })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|source| SiteError::Body { url: url.clone(), source })?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Answer {
    /// A header's first value; what is no text is no value.
    pub(super) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether a comma-separated list has an item, in any case.
    pub(super) fn lists(&self, name: &str, item: &str) -> bool {
        let values = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(item))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiny::Tiny;
    use super::*;

    fn site(url: &str, patience: Duration) -> Site {
        Site::new(&url.parse().unwrap(), patience).unwrap()
    }

    #[tokio::test]
    async fn the_page_that_is_not_there_is_below_the_url() {
        let tiny =
            Tiny::start(|request| format!("HTTP/1.1 200 OK\r\n\r\n{}", request.lines().next().unwrap()));
        let site = site(&format!("{}/api/?a=b", tiny.url), Duration::from_secs(30));
        assert_eq!(site.page().await.unwrap().body, "GET /api/?a=b HTTP/1.1");
        assert_eq!(site.nowhere().await.unwrap().body, "GET /api/quotad-audit-no-such-page HTTP/1.1");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_like_any_other() {
        let tiny = Tiny::start(|_| "HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\n".to_owned());
        let answer = site(&tiny.url, Duration::from_secs(30)).page().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("location")), (302, Some("/x")));
    }

    #[tokio::test]
    async fn one_that_does_not_answer_or_sends_too_much_is_an_error() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let error = site(&url, Duration::from_millis(50)).page().await.unwrap_err();
        assert!(error.to_string().contains("within 50ms"), "{error}");
        drop(silent);
        let error = site(&url, Duration::from_secs(30)).page().await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        let tiny = Tiny::start(|_| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_BODY_BYTES + 1)));
        let error = site(&tiny.url, Duration::from_secs(30)).page().await.unwrap_err();
        assert!(error.to_string().contains("has more than"), "{error}");
    }
}
