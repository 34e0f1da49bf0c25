//! A directory of rate limits under the real binary: refused, mended, broken again, swapped.

use crate::harness::{Quotad, Start, until};
use quotad::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use quotad::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use quotad::pb::envoy::service::ratelimit::v3 as pb;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;
use tonic::transport::Channel;

const CONFIG: &str = "envoy: {ratelimit_config: limits}\n";

pub type Client = RateLimitServiceClient<Channel>;

pub fn limits(count: u32) -> String {
    format!(
        "domain: edge\ndescriptors:\n- {{key: a, rate_limit: {{unit: hour, requests_per_unit: {count}}}}}\n"
    )
}

fn folder(file: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("quotad.yaml"), CONFIG).unwrap();
    fs::create_dir(folder.path().join("limits")).unwrap();
    fs::write(folder.path().join("limits/config.yaml"), file).unwrap();
    folder
}

pub async fn client(quotad: &Quotad) -> Client {
    let channel =
        Channel::from_shared(format!("http://{}", quotad.address)).unwrap().connect().await.unwrap();
    Client::new(channel)
}

/// The limit of `a`, 0 when there is none, or why there is no answer.
pub async fn limit(client: &mut Client) -> Result<u32, String> {
    let entries = vec![Entry { key: "a".into(), value: "x".into() }];
    let descriptor = RateLimitDescriptor { entries, hits_addend: Some(0), ..Default::default() };
    let request =
        pb::RateLimitRequest { domain: "edge".into(), descriptors: vec![descriptor], hits_addend: 0 };
    let answer = client.should_rate_limit(request).await.map_err(|status| status.message().to_owned())?;
    let status = answer.into_inner().statuses.remove(0);
    Ok(status.current_limit.map_or(0, |limit| limit.requests_per_unit))
}

#[tokio::test]
async fn a_refused_directory_serves_on_and_is_healed_by_a_good_one() {
    let quotad = Start::again(folder("domain: ''\n")).start();
    let mut client = client(&quotad).await;
    assert_eq!(limit(&mut client).await, Err("no rate limit configuration loaded".to_owned()));
    fs::write(quotad.folder.path().join("limits/config.yaml"), limits(5)).unwrap();
    until("the good one is in force", async || limit(&mut client).await == Ok(5)).await;
}

#[tokio::test]
async fn a_reload_with_a_bad_file_keeps_the_old() {
    let quotad = Start::again(folder(&limits(5))).start();
    let mut client = client(&quotad).await;
    assert_eq!(limit(&mut client).await, Ok(5));
    let path = quotad.folder.path().to_owned();
    fs::write(path.join("limits/bad.yaml"), "domain: [\n").unwrap();
    fs::write(path.join("limits/config.yaml"), limits(6)).unwrap();
    // A policy that can be seen says that the reload has been.
    fs::write(
        path.join("quotad.yaml"),
        format!("{CONFIG}policies: [{{name: seen, limit: 1, window: 1h}}]\n"),
    )
    .unwrap();
    quotad.signal("HUP");
    until("quotad.yaml is in force", async || {
        let mut native = quotad.client().await;
        native.check_limit(crate::harness::check("seen", &[])).await.is_ok()
    })
    .await;
    for _ in 0..20 {
        assert_eq!(limit(&mut client).await, Ok(5), "all or nothing");
    }
    fs::remove_file(path.join("limits/bad.yaml")).unwrap();
    until("the mended one is in force", async || limit(&mut client).await == Ok(6)).await;
}

#[tokio::test]
async fn a_mounted_volume_is_swapped_and_variables_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for (version, count) in [("..1", 5), ("..2", 6)] {
        fs::create_dir_all(root.join("config").join(version)).unwrap();
        fs::write(root.join("config").join(version).join("config.yaml"), limits(count)).unwrap();
    }
    symlink("..1", root.join("config/..data")).unwrap();
    symlink("..data/config.yaml", root.join("config/config.yaml")).unwrap();
    fs::write(folder.path().join("quotad.yaml"), "{}\n").unwrap();
    let quotad = Start::again(folder)
        .arg("--ratelimit-env")
        .variable("RUNTIME_ROOT", root.to_str().unwrap())
        .variable("STATSD_HOST", "nowhere")
        .variable("HOST", "127.0.0.1")
        .variable("PORT", "0")
        .start();
    let mut client = client(&quotad).await;
    assert_eq!(limit(&mut client).await, Ok(5));
    symlink("..2", root.join("config/..new")).unwrap();
    fs::rename(root.join("config/..new"), root.join("config/..data")).unwrap();
    until("the swapped one is in force", async || limit(&mut client).await == Ok(6)).await;
}
