//! Bad files, and the words for them.

use super::{bad, good};
use quotad::config::{Environment, MAX_FILE_BYTES, Place, Source, load};
use std::path::Path;

/// A bad file, the line of its one mistake, the field, a word of the message and a word of the hint.
type Case = (&'static str, usize, &'static str, &'static str, &'static str);

fn assert_cases(cases: &[Case]) {
    for (text, line, field, message, hint) in cases {
        let mistakes = bad(text);
        assert_eq!(mistakes.count(), 1, "{text}\n{mistakes}");
        let found = mistakes.iter().next().unwrap();
        let Place::File { name, position: Some(position) } = &found.place else { panic!("{found:?}") };
        assert_eq!(name, "f.yaml");
        assert_eq!(position.line, *line, "{text}\n{mistakes}");
        assert_eq!(found.mistake.field, *field, "{text}\n{mistakes}");
        assert!(found.mistake.message.contains(message), "{text}\n{mistakes}");
        assert!(found.mistake.hint.contains(hint), "{text}\n{mistakes}");
        let shown = text.lines().nth(line - 1).unwrap_or_default();
        let excerpt = found.excerpt.as_ref().unwrap();
        assert!(excerpt.line.chars().count() <= 110, "{excerpt:?}");
        if shown.len() < 90 {
            assert_eq!(excerpt.line, shown.trim_end(), "{text}");
        }
    }
}

const IN_POLICIES: &[Case] = &[
    ("policies:\n- name: a\n  limit: 010\n  window: 1m\n", 3, "limit", "begins with a zero", "write 10"),
    (
        "policies:\n- name: a\n  lease_entry: 'x:y'\n  limit: 100\n  window: 1m\n",
        3,
        "lease_entry",
        "no family",
        "plain name",
    ),
    ("policies:\n- name: a\n  brust: 5\n  limit: 100\n  window: 1m\n", 3, "brust", "unknown key", "burst"),
    (
        "policies:\n- name: a\n  colour: red\n  limit: 100\n  window: 1m\n",
        3,
        "colour",
        "unknown key",
        "lease_ttl",
    ),
    ("policies:\n- name: a\n  limit: 5\n  limit: 6\n  window: 1m\n", 4, "limit", "duplicate key", "line 3"),
    (
        "policies:\n- {name: a, limit: 1, window: 1m}\n- {name: a, limit: 1, window: 1m}\n",
        3,
        "name",
        "stands twice",
        "first stands in line 2",
    ),
    ("policies:\n- name: a\n  window: 0s\n  limit: 100\n", 3, "window", "0ns", "1ms"),
    ("policies:\n- name: a\n  window: 60\n  limit: 100\n", 3, "window", "no unit", "60s"),
    ("policies:\n- name: a\n  window: -1m\n  limit: 100\n", 3, "window", "negative", "1m"),
    ("policies:\n- name: a\n  window: 99999999d\n  limit: 100\n", 3, "window", "ten years", "unit"),
    ("policies:\n- name: a\n  window: 400d\n  limit: 100\n", 3, "window", "window is", "366d"),
    ("policies:\n- name: a\n  window: [1m]\n  limit: 100\n", 3, "window", "found a list", "one value"),
    ("policies:\n- name: a\n  limit: 0\n  window: 1m\n", 3, "limit", "limit is 0", "from 1"),
    ("policies:\n- name: a\n  limit: -3\n  window: 1m\n", 3, "limit", "negative", "whole number"),
    ("policies:\n- name: a\n  limit: 1.5\n  window: 1m\n", 3, "limit", "not a whole number", "whole number"),
    ("policies:\n- name: a\n  limit: 99999999999\n  window: 1m\n", 3, "limit", "99999999999", "4294967295"),
    (
        "policies:\n- name: a\n  limit: 99999999999999999999999\n  window: 1m\n",
        3,
        "limit",
        "too large",
        "smaller",
    ),
    (
        "policies:\n- name: a\n  algorithm: token_bucket\n  burst: 0\n  limit: 100\n  window: 1m\n",
        4,
        "burst",
        "burst is 0",
        "from 1",
    ),
    (
        "policies:\n- name: a\n  burst: 5\n  limit: 100\n  window: 1m\n",
        3,
        "burst",
        "token_bucket",
        "remove burst",
    ),
    (
        "policies:\n- name: a\n  algorithm: tokenbucket\n  limit: 100\n  window: 1m\n",
        3,
        "algorithm",
        "not known",
        "token_bucket",
    ),
    (
        "policies:\n- name: a\n  algorithm: leaky\n  limit: 100\n  window: 1m\n",
        3,
        "algorithm",
        "not known",
        "sliding_window",
    ),
    ("policies:\n- name: a\n  limit: 5\n  cost: 6\n  window: 1m\n", 4, "cost", "never pass", "lower cost"),
    ("policies:\n- name: a\n  cost: 0\n  limit: 100\n  window: 1m\n", 3, "cost", "cost is 0", "from 1"),
    (
        "policies:\n- name: a\n  partition: [ip, user, ip]\n  limit: 100\n  window: 1m\n",
        3,
        "partition",
        "twice",
        "once",
    ),
    (
        "policies:\n- name: a\n  partition: ip\n  limit: 100\n  window: 1m\n",
        3,
        "partition",
        "expected a list",
        "[ip]",
    ),
    (
        "policies:\n- name: a\n  partition: [ip, hedaer:x]\n  limit: 100\n  window: 1m\n",
        3,
        "partition",
        "no match can supply",
        "header:NAME",
    ),
    (
        "policies:\n- name: a\n  partition: [plan]\n  match: {plan: ''}\n  limit: 100\n  window: 1m\n",
        3,
        "partition",
        "no match can supply",
        "remove",
    ),
    (
        "policies:\n- name: a\n  match: {ip: 10.0.0.0/40}\n  limit: 100\n  window: 1m\n",
        3,
        "match.ip",
        "CIDR",
        "10.0.0.0/8",
    ),
    (
        "policies:\n- name: a\n  match:\n    path: /v1/**/x\n  limit: 100\n  window: 1m\n",
        4,
        "match.path",
        "path pattern",
        "/any/depth/**",
    ),
    (
        "policies:\n- name: a\n  match: {plan: 're:('}\n  limit: 100\n  window: 1m\n",
        3,
        "match.plan",
        "not an expression",
        "regex",
    ),
    (
        "policies:\n- name: a\n  match: {plan: 're:(?:a{1000}){1000}'}\n  limit: 100\n  window: 1m\n",
        3,
        "match.plan",
        "not an expression",
        "regex",
    ),
    (
        "policies:\n- name: a\n  match: {a.b: 'x*y'}\n  limit: 100\n  window: 1m\n",
        3,
        "match.a.b",
        "`*`",
        "re:",
    ),
    (
        "policies:\n- name: a\n  match: {plan: }\n  limit: 100\n  window: 1m\n",
        3,
        "match.plan",
        "missing",
        "\"\"",
    ),
    (
        "policies:\n- name: a\n  match: [plan]\n  limit: 100\n  window: 1m\n",
        3,
        "match",
        "expected a map",
        "{name: value}",
    ),
    (
        "policies:\n- name: a\n  shadow: yes\n  limit: 100\n  window: 1m\n",
        3,
        "shadow",
        "not known",
        "true, false",
    ),
    (
        "policies:\n- name: a\n  on_store_error: open\n  limit: 100\n  window: 1m\n",
        3,
        "on_store_error",
        "not known",
        "local, deny, allow, error",
    ),
    (
        "policies:\n- name: a\n  ip_prefix: {v4: 33}\n  limit: 100\n  window: 1m\n",
        3,
        "ip_prefix.v4",
        "33",
        "1 to 32",
    ),
    (
        "policies:\n- name: a\n  ip_prefix: {v6: 1000}\n  limit: 100\n  window: 1m\n",
        3,
        "ip_prefix.v6",
        "is",
        "1 to 128",
    ),
    (
        "policies:\n- name: a\n  ip_prefix: {v7: 1}\n  limit: 100\n  window: 1m\n",
        3,
        "ip_prefix.v7",
        "unknown key",
        "v4",
    ),
    ("policies:\n- name: a b\n  limit: 100\n  window: 1m\n", 2, "name", "not a name", "letters"),
    ("policies:\n- limit: 5\n  window: 1m\n", 2, "name", "missing", "name"),
    ("policies:\n- name:\n  limit: 100\n  window: 1m\n", 2, "name", "missing", "name"),
    ("policies:\n- auth\n", 2, "", "expected a map, found `auth`", "name"),
    ("policies:\n  name: a\n", 2, "policies", "expected a list, found a map", "[one, two]"),
    (
        "policies:\n- name: a\n  domain: 'x y'\n  limit: 100\n  window: 1m\n",
        3,
        "domain",
        "not a name",
        "letters",
    ),
    (
        "policies:\n- name: a\n  algorithm: concurrency\n  lease_ttl: 10ms\n  limit: 100\n",
        4,
        "lease_ttl",
        "10ms",
        "1s",
    ),
    (
        "policies:\n- name: a\n  algorithm: token_bucket\n  limit: 2000000\n  window: 1s\n",
        4,
        "limit",
        "too fast",
        "1000000 a second",
    ),
    // What a policy is about has no default; a key that stands there with nothing behind it has none either.
    ("policies:\n- name: a\n  window: 1m\n", 2, "limit", "missing", "no default"),
    ("policies:\n- name: a\n  limit:\n  window: 1m\n", 3, "limit", "no value", "write its value"),
    ("policies:\n- name: a\n  algorithm: concurrency\n", 2, "limit", "missing", "how many leases"),
    ("policies:\n- name: a\n  limit: 10\n", 2, "window", "missing", "1m"),
    ("policies:\n- name: a\n  limit: 10\n  window: ~\n", 4, "window", "no value", "write its value"),
    (
        "policies:\n- name: a\n  algorithm: token_bucket\n  window: 1d\n  burst: 90000\n  cost: 80000\n",
        2,
        "limit",
        "missing",
        "no default",
    ),
    ("policies:\n- name: a\n  limit: 1\n  window: 1m\n  match:\n", 5, "match", "no value", "remove match"),
    ("policies:\n- name: a\n  limit: 1\n  window: 1m\n  ip_prefix:\n", 5, "ip_prefix", "no value", "value"),
];

#[test]
fn mistakes_in_policies_name_line_field_and_remedy() {
    assert_cases(IN_POLICIES);
}

#[test]
fn mistakes_in_routes_name_line_field_and_remedy() {
    let with = |route: &'static str| -> &'static str {
        let policies = "policies:\n- {name: limit, limit: 1, window: 1m}\n- {name: sockets, algorithm: concurrency, limit: 1}\nroutes:\n";
        Box::leak(format!("{policies}{route}").into_boxed_str())
    };
    assert_cases(&[
        (
            with("- name: r\n  policies: [limti]\n"),
            6,
            "policies",
            "`limti` is not a policy",
            "did you mean `limit`?",
        ),
        (with("- name: r\n  policies: [sockets]\n"), 6, "policies", "other kind", "under connection"),
        (with("- name: r\n  connection: [limit]\n"), 6, "connection", "other kind", "under policies"),
        (with("- name: r\n  policies:\n  - limit\n  - limit\n"), 8, "policies", "twice", "once"),
        (with("- name: r\n- name: r\n"), 6, "name", "twice", "name of its own"),
        (with("- name: r\n  paths: [login]\n"), 6, "paths", "path pattern", "/exact"),
        (with("- name: r\n  hosts: ['a/b']\n"), 6, "hosts", "not a host", "*.example.com"),
        (with("- name: r\n  methods: [post]\n"), 6, "methods", "not a method", "upper case"),
        (with("- name: r\n  headers: {x-plan: 're:['}\n"), 6, "headers.x-plan", "not an expression", "regex"),
        (with("- name: r\n  headers: {'x plan': a}\n"), 6, "headers.x plan", "not a header's name", "x-plan"),
        (with("- name: r\n  token: maybe\n"), 6, "token", "not known", "required, optional, ignored"),
        (with("- name: r\n  token: required\n"), 6, "token", "no issuer", "under tokens"),
        (with("- name: r\n  issuers: [app]\n"), 6, "issuers", "`app` is not configured", "issuers"),
        (with("- name: r\n  cost: 0\n"), 6, "cost", "cost is 0", "from 1"),
        (with("- name: r\n  path: [/x]\n"), 6, "path", "unknown key", "paths"),
        (with("- paths: [/x]\n"), 5, "name", "missing", "route"),
        (with("- name: r\n  paths:\n  policies: [limit]\n"), 6, "paths", "no value", "remove paths"),
        (with("- name: r\n  token:\n"), 6, "token", "no value", "remove token"),
    ]);
}

#[test]
fn mistakes_in_tokens_name_line_field_and_remedy() {
    let with = |rest: &'static str| -> &'static str {
        Box::leak(format!("tokens:\n- name: app\n  issuer: i\n{rest}").into_boxed_str())
    };
    assert_cases(&[
        (with("  algorithms: [HS256]\n"), 2, "key", "missing", "{file: FILE}"),
        (with("  key: {}\n"), 4, "key", "no source", "{file: FILE}"),
        (with("  key: {file: a, env: HOME}\n"), 4, "key", "more than one source: file, env", "{file: FILE}"),
        (with("  key: {file: a, generate: maybe}\n"), 4, "key.generate", "not known", "true, false"),
        (with("  key: {jwks_file: a, generate: true}\n"), 4, "key.generate", "only a file", "remove"),
        (with("  key: {env: NOT_SET}\n"), 4, "key.env", "NOT_SET is not set", "set NOT_SET"),
        (with("  key: {jwks_url: 'http://a/b'}\n"), 4, "key.jwks_url", "https", "https://HOST"),
        (with("  key: {file: a}\n  from: [header]\n"), 5, "from", "no place", "cookie:NAME"),
        (with("  key: {file: a}\n  from: ['cookie:']\n"), 5, "from", "no name", "cookie:NAME"),
        (with("  key: {file: a}\n  from: []\n"), 5, "from", "nowhere", "authorization"),
        (
            with("  key: {file: a}\n  on_store_error: local\n"),
            5,
            "on_store_error",
            "not known",
            "deny, allow",
        ),
        (with("  key: {file: a}\n  leeway: 30\n"), 5, "leeway", "no unit", "30s"),
        (
            with("  key: {file: a}\n  revoked_key: 'x:{jti}'\n"),
            5,
            "revoked_key",
            "embedded store",
            "redis://",
        ),
        (with("  key: {file: a}\n  revokedkey: 'x:{jti}'\n"), 5, "revokedkey", "unknown key", "revoked_key"),
        (
            with("  key: {file: a}\n- name: app\n  issuer: j\n  key: {file: a}\n"),
            5,
            "name",
            "twice",
            "name of its own",
        ),
        (
            with("  key: {file: a}\n- name: b\n  issuer: i\n  key: {file: a}\n"),
            6,
            "issuer",
            "twice",
            "one entry",
        ),
        ("tokens:\n- name: app\n  key: {file: a}\n", 2, "issuer", "missing", "iss"),
    ]);
}

const IN_OTHERS: &[Case] = &[
    ("polices: []\n", 1, "polices", "unknown key", "policies"),
    ("listen: {grpc: [nowhere]}\n", 1, "listen.grpc", "not an address", "127.0.0.1:50051"),
    ("listen:\n  grpc:\n  - ':50051'\n", 3, "listen.grpc", "not an address", "0.0.0.0:50051"),
    ("listen: {grpc: ['localhost:1']}\n", 1, "listen.grpc", "not an address", "127.0.0.1:1"),
    ("listen: {grpc: 50051}\n", 1, "listen.grpc", "expected a list", "[50051]"),
    ("listen: {grpc: []}\n", 1, "listen.grpc", "without an address", "127.0.0.1"),
    ("listen: {grpc: ['unix:']}\n", 1, "listen.grpc", "unix socket", "unix:/run/quotad.sock"),
    ("listen:\n  grpc: ['127.0.0.1:7', '127.0.0.1:7']\n", 2, "listen.grpc", "duplicate", "its own"),
    ("listen: {grpc: ['0.0.0.0:7', '127.0.0.1:7']}\n", 1, "listen.grpc", "duplicate", "its own"),
    ("listen: {grpc: ['0.0.0.0:7', '[::]:7']}\n", 1, "listen.grpc", "duplicate", "its own"),
    ("listen: {grpc: ['[::]:7', '127.0.0.1:7']}\n", 1, "listen.grpc", "duplicate", "its own"),
    ("listen:\n  grpc: ['127.0.0.1:7']\n  admin: 127.0.0.1:7\n", 3, "listen.admin", "duplicate", "its own"),
    ("listen: {http: [nowhere]}\n", 1, "listen.http", "not an address", "127.0.0.1:50051"),
    ("listen: {http: 8080}\n", 1, "listen.http", "expected a list", "[8080]"),
    ("listen: {http: ['127.0.0.1:50051']}\n", 1, "listen.http", "duplicate", "its own"),
    (
        "listen:\n  grpc: ['unix:/q']\n  http: ['127.0.0.1:7', 'unix:/q']\n",
        3,
        "listen.http",
        "duplicate",
        "its own",
    ),
    ("listen:\n  http: ['127.0.0.1:7']\n  admin: 127.0.0.1:7\n", 3, "listen.admin", "duplicate", "its own"),
    ("listen: {admin: 'unix:/x'}\n", 1, "listen.admin", "not an address", "127.0.0.1"),
    ("listen: {max_connection_age: 999ms}\n", 1, "listen.max_connection_age", "too short", "at least 1s"),
    ("listen: {max_connection_age: 30}\n", 1, "listen.max_connection_age", "no unit", "30s"),
    (
        "listen: {max_conection_age: 30m}\n",
        1,
        "listen.max_conection_age",
        "unknown key",
        "max_connection_age",
    ),
    ("threads: 1025\n", 1, "threads", "too many", "1024"),
    ("threads: -1\n", 1, "threads", "negative", "0 for one a core"),
    ("threads: many\n", 1, "threads", "not a whole number", "0 for one a core"),
    ("store: {url: 'mysql://h'}\n", 1, "store.url", "not a store's scheme", "redis://"),
    ("store: {url: 'redis-cluster://h:1'}\n", 1, "store.url", "not supported yet", "redis://"),
    ("store: {url: 'redis-sentinel://h:1'}\n", 1, "store.url", "not supported yet", "Sentinel"),
    ("store: {url: memory}\n", 1, "store.url", "URL", "colon"),
    ("store: {timeout: 0s}\n", 1, "store.timeout", "timeout is 0s", "1ms to 60s"),
    ("store: {replicas: 0}\n", 1, "store.replicas", "replicas is 0", "1 to 10000"),
    ("store: {timeout: 2m}\n", 1, "store.timeout", "timeout is 2m", "1ms to 60s"),
    ("store: {max_memory: 536870912}\n", 1, "store.max_memory", "no unit", "did you mean 536870912MiB?"),
    ("store: {max_memory: 1GB}\n", 1, "store.max_memory", "none of KiB, MiB, GiB", "512MiB"),
    ("store: {max_memory: 1.5GiB}\n", 1, "store.max_memory", "fraction", "1536MiB"),
    ("store: {max_memory: 8MiB}\n", 1, "store.max_memory", "max_memory is 8MiB", "at least 16MiB"),
    ("store: {max_memory: 2048GiB}\n", 1, "store.max_memory", "more than 1024GiB", "unit"),
    ("store: {timeot: 5ms}\n", 1, "store.timeot", "unknown key", "timeout"),
    ("store: redis\n", 1, "store", "expected a map", "url"),
    ("http: {error_body: html}\n", 1, "http.error_body", "not known", "uniform, problem"),
    ("http: {limit_headers: [ietf, y]}\n", 1, "http.limit_headers", "not known", "legacy"),
    ("http: {limit_headers: [x, x]}\n", 1, "http.limit_headers", "twice", "once"),
    (
        "http: {security_headers: {'X Frame': a}}\n",
        1,
        "http.security_headers.X Frame",
        "not a header's name",
        "X-Frame-Options",
    ),
    (
        "http: {security_headers: {X-A: \"a\\nb\"}}\n",
        1,
        "http.security_headers.X-A",
        "no value of a header",
        "null",
    ),
    (
        "http: {security_headers: {Content-Length: 5}}\n",
        1,
        "http.security_headers.Content-Length",
        "frames",
        "remove",
    ),
    ("http: {trusted_proxies: [10.0.0.1/8]}\n", 1, "http.trusted_proxies", "bits outside", "10.0.0.0/8"),
    ("http: {trusted_proxies: [proxy]}\n", 1, "http.trusted_proxies", "not an address", "one address"),
    (
        "http: {identity_headers: {'x user': sub}}\n",
        1,
        "http.identity_headers.x user",
        "not a header's name",
        "letters",
    ),
    ("http: {identity_headers: {x-user: }}\n", 1, "http.identity_headers.x-user", "missing", "sub"),
    (
        "http: {identity_headers: {X-A: sub, x-a: sub}}\n",
        1,
        "http.identity_headers.x-a",
        "twice",
        "lower case",
    ),
    (
        "http: {identity_headers: {Authorization: sub}}\n",
        1,
        "http.identity_headers.Authorization",
        "removed",
        "x-user-id",
    ),
    ("envoy: {client_ip: xff}\n", 1, "envoy.client_ip", "no place", "xff:HOPS"),
    (
        "envoy: {client_ip: 'metadata:x-forwarded-for'}\n",
        1,
        "envoy.client_ip",
        "Envoy's own",
        "metadata:x-client-ip",
    ),
    ("envoy: {client_ip: 'xff:0'}\n", 1, "envoy.client_ip", "hops", "xff:1"),
];

#[test]
fn mistakes_in_the_other_sections_name_line_field_and_remedy() {
    assert_cases(IN_OTHERS);
}

#[test]
fn texts_that_are_no_configuration_are_refused_in_words() {
    assert_cases(&[
        ("- name: a\n", 1, "", "expected a map, found a list", "listen"),
        ("just a text\n", 1, "", "expected a map", "listen"),
        ("policies:\n\t- name: a\n", 2, "", "tab", "spaces"),
        ("policies: [a\n", 1, "", "bracket", "]"),
        ("policies: 'a\n", 1, "", "quote", "close"),
        ("threads: 1\n---\nthreads: 2\n", 2, "", "second document", "one document"),
        ("threads: *nope\n", 1, "", "no anchor `&nope`", "quote"),
        ("threads: !!int 5\n", 1, "", "tag", "remove"),
        ("{a: 1}: b\n", 1, "", "a key must be a text", "quote"),
        ("policies:\n- name: a\n limit: 5\n", 3, "", "indentation", "same column"),
        ("policies: a: b\n", 1, "", "`: `", "quote"),
    ]);
    for text in ["", "\n\n", "# nothing\n", "---\n", "~\n", "null\n"] {
        let mistakes = bad(text);
        assert!(mistakes.to_string().contains("the file is empty"), "{mistakes}");
    }
}

#[test]
fn all_mistakes_of_a_file_come_at_once_and_none_hides_another() {
    let text = "threads: 2000
store: {url: nothing}
tokens:
- {name: t, issuer: i, key: {env: NOT_SET}}
policies:
- {name: one, limit: 1, window: 0s, brust: 1}
- {name: two, limit: x, window: 1m}
- {limit: 3, window: 1m}
- nonsense
routes:
- {name: a, policies: [one, two], token: required}
- {name: b, policies: [three]}
- {name: c, paths: [x], issuers: [i, t]}
extra: 1
";
    let mistakes = bad(text);
    let found: Vec<(String, String)> =
        mistakes.iter().map(|one| (one.subject.clone(), one.mistake.field.clone())).collect();
    let expected = [
        ("", "threads"),
        ("", "store.url"),
        ("tokens[0] (t)", "key.env"),
        ("policies[0] (one)", "window"),
        ("policies[0] (one)", "brust"),
        ("policies[1] (two)", "limit"),
        ("policies[2]", "name"),
        ("policies[3]", ""),
        ("routes[2] (c)", "paths"),
        ("", "extra"),
    ];
    let expected: Vec<(String, String)> =
        expected.map(|(subject, field)| (subject.to_owned(), field.to_owned())).into();
    assert_eq!(found, expected, "{mistakes}");
    assert!(mistakes.to_string().ends_with("10 mistakes"), "{mistakes}");
}

#[test]
fn a_syntax_error_hides_no_mistake_before_it() {
    let text = "store: {timeout: 0s}
tokens:
- {issuer: i, key: {file: f}, revoked_key: 'x:{jti}'}
policies:
- {name: one, window: 0s, limit: 1}
- {name: two, limit: 1, window: 1m}
- name: three
 limit: 0
routes:
- {name: r, token: required, policies: [later]}
";
    let shown = bad(text).to_string();
    for part in [
        "f.yaml:1:18: store.timeout",
        "f.yaml:5:23: policies[0] (one): window",
        "f.yaml:8:2: the indentation",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(shown.ends_with("3 mistakes"), "what is doubtful is not called wrong:\n{shown}");
    let shown = bad(
        "policies:\n- {name: a, limit: 1, window: 1m}\nroutes:\n- {name: r, policies: [b]}\n- {name: s, paths: [x]}\n- {name: t}\n- {name: [\n",
    );
    assert!(shown.to_string().contains("routes[1] (s): paths"), "{shown}");
}

#[test]
fn a_mistake_reads_well() {
    let mistakes = bad(
        "policies:\n  - {name: auth, limit: 5, window: 1m}\n  - name: ai-per-user\n    window: 0s   # never\n    limit: 30\n",
    );
    assert_eq!(
        mistakes.to_string(),
        "f.yaml:4:13: policies[1] (ai-per-user): window: window is 0ns
  4 |     window: 0s   # never
    |             ^^
    = hint: write a duration from 1ms to 366d, such as 30s, 1m, 1h

1 mistake"
    );
}

#[test]
fn a_long_or_hostile_text_stays_small_and_tame() {
    let text = format!("policies:\n- name: a\n  limit: \"{}\\e[2J\\u202e\"\n", "9".repeat(50_000));
    let shown = bad(&text).to_string();
    assert!(shown.len() < 2_000, "{}", shown.len());
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    let mistakes = bad(&format!("policies:\n{}", "- {}\n".repeat(5_000)));
    assert!(mistakes.to_string().len() < 50_000);
    assert!(mistakes.to_string().ends_with("1000 mistakes or more"));
}

#[test]
fn too_many_policies_are_refused_as_one_mistake() {
    let list: String = (0..10_001).map(|i| format!("- {{name: p{i}, limit: 1, window: 1m}}\n")).collect();
    let mistakes = bad(&format!("policies:\n{list}routes:\n- {{name: r, policies: [p1]}}\n"));
    assert_eq!(mistakes.count(), 1, "{mistakes}");
    assert!(mistakes.to_string().contains("10001 entries are too many"), "{mistakes}");
    let list: String = (0..10_000).map(|i| format!("- {{name: p{i}, limit: 1, window: 1m}}\n")).collect();
    assert_eq!(good(&format!("policies:\n{list}")).policies.len(), 10_000);
}

#[test]
fn files_that_cannot_be_read_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |path: &Path| {
        let source = Source::file(path).with_environment(Environment::given([]));
        load(&source).unwrap_err().to_string()
    };
    let shown = refuse(&folder.path().join("absent.yaml"));
    assert!(shown.contains("absent.yaml: there is no such file") && shown.contains("--config"), "{shown}");
    assert!(refuse(folder.path()).contains("folder"));
    let latin = folder.path().join("latin.yaml");
    std::fs::write(&latin, b"threads: 1\nlog: \xff\n").unwrap();
    let shown = refuse(&latin);
    assert!(shown.contains("latin.yaml:2:6: the file is not UTF-8"), "{shown}");
    let huge = folder.path().join("huge.yaml");
    let bytes = usize::try_from(MAX_FILE_BYTES).unwrap() + 1;
    std::fs::write(&huge, "#".repeat(bytes)).unwrap();
    assert!(refuse(&huge).contains("larger than 1048576 bytes"));
    std::fs::write(&huge, "#".repeat(bytes - 13) + "\nthreads: 1\n").unwrap();
    assert!(load(&Source::file(&huge).with_environment(Environment::given([]))).is_ok());
}
