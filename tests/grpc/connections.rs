//! Connection leases over real gRPC.

use crate::harness::{Client, Quotad, entries, micros, until};
use pb::renew_connections_response::State;
use quotad::pb::quotad::v1 as pb;

const CONFIG: &str = r#"
policies:
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 3, lease_ttl: 30s}
  - {name: short, partition: [user], algorithm: concurrency, limit: 2, lease_ttl: 1s}
  - {name: all-sockets, algorithm: concurrency, limit: 4, lease_ttl: 30s}
"#;

pub fn connection(policies: &[&str], user: &str, lease_id: &str) -> pb::Connection {
    pb::Connection {
        policies: policies.iter().map(|policy| (*policy).to_owned()).collect(),
        entries: entries(&[("user", user)]),
        lease_id: lease_id.into(),
        holder: "test".into(),
        ..Default::default()
    }
}

pub async fn acquire(client: &mut Client, connection: pb::Connection) -> pb::AcquireConnectionResponse {
    let request = pb::AcquireConnectionRequest { connection: Some(connection) };
    client.acquire_connection(request).await.unwrap().into_inner()
}

pub async fn renew(client: &mut Client, connections: Vec<pb::Connection>) -> Vec<State> {
    let answer =
        client.renew_connections(pb::RenewConnectionsRequest { connections }).await.unwrap().into_inner();
    answer.renewals.iter().map(pb::renew_connections_response::Renewal::state).collect()
}

pub async fn release(client: &mut Client, connection: pb::Connection) -> bool {
    let request = pb::ReleaseConnectionRequest { connection: Some(connection) };
    client.release_connection(request).await.unwrap().into_inner().released
}

fn allowed(answer: &pb::AcquireConnectionResponse) -> bool {
    answer.decision.as_ref().unwrap().outcome() == pb::Outcome::Allow
}

#[tokio::test]
async fn never_more_than_the_limit_and_idempotent_by_lease_id() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for (i, id) in ["a", "b", "c"].iter().enumerate() {
        let answer = acquire(&mut client, connection(&["sockets"], "7", id)).await;
        assert!(allowed(&answer));
        let status = &answer.decision.as_ref().unwrap().statuses[0];
        assert_eq!((status.limit, status.remaining), (3, 2 - i as u64));
        assert!(status.window.is_none());
        let lease = answer.lease.unwrap();
        assert_eq!(lease.lease_id, *id);
        assert_eq!(micros(&lease.ttl.unwrap()), 30_000_000);
        assert_eq!(micros(&lease.renew_after.unwrap()), 10_000_000);
    }
    let denied = acquire(&mut client, connection(&["sockets"], "7", "d")).await;
    let decision = denied.decision.as_ref().unwrap();
    assert_eq!(decision.reason(), pb::Reason::ConnectionLimitExceeded);
    assert_eq!(decision.http_status, 429);
    assert!(denied.lease.is_none());
    assert!(
        allowed(&acquire(&mut client, connection(&["sockets"], "7", "a")).await),
        "a lost answer, asked again"
    );
    assert!(allowed(&acquire(&mut client, connection(&["sockets"], "8", "d")).await), "another user");
    assert!(!release(&mut client, connection(&["sockets"], "7", "stranger")).await);
    assert!(!allowed(&acquire(&mut client, connection(&["sockets"], "7", "d")).await));
    assert!(release(&mut client, connection(&["sockets"], "7", "a")).await);
    assert!(!release(&mut client, connection(&["sockets"], "7", "a")).await, "harmless the second time");
    assert!(allowed(&acquire(&mut client, connection(&["sockets"], "7", "d")).await));
}

#[tokio::test]
async fn renewals_tell_which_leases_are_lost_and_take_nothing() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    acquire(&mut client, connection(&["sockets"], "7", "a")).await;
    let batch = vec![connection(&["sockets"], "7", "a"), connection(&["sockets"], "7", "ghost")];
    assert_eq!(renew(&mut client, batch).await, [State::Held, State::Lost]);
    for id in ["b", "c"] {
        assert!(
            allowed(&acquire(&mut client, connection(&["sockets"], "7", id)).await),
            "the ghost took nothing"
        );
    }
    assert!(renew(&mut client, Vec::new()).await.is_empty());
    let gone = connection(&["removed"], "7", "z");
    let beside = vec![gone.clone(), connection(&["sockets"], "7", "a")];
    assert_eq!(
        renew(&mut client, beside).await,
        [State::Lost, State::Held],
        "one that is gone ends no other"
    );
    let alone = pb::RenewConnectionsRequest { connections: vec![gone] };
    let status = client.renew_connections(alone).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(status.message().contains("removed"), "{}", status.message());
}

#[tokio::test]
async fn a_dead_holders_leases_return_within_one_ttl() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for id in ["a", "b"] {
        assert!(allowed(&acquire(&mut client, connection(&["short"], "7", id)).await));
    }
    let denied = acquire(&mut client, connection(&["short"], "7", "c")).await;
    assert!(!allowed(&denied));
    let start = std::time::Instant::now();
    until("a lease comes back", async || {
        allowed(&acquire(&mut client, connection(&["short"], "7", "c")).await)
    })
    .await;
    // One second, and what a busy machine adds.
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(renew(&mut client, vec![connection(&["short"], "7", "a")]).await, [State::Lost]);
}

#[tokio::test]
async fn a_lease_under_two_policies_is_taken_under_both_or_none() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let both = ["sockets", "all-sockets"];
    for (user, id) in [("1", "a"), ("1", "b"), ("2", "c"), ("2", "d")] {
        assert!(allowed(&acquire(&mut client, connection(&both, user, id)).await));
    }
    let denied = acquire(&mut client, connection(&both, "3", "e")).await;
    let statuses = &denied.decision.as_ref().unwrap().statuses;
    assert_eq!((statuses[0].violated, statuses[1].violated), (false, true));
    assert!(release(&mut client, connection(&both, "1", "a")).await);
    let now = acquire(&mut client, connection(&both, "3", "e")).await;
    assert_eq!(now.decision.as_ref().unwrap().statuses[0].remaining, 2, "the refusal had taken nothing");
}

#[tokio::test]
async fn many_acquire_at_once_and_exactly_the_limit_holds() {
    let quotad = Quotad::start(CONFIG);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..40 {
        let mut client = quotad.client().await;
        tasks.spawn(async move {
            allowed(&acquire(&mut client, connection(&["sockets"], "7", &format!("l{i}"))).await)
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|allowed| *allowed).count(), 3);
}
