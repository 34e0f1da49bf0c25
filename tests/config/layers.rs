//! File, environment and flags over each other, and secrets in each of them.

use super::source;
use quotad::config::{Bind, Environment, Item, LogConfig, LogFormat, Overrides, Source, StoreKind, load};
use quotad::engine::issuer::KeySource;
use quotad::engine::mistake::Mistake;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn the_environment_stands_over_the_file_and_flags_over_both() {
    let file = "listen: {grpc: ['127.0.0.1:1']}\nthreads: 1\nstore: {data_dir: a, timeout: 1ms}\n";
    let environment = Environment::given([
        ("QUOTAD_LISTEN_GRPC", "127.0.0.1:2, unix:/tmp/q.sock"),
        ("QUOTAD_LISTEN_HTTP", "127.0.0.1:8080,unix:/tmp/h.sock"),
        ("QUOTAD_LISTEN_ADMIN", ""),
        ("QUOTAD_THREADS", "2"),
        ("QUOTAD_STORE_TIMEOUT", "2ms"),
        ("QUOTAD_STORE_DATA_DIR", "b"),
        ("QUOTAD_LOG", "debug"),
        ("QUOTAD_LOG_FORMAT", "json"),
    ]);
    let from_environment = Source::text("f.yaml", file).with_environment(environment);
    let config = load(&from_environment).unwrap();
    let sock = Bind::Unix(PathBuf::from("/tmp/q.sock"));
    assert_eq!(config.listen.grpc, [Bind::Tcp("127.0.0.1:2".parse().unwrap()), sock]);
    let sock = Bind::Unix(PathBuf::from("/tmp/h.sock"));
    assert_eq!(config.listen.http, [Bind::Tcp("127.0.0.1:8080".parse().unwrap()), sock]);
    assert_eq!(config.listen.admin, None);
    assert_eq!(config.threads, 2);
    assert_eq!(config.store.timeout, Duration::from_millis(2));
    assert_eq!(config.store.kind, StoreKind::Memory { data_dir: Some(PathBuf::from("b")) });
    assert_eq!((config.log.filter.as_str(), config.log.format), ("debug", LogFormat::Json));

    let config = load(&from_environment.with_overrides(Overrides {
        listen: vec!["[::1]:3".to_owned()],
        http: Some(String::new()),
        admin: Some("127.0.0.1:4".to_owned()),
        threads: Some("3".to_owned()),
        store: Some("redis://u:hunter2@127.0.0.1:6379/1".to_owned()),
        log_format: Some("text".to_owned()),
        ..Overrides::default()
    }))
    .unwrap();
    assert_eq!(config.listen.grpc, [Bind::Tcp("[::1]:3".parse().unwrap())]);
    assert_eq!(config.listen.http, []);
    assert_eq!(config.listen.admin, Some("127.0.0.1:4".parse().unwrap()));
    assert_eq!(config.threads, 3);
    assert_eq!(config.log.format, LogFormat::Text);
    let StoreKind::Redis { url } = &config.store.kind else { panic!("{:?}", config.store) };
    assert_eq!(url.expose(), "redis://u:hunter2@127.0.0.1:6379/1");
    let shown = format!("{config:?} {}", config.redacted());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_bad_override_names_its_variable_or_flag() {
    let environment = Environment::given([
        ("QUOTAD_THREADS", "lots"),
        ("QUOTAD_STORE_URL", "redis://:hunter2@h:port"),
        ("QUOTAD_LOG", "loud"),
    ]);
    let overrides = Overrides {
        listen: vec!["here".to_owned()],
        store_timeout: Some("5".to_owned()),
        log_format: Some("xml".to_owned()),
        ..Overrides::default()
    };
    let source = source("threads: 1\n").with_environment(environment).with_overrides(overrides);
    let shown = load(&source).unwrap_err().to_string();
    for part in [
        "environment variable QUOTAD_THREADS: threads: `lots` is not a whole number",
        "environment variable QUOTAD_STORE_URL: store.url: the port",
        "environment variable QUOTAD_LOG: log: `loud`",
        "--listen: listen.grpc: `here` is not an address",
        "--store-timeout: store.timeout: `5` is not a duration: it has no unit",
        "--log-format: log format: `xml` is not known",
        "6 mistakes",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(source.log(), LogConfig::default(), "logging begins before a mistake in it can be reported");
}

#[test]
fn layers_that_open_one_address_twice_are_refused_with_who_said_so() {
    let admin = "listen: {admin: '127.0.0.1:7'}\n";
    for (file, name, value, place) in [
        ("threads: 1\n", "QUOTAD_LISTEN_HTTP", "127.0.0.1:50051", "variable QUOTAD_LISTEN_HTTP: listen.http"),
        ("threads: 1\n", "QUOTAD_LISTEN_HTTP", "[::]:50051", "variable QUOTAD_LISTEN_HTTP: listen.http"),
        (admin, "QUOTAD_LISTEN_HTTP", "0.0.0.0:7", ":1:17: listen.admin"),
        (admin, "QUOTAD_LISTEN_GRPC", "127.0.0.1:7", ":1:17: listen.admin"),
        (
            "listen: {http: ['127.0.0.1:7']}\n",
            "QUOTAD_LISTEN_GRPC",
            "unix:/q, 127.0.0.1:7",
            ":1:16: listen.http",
        ),
        (
            "listen: {http: ['127.0.0.1:50051']}\n",
            "QUOTAD_LISTEN_ADMIN",
            "127.0.0.1:50051",
            ":1:16: listen.http",
        ),
    ] {
        let environment = Environment::given([(name, value)]);
        let said = load(&source(file).with_environment(environment)).unwrap_err().to_string();
        assert!(said.contains(place) && said.contains("duplicate"), "{name}={value}: {said}");
    }
}

#[test]
fn an_address_is_free_when_another_layer_moves_who_had_it() {
    for (file, name, value) in [
        // Nobody asked for the admin service.
        ("threads: 1\n", "QUOTAD_LISTEN_HTTP", "127.0.0.1:50052"),
        ("listen: {http: ['127.0.0.1:50052']}\n", "QUOTAD_THREADS", "1"),
        ("listen: {grpc: ['0.0.0.0:50052']}\n", "QUOTAD_THREADS", "1"),
        ("listen: {http: ['127.0.0.1:50051']}\n", "QUOTAD_LISTEN_GRPC", "127.0.0.1:50061"),
        ("listen: {admin: '127.0.0.1:50051'}\n", "QUOTAD_LISTEN_GRPC", "127.0.0.1:50061"),
        ("listen: {http: ['0.0.0.0:7']}\n", "QUOTAD_LISTEN_GRPC", "[::1]:7"),
    ] {
        let environment = Environment::given([(name, value)]);
        let loaded = load(&source(file).with_environment(environment));
        assert!(loaded.is_ok(), "{file} {name}={value}: {}", loaded.unwrap_err());
    }
}

#[test]
fn a_misspelt_variable_is_warned_of_and_an_orchestrators_is_not() {
    let environment = Environment::given([
        ("QUOTAD_STORE_ULR", "x"),
        ("QUOTAD_SERVICE_HOST", "x"),
        ("QUOTAD_PORT_50051_TCP_ADDR", "x"),
    ]);
    let config = load(
        &source("policies: [{name: a, limit: 1, window: 1m, partition: [ip]}]").with_environment(environment),
    )
    .unwrap();
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(warning.to_string().starts_with("environment variable QUOTAD_STORE_ULR: warning:"), "{warning}");
    assert!(warning.mistake.hint.contains("QUOTAD_STORE_URL"), "{warning}");
}

#[test]
fn the_file_is_found_by_flag_then_variable_then_place() {
    let find = |flag: Option<&str>, variable: &'static str| {
        let environment = Environment::given([("QUOTAD_CONFIG", variable)]);
        Source::find(flag.map(PathBuf::from), environment).path().map(Path::to_owned)
    };
    assert_eq!(find(Some("a.yaml"), "b.yaml"), Some(PathBuf::from("a.yaml")));
    assert_eq!(find(None, "b.yaml"), Some(PathBuf::from("b.yaml")));
    assert_eq!(find(None, ""), Some(PathBuf::from("config/quotad.yaml")), "tests run where it is");
    assert_eq!(Source::shipped().path(), None);
}

#[test]
fn secrets_never_show() {
    let environment = Environment::given([("TOKEN_KEY", "hunter2hunter2"), ("EMPTY", "")]);
    let text = "store: {url: 'redis://user:hunter2@h:6379'}\ntokens:\n- {issuer: i, key: {env: TOKEN_KEY}}\n";
    let config = load(&source(text).with_environment(environment.clone())).unwrap();
    let KeySource::Env { name, value } = &config.issuers[0].key else { panic!() };
    assert_eq!((name.as_str(), value.0.as_slice()), ("TOKEN_KEY", b"hunter2hunter2".as_slice()));
    let located = config.locate(Item::Token(0), Mistake::new("key", "too short", "32 bytes"));
    let whence = source(text).with_environment(environment.clone());
    let shown = format!("{config:?} {} {located} {environment:?} {whence:?}", config.redacted());
    assert!(!shown.contains("hunter2"), "{shown}");

    for text in [
        "store: {url: 'redis://user:hunter2@h:x', timeout: 0s}",
        "store: {url: 'redis://user:hun ter2 hunter2@h:1', timeout: 0s}",
        "store: {url: 'user:hunter2@h'}",
        "store: {url: \"redis://:hunter2@h",
        "tokens: [{issuer: i, key: hunter2}]",
        "tokens: [{issuer: i, key: {env: hunter2}}]",
        "tokens: [{issuer: i, key: {secret: hunter2}}]",
        "tokens: [{issuer: i, key: [hunter2]}]",
        "tokens: [{issuer: i, key: {jwks_url: 'https://u:hunter2@h/x'}}]",
    ] {
        let shown = load(&source(text).with_environment(environment.clone())).unwrap_err();
        assert!(!format!("{shown} {shown:?}").contains("hunter2"), "{text}\n{shown}");
    }
    let shown =
        load(&source("tokens: [{issuer: i, key: {env: EMPTY}}]").with_environment(environment)).unwrap_err();
    assert!(shown.to_string().contains("EMPTY is empty"), "{shown}");
}
