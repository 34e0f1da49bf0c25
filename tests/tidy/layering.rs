//! The dependency table: which module may use which, and what has one place only.

use crate::paths::{Target, targets};
use crate::source::{Source, root};
use crate::{MODULES, Module, ONE_PLACE};
use std::collections::HashSet;
use std::fs;

/// Everything in `sources` that the tables do not allow.
pub(crate) fn strays(sources: &[Source], crates: &HashSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.top() != "lib") {
        let top = source.top();
        let Some(row) = MODULES.iter().find(|row| row.name == top) else {
            let path = &source.path;
            found.push(format!("{path}:1: module `{top}` is not in MODULES: add a row to tests/tidy.rs"));
            continue;
        };
        for (line, target) in targets(source, crates) {
            let at = format!("{}:{line}", source.path);
            found.extend(outside_row(row, &target).map(|why| format!("{at}: {why}")));
            found.extend(misplaced(&source.module(), &target).map(|why| format!("{at}: {why}")));
        }
    }
    found
}

fn outside_row(row: &Module, target: &Target) -> Option<String> {
    match target {
        Target::Own(path) => {
            let top = path.first()?;
            let whole = path.join("::");
            if top == row.name || row.modules.contains(&"*") {
                return None;
            }
            if !row.modules.iter().any(|allowed| below(&whole, allowed)) {
                return Some(format!("`{}` must not use `{whole}`; it may use {:?}", row.name, row.modules));
            }
            let barred = row.but_not.iter().find(|barred| below(&whole, barred))?;
            Some(format!("`{}` must not use `{barred}`", row.name))
        }
        Target::Foreign(path) => {
            let name = path.first()?;
            let standard = ["std", "core", "alloc"].contains(&name.as_str());
            let allowed = row.crates.contains(&"*") || row.crates.contains(&name.as_str());
            (!standard && !allowed).then(|| {
                format!("`{}` must not use the crate `{name}`; it may use {:?}", row.name, row.crates)
            })
        }
    }
}

fn misplaced(module: &[String], target: &Target) -> Option<String> {
    let Target::Foreign(path) = target else { return None };
    let (whole, here) = (path.join("::"), module.join("::"));
    let names = |thing: &str| match whole.strip_suffix("::*") {
        Some(parent) => below(&whole, thing) || below(thing, parent),
        None => below(&whole, thing),
    };
    let rule = ONE_PLACE.iter().find(|rule| {
        rule.things.iter().any(|thing| names(thing)) && !rule.places.iter().any(|place| below(&here, place))
    })?;
    Some(format!("`{whole}` in `{here}`: {} ({})", rule.why, rule.places.join(", ")))
}

/// `path` is `parent` or inside it.
fn below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The crates that `Cargo.toml` names, as they are written in code, and the standard ones.
pub(crate) fn known_crates() -> HashSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is readable");
    let found = crates_of(&manifest);
    assert!(found.contains("tonic") && found.contains("std"), "Cargo.toml was misread: {found:?}");
    found
}

fn crates_of(manifest: &str) -> HashSet<String> {
    let mut found: HashSet<String> = ["std", "core", "alloc"].map(str::to_owned).into();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(section) = line.trim().strip_prefix('[') {
            inside = section.contains("dependencies");
        } else if let Some((name, _)) =
            line.split_once(['=', '.']).filter(|_| inside && !line.starts_with(['#', ' ']))
        {
            found.insert(name.trim().replace('-', "_"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strays_of(path: &str, text: &str) -> String {
        let names = "std regex smallvec tokio fred tonic serde_saphyr jsonwebtoken";
        let crates = names.split(' ').map(str::to_owned).collect();
        strays(&[Source::parse(path, text)], &crates).join("\n")
    }

    #[test]
    fn the_engine_knows_nobody() {
        assert_eq!(strays_of("src/engine/key.rs", "use super::rule::Rule;\nuse regex::Regex;"), "");
        let found = strays_of("src/engine/key.rs", "\nuse super::super::store::Store;");
        assert!(
            found.contains("src/engine/key.rs:2") && found.contains("must not use `store::Store`"),
            "{found}"
        );
        assert!(strays_of("src/engine/key.rs", "fn f() { tokio::time::sleep() }").contains("crate `tokio`"));
    }

    #[test]
    fn a_layer_uses_those_below_it_only() {
        assert_eq!(strays_of("src/service/check.rs", "use crate::store::{Store, memory::Memory};"), "");
        assert!(
            strays_of("src/service/check.rs", "use crate::store::{self, redis::Redis};")
                .contains("store::redis")
        );
        assert!(
            strays_of("src/store.rs", "use crate::service::Service;")
                .contains("must not use `service::Service`")
        );
        assert!(
            strays_of("src/api.rs", "use crate::config::Config;").contains("must not use `config::Config`")
        );
    }

    #[test]
    fn what_has_one_place_stays_there() {
        assert_eq!(strays_of("src/store/redis/pool.rs", "use fred::clients::Client;"), "");
        assert!(strays_of("src/store/memory.rs", "use fred::clients::Client;").contains("store::redis"));
        assert!(
            strays_of("src/token.rs", "use std::env;\nfn f() { env::var(\"A\") }")
                .contains(":2: `std::env::var`")
        );
        assert!(strays_of("src/token.rs", "use std::env::*;").contains("std::env::*"));
        assert_eq!(strays_of("src/config/load.rs", "fn f() { std::env::var_os(\"A\") }"), "");
        assert!(strays_of("src/service.rs", "fn f() { tokio::spawn(g()) }").contains("shutdown"));
        assert_eq!(strays_of("src/shutdown.rs", "fn f() { tokio::task::spawn_local(g()) }"), "");
        assert!(strays_of("src/service.rs", "use tonic::Status;").contains("tonic"));
    }

    #[test]
    fn a_new_module_asks_for_a_row() {
        assert!(strays_of("src/gossip.rs", "").contains("add a row"));
    }

    #[test]
    fn every_row_is_about_a_module_that_could_be() {
        for row in MODULES {
            let known = |name: &&str| *name == "*" || MODULES.iter().any(|row| below(name, row.name));
            assert!(row.modules.iter().all(known), "{}: {:?}", row.name, row.modules);
        }
        for rule in ONE_PLACE {
            let known = |place: &&str| MODULES.iter().any(|row| below(place, row.name));
            assert!(rule.places.iter().all(known), "{}: {:?}", rule.why, rule.places);
        }
    }

    #[test]
    fn crates_are_read_from_the_manifest() {
        let found = crates_of(
            "[package]\nname = 1\n[dependencies]\n# x = 1\ntokio-stream = \"1\"\nbase64.version = 1\n[lints.rust]\nall = 1",
        );
        for name in ["tokio_stream", "base64"] {
            assert!(found.contains(name), "{found:?}");
        }
        assert!(!found.contains("name") && !found.contains("all"), "{found:?}");
    }
}
