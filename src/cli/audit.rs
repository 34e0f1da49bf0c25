//! `quotad audit`: what of a configuration, and of the application behind it, is weaker than it need be.
//!
//! Promise: every check is a row with its result, and unless it is good with what to do; the exit code is 1 when a check
//! failed. What cannot be looked at is `skipped`, never `ok`.
//!
//! Must never: follow a redirect, send a credential, or ask anything with consequences but what `--probe` names.

mod answers;
mod cookies;
mod limits;
mod origins;
mod row;
mod settings;
mod site;
#[cfg(test)]
mod tiny;

use self::row::{Grade, Row};
use self::site::{Site, SiteError};
use super::screen::Screen;
use super::{EXIT_ALLOW, EXIT_DENY, EXIT_ERROR, json, span};
use crate::config::Config;
use http::{HeaderValue, Method, Uri};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const AFTER_HELP: &str = "\
Examples:
  quotad audit                                         the configuration alone
  quotad audit --url https://app.example.com           its headers, CORS and cookies too
  quotad audit --url https://api.example.com --origin https://app.example.com --probe 'POST /login'
                                                       and that a log-in is refused in the end, rightly

The probe is sent without a body until it is refused, so it uses up the quota of this address.

Exit codes: 0 nothing failed, 1 a check failed, 2 error.";

/// `quotad audit`.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// The configuration file [default: config/quotad.yaml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask this application too
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub url: Option<Uri>,
    /// An origin that the application allows: scheme, host, and port where it is not the usual one
    #[arg(long, value_name = "ORIGIN", requires = "url", value_parser = parse_origin)]
    pub origin: Option<HeaderValue>,
    /// A request that is limited; it is sent until it is refused with 429
    #[arg(long, value_name = "METHOD PATH", requires = "url", value_parser = parse_probe)]
    pub probe: Option<Probe>,
    /// How often the probe is sent at most
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tries: u32,
    /// How long each answer of the application may take
    #[arg(long, default_value = "10s", value_parser = span::parse, value_name = "TIME")]
    pub timeout: Duration,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A request that is sent until it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// As written.
    pub method: Method,
    /// With its leading `/`.
    pub path: String,
}

/// Audits a configuration, and the application if one is named; returns the exit code.
pub async fn audit(args: &AuditArgs, config: &Config, screen: &mut Screen<'_>) -> u8 {
    let mut rows = settings::rows(config);
    match application(args).await {
        Ok(more) => rows.extend(more),
        Err(error) => {
            if args.json {
                screen.print(&json::error("CLIENT", &error.to_string()));
            }
            screen.complain(&error.to_string(), Some(error.hint()));
            return EXIT_ERROR;
        }
    }
    let text = if args.json { row::json(&rows) } else { row::table(&rows, screen.colour) };
    screen.print(&text);
    if rows.iter().any(|row| row.grade == Grade::Fail) { EXIT_DENY } else { EXIT_ALLOW }
}

/// What the application's answers show.
async fn application(args: &AuditArgs) -> Result<Vec<Row>, SiteError> {
    let Some(url) = &args.url else {
        return Ok(vec![Row::skipped("application", "no --url names one")]);
    };
    let site = Site::new(url, args.timeout)?;
    let (page, nowhere) = (site.page().await?, site.nowhere().await?);
    let mut rows = vec![
        answers::transport(&site),
        answers::security_headers("headers-page", &page, &site),
        answers::security_headers("headers-error", &nowhere, &site),
    ];
    rows.extend(origins::rows(&site, args).await?);
    let mut answers = vec![page, nowhere];
    rows.extend(limits::rows(&site, args, &mut answers).await?);
    rows.extend(cookies::rows(&answers, &site));
    Ok(rows)
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let url = text.parse::<Uri>().map_err(|error| format!("{error}; write https://app.example.com"))?;
    match (url.scheme_str(), url.authority()) {
        (Some("https" | "http"), Some(authority)) if !authority.as_str().contains('@') => Ok(url),
        (Some("https" | "http"), Some(_)) => Err("a password in a URL is shown to everybody".to_owned()),
        _ => Err("write the whole URL, such as https://app.example.com".to_owned()),
    }
}

fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let hint = "an origin is https://HOST or https://HOST:PORT, without a slash at its end";
    let host = text.split_once("://").map_or("", |(_, host)| host);
    if host.is_empty() || host.contains('/') {
        return Err(hint.to_owned());
    }
    HeaderValue::from_str(text).map_err(|_| hint.to_owned())
}

fn parse_probe(text: &str) -> Result<Probe, String> {
    let hint = "write a method and a path, such as 'POST /login'";
    let (method, path) = text.split_once(' ').ok_or(hint)?;
    let method = method.to_uppercase().parse::<Method>().map_err(|_| hint)?;
    if !path.starts_with('/') || path.parse::<Uri>().is_err() {
        return Err(hint.to_owned());
    }
    Ok(Probe { method, path: path.to_owned() })
}

/// What the tests of this folder share.
#[cfg(test)]
mod samples {
    use super::super::screen::{Colour, Screen};
    use super::AuditArgs;
    use crate::config::{self, Config, Source};
    use std::time::Duration;

    pub(super) fn config(text: &str) -> Config {
        config::load(&Source::text("quotad.yaml", text)).unwrap()
    }

    pub(super) fn args(url: &str) -> AuditArgs {
        AuditArgs {
            config: None,
            url: Some(url.parse().unwrap()),
            origin: None,
            probe: None,
            tries: 20,
            timeout: Duration::from_secs(30),
            json: false,
        }
    }

    /// The exit code, what was printed, and what was complained of.
    pub(super) async fn run(args: &AuditArgs, text: &str) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, colour: Colour::Off };
        let code = super::audit(args, &config(text), &mut screen).await;
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::tiny::{SECURE, Tiny};
    use super::*;

    #[tokio::test]
    async fn the_exit_code_says_whether_a_check_failed() {
        let good = Tiny::start(|_| format!("HTTP/1.1 200 OK\r\n{SECURE}\r\n"));
        let (code, out, err) = samples::run(&samples::args(&good.url), "{}").await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.ends_with(" skipped\n") && out.contains(", 0 fail, "), "{out}");
        let bad = Tiny::start(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
        let args = AuditArgs { json: true, ..samples::args(&bad.url) };
        let (code, out, err) = samples::run(&args, "{}").await;
        assert_eq!((code, err.as_str()), (1, ""), "{out}");
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["failed"], 2, "{out}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let args = AuditArgs { json: true, ..samples::args(&format!("http://{free}")) };
        let (code, out, err) = samples::run(&args, "{}").await;
        assert_eq!(code, 2);
        assert!(err.contains("cannot be asked") && err.contains("hint: is it running there"), "{err}");
        assert!(out.starts_with(r#"{"error":{"code":"CLIENT""#), "{out}");
    }

    #[tokio::test]
    async fn without_a_url_only_the_configuration_is_looked_at() {
        let args = AuditArgs { url: None, ..samples::args("http://127.0.0.1:1") };
        let (code, out, _) = samples::run(&args, "{}").await;
        assert_eq!(code, 0, "{out}");
        assert!(out.contains("skipped application "), "{out}");
    }

    #[test]
    fn flags_are_checked_before_anything_is_asked() {
        for wrong in ["app.example", "ftp://app.example", "https://user:secret@app.example", ""] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        for wrong in ["app.example", "https://", "https://app.example/", "https://a\nb"] {
            assert!(parse_origin(wrong).is_err(), "{wrong}");
        }
        for wrong in ["/login", "POST", "POST login", "P(ST /login"] {
            assert!(parse_probe(wrong).is_err(), "{wrong}");
        }
        let probe = Probe { method: Method::POST, path: "/login?a=b".to_owned() };
        assert_eq!(parse_probe("post /login?a=b"), Ok(probe));
        assert_eq!(parse_url("https://app.example/api").unwrap().path(), "/api");
    }
}
