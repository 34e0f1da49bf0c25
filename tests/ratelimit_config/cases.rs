//! The table: one oddity a case, beside a good rule for `a`. Observed on envoyproxy/ratelimit; the files are our own.
//! It has no case in which our answer differs: what we do differently is in matching and counting, not in loading.

use Form::{Beside, File as Whole, Items, Limit, Pair, Raw, Utf16};

/// How many the original was tried with.
pub const COUNT: usize = 148;

pub struct Case {
    pub name: &'static str,
    pub form: Form,
    pub expect: Expect,
}

pub enum Expect {
    /// Question and answer.
    Takes(&'static [(&'static str, &'static str)]),
    /// Words of the refusal.
    Refuses(&'static str),
}

pub enum Form {
    /// A whole file.
    File(&'static str),
    /// A whole file, not text.
    Raw(&'static [u8]),
    /// A whole file, to be written in UTF-16.
    Utf16(&'static str),
    /// Items of `descriptors`.
    Items(&'static str),
    /// The limit of `a`, in flow style.
    Limit(&'static str),
    /// What stands beside the limit of `a`, in flow style.
    Beside(&'static str),
    /// Two files by name; an empty name is none.
    Pair([(&'static str, &'static str); 2]),
}

pub struct File {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Case {
    pub fn files(&self) -> Vec<File> {
        let file = |name: &str, bytes: &[u8]| File { name: name.to_owned(), bytes: bytes.to_vec() };
        let one = |text: String| vec![file("config.yaml", text.as_bytes())];
        match self.form {
            Form::File(text) => one(text.to_owned()),
            Raw(bytes) => vec![file("config.yaml", bytes)],
            Utf16(text) => {
                let units = std::iter::once(0xfeff).chain(text.encode_utf16());
                vec![file("config.yaml", &units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())]
            }
            Items(text) => one(format!("domain: odd\ndescriptors:\n{text}")),
            Limit(text) => one(format!("domain: odd\ndescriptors:\n- {{key: a, rate_limit: {{{text}}}}}\n")),
            Beside(text) => one(format!(
                "domain: odd\ndescriptors:\n- {{key: a, rate_limit: {{unit: hour, requests_per_unit: 5}}, {text}}}\n"
            )),
            Pair(files) => files
                .iter()
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, text)| file(name, text.as_bytes()))
                .collect(),
        }
    }
}

const fn takes(name: &'static str, form: Form, answers: &'static [(&'static str, &'static str)]) -> Case {
    Case { name, form, expect: Expect::Takes(answers) }
}

const fn refuses(name: &'static str, form: Form, words: &'static str) -> Case {
    Case { name, form, expect: Expect::Refuses(words) }
}

const GOOD: &str = "domain: odd\ndescriptors:\n- key: a\n  rate_limit: {unit: hour, requests_per_unit: 5}\n";
const OTHER: &str =
    "domain: odd2\ndescriptors:\n- key: b\n  rate_limit: {unit: hour, requests_per_unit: 5}\n";
const FIVE: &[(&str, &str)] = &[("a=", "5/HOUR")];
const NONE: &[(&str, &str)] = &[("a=", "-")];
const BAN: &[(&str, &str)] = &[("a=", "0/HOUR")];
const UNLIMITED: &[(&str, &str)] = &[("a=", "unlimited")];
const UNKNOWN: &str = "config error, unknown key '";
const NOT_TEXT: &str = "config error, key is not of type string: ";
const UNIT: &str = "invalid rate limit unit '";
const LIST: &str = "config error, yaml file contains list of type other than map: ";
const LOADING: &str = "error loading config file: ";
const FLOAT: &str = "error checking config";
const NO_DOMAIN: &str = "config file cannot have empty domain";
const NO_KEY: &str = "descriptor has empty key";
const TWICE: &str = "duplicate descriptor composite key 'odd.";

pub const CASES: &[Case] = &[
    refuses(
        "unknown-key-at-root",
        Whole("domain: odd\ncolour: red\n"),
        "config.yaml:2:1: config error, unknown key 'colour'",
    ),
    refuses("unknown-key-in-descriptor", Beside("colour: red"), UNKNOWN),
    refuses("unknown-key-in-rate_limit", Limit("unit: hour, requests_per_unit: 5, burst: 9"), UNKNOWN),
    refuses(
        "unknown-key-in-replaces",
        Limit("unit: hour, requests_per_unit: 5, replaces: [{name: x, by: y}]"),
        UNKNOWN,
    ),
    takes("known-key-at-wrong-place", Whole("domain: odd\nkey: a\nunit: hour\nrequests_per_unit: 5\n"), NONE),
    takes("shadow_mode-in-rate_limit", Limit("unit: hour, shadow_mode: true"), BAN),
    refuses("capital-key", Whole("domain: odd\nDescriptors: []\n"), "unknown key 'Descriptors'"),
    refuses("int-key", Whole("domain: odd\n5: x\n"), NOT_TEXT),
    refuses("bool-key", Whole("domain: odd\nyes: x\n"), NOT_TEXT),
    refuses("null-key", Whole("domain: odd\n~: x\n"), NOT_TEXT),
    refuses("list-key", Whole("domain: odd\n[a, b]: x\n"), "invalid map key"),
    refuses(
        "unit-fortnight",
        Limit("unit: fortnight, requests_per_unit: 5"),
        "invalid rate limit unit 'fortnight'",
    ),
    refuses("unit-plural", Limit("unit: hours, requests_per_unit: 5"), UNIT),
    refuses("unit-unknown", Limit("unit: unknown, requests_per_unit: 5"), UNIT),
    refuses("unit-missing", Limit("requests_per_unit: 5"), "invalid rate limit unit ''"),
    refuses("unit-empty", Limit("unit: '', requests_per_unit: 5"), UNIT),
    refuses("unit-with-space", Limit("unit: 'hour ', requests_per_unit: 5"), UNIT),
    refuses("unit-number", Limit("unit: 3, requests_per_unit: 5"), UNIT),
    takes("unit-mixed-case", Limit("unit: mOnTh, requests_per_unit: 5"), &[("a=", "5/MONTH")]),
    refuses("rate_limit-empty", Limit(""), UNIT),
    takes("rate_limit-null", Items("- {key: a, rate_limit: ~}\n"), NONE),
    refuses("rate_limit-list", Items("- {key: a, rate_limit: [{unit: hour}]}\n"), LOADING),
    refuses("rate_limit-text", Items("- {key: a, rate_limit: 5/h}\n"), LOADING),
    refuses("requests-negative", Limit("unit: hour, requests_per_unit: -1"), LOADING),
    refuses("requests-2^32", Limit("unit: hour, requests_per_unit: 4294967296"), LOADING),
    refuses("requests-2^64", Limit("unit: hour, requests_per_unit: 18446744073709551616"), FLOAT),
    refuses("requests-float", Limit("unit: hour, requests_per_unit: 1.5"), FLOAT),
    refuses("requests-whole-float", Limit("unit: hour, requests_per_unit: 5.0"), FLOAT),
    refuses("requests-exponent", Limit("unit: hour, requests_per_unit: 1e3"), FLOAT),
    refuses("requests-word", Limit("unit: hour, requests_per_unit: five"), LOADING),
    refuses(
        "requests-quoted",
        Limit("unit: hour, requests_per_unit: '5'"),
        "cannot unmarshal !!str into requests_per_unit",
    ),
    refuses("requests-true", Limit("unit: hour, requests_per_unit: true"), LOADING),
    takes("requests-missing", Limit("unit: hour"), BAN),
    takes("requests-null", Limit("unit: hour, requests_per_unit: ~"), BAN),
    takes("requests-1_000", Limit("unit: hour, requests_per_unit: 1_000"), &[("a=", "1000/HOUR")]),
    takes("requests-hex", Limit("unit: hour, requests_per_unit: 0x10"), &[("a=", "16/HOUR")]),
    takes("requests-octal", Limit("unit: hour, requests_per_unit: 010"), &[("a=", "8/HOUR")]),
    takes("requests-0o10", Limit("unit: hour, requests_per_unit: 0o10"), &[("a=", "8/HOUR")]),
    takes("requests-plus", Limit("unit: hour, requests_per_unit: +5"), FIVE),
    refuses("requests-base-60", Limit("unit: hour, requests_per_unit: 1:30"), LOADING),
    refuses("domain-missing", Whole("descriptors:\n- {key: a}\n"), NO_DOMAIN),
    refuses("domain-empty", Whole("domain: ''\n"), NO_DOMAIN),
    refuses("domain-null", Whole("domain: ~\n"), NO_DOMAIN),
    takes(
        "domain-number",
        Whole("domain: 404\ndescriptors:\n- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n"),
        &[("404/a=", "5/HOUR")],
    ),
    refuses("domain-float", Whole("domain: 1.5\n"), FLOAT),
    refuses("domain-list", Whole("domain: [odd]\n"), LIST),
    takes("domain-only", Whole("domain: odd\n"), NONE),
    refuses(
        "domain-twice-in-two-files",
        Pair([("a.yaml", GOOD), ("b.yaml", GOOD)]),
        "b.yaml:1:1: domain: duplicate domain 'odd' in config file",
    ),
    refuses("good-file-beside-bad-file", Pair([("a.yaml", GOOD), ("b.yaml", "domain: ''\n")]), NO_DOMAIN),
    refuses("key-missing", Items("- {value: x}\n"), NO_KEY),
    refuses("key-empty", Items("- {key: ''}\n"), NO_KEY),
    refuses("key-null", Items("- {key: ~}\n"), NO_KEY),
    takes(
        "key-number",
        Items("- {key: 5, rate_limit: {unit: hour, requests_per_unit: 5}}\n"),
        &[("5=x", "5/HOUR")],
    ),
    takes(
        "key-bool",
        Items("- {key: Yes, rate_limit: {unit: hour, requests_per_unit: 5}}\n"),
        &[("Yes=x", "5/HOUR"), ("true=x", "-"), ("yes=x", "-")],
    ),
    refuses("key-list", Items("- {key: [a]}\n"), LIST),
    refuses("key-map", Items("- {key: {name: a}}\n"), LOADING),
    takes("value-number", Beside("value: 0404"), &[("a=0404", "5/HOUR"), ("a=404", "-"), ("a=260", "-")]),
    takes("value-bool", Beside("value: off"), &[("a=off", "5/HOUR"), ("a=false", "-")]),
    takes("value-null", Beside("value: ~"), &[("a=~", "5/HOUR"), ("a=null", "5/HOUR"), ("a=x", "5/HOUR")]),
    takes("value-date", Beside("value: 2001-02-03"), &[("a=2001-02-03", "5/HOUR"), ("a=x", "-")]),
    refuses("value-float", Beside("value: 1.0"), FLOAT),
    refuses("value-big-number", Beside("value: 99999999999999999999"), FLOAT),
    refuses("value-list", Beside("value: [b]"), LIST),
    takes("value-tagged-text", Beside("value: !!str 1.0"), &[("a=1.0", "5/HOUR")]),
    takes("value-own-tag", Beside("value: !mine b"), &[("a=b", "5/HOUR")]),
    takes("value-binary", Beside("value: !!binary aGk="), &[("a=hi", "5/HOUR"), ("a=aGk=", "-")]),
    refuses("duplicate-key", Items("- {key: a}\n- {key: a}\n"), "duplicate descriptor composite key 'odd.a'"),
    refuses(
        "duplicate-key-and-value",
        Items("- {key: a, value: b}\n- {key: a, value: b}\n"),
        "composite key 'odd.a_b'",
    ),
    refuses(
        "duplicate-wildcard",
        Items("- {key: a, value: b*}\n- {key: a, value: b*}\n"),
        "composite key 'odd.a_b*'",
    ),
    refuses(
        "duplicate-nested",
        Items("- {key: a, descriptors: [{key: b}, {key: b}]}\n"),
        "composite key 'odd.a.b'",
    ),
    refuses("duplicate-when-joined", Items("- {key: a, value: b_c}\n- {key: a_b, value: c}\n"), TWICE),
    refuses("duplicate-joined-with-bare", Items("- {key: a, value: b}\n- {key: a_b}\n"), TWICE),
    refuses("descriptors-map", Whole("domain: odd\ndescriptors: {key: a}\n"), LOADING),
    refuses("descriptors-text", Whole("domain: odd\ndescriptors: a\n"), LOADING),
    refuses("descriptors-of-texts", Items("- a\n"), LIST),
    refuses("descriptors-of-nulls", Items("-\n-\n"), LIST),
    refuses("descriptors-of-lists", Items("- [{key: a}]\n"), LIST),
    takes("descriptors-null", Whole("domain: odd\ndescriptors:\n"), NONE),
    refuses("descriptor-empty-map", Items("- {}\n"), NO_KEY),
    takes("nested-100-deep", Raw(NESTED), &[("a=deep", "5/HOUR")]),
    refuses(
        "unlimited-with-unit",
        Limit("unit: hour, unlimited: true"),
        "should not specify rate limit unit when unlimited",
    ),
    takes("unlimited-with-requests", Limit("unlimited: true, requests_per_unit: 5"), UNLIMITED),
    takes("unlimited-with-bad-unit", Limit("unlimited: true, unit: fortnight"), UNLIMITED),
    refuses("unlimited-false", Limit("unlimited: false"), UNIT),
    takes("unlimited-yes", Limit("unlimited: yes"), UNLIMITED),
    takes("unlimited-y", Limit("unlimited: y"), UNLIMITED),
    refuses("unlimited-quoted", Limit("unlimited: 'true'"), LOADING),
    refuses("unlimited-one", Limit("unlimited: 1"), LOADING),
    refuses(
        "replaces-itself",
        Limit("name: x, unit: hour, requests_per_unit: 5, replaces: [{name: x}]"),
        "replaces should not contain name of same descriptor",
    ),
    refuses(
        "replaces-empty-name",
        Limit("unit: hour, requests_per_unit: 5, replaces: [{name: ''}]"),
        "should not have an empty replaces entry",
    ),
    refuses(
        "replaces-no-name",
        Limit("unit: hour, requests_per_unit: 5, replaces: [{}]"),
        "should not have an empty replaces entry",
    ),
    refuses("replaces-texts", Limit("unit: hour, requests_per_unit: 5, replaces: [x]"), LIST),
    refuses("replaces-map", Limit("unit: hour, requests_per_unit: 5, replaces: {name: x}"), LOADING),
    takes("replaces-nobody", Limit("unit: hour, requests_per_unit: 5, replaces: [{name: nobody}]"), FIVE),
    takes(
        "replaces-with-limit-in-it",
        Limit("unit: hour, requests_per_unit: 5, replaces: [{name: x, rate_limit: {unit: day}}]"),
        FIVE,
    ),
    takes("name-number", Limit("name: 7, unit: hour, requests_per_unit: 5"), &[("a=", "5/HOUR 7")]),
    refuses("name-list", Limit("name: [{name: x}], unit: hour, requests_per_unit: 5"), LOADING),
    refuses(
        "share_threshold-no-wildcard",
        Beside("value: b, share_threshold: true"),
        "share_threshold can only be used with wildcard values (containing '*'), but found key 'a_b'",
    ),
    refuses("share_threshold-no-value", Beside("share_threshold: true"), "but found key 'a'"),
    takes(
        "share_threshold-star-in-key",
        Items("- {key: a*, share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 5}}\n"),
        &[("ab=", "5/HOUR")],
    ),
    refuses("flag-quoted", Beside("shadow_mode: 'true'"), LOADING),
    refuses("flag-number", Beside("shadow_mode: 1"), LOADING),
    refuses("flag-word", Beside("shadow_mode: sure"), LOADING),
    takes("flag-on", Beside("shadow_mode: on"), FIVE),
    takes("flag-null", Beside("shadow_mode: ~"), FIVE),
    refuses("metadata-text", Beside("metadata: gold"), LOADING),
    refuses("metadata-list", Beside("metadata: [{tier: gold}]"), LOADING),
    takes("metadata-null", Beside("metadata: ~"), FIVE),
    takes(
        "metadata-any-values",
        Beside("metadata: {a: 1, b: 2.5, c: [x, {y: z}], d: ~, e: 2001-02-03, f: on}"),
        FIVE,
    ),
    takes("metadata-number-keys", Beside("metadata: {1: one, 2: {3: three}}"), FIVE),
    refuses("metadata-list-key", Beside("metadata: {? [a, b] : x}"), "invalid map key"),
    takes("metadata-infinity", Beside("metadata: {a: .inf}"), FIVE),
    refuses("metadata-binary", Beside("metadata: {a: !!binary gIGC}"), LOADING),
    takes("metadata-at-root", Whole("domain: odd\nmetadata: {tier: gold}\n"), NONE),
    refuses("empty-file", Whole(""), NO_DOMAIN),
    refuses("only-a-comment", Whole("# nothing yet\n"), NO_DOMAIN),
    refuses("root-list", Whole("- domain: odd\n"), LOADING),
    refuses("root-text", Whole("odd\n"), LOADING),
    refuses("tab-indent", Whole("domain: odd\ndescriptors:\n- key: a\n\trate_limit:\n"), LOADING),
    takes(
        "tab-after-colon",
        Items("- key:\ta\n  rate_limit:\n    unit:\thour\n    requests_per_unit:\t5\n"),
        FIVE,
    ),
    refuses("bad-indent", Items("- key: a\n   value: b\n"), LOADING),
    refuses("open-bracket", Whole("domain: odd\ndescriptors: [{key: a}\n"), LOADING),
    refuses("open-quote", Whole("domain: \"odd\n"), LOADING),
    refuses("unknown-alias", Beside("value: *nobody"), "unknown anchor 'nobody' referenced"),
    takes(
        "anchor-and-merge",
        Items("- &a {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n- {<<: *a, key: b}\n"),
        &[("a=", "5/HOUR"), ("b=", "5/HOUR")],
    ),
    refuses("alias-bomb", Raw(BOMB), "excessive aliasing"),
    takes(
        "domain-key-twice",
        Whole(
            "domain: first\ndomain: odd\ndescriptors:\n- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n",
        ),
        &[("a=", "5/HOUR"), ("first/a=", "-")],
    ),
    takes(
        "descriptors-key-twice",
        Whole(
            "domain: odd\ndescriptors:\n- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\ndescriptors:\n- {key: b, rate_limit: {unit: hour, requests_per_unit: 5}}\n",
        ),
        &[("a=", "-"), ("b=", "5/HOUR")],
    ),
    takes("key-key-twice", Beside("key: b"), &[("a=", "-"), ("b=", "5/HOUR")]),
    takes(
        "two-documents",
        Items(
            "- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n---\ndomain: odd2\ndescriptors:\n- {key: b}\n",
        ),
        &[("a=", "5/HOUR"), ("odd2/b=", "-")],
    ),
    takes(
        "second-document-broken",
        Items("- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n---\n}: [ \"\n"),
        FIVE,
    ),
    takes(
        "leading-dashes",
        Whole("---\ndomain: odd\ndescriptors:\n- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n"),
        FIVE,
    ),
    refuses("yaml-directive-1.2", Whole("%YAML 1.2\n---\ndomain: odd\n"), "found incompatible YAML document"),
    takes(
        "crlf",
        Whole(
            "domain: odd\r\ndescriptors:\r\n- key: a\r\n  rate_limit:\r\n    unit: hour\r\n    requests_per_unit: 5\r\n",
        ),
        FIVE,
    ),
    takes(
        "byte-order-mark",
        Whole(
            "\u{feff}domain: odd\ndescriptors:\n- {key: a, rate_limit: {unit: hour, requests_per_unit: 5}}\n",
        ),
        FIVE,
    ),
    takes("utf-16", Utf16(GOOD), FIVE),
    refuses(
        "not-utf-8",
        Raw(b"domain: odd\ndescriptors:\n- key: \xff\n"),
        "config.yaml:3:8: yaml: invalid UTF-8",
    ),
    refuses(
        "nul-byte",
        Raw(b"domain: odd\ndescriptors:\n- key: a\0\n"),
        "yaml: control characters are not allowed",
    ),
    takes(
        "json",
        Whole(
            "{\"domain\": \"odd\", \"descriptors\": [\n\t{\"key\": \"a\", \"rate_limit\": {\"unit\": \"hour\", \"requests_per_unit\": 5}}\n]}\n",
        ),
        FIVE,
    ),
    takes("no-files", Pair([("", ""), ("", "")]), NONE),
    takes("other-ending", Pair([("limits.txt", GOOD), ("", "")]), FIVE),
    refuses(
        "readme-beside",
        Pair([("config.yaml", GOOD), ("README.md", "# Limits\n\nAsk us first.\n")]),
        "README.md",
    ),
    refuses(
        "backup-beside",
        Pair([("config.yaml", GOOD), ("config.yaml~", GOOD)]),
        "duplicate domain 'odd' in config file",
    ),
    takes(
        "dot-file",
        Pair([("config.yaml", GOOD), (".more.yaml", OTHER)]),
        &[("a=", "5/HOUR"), ("odd2/b=", "5/HOUR")],
    ),
    takes("sub-folder", Pair([("deep/er/config.yaml", GOOD), ("", "")]), FIVE),
    refuses(
        "dot-folder-copy",
        Pair([("config.yaml", GOOD), (".old/config.yaml", GOOD)]),
        "duplicate domain 'odd' in config file",
    ),
    refuses(
        "dots-folder-copy",
        Pair([("config.yaml", GOOD), ("..old/config.yaml", GOOD)]),
        "duplicate domain 'odd' in config file",
    ),
    refuses(
        "dots-file-copy",
        Pair([("config.yaml", GOOD), ("..config.yaml.bak", GOOD)]),
        "duplicate domain 'odd' in config file",
    ),
];

/// Beside the rule for `a`, a descriptor in a descriptor a hundred times.
const NESTED: &[u8] = include_bytes!("nested.yaml");
/// Aliases of aliases.
const BOMB: &[u8] = include_bytes!("bomb.yaml");
