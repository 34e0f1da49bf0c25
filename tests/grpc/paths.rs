//! Paths that servers read in different ways: each reading is held to its own route, with its own facts.

use crate::authorize::{authorize, decision, http};
use crate::harness::{Client, Quotad, entries};
use quotad::pb::quotad::v1 as pb;

const CONFIG: &str = r#"
store: {url: "memory:"}
policies:
  - {name: ai, match: {path: "/ai/**"}, partition: [ip], limit: 1, window: 1h}
  - {name: ai-route, match: {route: ai}, partition: [ip], limit: 1000, window: 1h}
  - {name: open, match: {path: "/open/**"}, partition: [ip], limit: 1000, window: 1h}
  - {name: each, partition: [path], limit: 1, window: 1h}
  - {name: place, partition: [route, ip], limit: 2, window: 1h}
  - {name: reads, match: {method: GET}, partition: [ip, method], limit: 1, window: 1h}
  - {name: shared, partition: [ip], limit: 10, window: 1h}
  - {name: login, match: {path: /Login}, partition: [path], limit: 2, window: 1h}
  - {name: sockets, partition: [path], algorithm: concurrency, limit: 5}
routes:
  - {name: ai, paths: ["/ai/**"], policies: [ai, ai-route]}
  - {name: open, paths: ["/open/**", /open], policies: [open]}
  - {name: each, paths: ["/each/**"], policies: [each]}
  - {name: dear, paths: ["/dear/**"], policies: [shared], cost: 7}
  - {name: cheap, paths: ["/cheap/**"], policies: [shared]}
  - {name: reads, methods: [GET], paths: [/reads], policies: [reads]}
  - {name: login, paths: [/Login], case: insensitive, policies: [login]}
  - {name: exact, paths: [/Exact], policies: [each]}
  - {name: sockets, paths: ["/ws/**"], connection: [sockets]}
"#;

async fn status(client: &mut Client, path: &str) -> u32 {
    decision(&authorize(client, http("GET", path, &[])).await).http_status
}

fn names(answer: &pb::AuthorizeResponse) -> Vec<&str> {
    decision(answer).statuses.iter().map(|status| &*status.policy).collect()
}

#[tokio::test]
async fn each_reading_of_a_path_is_asked_with_its_own_facts() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    assert_eq!(status(&mut client, "/ai/chat").await, 200);
    for path in [
        "/ai/..%2Fopen",
        "/ai/..%2fopen",
        "/ai/x/../../open",
        "/ai/..;/open",
        "/ai/..;v=1/open",
        "/ai/..\\open",
        "/ai/..%5Copen",
        "/ai/%2e%2e/open",
        "/ai/x%2F..%2F..%2Fopen",
        "/open/..%2Fai/chat",
        "/open/../ai/chat",
        "/open/..;/ai/chat",
        "/open%2F..%2Fai/chat",
        "/ai//../ai/chat",
        "/x//../ai/../chat/../ai/chat",
        "/ai%2Fchat",
        "/ai\\chat",
        "/ai;v=1/chat",
        "//ai/chat/",
    ] {
        assert_eq!(status(&mut client, path).await, 429, "{path}");
    }
    assert_eq!(status(&mut client, "/open").await, 200);
    // Both readings are asked, each as itself: the route's own policy matches by its own name.
    let both = authorize(&mut client, http("GET", "/ai/..%2Fopen", &[])).await;
    assert_eq!(names(&both), ["ai", "ai-route", "open"]);
}

#[tokio::test]
async fn readings_that_have_counters_of_their_own_are_each_charged() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    // Under one route, with one counter a path: /each/b and the text that a server sees that takes nothing back.
    let first = authorize(&mut client, http("GET", "/each/a/../b", &[])).await;
    assert_eq!((decision(&first).http_status, names(&first)), (200, vec!["each"]), "a policy stands once");
    assert_eq!(status(&mut client, "/each/b").await, 429);
    // The other way round: what the place has used up is not to be had by another spelling.
    assert_eq!(status(&mut client, "/each/c").await, 200);
    for path in ["/each/x/../c", "/each/x%2F..%2Fc", "/each/x/..;/c", "/each/c/."] {
        let answer = authorize(&mut client, http("GET", path, &[])).await;
        assert_eq!((decision(&answer).http_status, names(&answer)), (429, vec!["each"]), "{path}");
        assert!(decision(&answer).statuses[0].violated, "{path}");
    }
    // Twice decoded is another place.
    assert_eq!(status(&mut client, "/each/%2563").await, 200);
}

#[tokio::test]
async fn a_policy_that_both_readings_share_is_charged_once_and_at_the_higher_cost() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for path in ["/cheap/x/../y", "/dear/..%2Fcheap/x"] {
        let answer = authorize(&mut client, http("GET", path, &[])).await;
        assert_eq!(names(&answer), ["shared"], "{path}");
        let left = if path.starts_with("/cheap") { 9 } else { 2 };
        assert_eq!(decision(&answer).statuses[0].remaining, left, "{path}");
    }
}

#[tokio::test]
async fn a_policy_that_matches_by_path_holds_for_each_reading_of_an_entry() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let mut check = async |path: &str| {
        let entries = entries(&[("path", path), ("ip", "203.0.113.7")]);
        let request = pb::CheckLimitRequest { entries, ..Default::default() };
        let answer = client.check_limit(request).await.unwrap().into_inner();
        answer.decision.unwrap().statuses.iter().any(|status| status.policy == "ai")
    };
    for path in ["/ai/chat", "/ai/..%2Fopen", "/ai/..;/open", "/open/../ai/x", "/ai/x/../../open"] {
        assert!(check(path).await, "{path}");
    }
    assert!(!check("/open").await);
}

#[tokio::test]
async fn a_path_with_too_many_readings_is_refused() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let path = "/a;%2e%3b/%61//..;/b%2F..\\c/%2e%2e/d;/..%3B/e%5C..//../f/../g\\..\\%68";
    let answer = authorize(&mut client, http("GET", path, &[])).await;
    assert_eq!((decision(&answer).reason(), decision(&answer).http_status), (pb::Reason::PathAmbiguous, 400));
    let named = pb::AuthorizeRequest { cost: Some(0), ..http("GET", path, &[]) };
    let answer = authorize(&mut client, named).await;
    assert_eq!(decision(&answer).outcome(), pb::Outcome::Deny, "a peek is no way around");
}

#[tokio::test]
async fn a_lease_whose_readings_have_counters_of_their_own_is_refused() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let open = |path: &str, lease_id: &str| pb::AuthorizeRequest {
        connection: Some(pb::authorize_request::ConnectionOffer {
            lease_id: lease_id.into(),
            holder: "pod-1".into(),
        }),
        ..http("GET", path, &[])
    };
    let plain = authorize(&mut client, open("/ws/a", "l1")).await;
    assert!(plain.lease.is_some());
    // Its holder could renew only one of the two.
    let two = authorize(&mut client, open("/ws/b/../a", "l2")).await;
    assert_eq!(decision(&two).reason(), pb::Reason::PathAmbiguous);
    assert!(two.lease.is_none());
}

#[tokio::test]
async fn head_is_covered_by_get() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for (method, status, route) in [("GET", 200, "reads"), ("HEAD", 429, "reads"), ("POST", 200, "")] {
        let answer = authorize(&mut client, http(method, "/reads", &[])).await;
        assert_eq!((decision(&answer).http_status, &*answer.route), (status, route), "{method}");
    }
    // The same where the caller gives the method as an entry.
    let request = pb::CheckLimitRequest {
        entries: entries(&[("method", "HEAD"), ("ip", "203.0.113.7")]),
        policies: vec!["reads".into()],
        ..Default::default()
    };
    let answer = client.check_limit(request).await.unwrap().into_inner().decision.unwrap();
    assert_eq!(answer.http_status, 429, "one counter for both");
}

#[tokio::test]
async fn a_route_may_compare_paths_without_regard_to_case() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for (path, status) in [("/LOGIN", 200), ("/login/", 200), ("/Login", 429), ("/l%4Fgin", 429)] {
        let answer = authorize(&mut client, http("GET", path, &[])).await;
        assert_eq!((decision(&answer).http_status, &*answer.route), (status, "login"), "{path}");
    }
    let exact = authorize(&mut client, http("GET", "/exact", &[])).await;
    assert_eq!((decision(&exact).reason(), &*exact.route), (pb::Reason::NoPolicy, ""));
}
