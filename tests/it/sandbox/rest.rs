//! The shapes of REST, and the control over HTTP.

use doorman::sandbox::{NewRequest, SandboxState, SandboxStatus};
use serde_json::{Value, json};

use super::harness::{A, B, TestSandbox, raw_http};

#[tokio::test]
async fn me_says_whose_key_it_is() {
    let place = TestSandbox::start().await;
    let answer = place.call("GET", "me", A, "").await;
    assert!(answer.head.contains("\r\ndate: "), "{}", answer.head);
    let data = &answer.json()["data"];
    assert_eq!((&data["id"], &data["handle"], &data["owner_uuid"]), (&json!("a"), &json!("john/a"), &json!("j")));
    assert!(data["feature_flags"].is_object() && data["inserted_at"].is_string() && data["updated_at"].is_string());
}

#[tokio::test]
async fn errors_have_the_platforms_shape() {
    let place = TestSandbox::start().await;
    let long = "x".repeat(501);
    let add_long = format!(r#"{{"handle":"maria/b","message":"{long}"}}"#);
    for (method, path, key, body, status, code) in [
        ("GET", "agent/me", None, "", 401, "unauthorized"),
        ("GET", "agent/me", Some("wrong"), "", 401, "unauthorized"),
        ("GET", "agent/me", Some("kj"), "", 403, "forbidden"),
        ("GET", "me/profile", Some("ka"), "", 403, "forbidden"),
        ("GET", "agent/nothing", Some("ka"), "", 404, "not_found"),
        ("POST", "agent/me", Some("ka"), "", 405, "method_not_allowed"),
        ("GET", "agent/contacts/requests?page_size=0", Some("ka"), "", 422, "validation_error"),
        ("GET", "agent/contacts/requests?page_size=101", Some("ka"), "", 422, "validation_error"),
        ("GET", "agent/contacts/requests?page=x", Some("ka"), "", 422, "validation_error"),
        ("GET", "agent/contacts/requests?sent_status=x", Some("ka"), "", 422, "validation_error"),
        ("GET", "agent/contacts?page_size=101", Some("ka"), "", 422, "validation_error"),
        ("POST", "agent/contacts/requests/respond", Some("ka"), "nonsense", 400, "bad_request"),
        ("POST", "agent/contacts/requests/respond", Some("ka"), "[]", 400, "bad_request"),
        ("POST", "agent/contacts/requests/respond", Some("ka"), "{}", 400, "validation_error"),
        ("POST", "agent/contacts/requests/respond", Some("ka"), r#"{"action":"approve"}"#, 400, "validation_error"),
        (
            "POST",
            "agent/contacts/requests/respond",
            Some("ka"),
            r#"{"action":"approve","request_id":5}"#,
            400,
            "validation_error",
        ),
        (
            "POST",
            "agent/contacts/requests/respond",
            Some("ka"),
            r#"{"action":"approve","request_id":"x","handle":null}"#,
            400,
            "validation_error",
        ),
        (
            "POST",
            "agent/contacts/requests/respond",
            Some("ka"),
            r#"{"action":"approve","request_id":"x"}"#,
            404,
            "not_found",
        ),
        (
            "POST",
            "agent/contacts/requests/respond",
            Some("ka"),
            r#"{"action":"reject","handle":"x"}"#,
            404,
            "not_found",
        ),
        ("POST", "agent/contacts/add", Some("ka"), r#"{"handle":"@nobody"}"#, 404, "not_found"),
        ("POST", "agent/contacts/add", Some("ka"), r#"{"handle":"John/A"}"#, 409, "cannot_add_self"),
        ("POST", "agent/contacts/add", Some("ka"), r#"{"handle":"two words"}"#, 400, "validation_error"),
        ("POST", "agent/contacts/add", Some("ka"), r#"{"handle":"maria/b","message":null}"#, 400, "validation_error"),
        ("POST", "agent/contacts/add", Some("ka"), add_long.as_str(), 422, "validation_error"),
        ("POST", "agent/contacts/remove", Some("ka"), "{}", 400, "validation_error"),
        ("POST", "agent/contacts/remove", Some("ka"), r#"{"contact_id":"x"}"#, 404, "not_found"),
    ] {
        let answer = raw_http(place.address, method, &format!("/api/v1/{path}"), key, body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{method} {path} {body}");
        assert!(error["request_id"].is_string() && error["message"].is_string());
        assert!(answer.head.contains("\r\ndate: "));
    }
    let null = place.call("POST", "contacts/add", A, r#"{"handle":"maria/b","message":null}"#).await.json();
    assert_eq!(null["error"]["details"], json!({ "/message": ["null value where string expected"] }));
    let huge = "x".repeat((4 << 20) + 1);
    assert_eq!(place.call("POST", "contacts/add", A, &huge).await.status, 413);
}

#[tokio::test]
async fn agents_ask_each_other_and_both_hear_of_it() {
    let place = TestSandbox::start().await;
    let (mut a, mut b) = (place.join(A).await, place.join(B).await);
    let added = place.call("POST", "contacts/add", B, r#"{"handle":"@john/a","message":"hello"}"#).await;
    assert_eq!(added.status, 201);
    let added = added.json();
    assert_eq!(added["data"]["status"], "pending");
    let id = added["data"]["id"].as_str().unwrap();
    assert!(a.hear().await.contains("\"contact_request_received\""));
    let again = place.call("POST", "contacts/add", B, r#"{"handle":"john/a"}"#).await;
    assert_eq!(again.status, 409);

    let listed = place.call("GET", "contacts/requests?page=1&page_size=10", A, "").await.json();
    let row = &listed["data"]["received"][0];
    assert_eq!(
        (&row["from_handle"], &row["from_name"], &row["message"]),
        (&json!("maria/b"), &json!("B"), &json!("hello"))
    );
    assert_eq!(row["from_avatar_url"], "https://sandbox.invalid/avatars/b");
    assert_eq!(
        listed["metadata"],
        json!({"page":1,"page_size":10,"received":{"total":1,"total_pages":1},"sent":{"total":0,"total_pages":0}})
    );
    let sent = place.call("GET", "contacts/requests", B, "").await.json();
    assert_eq!(sent["data"]["sent"][0]["to_handle"], "john/a");

    let body = json!({ "action": "approve", "request_id": id }).to_string();
    let answer = place.call("POST", "contacts/requests/respond", A, &body).await;
    assert_eq!(answer.json(), json!({ "data": { "id": id, "status": "approved" } }));
    for client in [&mut a, &mut b] {
        assert!(
            client
                .hear()
                .await
                .contains(&format!("\"contact_request_updated\",{{\"id\":\"{id}\",\"status\":\"approved\"}}"))
        );
        let contact: Value = serde_json::from_str(&client.hear().await).unwrap();
        assert_eq!((&contact[3], &contact[4]["type"]), (&json!("contact_added"), &json!("Agent")));
    }
    for (action, status) in [("reject", 409), ("approve", 409)] {
        let body = json!({ "action": action, "request_id": id }).to_string();
        assert_eq!(place.call("POST", "contacts/requests/respond", A, &body).await.status, status);
    }
    let contacts = place.call("GET", "contacts", A, "").await.json();
    assert_eq!(contacts["metadata"], json!({"page":1,"page_size":50,"total_count":1,"total_pages":1}));
    assert_eq!((&contacts["data"][0]["handle"], &contacts["data"][0]["online"]), (&json!("maria/b"), &json!(true)));
    assert_eq!(place.call("POST", "contacts/add", A, r#"{"handle":"maria/b"}"#).await.status, 409);

    let removed = place.call("POST", "contacts/remove", A, r#"{"handle":"maria/b"}"#).await;
    assert_eq!(removed.json(), json!({ "data": { "status": "removed" } }));
    for client in [&mut a, &mut b] {
        assert!(client.hear().await.contains("\"contact_removed\""));
    }
    let state = place.control.state();
    assert_eq!((state.counts.answers, state.counts.refused), (3, 2));
    let tries: Vec<_> = state.requests[0].answers.iter().map(|answer| (answer.by.as_str(), answer.http)).collect();
    assert_eq!(tries, [("a", 200), ("a", 409), ("a", 409)]);
    assert_eq!(place.control.latencies().len(), 1);
}

/// What a platform does not know of somebody is null, and only agents have a picture.
#[tokio::test]
async fn a_contact_may_have_no_handle_and_nobody_knows_whether_a_stranger_is_online() {
    let place = TestSandbox::start().await;
    for (id, new) in [("r1", NewRequest::to("a").from_null()), ("r2", NewRequest::to("a").from("john"))] {
        place.control.request(&new.id(id)).unwrap();
        let listed = place.call("GET", "contacts/requests", A, "").await.json();
        assert_eq!(listed["data"]["received"][0].get("from_avatar_url"), None);
        place.control.settle(id, SandboxStatus::Approved).unwrap();
    }
    let contacts = place.call("GET", "contacts", A, "").await.json();
    let seen: Vec<_> = [0, 1].map(|at| (&contacts["data"][at]["handle"], &contacts["data"][at]["online"])).into();
    assert_eq!(seen, [(&Value::Null, &Value::Null), (&json!("john"), &json!(false))]);
}

#[tokio::test]
async fn an_inverse_request_approves_and_a_sender_may_cancel() {
    let place = TestSandbox::start().await;
    place.call("POST", "contacts/add", A, r#"{"handle":"maria/b"}"#).await;
    let answer = place.call("POST", "contacts/add", B, r#"{"handle":"john/a"}"#).await.json();
    assert_eq!(answer["data"]["status"], "approved");
    place.control.remove_contact("a", "maria/b").unwrap();
    place.call("POST", "contacts/add", A, r#"{"handle":"maria/b"}"#).await;
    let body = r#"{"action":"cancel","handle":"maria/b"}"#;
    assert_eq!(place.call("POST", "contacts/requests/respond", A, body).await.json()["data"]["status"], "cancelled");
    let id = place.control.state().requests[1].id.clone();
    let body = json!({ "action": "approve", "request_id": id }).to_string();
    assert_eq!(place.call("POST", "contacts/requests/respond", B, &body).await.status, 404);
}

#[tokio::test]
async fn ten_thousand_pending_are_listed_page_by_page() {
    let place = TestSandbox::start().await;
    place.control.request(&NewRequest::to("a").from("u{n}").id("r{n}").count(10_000).silent()).unwrap();
    let mut seen = std::collections::HashSet::new();
    for page in 1..=101 {
        let answer = place.call("GET", &format!("contacts/requests?page={page}&page_size=100"), A, "").await.json();
        assert_eq!(answer["metadata"]["received"], json!({ "total": 10_000, "total_pages": 100 }));
        let rows = answer["data"]["received"].as_array().unwrap();
        assert_eq!(rows.len(), if page == 101 { 0 } else { 100 });
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen.len(), 10_000);
    assert_eq!(place.control.overview().lists.len(), 101);
}

#[tokio::test]
async fn the_control_is_the_same_over_http() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    let new = r#"{"to":"a","from_handle":"u{n}","from_name":null,"message":"no {n}","count":3,"first":8}"#;
    let (status, made) = place.tester("POST", "requests", new).await;
    assert_eq!((status, made["ids"].as_array().unwrap().len()), (201, 3));
    for number in 8..11 {
        let frame = client.hear().await;
        assert!(
            frame.contains(&format!(r#""from_handle":"u{number}","from_name":null,"message":"no {number}""#)),
            "{frame}"
        );
    }
    let id = made["id"].as_str().unwrap();
    assert_eq!(place.tester("POST", &format!("requests/{id}"), r#"{"status":"expired"}"#).await.0, 200);
    assert!(client.hear().await.contains("\"expired\""));
    assert_eq!(place.tester("POST", &format!("requests/{id}"), r#"{"status":"approved"}"#).await.0, 409);
    assert_eq!(place.tester("GET", "counts", "").await.1["pending"], 2);
    let (_, state) = place.tester("GET", "state", "").await;
    let state: SandboxState = serde_json::from_value(state).unwrap();
    assert_eq!(state, SandboxState { at_us: state.at_us, ..place.control.state() });
    assert_eq!(state.requests[0].settled_by.as_deref(), Some("platform"));
    assert_eq!(place.tester("GET", "state?requests=false", "").await.1["requests"], json!([]));
    assert_eq!(place.tester("GET", "latencies", "").await.1, json!([]));
    assert_eq!(place.tester("DELETE", "latencies", "").await.0, 200);
    assert_eq!(place.tester("POST", "faults", r#"[{"at":"list","do":"status","code":503}]"#).await.0, 200);
    assert_eq!(place.tester("GET", "state", "").await.1["faults"][0]["fault"]["do"], "status");
    assert_eq!(place.tester("DELETE", "faults", "").await.0, 200);
    assert_eq!(place.call("GET", "contacts/requests", A, "").await.status, 200);
    assert_eq!(place.tester("POST", "kick", r#"{"agent":"a","code":4001}"#).await.0, 200);
    assert_eq!(client.end().await, Some(4001));
}

#[tokio::test]
async fn the_control_refuses_what_makes_no_sense() {
    let place = TestSandbox::start().await;
    place.control.request(&NewRequest::to("a").id("taken")).unwrap();
    for (path, body, status, word) in [
        ("requests", "{", 422, "EOF"),
        ("requests", r#"{"to":"a","form_handle":"x"}"#, 422, "form_handle"),
        ("requests", r#"{"to":"nobody"}"#, 404, "nobody here"),
        ("requests", r#"{"to":"a","count":0}"#, 422, "count"),
        ("requests", r#"{"to":"a","count":100001}"#, 422, "100000"),
        ("requests", r#"{"to":"a","count":2,"first":18446744073709551615}"#, 422, "first"),
        ("requests", r#"{"to":"a","id":"taken"}"#, 409, "exists"),
        ("requests", r#"{"to":"a","id":"a b"}"#, 422, "ASCII"),
        ("requests", r#"{"to":"a","inserted_at":"soon"}"#, 422, "inserted_at"),
        ("requests", r#"{"to":"a","from_handle":"john/a"}"#, 422, "themselves"),
        ("requests/none", r#"{"status":"approved"}"#, 404, "no such request"),
        ("requests/taken", r#"{"status":"pending"}"#, 422, "pending"),
        ("requests/taken", r#"{"status":"eaten"}"#, 422, "eaten"),
        ("faults", r#"{"at":"list","do":"drop"}"#, 422, "sequence"),
        ("faults", r#"[{"at":"upgrade","do":"stale-list"}]"#, 422, "cannot be done"),
        ("faults", r#"[{"at":"list","do":"drop","agent":"nobody"}]"#, 404, "nobody here"),
        ("kick", r#"{"agent":"a"}"#, 409, "no connection"),
        ("kick", r#"{"agent":"a","code":1005}"#, 422, "1005"),
        ("nothing", "{}", 404, "no such call"),
    ] {
        let (got, answer) = place.tester("POST", path, body).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(got == status && message.contains(word), "{path} {body}: {got} {message}");
    }
    assert_eq!(place.control.counts().requests, 1);
}
