//! Every fault, at least once at each kind of point.

use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest, SandboxStatus};
use serde_json::{Value, json};

use super::harness::{A, B, Client, T, TestSandbox};

const RESPOND: &str = r#"{"action":"approve","request_id":"r1"}"#;
const JOIN: &str = r#"["1","1","agent_contacts:a","phx_join",{}]"#;
const BEAT: &str = r#"[null,"b","phoenix","heartbeat",{}]"#;

async fn with(fault: Fault) -> TestSandbox {
    let place = TestSandbox::start().await;
    place.control.fault(fault).unwrap();
    place
}

async fn asked(fault: Fault) -> TestSandbox {
    let place = with(fault).await;
    place.control.request(&NewRequest::to("a").from("eve").id("r1").silent()).unwrap();
    place
}

async fn respond(place: &TestSandbox) -> u16 {
    place.call("POST", "contacts/requests/respond", A, RESPOND).await.status
}

async fn upgrade(place: &TestSandbox) -> Result<Client, (u16, String)> {
    Client::connect(place.address, "vsn=2.0.0", Some(A.key)).await
}

fn status(place: &TestSandbox) -> SandboxStatus {
    place.control.state().requests[0].status
}

#[tokio::test]
async fn upgrades_fail_as_ordered_and_only_as_often() {
    for (fault, seen) in [
        (Fault::new(FaultPlace::Upgrade, FaultAction::Drop), 0),
        (Fault::new(FaultPlace::Upgrade, FaultAction::Stall).ms(1), 0),
        (Fault::new(FaultPlace::Upgrade, FaultAction::Status), 500),
        (Fault::new(FaultPlace::Upgrade, FaultAction::Status).code(403), 403),
        (Fault::new(FaultPlace::Upgrade, FaultAction::Status).code(429).ms(5000), 429),
        (Fault::new(FaultPlace::Upgrade, FaultAction::Malformed), 200),
    ] {
        let place = with(fault.clone().count(2)).await;
        for _ in 0..2 {
            assert_eq!(upgrade(&place).await.err().unwrap().0, seen, "{fault:?}");
        }
        upgrade(&place).await.unwrap().beat().await;
        assert_eq!(place.control.overview().struck, 2);
    }
    let place = with(Fault::new(FaultPlace::Upgrade, FaultAction::Delay).ms(1)).await;
    upgrade(&place).await.unwrap().beat().await;
    for (fault, code) in [
        (Fault::new(FaultPlace::Upgrade, FaultAction::Close).code(1013), Some(1013)),
        (Fault::new(FaultPlace::Upgrade, FaultAction::Close), Some(1000)),
        (Fault::new(FaultPlace::Upgrade, FaultAction::Supersede), Some(1000)),
    ] {
        assert_eq!(upgrade(&with(fault).await).await.unwrap().end().await, code);
    }
}

#[tokio::test]
async fn a_ghost_counts_as_live_until_it_is_over() {
    for point in [FaultPlace::Upgrade, FaultPlace::Heartbeat, FaultPlace::Push, FaultPlace::List] {
        let place = with(Fault::new(point, FaultAction::Ghost).ms(3_600_000)).await;
        let mut client = upgrade(&place).await.unwrap();
        if point != FaultPlace::Upgrade {
            client.join().await;
        }
        match point {
            FaultPlace::Heartbeat => client.say(BEAT).await,
            FaultPlace::Push => drop(place.control.request(&NewRequest::to("a")).unwrap()),
            FaultPlace::List => assert_eq!(place.call("GET", "contacts/requests", A, "").await.status, 200),
            _ => {}
        }
        assert_eq!(client.end().await, None, "{point:?}");
        let live = place.control.overview().live;
        assert!(live.len() == 1 && live[0].ghost, "{point:?}");
        let refused = Client::connect(place.address, "vsn=2.0.0&on_conflict=reject", Some(A.key)).await;
        assert_eq!(refused.err().unwrap().0, 409);
        upgrade(&place).await.unwrap().join().await;
    }
    let place = with(Fault::new(FaultPlace::Heartbeat, FaultAction::Ghost).ms(0)).await;
    let mut client = place.join(A).await;
    client.say(BEAT).await;
    assert_eq!(client.end().await, None);
    assert!(Client::connect(place.address, "vsn=2.0.0&on_conflict=reject", Some(A.key)).await.is_ok());
}

#[tokio::test]
async fn joins_fail_as_ordered() {
    for (fault, reason) in [
        (Fault::new(FaultPlace::Join, FaultAction::Status).code(403), "unauthorized"),
        (Fault::new(FaultPlace::Join, FaultAction::Status), "join crashed"),
        (Fault::new(FaultPlace::Join, FaultAction::CrashChannel), "join crashed"),
        (Fault::new(FaultPlace::Join, FaultAction::ApplyThenFail).code(500), "join crashed"),
    ] {
        let place = with(fault.clone()).await;
        let mut client = place.connect(A).await;
        client.say(JOIN).await;
        let reply: Value = serde_json::from_str(&client.hear().await).unwrap();
        assert_eq!(reply[4], json!({ "response": { "reason": reason }, "status": "error" }), "{fault:?}");
        let joined = !place.control.overview().live[0].topics.is_empty();
        assert_eq!(joined, fault.what == FaultAction::ApplyThenFail);
    }
    for (what, joined) in [(FaultAction::Drop, false), (FaultAction::ApplyThenFail, true)] {
        let place = with(Fault::new(FaultPlace::Join, what)).await;
        let mut client = place.connect(A).await;
        client.say(JOIN).await;
        client.beat().await;
        assert_eq!(place.control.overview().live[0].topics.is_empty(), !joined);
    }
    for what in [FaultAction::Delay, FaultAction::Stall] {
        let place = with(Fault::new(FaultPlace::Join, what).ms(1)).await;
        place.connect(A).await.join().await;
    }
    let place = with(Fault::new(FaultPlace::Join, FaultAction::Duplicate)).await;
    let mut client = place.connect(A).await;
    client.join().await;
    assert!(client.hear().await.contains("\"ok\""));
    let place = with(Fault::new(FaultPlace::Join, FaultAction::Close).code(1001)).await;
    let mut client = place.connect(A).await;
    client.say(JOIN).await;
    assert_eq!(client.end().await, Some(1001));
}

#[tokio::test]
async fn heartbeats_fail_as_ordered() {
    let place = with(Fault::new(FaultPlace::Heartbeat, FaultAction::Drop)).await;
    let mut client = place.join(A).await;
    client.say(r#"[null,"lost","phoenix","heartbeat",{}]"#).await;
    client.beat().await;
    place.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::Status)).unwrap();
    client.say(BEAT).await;
    assert!(client.hear().await.contains("\"error\""));
    place.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::Duplicate)).unwrap();
    client.say(BEAT).await;
    assert_eq!(client.hear().await, client.hear().await);
    place.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::Delay).ms(1)).unwrap();
    client.beat().await;
    place.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::Reorder).ms(3_600_000)).unwrap();
    client.say(r#"[null,"first","phoenix","heartbeat",{}]"#).await;
    client.say(r#"[null,"second","phoenix","heartbeat",{}]"#).await;
    assert!(client.hear().await.contains("second"));
    assert!(client.hear().await.contains("first"));
    place.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::CrashChannel)).unwrap();
    client.beat().await;
    assert!(client.hear().await.contains("phx_error"));
    place.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::Stall)).unwrap();
    client.say(BEAT).await;
    place.until(|state| state.struck == 7).await;
    place.control.kick("a", None).unwrap();
    assert_eq!(client.end().await, Some(1001), "a stalled socket still obeys");
}

#[tokio::test]
async fn pushes_fail_as_ordered() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    let push = |fault: Option<Fault>, ids: &[&str]| {
        if let Some(fault) = fault {
            place.control.fault(fault).unwrap();
        }
        for id in ids {
            place.control.request(&NewRequest::to("a").id(id)).unwrap();
        }
    };
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Drop)), &["dropped", "r2"]);
    assert!(client.hear().await.contains("\"r2\""));
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Duplicate)), &["r3"]);
    assert_eq!(client.hear().await, client.hear().await);
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Reorder).ms(3_600_000)), &["r4", "r5"]);
    assert!(client.hear().await.contains("\"r5\""));
    assert!(client.hear().await.contains("\"r4\""));
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Delay).ms(3_600_000)), &["late", "r7"]);
    assert!(client.hear().await.contains("\"r7\""));
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Delay).ms(1)), &["r8"]);
    assert!(client.hear().await.contains("\"r8\""));
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Stall).ms(1)), &["r9"]);
    assert!(client.hear().await.contains("\"r9\""));
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Drop).event("contact_request_updated")), &["r10"]);
    assert!(client.hear().await.contains("\"r10\""));
    place.control.settle("r10", SandboxStatus::Rejected).unwrap();
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Drop).agent("maria/b")), &["r11"]);
    assert!(client.hear().await.contains("\"r11\""));
    place.control.clear_faults();
    // Events for the join that crashed are lost.
    push(Some(Fault::new(FaultPlace::Push, FaultAction::CrashChannel)), &["lost1", "lost2", "lost3"]);
    assert!(client.hear().await.contains("phx_error"));
    client.join().await;
    for request in place.control.state().requests {
        let lost = request.id.starts_with("lost") || request.id == "dropped";
        assert_eq!(request.pushed, u64::from(!lost), "{}", request.id);
    }
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Stall)), &["stalled", "behind"]);
    place.until(|state| state.struck >= 9 && state.faults.is_empty()).await;
    place.control.kick("a", Some(4000)).unwrap();
    assert_eq!(client.next().await, Err(Some(4000)), "nothing moves in a stall");
    let mut client = place.join(A).await;
    push(Some(Fault::new(FaultPlace::Push, FaultAction::Supersede)), &["r12"]);
    assert_eq!(client.end().await, Some(1000));
}

#[tokio::test]
async fn every_kind_of_malformed_frame_comes_in_turn_and_by_code() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    place.control.fault(Fault::new(FaultPlace::Push, FaultAction::Malformed).count(11)).unwrap();
    let mut kinds = std::collections::HashSet::new();
    place.control.request(&NewRequest::to("a").id("r{n}").count(11)).unwrap();
    for _ in 0..11 {
        let frame = client.hear().await;
        let right: Value = serde_json::from_str(&frame).unwrap_or_default();
        assert!(right[4]["id"].is_null() || right[4]["id"].is_number(), "{frame}");
        kinds.insert(frame);
    }
    assert!(kinds.len() >= 10, "{}", kinds.len());
    client.beat().await;
    place.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::Malformed).code(11)).unwrap();
    client.say(BEAT).await;
    assert!(client.hear().await.len() > 1 << 20);
}

#[tokio::test]
async fn listings_fail_as_ordered() {
    let list = |place: &TestSandbox| {
        let address = place.address;
        async move { super::raw_http(address, "GET", "/api/v1/agent/contacts/requests", Some(A.key), "").await }
    };
    for (fault, status) in [
        (Fault::new(FaultPlace::List, FaultAction::Drop), 0),
        (Fault::new(FaultPlace::List, FaultAction::Stall).ms(1), 0),
        (Fault::new(FaultPlace::List, FaultAction::Status).code(401), 401),
        (Fault::new(FaultPlace::List, FaultAction::Status).code(403), 403),
    ] {
        let place = asked(fault).await;
        assert_eq!(list(&place).await.status, status);
        assert_eq!(list(&place).await.status, 200);
    }
    let place = asked(Fault::new(FaultPlace::List, FaultAction::Status).code(429).ms(1500)).await;
    assert!(list(&place).await.head.contains("\r\nretry-after: 2\r\n"));
    let kinds = 7;
    place.control.fault(Fault::new(FaultPlace::List, FaultAction::Malformed).count(kinds)).unwrap();
    for _ in 0..kinds {
        let answer = list(&place).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        assert!(answer.status == 200 && !body["data"]["received"].is_array());
    }
    place.control.fault(Fault::new(FaultPlace::List, FaultAction::Delay).ms(1)).unwrap();
    assert_eq!(list(&place).await.status, 200);
    place.control.request(&NewRequest::to("a").id("r2")).unwrap();
    let ids = |answer: super::harness::SandboxReply| -> Vec<String> {
        let rows = answer.json()["data"]["received"].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    place.control.fault(Fault::new(FaultPlace::List, FaultAction::Duplicate)).unwrap();
    assert_eq!(ids(list(&place).await), ["r2", "r2", "r1", "r1"]);
    place.control.fault(Fault::new(FaultPlace::List, FaultAction::Reorder)).unwrap();
    assert_eq!(ids(list(&place).await), ["r1", "r2"]);
    place.control.settle("r1", SandboxStatus::Cancelled).unwrap();
    place.control.fault(Fault::new(FaultPlace::List, FaultAction::StaleList).ms(0)).unwrap();
    assert_eq!(ids(list(&place).await), ["r2"]);
    place.control.fault(Fault::new(FaultPlace::List, FaultAction::StaleList).ms(3_600_000)).unwrap();
    assert_eq!(ids(list(&place).await), [""; 0], "an hour ago there was nothing");
}

#[tokio::test]
async fn answers_fail_as_ordered() {
    for (fault, seen, stands) in [
        (Fault::new(FaultPlace::Respond, FaultAction::Drop), 0, SandboxStatus::Pending),
        (Fault::new(FaultPlace::Respond, FaultAction::Stall).ms(1), 0, SandboxStatus::Pending),
        (Fault::new(FaultPlace::Respond, FaultAction::Status).code(503), 503, SandboxStatus::Pending),
        (Fault::new(FaultPlace::Respond, FaultAction::Malformed), 200, SandboxStatus::Pending),
        (Fault::new(FaultPlace::Respond, FaultAction::ApplyThenFail), 0, SandboxStatus::Approved),
        (Fault::new(FaultPlace::Respond, FaultAction::ApplyThenFail).code(502), 502, SandboxStatus::Approved),
        (Fault::new(FaultPlace::Respond, FaultAction::Duplicate), 409, SandboxStatus::Approved),
        (Fault::new(FaultPlace::Respond, FaultAction::Delay).ms(1), 200, SandboxStatus::Approved),
        (Fault::new(FaultPlace::Any, FaultAction::Status).code(404), 404, SandboxStatus::Pending),
    ] {
        let place = asked(fault.clone()).await;
        assert_eq!(respond(&place).await, seen, "{fault:?}");
        assert_eq!(status(&place), stands, "{fault:?}");
        let second = if stands == SandboxStatus::Pending { 200 } else { 409 };
        assert_eq!(respond(&place).await, second, "{fault:?}");
    }
}

#[tokio::test]
async fn a_call_can_hit_the_agents_own_socket() {
    for (fault, code) in [
        (Fault::new(FaultPlace::Respond, FaultAction::Close).code(0), None),
        (Fault::new(FaultPlace::Respond, FaultAction::Close), Some(1000)),
        (Fault::new(FaultPlace::Respond, FaultAction::Supersede), Some(1000)),
        (Fault::new(FaultPlace::Respond, FaultAction::Ghost), None),
    ] {
        let place = asked(fault).await;
        let mut client = place.join(A).await;
        let mut other = place.join(B).await;
        assert_eq!(respond(&place).await, 200);
        assert_eq!(client.end().await, code);
        other.beat().await;
    }
    let place = asked(Fault::new(FaultPlace::Respond, FaultAction::CrashChannel)).await;
    let mut client = place.join(A).await;
    assert_eq!(respond(&place).await, 200);
    let crash = format!(r#"["1","1","{T}","phx_error",{{"reason":"channel_crash"}}]"#);
    while client.hear().await != crash {}
    client.join().await;
}
