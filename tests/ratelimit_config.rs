//! Odd and broken directories in envoyproxy/ratelimit's format: what must be taken, with which meaning, and what must be
//! refused, in which words. The table is `ratelimit_config/cases.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(unreachable_pub, reason = "tests")]

#[path = "ratelimit_config/cases.rs"]
mod cases;

use cases::{CASES, Case, Expect, File};
use quotad::config::ratelimit::{Domains, DotFiles, RateLimitFolder};
use quotad::config::{Bind, Config, Environment, LogFormat, RateLimitHealth, Source, StoreKind, load};
use quotad::engine::address::ClientIp;
use quotad::engine::rate_limit::{Counting, OverLimit, Quota, RateLimitOptions, RateLimitSet, TrioNames};
use quotad::engine::rule::Algorithm;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(folder.path(), name, text.as_bytes());
    }
    folder
}

/// What `[domain/]key=value` finds, as the table has it.
fn ask(set: &RateLimitSet, question: &str) -> String {
    let (domain, entry) = question.split_once('/').unwrap_or(("odd", question));
    let Some(found) = set.find(domain, &[entry.split_once('=').unwrap()]) else { return "-".to_owned() };
    let much = match found.limit.quota {
        Quota::Unlimited => "unlimited".to_owned(),
        Quota::Of(count, unit) => format!("{count}/{}", format!("{unit:?}").to_uppercase()),
    };
    if found.limit.name.is_empty() { much } else { format!("{much} {}", found.limit.name) }
}

fn check(case: &Case) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for File { name, bytes } in case.files() {
        write(folder.path(), &name, &bytes);
    }
    match (RateLimitFolder::new(folder.path()).load(), &case.expect) {
        (Ok(loaded), Expect::Takes(answers)) => {
            let wrong: Vec<String> = answers
                .iter()
                .filter_map(|(question, wanted)| {
                    let got = ask(&loaded.set, question);
                    (got != *wanted).then(|| format!("{question} is {got}, not {wanted}"))
                })
                .collect();
            if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
        }
        (Err(mistakes), Expect::Refuses(words)) => {
            let said = mistakes.to_string();
            let first = mistakes.iter().next().unwrap();
            let placed = said.starts_with(&folder.path().display().to_string());
            if said.contains(words) && placed && !first.mistake.hint.is_empty() {
                Ok(())
            } else {
                Err(format!("refused, but it says: {said}"))
            }
        }
        (Ok(_), Expect::Refuses(_)) => Err("is taken".to_owned()),
        (Err(mistakes), Expect::Takes(_)) => Err(format!("is refused: {mistakes}")),
    }
}

#[test]
fn each_odd_directory_is_taken_or_refused_as_there() {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|case| check(case).err().map(|wrong| format!("{}: {wrong}", case.name)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

#[test]
fn the_table_is_whole() {
    let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len(), "a name stands twice");
    assert_eq!(CASES.len(), cases::COUNT);
}

const GOOD: &str = "domain: odd\ndescriptors:\n- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n";

#[test]
fn every_broken_file_is_named_with_line_and_words() {
    let folder = folder(&[
        (
            "a.yaml",
            "domain: x\ndescriptors:\n- key: a\n  rate_limit:\n    unit: fortnight\n  shadw_mode: true\n",
        ),
        ("b.yaml", "domain: y\ndescriptors:\n- key: a\n  rate_limit:\n    unit: fortnight\n- value: b\n"),
        ("c.yaml", "domain: [\n"),
    ]);
    let mistakes = RateLimitFolder::new(folder.path()).load().unwrap_err();
    let said = mistakes.to_string();
    for part in [
        "a.yaml:6:3: config error, unknown key 'shadw_mode'\n  6 |   shadw_mode: true\n",
        "did you mean shadow_mode?",
        "b.yaml:5:11: y.a: unit: invalid rate limit unit 'fortnight'",
        "b.yaml:6:3: y: key: descriptor has empty key",
        "c.yaml:",
        "4 mistakes",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
}

#[test]
fn domains_of_several_files_merge_in_the_order_of_names() {
    let file = |key: &str| GOOD.replace("key: a", key);
    let files = folder(&[
        ("2.yaml", &file("key: k, value: f*")),
        ("1.yaml", &file("key: k, value: fo*").replace("hour", "day")),
    ]);
    let once = RateLimitFolder::new(files.path());
    assert!(once.load().unwrap_err().to_string().contains("2.yaml:1:1: domain: duplicate domain 'odd'"));
    let merged = RateLimitFolder { domains: Domains::Merged, ..once };
    let loaded = merged.load().unwrap();
    assert_eq!(ask(&loaded.set, "k=foo"), "5/DAY");
    assert_eq!(ask(&loaded.set, "k=f"), "5/HOUR");
    write(files.path(), "3.yaml", file("key: k, value: f*").as_bytes());
    let said = merged.load().unwrap_err().to_string();
    assert!(said.contains("3.yaml:3:3: odd.k_f*: duplicate descriptor composite key 'odd.k_f*'"), "{said}");
}

#[test]
fn links_of_a_mounted_volume_are_followed_once() {
    let root = folder(&[("..2026/config.yaml", GOOD), (".git/config", GOOD)]);
    std::os::unix::fs::symlink("..2026", root.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.yaml", root.path().join("config.yaml")).unwrap();
    let all = RateLimitFolder::new(root.path());
    assert!(all.load().unwrap_err().to_string().contains("duplicate domain 'odd' in config file"));
    let loaded = RateLimitFolder { dots: DotFiles::Skipped, ..all.clone() }.load().unwrap();
    assert_eq!((loaded.files, ask(&loaded.set, "a=").as_str()), (1, "5/HOUR"));
    let before = all.fingerprint().unwrap();
    write(root.path(), "..2027/config.yaml", GOOD.replace('5', "6").as_bytes());
    std::os::unix::fs::symlink("..2027", root.path().join("..new")).unwrap();
    fs::rename(root.path().join("..new"), root.path().join("..data")).unwrap();
    assert_ne!(all.fingerprint().unwrap(), before);
}

#[test]
fn a_circle_of_links_ends() {
    let root = folder(&[("config.yaml", GOOD)]);
    std::os::unix::fs::symlink(root.path(), root.path().join("again")).unwrap();
    let said = RateLimitFolder::new(root.path()).load().unwrap_err().to_string();
    assert!(said.contains("nest too deep"), "{said}");
}

#[test]
fn our_own_key_chooses_how_a_limit_counts() {
    let of = |own: &str| {
        let files = folder(&[("c.yaml", &GOOD.replace("key: a,", &format!("key: a, quotad: {own},")))]);
        RateLimitFolder::new(files.path()).load()
    };
    let counting = |own| of(own).unwrap().set.find("odd", &[("a", "")]).unwrap().limit.counting;
    assert_eq!(counting("{algorithm: sliding_window}"), Counting::Passed(Algorithm::SlidingWindow));
    assert_eq!(counting("{algorithm: token_bucket}"), Counting::Passed(Algorithm::TokenBucket));
    assert_eq!(counting("{algorithm: fixed_window}"), Counting::Passed(Algorithm::FixedWindow));
    for wrong in ["{algorithm: concurrency}", "{}", "{algorithm: fixed_window, x: 1}", "fixed_window"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let files = folder(&[("c.yaml", &GOOD.replace("unit: hour", "unit: hour, shadow_mode: true"))]);
    let loaded = RateLimitFolder::new(files.path()).load().unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].to_string().contains("shadow_mode: it has no effect in this place"));
}

#[test]
fn a_limit_holds_all_that_is_written() {
    let text = "domain: d\ndescriptors:\n- key: a\n  shadow_mode: true\n  quota_mode: true\n  rate_limit:\n    \
                name: n\n    replaces: [{name: m}]\n    unit: Week\n    requests_per_unit: 7\n  \
                metadata: {tier: gold, n: [1, 2.5, yes, ~], 5: {x: y}}\n";
    let files = folder(&[("c.yaml", text)]);
    let loaded = RateLimitFolder::new(files.path()).load().unwrap();
    let limit = loaded.set.find("d", &[("a", "x")]).unwrap().limit;
    assert_eq!((&*limit.name, limit.shadow, limit.quota_mode), ("n", true, true));
    assert_eq!(limit.replaces.iter().map(|name| &**name).collect::<Vec<_>>(), ["m"]);
    let metadata = serde_json::to_string(limit.metadata.as_ref().unwrap()).unwrap();
    assert_eq!(metadata, r#"{"tier":"gold","n":[1,2.5,true,null],"5":{"x":true}}"#);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn metadata_that_json_cannot_hold_is_left_out_and_warned_of() {
    for written in ["{x: .inf, y: 1}", "{y: 1, x: {deep: [-.Inf]}}", "{x: .nan}"] {
        let files = folder(&[("c.yaml", &GOOD.replace("key: a,", &format!("key: a, metadata: {written},")))]);
        let loaded = RateLimitFolder::new(files.path()).load().unwrap();
        assert_eq!(loaded.set.find("odd", &[("a", "x")]).unwrap().limit.metadata, None, "{written}");
        assert_eq!(ask(&loaded.set, "a=x"), "5/HOUR");
        assert_eq!(loaded.warnings.len(), 1);
        let said = loaded.warnings[0].to_string();
        assert!(said.contains("is no number of JSON, so the metadata is left out"), "{said}");
    }
}

fn taken(variables: &[(&str, &str)]) -> Result<Config, String> {
    let environment = Environment::given(variables.iter().copied());
    load(&Source::rate_limit(None, environment)).map_err(|mistakes| mistakes.to_string())
}

/// Warnings of variables.
fn idle(config: &Config) -> Vec<String> {
    let said = config.warnings.iter().map(ToString::to_string);
    said.filter(|said| said.contains("environment variable")).collect()
}

#[test]
fn variables_of_the_original_are_enough() {
    let config = taken(&[]).unwrap();
    assert_eq!(config.listen.grpc, [Bind::Tcp("0.0.0.0:8081".parse().unwrap())]);
    assert_eq!(config.listen.http, [Bind::Tcp("0.0.0.0:8080".parse().unwrap())]);
    assert_eq!(config.listen.max_connection_age, Duration::from_secs(30 * 60));
    assert_eq!(config.envoy.ratelimit_health, RateLimitHealth::Always);
    assert_eq!(config.store.kind, StoreKind::Memory { data_dir: None });
    assert_eq!(idle(&config), Vec::<String>::new());
    let folder = config.envoy.ratelimit_config.clone().unwrap();
    assert_eq!(folder, RateLimitFolder::new("/srv/runtime_data/current/config"));
    assert_eq!(config.envoy.ratelimit_options, RateLimitOptions::default());
    let config = taken(&[
        ("GRPC_HOST", "::"),
        ("GRPC_PORT", "9000"),
        ("HOST", "::"),
        ("PORT", "9001"),
        ("GRPC_MAX_CONNECTION_AGE", "24h"),
        ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true"),
        ("REDIS_URL", "redis.local:6379"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_AUTH", "me:p@ss"),
        ("REDIS_TLS", "true"),
        ("RUNTIME_ROOT", "/r"),
        ("RUNTIME_SUBDIRECTORY", "s"),
        ("RUNTIME_APPDIRECTORY", "a"),
        ("RUNTIME_IGNOREDOTFILES", "1"),
        ("MERGE_DOMAIN_CONFIG", "T"),
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
        ("LIMIT_RESET_HEADER", "X-Reset"),
        ("SHADOW_MODE", "true"),
        ("QUOTA_MODE", "true"),
        ("RESPONSE_DYNAMIC_METADATA", "true"),
        ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "true"),
        ("LOG_LEVEL", "WARNING"),
        ("LOG_FORMAT", "json"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
        ("BACKEND_TYPE", "redis"),
    ])
    .unwrap();
    assert_eq!(config.listen.grpc, [Bind::Tcp("[::]:9000".parse().unwrap())]);
    assert_eq!(config.listen.http, [Bind::Tcp("[::]:9001".parse().unwrap())]);
    assert_eq!(config.listen.max_connection_age, Duration::from_secs(24 * 3_600));
    assert_eq!(config.envoy.ratelimit_health, RateLimitHealth::WithLimits);
    let StoreKind::Redis { url } = &config.store.kind else { panic!("{:?}", config.store) };
    assert_eq!(url.expose(), "rediss://me:p%40ss@redis.local:6379");
    let folder = config.envoy.ratelimit_config.clone().unwrap();
    let expected =
        RateLimitFolder { path: "/r/s/a".into(), domains: Domains::Merged, dots: DotFiles::Skipped };
    assert_eq!(folder, expected);
    let options = config.envoy.ratelimit_options.clone();
    let names = TrioNames { reset: "X-Reset".into(), ..TrioNames::default() };
    assert_eq!(options.headers, Some(names));
    assert!(options.shadow && options.quota && options.metadata);
    assert_eq!(options.over_limit, OverLimit::OnlyItself);
    assert_eq!((config.log.filter.as_str(), config.log.format), ("warn", LogFormat::Json));
    assert_eq!(idle(&config), Vec::<String>::new());
}

#[test]
fn the_size_of_the_local_cache_tells_what_becomes_of_a_request_beside_what_is_over() {
    const STOP: (&str, &str) = ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "true");
    let over_limit = |variables: &[(&str, &str)]| {
        let config = taken(variables).unwrap();
        (config.envoy.ratelimit_options.over_limit, idle(&config))
    };
    let cache = ("LOCAL_CACHE_SIZE_IN_BYTES", "1000");
    assert_eq!(over_limit(&[STOP, cache]), (OverLimit::NothingOnceOver, vec![]));
    let none = ("LOCAL_CACHE_SIZE_IN_BYTES", "0");
    assert_eq!(over_limit(&[STOP, none]).0, OverLimit::OnlyItself);
    let (alone, in_vain) = over_limit(&[cache]);
    assert_eq!((alone, in_vain.len()), (OverLimit::Everything, 1), "{in_vain:?}");
    let wrong = taken(&[STOP, ("LOCAL_CACHE_SIZE_IN_BYTES", "much")]).unwrap_err().to_string();
    assert!(wrong.contains("LOCAL_CACHE_SIZE_IN_BYTES") && wrong.contains("bytes"), "{wrong}");
}

#[test]
fn our_own_variables_go_above_those_of_the_original() {
    let config = taken(&[("GRPC_PORT", "9000"), ("QUOTAD_LISTEN_GRPC", "127.0.0.1:1")]).unwrap();
    assert_eq!(config.listen.grpc, [Bind::Tcp("127.0.0.1:1".parse().unwrap())]);
    let config = taken(&[("PORT", "9000"), ("QUOTAD_LISTEN_HTTP", "")]).unwrap();
    assert_eq!(config.listen.http, [], "nothing is served there");
    let ours = Source::text("f", "{}").with_environment(Environment::given([("GRPC_PORT", "9000")]));
    let config = load(&ours).unwrap();
    assert_ne!(config.listen.grpc, [Bind::Tcp("0.0.0.0:9000".parse().unwrap())], "only when asked for");
}

#[test]
fn a_file_beside_the_variables_keeps_the_addresses_that_they_leave_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quotad.yaml");
    std::fs::write(&file, "listen: {grpc: ['127.0.0.1:1'], http: ['127.0.0.1:2']}\n").unwrap();
    let with = |variables: &[(&'static str, &'static str)]| {
        let environment = Environment::given(variables.iter().copied());
        load(&Source::rate_limit(Some(file.clone()), environment)).unwrap().listen
    };
    let tcp = |text: &str| vec![Bind::Tcp(text.parse().unwrap())];
    let kept = with(&[]);
    assert_eq!((kept.grpc, kept.http), (tcp("127.0.0.1:1"), tcp("127.0.0.1:2")));
    let said = with(&[("PORT", "9")]);
    assert_eq!((said.grpc, said.http), (tcp("127.0.0.1:1"), tcp("0.0.0.0:9")));
    // What the file does not say is as the original has it.
    std::fs::write(&file, "listen: {http: []}\n").unwrap();
    let usual = with(&[]);
    assert_eq!((usual.grpc, usual.http), (tcp("0.0.0.0:8081"), Vec::new()));
    std::fs::write(&file, "threads: 1\n").unwrap();
    let usual = with(&[]);
    assert_eq!((usual.grpc, usual.http), (tcp("0.0.0.0:8081"), tcp("0.0.0.0:8080")));
}

#[test]
fn an_age_of_connections_is_the_variables_then_the_files_and_never_too_short() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quotad.yaml");
    std::fs::write(&file, "listen: {max_connection_age: 2h}\n").unwrap();
    let age = |value: &'static str| {
        let environment = Environment::given([("GRPC_MAX_CONNECTION_AGE", value)]);
        let config = load(&Source::rate_limit(Some(file.clone()), environment));
        config.map(|config| config.listen.max_connection_age).map_err(|mistakes| mistakes.to_string())
    };
    assert_eq!(age(""), Ok(Duration::from_secs(2 * 3_600)));
    assert_eq!(age("1h30m"), Ok(Duration::from_secs(5_400)));
    assert_eq!(age("1s"), Ok(Duration::from_secs(1)));
    // There it is without an end.
    assert!(age("0").unwrap() > Duration::from_secs(9 * 366 * 86_400));
    for (value, why) in [("30", "its unit is none"), ("1d", "its unit is none"), ("999ms", "too short")] {
        let said = age(value).unwrap_err();
        assert!(said.starts_with("environment variable GRPC_MAX_CONNECTION_AGE: "), "{said}");
        assert!(said.contains(why) && said.ends_with("\n1 mistake"), "{said}");
    }
    let grace = taken(&[("GRPC_MAX_CONNECTION_AGE_GRACE", "1h"), ("GRPC_MAX_CONNECTION_AGE", "1h")]).unwrap();
    let [said] = idle(&grace).try_into().unwrap();
    assert!(said.contains("variable GRPC_MAX_CONNECTION_AGE_GRACE: warning: it has no effect"), "{said}");
}

#[test]
fn a_folder_of_the_file_stays_while_no_variable_names_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quotad.yaml");
    std::fs::write(&file, "envoy: {client_ip: 'xff:1', ratelimit_config: limits}\n").unwrap();
    let ours = folder.path().join("limits");
    for (variables, path) in [
        (vec![], ours.as_path()),
        (vec![("RUNTIME_ROOT", ""), ("RUNTIME_WATCH_ROOT", "true")], ours.as_path()),
        (vec![("RUNTIME_ROOT", "/r")], "/r/config".as_ref()),
        (vec![("RUNTIME_SUBDIRECTORY", "s")], "/srv/runtime_data/current/s/config".as_ref()),
        (vec![("RUNTIME_APPDIRECTORY", "a")], "/srv/runtime_data/current/a".as_ref()),
    ] {
        let variables =
            [&variables[..], &[("MERGE_DOMAIN_CONFIG", "true"), ("SHADOW_MODE", "true")]].concat();
        let environment = Environment::given(variables.iter().copied());
        let envoy = load(&Source::rate_limit(Some(file.clone()), environment)).unwrap().envoy;
        let found = envoy.ratelimit_config.unwrap();
        assert_eq!((found.path.as_path(), found.domains), (path, Domains::Merged), "{variables:?}");
        assert!(envoy.ratelimit_options.shadow);
        assert_eq!(envoy.client_ip, ClientIp::Forwarded(1), "the rest is the file's");
    }
}

#[test]
fn addresses_are_read_each_under_its_own_name() {
    let listen = |variables: &[(&str, &str)]| taken(variables).map(|config| config.listen);
    let tcp = |text: &str| vec![Bind::Tcp(text.parse().unwrap())];
    let local = listen(&[("HOST", "localhost"), ("PORT", "50052"), ("GRPC_HOST", "[::1]")]).unwrap();
    assert_eq!((local.http, local.grpc), (tcp("127.0.0.1:50052"), tcp("[::1]:8081")));
    let comma = listen(&[("GRPC_UDS", "/run/a,b.sock")]).unwrap();
    assert_eq!(comma.grpc, [Bind::Unix("/run/a,b.sock".into())]);
    for (variables, name) in [
        ([("HOST", "example.com"), ("PORT", "80")], "HOST"),
        ([("HOST", "127.0.0.1"), ("PORT", "8080,0.0.0.0:9")], "PORT"),
        ([("GRPC_HOST", "0.0.0.0:1"), ("GRPC_PORT", "80")], "GRPC_HOST"),
        ([("GRPC_HOST", "::"), ("GRPC_PORT", "65536")], "GRPC_PORT"),
        ([("GRPC_UDS", "/"), ("PORT", "80")], "GRPC_UDS"),
        ([("GRPC_PORT", "7"), ("PORT", "7")], "PORT"),
        ([("GRPC_PORT", "8080"), ("HOST", "")], "GRPC_PORT"),
    ] {
        let said = listen(&variables).unwrap_err();
        assert!(said.starts_with(&format!("environment variable {name}: ")), "{variables:?}: {said}");
        assert!(said.ends_with("\n1 mistake"), "{said}");
    }
}

#[test]
fn tls_is_never_left_out_in_silence() {
    for (url, wanted) in [
        ("h:6379", "rediss://:pw@h:6379"),
        ("redis://h:6379/1", "rediss://:pw@h:6379/1"),
        ("rediss://h", "rediss://:pw@h"),
        ("redis://:own@h", "rediss://:own@h"),
    ] {
        let config = taken(&[("REDIS_TLS", "true"), ("REDIS_AUTH", "pw"), ("REDIS_URL", url)]).unwrap();
        let StoreKind::Redis { url } = &config.store.kind else { panic!("{:?}", config.store) };
        assert_eq!(url.expose(), wanted);
    }
    for url in ["unix:///run/r.sock", "redis+unix:///run/r.sock", "/run/r.sock"] {
        let said = taken(&[("REDIS_TLS", "1"), ("REDIS_URL", url)]).unwrap_err();
        assert!(said.contains("variable REDIS_TLS: there is no TLS"), "{url}: {said}");
    }
}

#[test]
fn a_socket_of_redis_is_taken_with_its_login() {
    for (variables, path, wanted) in [
        (vec![("REDIS_SOCKET_TYPE", "unix")], "/run/redis.sock", "redis+unix:///run/redis.sock"),
        (vec![("REDIS_AUTH", "p@s/s")], "/run/redis.sock", "redis+unix://:p%40s%2Fs@/run/redis.sock"),
        (vec![("REDIS_AUTH", "me:pw")], "/run/redis.sock", "redis+unix://me:pw@/run/redis.sock"),
        (vec![("REDIS_SOCKET_TYPE", "unix")], "redis+unix:///run/r", "redis+unix:///run/r"),
        (vec![("REDIS_SOCKET_TYPE", "unix"), ("REDIS_AUTH", "pw")], "unix:///r", "redis+unix://:pw@/r"),
        (vec![("REDIS_AUTH", "pw")], "unix:///run/a@b", "redis+unix://:pw@/run/a@b"),
        (vec![("REDIS_AUTH", "pw")], "/run/a@b", "redis+unix://:pw@/run/a@b"),
        (vec![("REDIS_AUTH", "pw")], "unix://:own@/run/a@b", "redis+unix://:own@/run/a@b"),
    ] {
        let config = taken(&[&variables[..], &[("REDIS_URL", path)]].concat()).unwrap();
        let StoreKind::Redis { url } = &config.store.kind else { panic!("{:?}", config.store) };
        assert_eq!(url.expose(), wanted);
    }
}

#[test]
fn variables_that_cannot_be_are_named_and_idle_ones_too() {
    let wrong = [
        ("SHADOW_MODE", "perhaps"),
        ("GRPC_PORT", "many"),
        ("PORT", "many"),
        ("HOST", "example.com"),
        ("REDIS_SOCKET_TYPE", "udp"),
        ("REDIS_TYPE", "CLUSTER"),
        ("LOG_LEVEL", "loud"),
        ("LIMIT_LIMIT_HEADER", "a b"),
    ];
    for (name, value) in wrong {
        for url in ["r:1", ""] {
            let said = taken(&[(name, value), ("REDIS_URL", url)]).unwrap_err();
            assert!(said.contains(&format!("environment variable {name}: ")), "{said}");
        }
    }
    let unix = ("REDIS_SOCKET_TYPE", "unix");
    let said = taken(&[unix, ("REDIS_URL", "redis.sock"), ("REDIS_AUTH", "hunter2")]).unwrap_err();
    assert!(said.contains("variable REDIS_URL: ") && !said.contains("hunter2"), "{said}");
    let said = taken(&[unix, ("REDIS_URL", "/run/redis.sock"), ("REDIS_TLS", "1")]).unwrap_err();
    assert!(said.contains("variable REDIS_TLS: "), "{said}");
    let said = taken(&[("GRPC_PORT", "8080")]).unwrap_err();
    assert!(said.contains("listen.http") && said.contains("duplicate"), "{said}");
    let config = taken(&[
        ("STATSD_HOST", "x"),
        ("USE_STATSD", "true"),
        ("DOG_STATSD_ADDRESS", "x"),
        ("REDIS_POOL_SIZE", "9"),
        ("BACKEND_TYPE", "memcache"),
        // A service of Kubernetes that is called redis.
        ("REDIS_SERVICE_HOST", "10.0.0.1"),
        ("REDIS_SERVICE_PORT_TCP", "6379"),
        ("REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
    ])
    .unwrap();
    assert_eq!(config.warnings.len(), 1);
    let said = config.warnings[0].to_string();
    let names = "BACKEND_TYPE, DOG_STATSD_ADDRESS, REDIS_POOL_SIZE, STATSD_HOST, USE_STATSD";
    assert!(said.contains(&format!("{names}: warning: it has no effect here")), "{said}");
    let config = taken(&[
        ("REDIS_AUTH", "hunter2"),
        ("REDIS_TYPE", "single"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_TLS", "true"),
    ])
    .unwrap();
    let [said] = idle(&config).try_into().unwrap();
    let names = "REDIS_AUTH, REDIS_SOCKET_TYPE, REDIS_TYPE, REDIS_TLS";
    assert!(said.contains(&format!("{names}: warning: it has no effect without REDIS_URL")), "{said}");
    let config = taken(&[("REDIS_TLS", "false"), ("REDIS_AUTH", "")]).unwrap();
    assert_eq!(idle(&config), Vec::<String>::new());
}
