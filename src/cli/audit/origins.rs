//! CORS: that a page of a foreign origin reads nothing, and one of the allowed origin what it must.

use super::AuditArgs;
use super::row::Row;
use super::site::{Answer, Site, SiteError};
use http::{HeaderValue, Method, header};

/// Nobody's: `.invalid` has no hosts (RFC 2606).
const FOREIGN: &str = "https://quotad-audit.invalid";
/// Of sandboxed frames and files, so of anybody.
const NULL: &str = "null";

const LIST_ORIGINS: &str = "Allow exactly the origins of your own pages, letter by letter, by a list.";

/// What a foreign origin gets, and the answers to preflights.
pub(super) async fn rows(site: &Site, args: &AuditArgs) -> Result<Vec<Row>, SiteError> {
    let path = args.probe.as_ref().map_or(site.path(), |probe| probe.path.as_str());
    let mut rows = Vec::new();
    for (check, origin) in [("cors-foreign-origin", FOREIGN), ("cors-null-origin", NULL)] {
        let from = [(header::ORIGIN, HeaderValue::from_static(origin))];
        rows.push(foreign(check, &site.ask(&Method::GET, site.path(), &from).await?, origin));
    }
    let answer = preflight(site, path, &HeaderValue::from_static(FOREIGN)).await?;
    rows.push(foreign("cors-foreign-preflight", &answer, FOREIGN));
    rows.push(match &args.origin {
        None => Row::skipped("cors-preflight", "no --origin names one that is allowed"),
        Some(origin) => own(&preflight(site, path, origin).await?, origin),
    });
    Ok(rows)
}

async fn preflight(site: &Site, path: &str, origin: &HeaderValue) -> Result<Answer, SiteError> {
    let method = HeaderValue::from_static("POST");
    let headers = [(header::ORIGIN, origin.clone()), (header::ACCESS_CONTROL_REQUEST_METHOD, method)];
    site.ask(&Method::OPTIONS, path, &headers).await
}

/// Whether a page of this origin may read an answer.
pub(super) fn allows(answer: &Answer, origin: &HeaderValue) -> bool {
    names(answer, origin.as_bytes()) || (names(answer, b"*") && !takes_credentials(answer))
}

fn names(answer: &Answer, origin: &[u8]) -> bool {
    let allowed = answer.headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    allowed.iter().any(|value| value.as_bytes() == origin)
}

fn takes_credentials(answer: &Answer) -> bool {
    answer.lists("access-control-allow-credentials", "true")
}

fn foreign(check: &'static str, answer: &Answer, origin: &'static str) -> Row {
    let (is_named, is_star) = (names(answer, origin.as_bytes()), names(answer, b"*"));
    match (is_named, is_star, takes_credentials(answer)) {
        (true, _, true) => {
            let message = format!("{origin} is allowed, with credentials: any page acts as who is logged in");
            Row::fail(check, message, LIST_ORIGINS)
        }
        (true, ..) => {
            Row::fail(check, format!("{origin} is allowed, as any origin seems to be"), LIST_ORIGINS)
        }
        (false, true, true) => {
            Row::fail(check, "`*` together with credentials, which no browser takes", LIST_ORIGINS)
        }
        (false, true, false) => Row::warn(
            check,
            "`*`: every page reads the answers, without credentials",
            "Keep it only for what is meant for everybody, and list origins for the rest.",
        ),
        (false, false, _) => Row::ok(check, format!("{origin} is not allowed")),
    }
}

fn own(answer: &Answer, origin: &HeaderValue) -> Row {
    let (status, check) = (answer.status.as_u16(), "cors-preflight");
    if answer.status.is_success() && allows(answer, origin) {
        return Row::ok(check, format!("answered by {status}, and allowed"));
    }
    let message = format!("the answer is a {status} that does not allow the origin of --origin");
    let remedy = "Answer preflights before log-in and limits, and list this origin.";
    Row::fail(check, message, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::row::Grade;
    use super::super::tiny::Tiny;
    use super::super::{parse_origin, samples};
    use super::*;
    use std::time::Duration;

    /// The rows of an application that answers OPTIONS and GET with these headers; `{origin}` is the request's.
    async fn rows_of(headers: &'static str) -> Vec<(&'static str, Grade)> {
        let tiny = Tiny::start(move |head| {
            let origin = head.lines().find_map(|line| line.strip_prefix("origin: ")).unwrap_or_default();
            format!("HTTP/1.1 204 No Content\r\n{}\r\n", headers.replace("{origin}", origin))
        });
        let args = samples::args(&tiny.url);
        let args = AuditArgs { origin: Some(parse_origin("https://app.example").unwrap()), ..args };
        let site = Site::new(args.url.as_ref().unwrap(), Duration::from_secs(30)).unwrap();
        rows(&site, &args).await.unwrap().iter().map(|row| (row.check, row.grade)).collect()
    }

    fn all(foreign: Grade, own: Grade) -> Vec<(&'static str, Grade)> {
        let foreigners = ["cors-foreign-origin", "cors-null-origin", "cors-foreign-preflight"];
        foreigners.map(|check| (check, foreign)).into_iter().chain([("cors-preflight", own)]).collect()
    }

    #[tokio::test]
    async fn an_origin_that_is_reflected_fails_with_and_without_credentials() {
        let reflected = "access-control-allow-origin: {origin}\r\n";
        assert_eq!(rows_of(reflected).await, all(Grade::Fail, Grade::Ok));
        let with = "access-control-allow-origin: {origin}\r\naccess-control-allow-credentials: true\r\n";
        assert_eq!(rows_of(with).await, all(Grade::Fail, Grade::Ok));
    }

    #[tokio::test]
    async fn a_star_is_a_warning_and_with_credentials_a_failure() {
        let star = "access-control-allow-origin: *\r\n";
        assert_eq!(rows_of(star).await, all(Grade::Warn, Grade::Ok));
        let with = "access-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\n";
        assert_eq!(rows_of(with).await, all(Grade::Fail, Grade::Fail));
    }

    #[tokio::test]
    async fn only_the_own_origin_is_as_it_should_be() {
        let own =
            "access-control-allow-origin: https://app.example\r\naccess-control-allow-credentials: true\r\n";
        assert_eq!(rows_of(own).await, all(Grade::Ok, Grade::Ok));
        assert_eq!(rows_of("").await, all(Grade::Ok, Grade::Fail));
    }

    #[tokio::test]
    async fn without_an_origin_of_its_own_nothing_is_said_about_it() {
        let tiny = Tiny::start(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
        let (code, out, _) = samples::run(&samples::args(&tiny.url), "{}").await;
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("skipped cors-preflight"), "{out}");
    }
}
