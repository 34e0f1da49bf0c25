//! The promise of `engine::path`: whatever a server resolves a spelling to is one of its readings. The servers here are
//! written after what each documents, apart from the code that they test.

use proptest::prelude::*;
use quotad::engine::path::{Ambiguous, MAX_READINGS, normalise, readings};

/// A server's path, or none where it refuses the request.
type Server = fn(&str) -> Option<Vec<String>>;

const SERVERS: [(&str, Server); 13] = [
    ("nginx", |raw| resolved(merged(split(&decoded(raw), "/")))),
    ("nginx, merge_slashes off", |raw| resolved(split(&decoded(raw), "/"))),
    ("Starlette", |raw| Some(split(&decoded(raw), "/"))),
    ("Express", |raw| Some(split(raw, "/"))),
    ("Go", |raw| Some(split(raw, "/").iter().map(|segment| decoded(segment)).collect())),
    ("Go, cleaned", |raw| resolved(merged(split(&decoded(raw), "/")))),
    ("Kestrel", |raw| resolved(split(raw, "/").iter().map(|segment| decoded(segment)).collect())),
    ("IIS", |raw| resolved(merged(split(&decoded(raw), "/\\")))),
    ("Tomcat", |raw| resolved(merged(split(&decoded(&without_parameters(raw)), "/")))),
    ("Tomcat, backslashes", |raw| resolved(merged(split(&decoded(&without_parameters(raw)), "/\\")))),
    ("Tomcat, encoded solidus passed through", |raw| {
        resolved(merged(
            split(&without_parameters(raw), "/").iter().map(|segment| decoded(segment)).collect(),
        ))
    }),
    ("Spring", |raw| resolved(merged(split(&without_parameters(&decoded(raw)), "/")))),
    ("JavaScript's URL", |raw| {
        let segments = split(raw, "/\\").into_iter();
        resolved(
            segments.map(|segment| if is_dots(&segment) { decoded(&segment) } else { segment }).collect(),
        )
    }),
];

fn split(path: &str, separators: &str) -> Vec<String> {
    path.split(|letter| separators.contains(letter)).skip(1).map(str::to_owned).collect()
}

fn merged(mut segments: Vec<String>) -> Vec<String> {
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// Careful servers refuse what leads above the root; careless ones stay there.
fn resolved(segments: Vec<String>) -> Option<Vec<String>> {
    let mut path: Vec<String> = Vec::new();
    for segment in segments {
        match &*segment {
            "." => {}
            ".." => drop(path.pop()),
            _ => path.push(segment),
        }
    }
    Some(path)
}

fn is_dots(segment: &str) -> bool {
    matches!(&*segment.to_lowercase().replace("%2e", "."), "." | "..")
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
}

/// ASCII escapes alone are in these paths.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            // Half of a letter is none.
            _ => {
                out.push('%');
                rest = after;
            }
        }
    }
    out + rest
}

/// In the form of `engine::path`: separators within segments escaped, no empty segments.
fn in_form(segments: Vec<String>) -> String {
    let escaped = |segment: &String| format!("/{}", segment.replace('/', "%2F").replace('\\', "%5C"));
    let path: String = merged(segments).iter().map(escaped).collect();
    if path.is_empty() { "/".to_owned() } else { alike(&path) }
}

/// Escapes are one in capitals and in small letters, and so is a `%` that is data, written as it is or as an escape.
fn alike(path: &str) -> String {
    path.to_lowercase().replace("%25", "%")
}

fn spellings() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "/", "/", "/", "//", "a", "ai", "open", "..", "..", ".", ";", ";v=1", "%2F", "%2f", "%5C", "\\",
        "%2e", "%2E%2e", "%3B", "%61", "%41", "%40", "%25", "%", "@", "%2", "...",
    ]);
    prop::collection::vec(part, 0..14).prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_any_server_resolves_a_spelling_to_is_one_of_its_readings(raw in spellings()) {
        let Ok(readings) = readings(&raw) else { return Ok(()) };
        for (name, server) in SERVERS {
            let Some(path) = server(&raw).map(in_form) else { continue };
            let known = readings.iter().any(|reading| alike(reading) == path);
            prop_assert!(known, "{} reads {} as {}, not among {:?}", name, raw, path, readings);
        }
    }

    #[test]
    fn readings_are_few_each_once_and_in_form(raw in ".{0,60}|(?:/|\\.|;|%2[fFeE]|%5c|\\\\|a){0,40}") {
        match readings(&raw) {
            Err(Ambiguous) => prop_assert!(raw.contains(['%', ';', '\\', '.'])),
            Ok(readings) => {
                prop_assert!((1..=MAX_READINGS).contains(&readings.len()));
                prop_assert_eq!(&readings[0], &normalise(&raw));
                for (at, path) in readings.iter().enumerate() {
                    prop_assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'));
                    prop_assert!(path == "/" || !path.ends_with('/'));
                    prop_assert!(!readings[..at].contains(path), "{} twice", path);
                }
            }
        }
    }
}

#[test]
fn most_odd_paths_are_read_and_not_refused() {
    let refused = |raw: &str| readings(raw).is_err();
    for raw in [
        "/ai/..%2Fopen",
        "/ai/..;/open",
        "/a/b;v=1/c;w=2",
        "/a/../b/../c",
        "/files/a%2Fb%2Fc",
        "/a\\b\\..\\c",
        "/%61/%62/%2e%2e/c",
        "/caf%C3%A9/%20/%40me;x",
    ] {
        assert!(!refused(raw), "{raw}");
    }
}
