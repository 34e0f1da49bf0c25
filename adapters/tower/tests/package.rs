//! The crate as it is published.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where everything is built already.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().parent().unwrap().parent().unwrap().to_owned()
}

fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_proto_is_the_services() {
    let own = fs::read_to_string(here().join("proto/quotad/v1/decision.proto")).unwrap();
    let original = fs::read_to_string(here().join("../../proto/quotad/v1/decision.proto")).unwrap();
    assert!(own == original, "copy proto/quotad/v1/decision.proto to adapters/tower/proto");
}

#[test]
fn what_is_packed_builds_by_itself() {
    cargo(&here(), &["package", "--no-verify", "--allow-dirty", "--offline", "--quiet"]);
    let packed = target().join(format!("package/quotad-tower-{}.crate", env!("CARGO_PKG_VERSION")));
    let folder = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("xzf").arg(&packed).arg("-C").arg(folder.path()).status();
    assert!(unpacked.unwrap().success());
    let crate_folder = folder.path().join(format!("quotad-tower-{}", env!("CARGO_PKG_VERSION")));
    let lists = fs::read_to_string(crate_folder.join("Cargo.toml")).unwrap();
    assert!(!lists.contains("path = \"../"), "nothing of the tree outside is needed");
    // With the versions of this tree, which are here without a network.
    fs::copy(here().join("../../Cargo.lock"), crate_folder.join("Cargo.lock")).unwrap();
    cargo(&crate_folder, &["check", "--offline", "--all-features", "--quiet"]);
    cargo(&crate_folder, &["check", "--offline", "--no-default-features", "--quiet"]);
}
