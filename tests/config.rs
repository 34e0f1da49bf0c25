//! The configuration from outside: bad files and the words for them, layers, the shipped file, any bytes at all.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "config/any_bytes.rs"]
mod any_bytes;
#[path = "config/layers.rs"]
mod layers;
#[path = "config/mistakes.rs"]
mod mistakes;

use quotad::config::{
    Bind, Config, Environment, Item, Mistakes, Source, StoreKind, fingerprint, load, load_with,
};
use quotad::engine::http::{ErrorBody, LimitHeaders};
use quotad::engine::issuer::{IssuerSpec, KeySource, OnRevocationError, TokenSource};
use quotad::engine::mistake::Mistake;
use quotad::engine::policy::{OnStoreError, Policy};
use quotad::engine::policy_set::Kind;
use quotad::engine::route::TokenNeed;
use quotad::engine::rule::{Algorithm, Rule};
use quotad::engine::units::Micros;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

fn source(text: &str) -> Source {
    Source::text("f.yaml", text).with_environment(Environment::given([]))
}

fn good(text: &str) -> Config {
    load(&source(text)).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"))
}

fn bad(text: &str) -> Mistakes {
    load(&source(text)).err().unwrap_or_else(|| panic!("is good: {text}"))
}

fn policy(config: &Config, kind: Kind, name: &str) -> Arc<Policy> {
    Arc::clone(config.policies.named("default", kind, name).unwrap())
}

fn assert_is_the_contract(config: &Config) {
    assert_eq!(config.listen.grpc, [Bind::Tcp("127.0.0.1:50051".parse().unwrap())]);
    assert_eq!(config.listen.http, []);
    assert_eq!(config.listen.admin, Some("127.0.0.1:50052".parse().unwrap()));
    assert_eq!(config.listen.max_connection_age, Duration::from_secs(30 * 60));
    assert_eq!(config.threads, 0);
    assert_eq!(config.store.timeout, Duration::from_millis(5));
    assert_eq!(config.http.face.error_body, ErrorBody::Uniform);
    assert_eq!(config.http.face.limit_headers, [LimitHeaders::Ietf]);
    assert_eq!(config.http.face.security_headers.len(), 5);
    assert!(config.http.trusted_proxies.is_empty());
    assert_eq!(config.http.identity_headers, [("x-user-id".to_owned(), "sub".to_owned())]);

    let [issuer] = config.issuers.as_slice() else { panic!("{:?}", config.issuers) };
    assert_eq!((issuer.name.as_str(), issuer.issuer.as_str()), ("app", "example-app"));
    assert_eq!(issuer.algorithms, ["HS256"]);
    assert_eq!(issuer.require, ["sub", "jti", "exp"]);
    assert!(issuer.types.is_empty() && issuer.audience.is_empty());
    assert_eq!(issuer.type_claim, "type");
    assert_eq!(issuer.leeway, Micros::from_seconds(30));
    assert_eq!(issuer.max_lifetime, Micros::from_seconds(8 * 86_400));
    assert_eq!(issuer.from, [TokenSource::Authorization]);
    assert_eq!(issuer.revoked_key, None);
    assert_eq!(issuer.revocation_cache, Micros(0));
    assert_eq!(issuer.on_store_error, OnRevocationError::Deny);

    assert_eq!(config.policies.len(), 4);
    let minute = Micros::from_seconds(60);
    let auth = policy(config, Kind::Limit, "auth-per-ip");
    assert!(matches!(auth.rule, Rule::Window(window) if window.limit == 10 && window.window == minute));
    assert_eq!(auth.partition().collect::<Vec<_>>(), ["ip"]);
    assert_eq!((auth.cost, auth.shadow, auth.on_store_error), (1, false, OnStoreError::Local));
    let ai = policy(config, Kind::Limit, "ai-per-user");
    assert!(matches!(ai.rule, Rule::Window(window) if window.limit == 30 && window.window == minute));
    assert_eq!(ai.partition().collect::<Vec<_>>(), ["user"]);
    let sockets = policy(config, Kind::Connection, "sockets-per-user");
    let ttl = Micros::from_seconds(30);
    assert!(matches!(sockets.rule, Rule::Leases(leases) if leases.limit == 5 && leases.ttl == ttl));
    let login = policy(config, Kind::Limit, "login-per-account");
    assert_eq!(login.rule.algorithm(), Algorithm::TokenBucket);
    assert_eq!((login.rule.limit(), login.rule.capacity(), login.shadow), (100, 10, true));
    assert_eq!(login.rule.window(), Some(Micros::from_seconds(86_400)));
    assert_eq!(login.partition().collect::<Vec<_>>(), ["account"]);

    let routes: Vec<(&str, TokenNeed, Vec<&str>, Vec<&str>)> = config
        .policies
        .routes()
        .iter()
        .map(|route| {
            let names = |list: &'_ [Arc<Policy>]| -> Vec<&'static str> {
                list.iter().map(|policy| &*Box::leak(policy.name.to_string().into_boxed_str())).collect()
            };
            (&*route.name, route.token, names(&route.policies), names(&route.connection))
        })
        .collect();
    assert_eq!(
        routes,
        [
            ("auth", TokenNeed::Ignored, vec!["auth-per-ip"], vec![]),
            ("ai", TokenNeed::Required, vec!["ai-per-user"], vec![]),
            ("sockets", TokenNeed::Required, vec![], vec!["sockets-per-user"]),
        ]
    );
}

#[test]
fn the_shipped_file_is_good_and_means_what_was_promised() {
    let config = load(&Source::shipped().with_environment(Environment::given([]))).unwrap();
    assert_is_the_contract(&config);
    // The tokens of the shipped file need not say when they were issued, and that has its price.
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(warning.mistake.message.starts_with("Q311"), "{warning}");
    assert_eq!(config.summary(), "4 policies, 3 routes, 1 issuer");
    assert_eq!(config.store.kind, StoreKind::Memory { data_dir: Some(PathBuf::from("data")) });

    let file = load(&Source::file("config/quotad.yaml").with_environment(Environment::given([]))).unwrap();
    assert_is_the_contract(&file);
    assert_eq!(file.store.kind, StoreKind::Memory { data_dir: Some(PathBuf::from("config/data")) });
    let key = KeySource::File { path: PathBuf::from("config/data/token.key"), generate: true };
    assert_eq!(file.issuers[0].key, key, "names of files are relative to the file");
    assert_eq!(file.name(), "config/quotad.yaml");
}

#[test]
fn every_documented_default_is_the_default() {
    let text = include_str!("../config/quotad.yaml");
    let (_, rest) = text.split_once("# The rest of the keys, with their defaults.\n#\n").unwrap();
    let rest: String =
        rest.lines().map(|line| line.strip_prefix("# ").unwrap_or("").to_owned() + "\n").collect();
    let rest = rest.replace("envoy:", "unused_envoy:");
    let (lists, _) = rest.split_once("unused_envoy:").unwrap();
    // `burst` belongs to another algorithm, and a token needs an issuer and a key.
    let lists = lists
        .replace("    burst: 100", "    # burst: 100")
        .replace("- type_claim", "- issuer: i\n    key: {file: f}\n    type_claim");
    let written = good(&lists);
    let bare = good(
        "policies: [{name: api-per-plan, limit: 100, window: 1m}]\ntokens: [{issuer: i, key: {file: f}}]\nroutes: [{name: api, cost: 1}]\n",
    );
    assert_eq!(written.redacted(), bare.redacted());
}

#[test]
fn the_redacted_view_reads_back_as_the_same_configuration() {
    let text = "store: {timeout: 1500ms, max_memory: 1536MiB}
listen: {http: ['127.0.0.1:8080', 'unix:/run/h.sock'], max_connection_age: 1h30m}
http:
  error_body: problem
  limit_headers: [legacy, x]
  security_headers: {X-Frame-Options: null, X-Extra: 'a b'}
  trusted_proxies: [10.0.0.0/8]
  identity_headers: {}
tokens:
- {issuer: i, name: n, key: {jwks_url: 'https://h/k'}, from: ['cookie:a', 'query:b'], revocation_cache: 90s}
policies:
- {name: a, match: {plan: gold, ip: 10.0.0.0/8}, limit: 100, window: 1h30m, on_store_error: deny}
- {name: b, algorithm: concurrency, limit: 100, lease_entry: x, domain: other}
- {name: c, algorithm: token_bucket, limit: 60, window: 1m, burst: 5, ip_prefix: {v6: 48}}
routes:
- {name: r, methods: [GET], hosts: ['*.a.b'], headers: {x-y: 'z*'}, token: optional, issuers: [n], policies: [a, c], cost: 3}
envoy: {client_ip: 'xff:2', ratelimit_config: rl}
";
    let config = good(text);
    let again = good(&config.redacted());
    assert_eq!(again.redacted(), config.redacted());
    assert_eq!(again.listen.max_connection_age, Duration::from_secs(5_400));
    assert_eq!(config.http.face.security_headers.len(), 5, "one switched off, one added");
    assert!(config.redacted().contains("\"window\": \"90m\""), "{}", config.redacted());
    let shipped = load(&Source::shipped().with_environment(Environment::given([]))).unwrap();
    assert_is_the_contract(&good(&shipped.redacted()));
}

#[test]
fn other_modules_mistakes_are_shown_with_their_line() {
    let config = good("tokens:\n- issuer: i\n  key: {file: a}\n  leeway: 90s\n");
    let shown =
        config.locate(Item::Token(0), Mistake::new("leeway", "leeway is 90s", "at most 60s")).to_string();
    assert!(shown.starts_with("f.yaml:4:11: tokens[0]: leeway: leeway is 90s\n"), "{shown}");
    let shown = config.locate(Item::Token(0), Mistake::new("key.file", "too short", "x")).to_string();
    assert!(shown.starts_with("f.yaml:3:15: tokens[0]: key.file"), "{shown}");
    let shown = config.locate(Item::Token(0), Mistake::new("max_lifetime", "m", "h")).to_string();
    assert!(
        shown.starts_with("f.yaml:2:3: tokens[0]: max_lifetime"),
        "what is not there: the entry's beginning: {shown}"
    );
    let shown = config.locate(Item::Token(7), Mistake::new("key", "m", "h")).to_string();
    assert!(shown.starts_with("f.yaml: tokens[7]: key: m"), "{shown}");
    let all = Mistakes::from(vec![config.locate(Item::Token(0), Mistake::new("key", "m", "h"))]);
    assert!(all.to_string().ends_with("1 mistake"));
}

#[test]
fn mistakes_in_keys_come_with_all_others() {
    let text = "threads: x\ntokens:\n- {issuer: h, key: {}}\n- {issuer: i, key: {file: k, generate: true}}\n";
    let check = |issuers: &[IssuerSpec]| {
        assert_eq!(
            issuers.iter().map(|spec| spec.issuer.as_str()).collect::<Vec<_>>(),
            ["i"],
            "the sound ones"
        );
        vec![(0, Mistake::new("key.file", "too short", "32 bytes"))]
    };
    let mistakes = load_with(&source(text), &check).unwrap_err();
    let subjects: Vec<&str> = mistakes.iter().map(|one| one.subject.as_str()).collect();
    assert_eq!(subjects, ["", "tokens[0]", "tokens[1]"], "{mistakes}");
    assert!(mistakes.to_string().contains("f.yaml:4:27: tokens[1]: key.file: too short"), "{mistakes}");
    let config = good("tokens: [{issuer: h, key: {file: a}}, {issuer: i, key: {jwks_url: 'https://h/k'}}]");
    assert_eq!(config.key_files().collect::<Vec<_>>(), [Path::new("a")]);
}

#[test]
fn doubtful_settings_are_warned_of_and_good_ones_are_not() {
    let warned = |text: &str| -> Vec<String> {
        good(text).warnings.iter().map(|one| format!("{}:{}", one.subject, one.mistake.field)).collect()
    };
    let ok = "policies: [{name: a, limit: 1, window: 1m, partition: [ip]}]\n";
    assert_eq!(warned(ok), Vec::<String>::new());
    assert_eq!(warned("threads: 1\n"), [":policies"]);
    assert_eq!(warned(&format!("{ok}listen: {{admin: '0.0.0.0:9'}}\n")), [":listen.admin"]);
    assert_eq!(warned(&format!("{ok}http: {{trusted_proxies: [0.0.0.0/0]}}\n")), [":http.trusted_proxies"]);
    let token = "tokens: [{issuer: i, key: {file: f}, require: [iat]}]\n";
    assert_eq!(warned(&format!("{ok}{token}")), [":store.data_dir"]);
    assert_eq!(warned(&format!("{ok}{token}store: {{data_dir: d}}\n")), Vec::<String>::new());
    assert_eq!(warned(&format!("{ok}{token}store: {{url: 'redis://h'}}\n")), Vec::<String>::new());
    let lenient = "tokens: [{issuer: i, key: {file: f}, require: [iat], on_store_error: allow}]\nstore: {data_dir: d}\n";
    assert_eq!(warned(&format!("{ok}{lenient}")), ["tokens[0]:on_store_error"]);
    assert_eq!(
        warned("policies: [{name: a, limit: 1, window: 1m, partition: [ip], on_store_error: allow}]"),
        ["policies[0] (a):on_store_error"]
    );
    let undated = "tokens: [{issuer: i, key: {file: f}, require: [sub, jti, exp]}]\nstore: {data_dir: d}\n";
    assert_eq!(warned(&format!("{ok}{undated}")), ["tokens[0]:require"]);
    let shown = good(&format!("{ok}{undated}")).warnings[0].to_string();
    assert!(shown.starts_with("f.yaml:2:") && shown.contains("require: Q311: "), "{shown}");
    assert_eq!(warned("policies: [{name: a, limit: 1, window: 1m}]"), ["policies[0] (a):name"]);
    assert_eq!(
        warned("policies: [{name: a, limit: 1, window: 1m}]\nroutes: [{name: r, policies: [a]}]"),
        Vec::<String>::new()
    );
    let idle = "policies: [{name: a, limit: 1, window: 1m, partition: [ip], lease_ttl: 5s}, {name: b, limit: 1, partition: [ip], algorithm: concurrency, window: 1m}]";
    assert_eq!(warned(idle), ["policies[0] (a):lease_ttl", "policies[1] (b):window"]);
    let fast = "policies: [{name: a, partition: [ip], algorithm: token_bucket, limit: 700000, window: 1s}]";
    assert_eq!(warned(fast), ["policies[0] (a):limit"]);
    let slow = "policies: [{name: a, partition: [ip], algorithm: token_bucket, limit: 700, window: 1s}]";
    assert_eq!(warned(slow), Vec::<String>::new());
    let many = |count: usize, rest: &str| {
        let policies: Vec<_> =
            (0..count).map(|i| format!("{{name: p{i}, limit: 1, partition: [ip]{rest}}}")).collect();
        format!("policies: [{}]", policies.join(", "))
    };
    assert_eq!(warned(&many(16, ", window: 1m")), Vec::<String>::new());
    assert_eq!(warned(&many(40, ", window: 1m")), ["policies[16] (p16):name"], "said once");
    assert!(good(&many(17, ", window: 1m")).warnings[0].mistake.message.starts_with("Q301"));
    assert_eq!(warned(&many(17, ", window: 1m, match: {path: /x}")), Vec::<String>::new());
    assert_eq!(warned(&many(17, ", algorithm: concurrency")), ["policies[16] (p16):name"]);
    let user =
        "policies: [{name: a, limit: 1, window: 1m, partition: [user]}]\nroutes: [{name: r, policies: [a]}]";
    assert_eq!(warned(user), ["routes[0] (r):policies"]);
    let shown = good(user).warnings[0].to_string();
    assert!(
        shown.starts_with("f.yaml:2:31: warning: routes[0] (r): policies: `a` looks at `user`"),
        "{shown}"
    );
}

#[test]
fn routes_name_issuers_by_entry_or_by_claim() {
    let tokens = "tokens: [{name: app, issuer: 'https://id', key: {file: f}}]\nstore: {data_dir: d}\n";
    for name in ["app", "'https://id'"] {
        let config = good(&format!("{tokens}routes: [{{name: r, token: required, issuers: [{name}]}}]"));
        assert_eq!(config.policies.routes()[0].issuers, ["https://id"]);
    }
}

#[test]
fn shared_parts_can_be_written_once() {
    let config = good(
        "policies:\n- &strict {name: a, limit: 7, window: 1m, partition: [ip]}\n- {<<: *strict, name: b}\n\
         - {name: c, partition: &who [user], limit: 3, window: 1m}\n- {name: d, limit: 1, window: 1m, partition: *who}\n",
    );
    assert_eq!(policy(&config, Kind::Limit, "b").rule.limit(), 7);
    assert_eq!(policy(&config, Kind::Limit, "b").partition().collect::<Vec<_>>(), ["ip"]);
    assert_eq!(policy(&config, Kind::Limit, "d").partition().collect::<Vec<_>>(), ["user"]);
}

#[test]
fn what_waits_for_the_next_start_is_named() {
    let old = good("threads: 1\nstore: {data_dir: a}\npolicies: [{name: a, limit: 1, window: 1m}]\n");
    assert!(
        old.restart_needed(&good(
            "threads: 1\nstore: {data_dir: a}\npolicies: [{name: b, limit: 1, window: 1m}]\n"
        ))
        .is_empty()
    );
    let new = good(
        "threads: 2\nstore: {data_dir: b, timeout: 6ms, max_memory: 64MiB}\nlisten: {grpc: ['127.0.0.1:9'], http: ['127.0.0.1:8'], admin: null, max_connection_age: 1h}\n",
    );
    let keys = [
        "listen.grpc",
        "listen.http",
        "listen.admin",
        "listen.max_connection_age",
        "threads",
        "store.data_dir",
        "store.timeout",
        "store.max_memory",
    ];
    assert_eq!(old.restart_needed(&new), keys);
    assert_eq!(old.restart_needed(&good("threads: 1\nstore: {url: 'redis://h'}\n")), ["store.url"]);
}

#[test]
fn a_fingerprint_follows_the_content_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "threads: 1\n").unwrap();
    std::fs::write(&b, "threads: 1\n").unwrap();
    assert_eq!(fingerprint(&a).unwrap(), fingerprint(&b).unwrap());
    std::fs::write(&b, "threads: 2\n").unwrap();
    assert_ne!(fingerprint(&a).unwrap(), fingerprint(&b).unwrap());
    assert!(fingerprint(&folder.path().join("absent")).is_err());
}

#[test]
fn what_several_issuers_change_is_warned_of() {
    let issuer = |name: &str| format!("{{issuer: {name}, key: {{file: f}}, require: [iat]}}");
    let tokens = |names: &[&str]| {
        let list: Vec<String> = names.iter().map(|name| issuer(name)).collect();
        format!("store: {{data_dir: d}}\ntokens: [{}]\n", list.join(", "))
    };
    let codes = |text: &str| -> Vec<String> {
        let code =
            |one: &quotad::config::Diagnostic| one.mistake.message.split(':').next().unwrap().to_owned();
        good(text).warnings.iter().map(code).collect()
    };
    let told = "http: {identity_headers: {x-user-id: sub, x-user-issuer: iss}}\n";
    let by = |partition: &str, rest: &str| {
        format!("policies: [{{name: a, limit: 9, window: 1m, partition: [{partition}]{rest}}}]\n")
    };
    let (one, two) = (tokens(&["i"]), tokens(&["i", "j"]));
    for (policy, expected) in [
        (by("user", ""), None),
        (by("\"claim:sub\"", ""), Some("Q313")),
        (by("\"claim:sub\", \"claim:iss\"", ""), None),
        (by("ip", ", match: {user: alice}"), Some("Q312")),
        (by("ip", ", match: {user: 'test-*'}"), Some("Q312")),
        (by("ip", ", match: {user: 're:alice|bob'}"), Some("Q312")),
        (by("ip", ", match: {user: 'x~test-*'}"), Some("Q312")),
        (by("ip", ", match: {user: 'i~test-*'}"), None),
        (by("ip", ", match: {user: 'j~*'}"), None),
        (by("ip", ", match: {user: 'i*'}"), None),
        (by("ip", ", match: {user: 'i'}"), Some("Q312")),
        (by("ip", ", match: {user: 're:.*~alice'}"), None),
    ] {
        assert_eq!(codes(&format!("{one}{policy}")), Vec::<String>::new(), "{policy}");
        let warned: Vec<&str> = expected.into_iter().collect();
        assert_eq!(codes(&format!("{two}{told}{policy}")), warned, "{policy}");
    }
    let user = by("user", "");
    assert_eq!(codes(&format!("{two}{user}")), ["Q314"]);
    assert_eq!(codes(&format!("{two}{user}http: {{identity_headers: {{}}}}\n")), Vec::<String>::new());
    let of = |tokens: &str, policy: &str| good(&format!("{tokens}{told}{policy}"));
    let changed = of(&one, &user).changed_meaning(&of(&two, &user)).unwrap();
    assert!(changed.starts_with("Q315: `user` is ISSUER~SUBJECT") && changed.ends_with("(a)"), "{changed}");
    assert!(
        of(&two, &user).changed_meaning(&of(&one, &user)).unwrap().contains("is the subject from now on")
    );
    assert_eq!(of(&two, &user).changed_meaning(&of(&tokens(&["i", "k"]), &user)), None);
    assert_eq!(of(&one, &by("ip", "")).changed_meaning(&of(&two, &by("ip", ""))), None);
}
