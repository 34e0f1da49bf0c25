//! That the probe is refused in the end, and how.

use super::origins::allows;
use super::row::Row;
use super::site::{Answer, Site, SiteError};
use super::{AuditArgs, Probe};
use http::{HeaderValue, StatusCode, header};

/// Sends the probe until it is refused; adds its last answer to `answers`.
pub(super) async fn rows(
    site: &Site,
    args: &AuditArgs,
    answers: &mut Vec<Answer>,
) -> Result<Vec<Row>, SiteError> {
    let Some(probe) = &args.probe else {
        return Ok(vec![Row::skipped("limit", "no --probe names a request that is limited")]);
    };
    let (answer, tries) = refusal(site, args, probe).await?;
    let shown = format!("{} {}", probe.method, probe.path);
    answers.push(answer.clone());
    if answer.status != StatusCode::TOO_MANY_REQUESTS {
        let message = format!("no 429 for {shown} within {tries} requests; the last was a {}", answer.status);
        let remedy = "Give the route a policy with partition: [ip], and let the application ask for it.";
        return Ok(vec![Row::fail("limit", message, remedy)]);
    }
    Ok(vec![
        Row::ok("limit", format!("{shown}: request {tries} is a 429")),
        retry_after(&answer),
        no_store(&answer),
        body(&answer),
        cors(&answer, args.origin.as_ref()),
    ])
}

/// The first 429 or the last answer, and how many were asked for.
async fn refusal(site: &Site, args: &AuditArgs, probe: &Probe) -> Result<(Answer, u32), SiteError> {
    let headers: Vec<_> = args.origin.iter().map(|origin| (header::ORIGIN, origin.clone())).collect();
    let mut tries = 1;
    loop {
        let answer = site.ask(&probe.method, &probe.path, &headers).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS || tries >= args.tries {
            return Ok((answer, tries));
        }
        tries += 1;
    }
}

fn retry_after(answer: &Answer) -> Row {
    let check = "limit-retry-after";
    let value = answer.header(header::RETRY_AFTER);
    match value.and_then(|text| text.parse::<u64>().ok()) {
        Some(seconds @ 1..) => Row::ok(check, format!("{seconds} s")),
        _ => Row::fail(
            check,
            format!("`{}` is no number of seconds from 1 on", value.unwrap_or_default()),
            "Send Retry-After as quotad's decision has it; clients without it try again at once.",
        ),
    }
}

fn no_store(answer: &Answer) -> Row {
    let check = "limit-cache-control";
    match answer.lists("cache-control", "no-store") {
        true => Row::ok(check, "no-store"),
        false => Row::fail(
            check,
            "Cache-Control has no `no-store`: a cache may refuse others",
            "Send Cache-Control: no-store with the 429, as quotad's decision has it.",
        ),
    }
}

fn body(answer: &Answer) -> Row {
    let check = "limit-body";
    let value: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    match value.as_ref().and_then(|value| value.get("code")).and_then(serde_json::Value::as_str) {
        Some(code) => Row::ok(check, format!("JSON with the code {code}")),
        None => Row::warn(
            check,
            "the body is no JSON object with a `code`",
            "Send the body of quotad's decision, so that programs can tell the reason.",
        ),
    }
}

fn cors(answer: &Answer, origin: Option<&HeaderValue>) -> Row {
    let check = "limit-cors";
    let Some(origin) = origin else {
        return Row::skipped(check, "no --origin names one that is allowed");
    };
    if !allows(answer, origin) {
        let remedy = "Set the CORS headers outside of what refuses, such as by the adapter that refuses.";
        return Row::fail(check, "the page of the origin cannot read that it was refused", remedy);
    }
    match answer.lists("access-control-expose-headers", "retry-after") {
        true => Row::ok(check, "readable, with Retry-After"),
        false => Row::warn(
            check,
            "readable, without Retry-After",
            "Add RateLimit, RateLimit-Policy and Retry-After to Access-Control-Expose-Headers.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Grade;
    use super::super::tiny::Tiny;
    use super::super::{parse_origin, parse_probe, samples};
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    const GOOD: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 42\r\ncache-control: private, no-store\r\n\
                        access-control-allow-origin: https://app.example\r\n\
                        access-control-expose-headers: RateLimit, Retry-After\r\n\r\n\
                        {\"status\":\"error\",\"code\":\"RATE_LIMIT_EXCEEDED\"}";

    /// The rows of an application that answers `POST /login` so from the fourth request on.
    async fn rows_of(refusal: String, tries: u32) -> Vec<Row> {
        let count = AtomicU32::new(0);
        let tiny = Tiny::start(move |head| {
            assert!(
                head.starts_with("POST /login HTTP/1.1\r\n") && head.contains("origin: https://app.example")
            );
            match count.fetch_add(1, Ordering::SeqCst) {
                ..3 => "HTTP/1.1 401 Unauthorized\r\nset-cookie: a=b\r\n\r\n".to_owned(),
                _ => refusal.clone(),
            }
        });
        let args = AuditArgs {
            origin: Some(parse_origin("https://app.example").unwrap()),
            probe: Some(parse_probe("POST /login").unwrap()),
            tries,
            ..samples::args(&tiny.url)
        };
        let site = Site::new(args.url.as_ref().unwrap(), Duration::from_secs(30)).unwrap();
        let mut answers = Vec::new();
        let rows = rows(&site, &args, &mut answers).await.unwrap();
        assert_eq!(answers.len(), 1);
        rows
    }

    #[tokio::test]
    async fn a_429_as_quotad_makes_it_is_good() {
        let rows = rows_of(GOOD.to_owned(), 20).await;
        assert!(rows.iter().all(|row| row.grade == Grade::Ok), "{rows:?}");
        assert_eq!(rows.len(), 5);
        assert_eq!(rows.first().unwrap().message, "POST /login: request 4 is a 429");
    }

    #[tokio::test]
    async fn no_429_within_the_tries_fails() {
        let rows = rows_of(GOOD.to_owned(), 3).await;
        assert_eq!(rows.len(), 1);
        let row = rows.first().unwrap();
        assert_eq!((row.check, row.grade), ("limit", Grade::Fail));
        assert!(row.message.contains("within 3 requests"), "{}", row.message);
    }

    #[tokio::test]
    async fn each_piece_of_a_429_is_looked_at() {
        for (from, to, check, grade) in [
            ("retry-after: 42", "retry-after: 0", "limit-retry-after", Grade::Fail),
            ("retry-after: 42\r\n", "", "limit-retry-after", Grade::Fail),
            (
                "retry-after: 42",
                "retry-after: Wed, 25 Nov 2026 00:00:00 GMT",
                "limit-retry-after",
                Grade::Fail,
            ),
            ("private, no-store", "private", "limit-cache-control", Grade::Fail),
            ("\"code\"", "\"kode\"", "limit-body", Grade::Warn),
            ("{", "", "limit-body", Grade::Warn),
            (
                "allow-origin: https://app.example",
                "allow-origin: https://other.example",
                "limit-cors",
                Grade::Fail,
            ),
            ("RateLimit, Retry-After", "RateLimit", "limit-cors", Grade::Warn),
        ] {
            let rows = rows_of(GOOD.replace(from, to), 20).await;
            let bad: Vec<_> = rows.iter().filter(|row| row.grade != Grade::Ok).collect();
            assert_eq!(
                bad.iter().map(|row| (row.check, row.grade)).collect::<Vec<_>>(),
                [(check, grade)],
                "{to}"
            );
        }
    }
}
