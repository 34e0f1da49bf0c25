//! `routes`, as written: each entry becomes a [`RouteSpec`] for the engine to check.

use super::diagnostic::Findings;
use super::fields::{Fields, Scope};
use super::policies::set;
use super::tree::Node;
use crate::engine::glob::Case;
use crate::engine::mistake::Mistake;
use crate::engine::route::{RouteSpec, TokenNeed};

/// The words for whether a token is needed.
pub(super) const TOKEN_NEEDS: [(&str, TokenNeed); 3] =
    [("required", TokenNeed::Required), ("optional", TokenNeed::Optional), ("ignored", TokenNeed::Ignored)];
/// The words for how paths are compared.
pub(super) const CASES: [(&str, Case); 2] =
    [("sensitive", Case::Sensitive), ("insensitive", Case::Insensitive)];
const KEYS: [&str; 12] = [
    "name",
    "methods",
    "hosts",
    "paths",
    "case",
    "headers",
    "token",
    "issuers",
    "domain",
    "policies",
    "connection",
    "cost",
];

/// Reads an entry; nothing when it is no map or has no name.
pub(super) fn read(node: &Node, subject: &str, out: &mut Findings<'_>) -> Option<RouteSpec> {
    let fields = Fields::read(node, Scope { subject, prefix: "" }, &KEYS, out)?;
    let name =
        fields.required("name", "every route has a name: it is the `route` entry of its requests", out);
    let mut spec = RouteSpec::named(name.clone().unwrap_or_default());
    set(&mut spec.methods, fields.texts("methods", out));
    set(&mut spec.hosts, fields.texts("hosts", out));
    set(&mut spec.paths, fields.texts("paths", out));
    set(&mut spec.case, fields.choice("case", &CASES, out));
    for (entry, value) in fields.pairs("headers", out).unwrap_or_default() {
        let field = || format!("headers.{}", entry.key.text);
        match value {
            _ if !super::http::is_header_name(&entry.key.text) => {
                let message = format!("{} is not a header's name", super::show(&entry.key.text));
                let mistake = Mistake::new(field(), message, "write a name such as x-plan");
                out.wrong(subject, &entry.key.span, mistake);
            }
            Some(value) => spec.headers.push((entry.key.text.clone(), value)),
            None => {
                let hint = "write the value, or \"*\" for any";
                let mistake = Mistake::new(field(), "the condition is missing", hint);
                out.wrong(subject, &entry.key.span, mistake);
            }
        }
    }
    set(&mut spec.token, fields.choice("token", &TOKEN_NEEDS, out));
    set(&mut spec.issuers, fields.texts("issuers", out));
    set(&mut spec.domain, fields.text("domain", out));
    set(&mut spec.policies, fields.texts("policies", out));
    set(&mut spec.connection, fields.texts("connection", out));
    spec.cost = fields.number("cost", out);
    name.map(|_| spec)
}
