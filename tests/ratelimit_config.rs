//! Odd and broken directories in envoyproxy/ratelimit's format: what must be taken, with which meaning, and what must be
//! refused, in which words. The table is `ratelimit_config/cases.rs`.

#[path = "ratelimit_config/cases.rs"]
mod cases;

use cases::{CASES, Case, Expect, File};
use quotad::config::ratelimit::{Domains, DotFiles, RateLimitFolder};
use quotad::engine::rate_limit::{Counting, Quota, RateLimitSet};
use quotad::engine::rule::Algorithm;
use std::fs;
use std::path::Path;
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
