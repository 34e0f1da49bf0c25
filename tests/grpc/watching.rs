//! However what was read is changed on the disk, the real binary notices: the configuration, the directory of rate limits
//! and the files that tokens name, each by every way of changing it.

use crate::harness::{Quotad, Start, check, until};
use crate::rate_limit_folder::{Client, client, limit, limits};
use crate::tokens::mint;
use quotad::pb::quotad::v1 as pb;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A way of changing what a path leads to.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    /// Makes the folder `now` lead to the version `one`.
    lay: fn(&Path),
    /// Makes it lead to `two`.
    change: fn(&Path),
}

/// Replaces a link at once, as every careful deployer does.
fn swap(target: &str, link: PathBuf) {
    let new = link.with_file_name("a-new-link");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

fn copy(from: PathBuf, to: PathBuf) {
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let kept = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(entry.path(), kept);
        } else {
            // Written beside it and renamed over, so that no half file is ever there.
            fs::copy(entry.path(), to.join("..beside")).unwrap();
            fs::rename(to.join("..beside"), kept).unwrap();
        }
    }
}

/// Every way; a base folder holds the versions `one` and `two`.
const WAYS: [Way; 6] = [
    Way {
        name: "the path itself is a link that is swapped",
        lay: |base| symlink("one", base.join("now")).unwrap(),
        change: |base| swap("two", base.join("now")),
    },
    Way {
        name: "a link in the middle is swapped",
        lay: |base| {
            fs::create_dir(base.join("deep")).unwrap();
            symlink("../one", base.join("deep/er")).unwrap();
            symlink("deep/er", base.join("now")).unwrap();
        },
        change: |base| swap("../two", base.join("deep/er")),
    },
    Way {
        name: "a mounted volume is swapped",
        lay: |base| {
            fs::create_dir(base.join("now")).unwrap();
            symlink("../one", base.join("now/..data")).unwrap();
            for entry in fs::read_dir(base.join("one")).unwrap() {
                let name = entry.unwrap().file_name();
                symlink(Path::new("..data").join(&name), base.join("now").join(name)).unwrap();
            }
        },
        change: |base| swap("../two", base.join("now/..data")),
    },
    Way {
        name: "files are renamed over the old ones",
        lay: |base| copy(base.join("one"), base.join("now")),
        change: |base| copy(base.join("two"), base.join("now")),
    },
    Way {
        name: "the folder is removed and made again",
        lay: |base| copy(base.join("one"), base.join("now")),
        change: |base| {
            fs::remove_dir_all(base.join("now")).unwrap();
            copy(base.join("two"), base.join("now"));
        },
    },
    Way {
        name: "another folder is moved into its place",
        lay: |base| copy(base.join("one"), base.join("now")),
        change: |base| {
            copy(base.join("two"), base.join("next"));
            fs::rename(base.join("now"), base.join("old")).unwrap();
            fs::rename(base.join("next"), base.join("now")).unwrap();
        },
    },
];

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A base folder whose two versions `fill` writes, and `now` as the way lays it.
fn base(way: Way, fill: impl Fn(&Path, u32)) -> TempDir {
    let base = tempfile::tempdir().unwrap();
    for (version, number) in [("one", 5), ("two", 6)] {
        fill(&base.path().join(version), number);
    }
    (way.lay)(base.path());
    base
}

/// Changes it again, file by file where it is now, to what version `one` holds.
fn change_again(base: &Path) {
    let now = base.join("now");
    let is_copy = !now.is_symlink() && !now.join("..data").is_symlink();
    copy(base.join("one"), if is_copy { now } else { base.join("two") });
}

#[tokio::test]
async fn the_root_of_rate_limits_is_noticed_by_every_way() {
    for way in WAYS {
        let base = base(way, |version, count| write(version.join("config/c.yaml"), &limits(count)));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("quotad.yaml"), "{}\n").unwrap();
        let quotad = Start::again(folder)
            .arg("--ratelimit-env")
            .variable("RUNTIME_ROOT", base.path().join("now").to_str().unwrap())
            .variable("HOST", "127.0.0.1")
            .variable("PORT", "0")
            .start();
        let mut client: Client = client(&quotad).await;
        assert_eq!(limit(&mut client).await, Ok(5), "{}", way.name);
        (way.change)(base.path());
        until(way.name, async || limit(&mut client).await == Ok(6)).await;
        change_again(base.path());
        until(way.name, async || limit(&mut client).await == Ok(5)).await;
    }
}

/// The limit of the policy `p`.
async fn policy(quotad: &Quotad) -> u64 {
    let mut client = quotad.client().await;
    let asked = client.check_limit(pb::CheckLimitRequest { cost: Some(0), ..check("p", &[]) }).await;
    asked.unwrap().into_inner().decision.unwrap().statuses[0].limit
}

fn policies(count: u32) -> String {
    format!("policies: [{{name: p, limit: {count}, window: 1h}}]\n")
}

#[tokio::test]
async fn the_configuration_is_noticed_by_every_way() {
    for way in WAYS {
        let base = base(way, |version, count| write(version.join("quotad.yaml"), &policies(count)));
        let folder = tempfile::tempdir().unwrap();
        // The file itself is a link here, beside whatever its folder is.
        symlink(base.path().join("now/quotad.yaml"), folder.path().join("quotad.yaml")).unwrap();
        let quotad = Start::again(folder).start();
        assert_eq!(policy(&quotad).await, 5, "{}", way.name);
        (way.change)(base.path());
        until(way.name, async || policy(&quotad).await == 6).await;
        change_again(base.path());
        until(way.name, async || policy(&quotad).await == 5).await;
    }
}

#[tokio::test]
async fn a_half_written_configuration_keeps_the_old_and_is_read_again() {
    let quotad = Start::with(&policies(5)).start();
    assert_eq!(policy(&quotad).await, 5);
    fs::write(quotad.config_path(), "policies: [{name: p, lim").unwrap();
    // It is the same again, so only a process that saw the broken one would read this one.
    fs::write(quotad.config_path(), policies(5)).unwrap();
    fs::remove_file(quotad.config_path()).unwrap();
    fs::write(quotad.config_path(), policies(6)).unwrap();
    until("the whole one is in force", async || policy(&quotad).await == 6).await;
}

fn tokens(key: &Path) -> String {
    format!(
        "tokens: [{{name: app, issuer: app, algorithms: [HS256], key: {{file: {}}}, require: [sub, exp]}}]\n",
        key.display()
    )
}

#[tokio::test]
async fn a_key_file_is_noticed_by_every_way() {
    for way in WAYS {
        let base = base(way, |version, number| {
            write(version.join("token.key"), &number.to_string().repeat(64));
            write(version.join("own.yaml"), &tokens(&version.join("token.key")));
        });
        let quotad = Quotad::start(&tokens(&base.path().join("now/token.key")));
        let mut native = quotad.client().await;
        let mut is_good = async |token: &str| {
            let asked = pb::ValidateTokenRequest { token: token.to_owned(), ..Default::default() };
            let answer = native.validate_token(asked).await.unwrap().into_inner();
            answer.decision.unwrap().reason() == pb::Reason::TokenValid
        };
        let [first, second] = ["one", "two"].map(|version| {
            let copied = base.path().join(version).join("own.yaml");
            mint(&copied, "alice")
        });
        assert!(is_good(&first).await && !is_good(&second).await, "{}", way.name);
        (way.change)(base.path());
        until(way.name, async || is_good(&second).await && !is_good(&first).await).await;
        change_again(base.path());
        until(way.name, async || is_good(&first).await && !is_good(&second).await).await;
    }
}
