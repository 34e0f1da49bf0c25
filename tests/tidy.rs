//! Keeps what the compiler and clippy cannot see: which module may use which, sizes, documentation, words.
//!
//! The tables stand first, to be read and extended; `tests/tidy/` holds the scanners, each with tests of its own.
//! What `#[cfg(test)]` guards in `src/` is free in its dependencies and does not count as length.

#![expect(clippy::expect_used, reason = "a tree that cannot be read fails the test")]

#[path = "tidy/layering.rs"]
mod layering;
#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use source::{Source, files, product};

/// What a module directly under `src/` may use. `*`: everything.
struct Module {
    name: &'static str,
    /// Modules of ours, or parts of them, beside itself.
    modules: &'static [&'static str],
    /// Parts of those that are barred all the same.
    but_not: &'static [&'static str],
    /// Crates, beside the standard library.
    crates: &'static [&'static str],
}

const fn module(name: &'static str, modules: &'static [&'static str]) -> Module {
    Module { name, modules, but_not: &[], crates: &["*"] }
}

const PURE: &[&str] = &["serde", "serde_json", "smallvec", "regex", "thiserror"];
/// `store::Store` only as the bound of the service's type, `token::Claims` to be rendered.
const FRONT: &[&str] = &[
    "pb",
    "service",
    "engine",
    "status",
    "telemetry",
    "clock",
    "budget",
    "codec",
    "deadline",
    "well_known",
    "store::Store",
    "token::Claims",
];

/// A stream of ext_proc outlives the call that began it.
const ENVOY: &[&str] = &[
    "pb",
    "service",
    "engine",
    "status",
    "telemetry",
    "clock",
    "budget",
    "codec",
    "deadline",
    "well_known",
    "store::Store",
    "token::Claims",
    "shutdown::spawn_local",
];

const MODULES: &[Module] = &[
    Module { crates: PURE, ..module("engine", &[]) },
    Module { crates: &[], ..module("clock", &["engine"]) },
    module("store", &["engine", "clock", "telemetry"]),
    module("token", &["engine", "clock"]),
    module("config", &["engine"]),
    module("telemetry", &["engine"]),
    // The port, and the embedded store for `on_store_error: local`; never the other one.
    Module {
        but_not: &["store::redis"],
        ..module("service", &["engine", "store", "token", "clock", "telemetry"])
    },
    // The error types of those.
    module("status", &["engine", "store", "token", "service"]),
    module("codec", &[]),
    Module { crates: &["tokio", "http"], ..module("budget", &[]) },
    module("deadline", &["clock", "service"]),
    module("well_known", &["engine"]),
    module("pb", &["codec"]),
    module("api", FRONT),
    module("envoy", ENVOY),
    module("admin", &["pb", "service", "engine", "status", "telemetry", "clock", "codec", "config"]),
    module("cli", &["pb", "codec", "config", "engine", "clock", "token", "client", "bench"]),
    module("client", &["pb", "codec", "engine", "clock", "shutdown"]),
    module("bench", &["pb", "codec", "config", "engine", "clock", "token", "client"]),
    module("server", &["budget", "codec", "deadline", "engine", "clock", "telemetry", "shutdown"]),
    module("shutdown", &["clock", "telemetry"]),
    module("app", &["*"]),
    module("main", &["*"]),
];

/// What stands in one place only.
struct OnePlace {
    things: &'static [&'static str],
    places: &'static [&'static str],
    why: &'static str,
}

const ONE_PLACE: &[OnePlace] = &[
    OnePlace { things: &["fred"], places: &["store::redis"], why: "one module talks to Redis" },
    OnePlace { things: &["redb"], places: &["store"], why: "one module keeps things on disk" },
    OnePlace { things: &["jsonwebtoken"], places: &["token"], why: "one module checks signatures" },
    OnePlace { things: &["hyper_rustls"], places: &["token"], why: "only key sets are fetched" },
    OnePlace { things: &["serde_saphyr"], places: &["config"], why: "one module reads YAML" },
    OnePlace {
        things: &["std::env::var", "std::env::var_os", "std::env::vars", "std::env::vars_os"],
        places: &["config"],
        why: "one module reads the environment",
    },
    OnePlace {
        things: &["std::time::Instant::now", "std::time::SystemTime::now", "tokio::time::Instant::now"],
        places: &["clock"],
        why: "time is an argument",
    },
    OnePlace {
        things: &["tokio::spawn", "tokio::task::spawn", "tokio::task::spawn_local", "tokio::signal"],
        places: &["shutdown"],
        why: "every task has a name and an end, and one module hears signals",
    },
    OnePlace {
        things: &[
            "tonic",
            "tonic_prost",
            "tonic_health",
            "tonic_reflection",
            "prost",
            "prost_types",
            "prost_reflect",
        ],
        places: &[
            "api",
            "envoy",
            "codec",
            "deadline",
            "well_known",
            "pb",
            "status",
            "cli",
            "client",
            "bench",
            "server",
            "admin",
            "app",
        ],
        why: "the core does not know the wire",
    },
    OnePlace { things: &["axum"], places: &["admin"], why: "pages for operators" },
    OnePlace { things: &["tracing_subscriber"], places: &["telemetry"], why: "one module sets up logs" },
    OnePlace { things: &["anyhow"], places: &["main"], why: "modules have errors of their own" },
    OnePlace { things: &["mimalloc"], places: &["main"], why: "a program chooses its allocator once" },
];

/// Lines of a file without its tests.
const FILE_LINES: usize = 400;
/// Lines of the median file.
const MEDIAN_LINES: usize = 150;
/// Lines of a function that are not blank and not comments.
const FUNCTION_LINES: usize = 70;
/// Per cent of the lines of the modules in [`MUCH_DOC_IN`] that are documentation.
const MUCH_DOC: usize = 20;
const MUCH_DOC_IN: &[&str] = &["engine", "store"];
/// Per cent elsewhere.
const SOME_DOC: usize = 5;

#[track_caller]
fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "{} found:\n{}", found.len(), found.join("\n"));
}

/// The integration tests, but not these: their examples are what they look for.
fn tests() -> Vec<Source> {
    let found = files("tests", &[".rs"]);
    let others = found.iter().filter(|(path, _)| !path.starts_with("tests/tidy"));
    others.map(|(path, text)| Source::parse(path, text)).collect()
}

#[test]
fn modules_use_only_what_their_row_allows() {
    assert_none(&layering::strays(&product(), &layering::known_crates()));
}

#[test]
fn files_and_functions_stay_small() {
    let sources = product();
    assert_none(&sizes::long_files(&sources));
    assert_none(&sizes::high_median(&sources));
    assert_none(&sources.iter().flat_map(sizes::long_functions).collect::<Vec<_>>());
}

#[test]
fn modules_explain_themselves() {
    let sources = product();
    assert_none(&sizes::unopened(&sources));
    assert_none(&sizes::poor_docs(&sources));
    assert_none(&sizes::mod_files(&sources));
}

#[test]
fn nothing_is_unfinished() {
    let all: Vec<Source> = product().into_iter().chain(tests()).collect();
    assert_none(&all.iter().flat_map(words::unfinished).collect::<Vec<_>>());
}

#[test]
fn tests_do_not_sleep_for_luck() {
    let mut found: Vec<String> =
        product().iter().flat_map(|source| words::slept_for_luck(source, false)).collect();
    found.extend(tests().iter().flat_map(|source| words::slept_for_luck(source, true)));
    assert_none(&found);
}

#[test]
fn scripts_explain_themselves_and_keep_integers() {
    let scripts = files("src", &[".lua"]);
    assert_none(
        &scripts.iter().flat_map(|(path, text)| words::script_faults(path, text)).collect::<Vec<_>>(),
    );
}

#[test]
fn one_word_for_one_thing_outside() {
    let mut outside = files("proto", &[".proto", ".yaml"]);
    assert!(outside.iter().any(|(path, _)| path.ends_with(".proto")), "proto/ was not found");
    outside.extend(files("config", &[".yaml", ".yml"]));
    assert_none(&outside.iter().flat_map(|(path, text)| words::banned_words(path, text)).collect::<Vec<_>>());
}
