//! What every answer of an application should have: encryption, and each security header once.

use super::row::Row;
use super::site::{Answer, Site};

/// The one that says nothing over plain http.
const HSTS: &str = "strict-transport-security";
const SECURITY: [&str; 5] =
    [HSTS, "content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"];

/// Whether it is asked over https.
pub(super) fn transport(site: &Site) -> Row {
    match site.is_https() {
        true => Row::ok("transport", "https, with a certificate that this machine trusts"),
        false => Row::warn(
            "transport",
            "plain http: anybody on the way reads tokens and cookies",
            "Serve it over https, and audit that URL.",
        ),
    }
}

/// Whether an answer has the five security headers, each once.
pub(super) fn security_headers(check: &'static str, answer: &Answer, site: &Site) -> Row {
    let expected = SECURITY.iter().filter(|name| site.is_https() || **name != HSTS);
    let count = |name: &str| answer.headers.get_all(name).iter().count();
    let wrong: Vec<String> = expected
        .filter_map(|name| match count(name) {
            0 => Some(format!("{name} is missing")),
            1 => None,
            times => Some(format!("{name} stands {times} times")),
        })
        .collect();
    let status = answer.status.as_u16();
    if wrong.is_empty() {
        return Row::ok(check, format!("the {status} has each security header once"));
    }
    Row::fail(
        check,
        format!("the {status}: {}", wrong.join(", ")),
        "Let one layer, such as an adapter of quotad or the gateway, set them on every answer.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::row::Grade;
    use super::super::tiny::{SECURE, Tiny};
    use super::*;
    use std::time::Duration;

    async fn row(headers: &str) -> Row {
        let answer = format!("HTTP/1.1 404 Not Found\r\n{headers}\r\n");
        let tiny = Tiny::start(move |_| answer.clone());
        let site = Site::new(&tiny.url.parse().unwrap(), Duration::from_secs(30)).unwrap();
        security_headers("headers-error", &site.page().await.unwrap(), &site)
    }

    #[tokio::test]
    async fn each_header_must_stand_once() {
        let row_of_good = row(SECURE).await;
        assert_eq!(row_of_good, Row::ok("headers-error", "the 404 has each security header once"));
        let missing = row(&SECURE.replace("x-frame-options: DENY\r\n", "")).await;
        assert_eq!(
            (missing.grade, missing.message.as_str()),
            (Grade::Fail, "the 404: x-frame-options is missing")
        );
        let twice = row(&format!("{SECURE}referrer-policy: no-referrer\r\n")).await;
        assert_eq!(
            (twice.grade, twice.message.as_str()),
            (Grade::Fail, "the 404: referrer-policy stands 2 times")
        );
    }

    #[test]
    fn plain_http_is_warned_of_and_wants_no_hsts() {
        let site = |url: &str| Site::new(&url.parse().unwrap(), Duration::from_secs(1)).unwrap();
        assert_eq!(transport(&site("http://app.example")).grade, Grade::Warn);
        assert_eq!(transport(&site("https://app.example")).grade, Grade::Ok);
        let bare = Answer {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        assert!(security_headers("x", &bare, &site("https://app.example")).message.contains(HSTS));
        assert!(!security_headers("x", &bare, &site("http://app.example")).message.contains(HSTS));
    }
}
