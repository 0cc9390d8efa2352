//! The sandbox imitates the platform: every frame, end and upgrade of a real Phoenix server, the REST shapes, and every
//! fault, over raw sockets.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, in its helpers, too")]

mod cli;
mod faults;
pub mod harness;
mod rest;

use std::time::Duration;

use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest, Sandbox, SandboxOptions, SandboxStatus};
use harness::{A, B, Client, T, TIME, TestSandbox, raw_http};
use serde_json::json;

#[tokio::test]
async fn frames_are_those_of_phoenix() {
    let place = TestSandbox::start().await;
    let mut client = place.connect(A).await;
    for (said, heard) in [
        (
            format!(r#"["1","1","{T}","phx_join",{{}}]"#),
            format!(r#"["1","1","{T}","phx_reply",{{"response":{{}},"status":"ok"}}]"#),
        ),
        (
            r#"["1","1","agent_contacts:someone-else","phx_join",{}]"#.to_owned(),
            r#"["1","1","agent_contacts:someone-else","phx_reply",{"response":{"reason":"unauthorized"},"status":"error"}]"#
                .to_owned(),
        ),
        (
            r#"["1","1","nope:1","phx_join",{}]"#.to_owned(),
            r#"[null,"1","nope:1","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#.to_owned(),
        ),
        (
            r#" [null , 7, "phoenix","heartbeat",{"any":["thing"]}]"#.to_owned(),
            r#"[null,7,"phoenix","phx_reply",{"response":{},"status":"ok"}]"#.to_owned(),
        ),
        (
            r#"["3","2","agent_rooms:a","shout",{}]"#.to_owned(),
            r#"[null,"2","agent_rooms:a","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#.to_owned(),
        ),
        (
            r#"["3","3","agent_rooms:a","phx_join",{}]"#.to_owned(),
            r#"["3","3","agent_rooms:a","phx_reply",{"response":{},"status":"ok"}]"#.to_owned(),
        ),
    ] {
        client.say(&said).await;
        assert_eq!(client.hear().await, heard, "to {said}");
    }
}

#[tokio::test]
async fn a_second_join_closes_the_first_and_a_leave_both_replies_and_closes() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    client.say(&format!(r#"["5","6","{T}","phx_join",{{}}]"#)).await;
    assert_eq!(client.hear().await, format!(r#"["5","6","{T}","phx_reply",{{"response":{{}},"status":"ok"}}]"#));
    assert_eq!(client.hear().await, format!(r#"["1","1","{T}","phx_close",{{}}]"#));
    client.say(&format!(r#"["5","7","{T}","phx_leave",{{}}]"#)).await;
    assert_eq!(client.hear().await, format!(r#"["5","7","{T}","phx_reply",{{"response":{{}},"status":"ok"}}]"#));
    assert_eq!(client.hear().await, format!(r#"["5","5","{T}","phx_close",{{}}]"#));
    place.control.request(&NewRequest::to("a")).unwrap();
    client.beat().await;
    assert_eq!(place.control.counts().pushed, 0, "nobody has joined any more");
}

/// Phoenix 1.8.12: a leave without a join succeeds at once; a leave of another join has no effect and gets no reply.
#[tokio::test]
async fn a_leave_of_nothing_is_ok_and_of_another_join_does_nothing() {
    let place = TestSandbox::start().await;
    let mut client = place.connect(A).await;
    for topic in [T, "agent_rooms:a", "nope:1"] {
        client.say(&format!(r#"["8","9","{topic}","phx_leave",{{}}]"#)).await;
        assert_eq!(
            client.hear().await,
            format!(r#"["8","9","{topic}","phx_reply",{{"response":{{}},"status":"ok"}}]"#)
        );
    }
    client.join().await;
    client.say(&format!(r#"["8","10","{T}","phx_leave",{{}}]"#)).await;
    client.beat().await;
    place.control.request(&NewRequest::to("a").id("r1")).unwrap();
    assert!(client.hear().await.contains("\"r1\""), "it is joined as before");
    client.say(&format!(r#"["1","11","{T}","phx_leave",{{}},"sixth"]"#)).await;
    assert!(client.hear().await.starts_with(r#"["1","11","#), "six elements are taken");
    assert!(client.hear().await.contains("phx_close"));
}

/// Rooms are imitated as far as an agent of the official SDK needs them to start: it gets an event for a room that it
/// makes, and may join its topics.
#[tokio::test]
async fn an_agent_may_join_its_own_room_and_nobody_elses() {
    let place = TestSandbox::start().await;
    let mut client = place.connect(A).await;
    client.say(r#"["1","1","agent_rooms:a","phx_join",{}]"#).await;
    assert!(client.hear().await.contains("\"ok\""));
    let made = place.call("POST", "chats", A, r#"{"chat":{"task_id":null}}"#).await;
    assert_eq!(made.status, 201);
    let room = made.json()["data"]["id"].as_str().unwrap().to_owned();
    let told: serde_json::Value = serde_json::from_str(&client.hear().await).unwrap();
    assert_eq!((&told[2], &told[3]), (&json!("agent_rooms:a"), &json!("room_added")));
    assert_eq!(told[4], made.json()["data"]);
    for topic in ["chat_room", "room_participants"] {
        client.say(&format!(r#"["2","2","{topic}:{room}","phx_join",{{}}]"#)).await;
        assert!(client.hear().await.contains("\"ok\""));
        client.say(&format!(r#"["3","3","{topic}:{room}","phx_leave",{{}}]"#)).await;
        client.say(&format!(r#"["2","4","{topic}:{room}","phx_leave",{{}}]"#)).await;
        assert!(client.hear().await.starts_with(r#"["2","4","#), "the leave of another join does nothing");
        assert_eq!(client.hear().await, format!(r#"["2","2","{topic}:{room}","phx_close",{{}}]"#));
        client.say(&format!(r#"["2","5","{topic}:{room}","shout",{{}}]"#)).await;
        assert!(client.hear().await.contains("unmatched topic"));
    }
    let mut other = place.connect(B).await;
    other.say(&format!(r#"["1","1","chat_room:{room}","phx_join",{{}}]"#)).await;
    assert!(other.hear().await.contains("unauthorized"));
    for path in ["chats/{room}", "chats/{room}/participants", "chats/{room}/messages"] {
        let path = path.replace("{room}", &room);
        assert_eq!(place.call("GET", &path, A, "").await.status, 200, "{path}");
        assert_eq!(place.call("GET", &path, B, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_event_that_the_channel_does_not_know_crashes_it() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    client.say(&format!(r#"["1","2","{T}","shout",{{}}]"#)).await;
    assert_eq!(client.hear().await, format!(r#"["1","1","{T}","phx_error",{{"reason":"channel_crash"}}]"#));
    place.control.request(&NewRequest::to("a")).unwrap();
    client.beat().await;
    client.say(&format!(r#"["9","9","{T}","phx_join",{{}}]"#)).await;
    assert!(client.hear().await.contains("\"ok\""));
}

#[tokio::test]
async fn pushes_carry_the_join_ref_or_null() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    let new =
        NewRequest::to("@John/A").from("eve").named("Eve").saying("hi").id("r1").inserted_at("2026-01-31T12:00:00Z");
    place.control.request(&new).unwrap();
    assert_eq!(
        client.hear().await,
        format!(
            r#"["1",null,"{T}","contact_request_received",{{"id":"r1","status":"pending","inserted_at":"2026-01-31T12:00:00Z","from_handle":"eve","from_name":"Eve","message":"hi"}}]"#
        )
    );
    place.control.settle("r1", SandboxStatus::Cancelled).unwrap();
    assert_eq!(
        client.hear().await,
        format!(r#"["1",null,"{T}","contact_request_updated",{{"id":"r1","status":"cancelled"}}]"#)
    );
    let place = TestSandbox::with(SandboxOptions { push_join_ref: false, ..SandboxOptions::default() }).await;
    let mut client = place.join(A).await;
    place.control.request(&NewRequest::to("a").from_null().id("r1").inserted_at("2026-01-31T12:00:00Z")).unwrap();
    assert_eq!(
        client.hear().await,
        format!(
            r#"[null,null,"{T}","contact_request_received",{{"id":"r1","status":"pending","inserted_at":"2026-01-31T12:00:00Z","from_handle":null}}]"#
        )
    );
}

#[tokio::test]
async fn nothing_is_replayed() {
    let place = TestSandbox::start().await;
    let mut client = place.connect(A).await;
    place.control.request(&NewRequest::to("a").id("before")).unwrap();
    client.join().await;
    place.control.request(&NewRequest::to("a").id("silent").silent()).unwrap();
    place.control.request(&NewRequest::to("a").id("after")).unwrap();
    assert!(client.hear().await.contains("\"after\""));
    assert_eq!(place.control.counts().pending, 3);
}

#[tokio::test]
async fn what_a_client_does_wrong_ends_the_connection_with_phoenix_codes() {
    let place = TestSandbox::start().await;
    let big = vec![b'x'; (1 << 20) + 1];
    let header = |first: u8, mask: bool, len: usize| {
        let mut bytes = vec![first];
        let bit = if mask { 0x80 } else { 0 };
        match len {
            0..126 => bytes.push(bit | len as u8),
            _ => {
                bytes.push(bit | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        if mask {
            bytes.extend([0; 4]);
        }
        bytes
    };
    let frame = |mask, body: &[u8]| [header(0x81, mask, body.len()), body.to_vec()].concat();
    for (bytes, code) in [
        (frame(true, b"nonsense"), 1011),
        (frame(true, br#"["1","1","t","e"]"#), 1011),
        (frame(true, b"\xff\xfe"), 1007),
        (frame(false, b"[]"), 1002),
        (frame(true, &big), 1009),
    ] {
        let mut client = place.join(A).await;
        client.raw(&bytes).await;
        assert_eq!(client.end().await, Some(code));
    }
    let mut client = place.join(A).await;
    client.close(1000).await;
    assert_eq!(client.end().await, Some(1000));
}

#[tokio::test]
async fn an_idle_socket_is_closed_and_pushes_do_not_keep_it() {
    let place =
        TestSandbox::with(SandboxOptions { idle: Duration::from_millis(150), ..SandboxOptions::default() }).await;
    let mut client = place.join(A).await;
    place.control.request(&NewRequest::to("a")).unwrap();
    // A push follows every frame; if pushes reset the timer, it would never expire.
    let end = loop {
        match client.next().await {
            Ok(_) => drop(place.control.request(&NewRequest::to("a")).unwrap()),
            Err(code) => break code,
        }
    };
    assert_eq!(end, Some(1002));
}

#[tokio::test]
async fn stopped_is_1012_and_killed_is_nothing_at_all() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    let (address, control) = (place.address, place.control.clone());
    let (end, ()) = tokio::join!(client.end(), place.sandbox.stop());
    assert_eq!(end, Some(1012));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    control.request(&NewRequest::to("a")).unwrap();

    let sandbox = Sandbox::resume(address, control.clone()).await.unwrap();
    assert_eq!(control.counts().pending, 1, "a restarted platform knows what it knew");
    let mut client = Client::connect(address, A.query(), Some(A.key)).await.unwrap();
    client.join().await;
    sandbox.kill().await;
    assert_eq!(client.end().await, None);
    assert!(control.overview().live.is_empty());
}

#[tokio::test]
async fn the_last_connection_wins_unless_it_would_rather_not() {
    let place = TestSandbox::start().await;
    let mut first = place.join(A).await;
    first.say(r#"["2","2","agent_control:a","phx_join",{}]"#).await;
    assert!(first.hear().await.contains("\"ok\""));
    let refused = Client::connect(place.address, "vsn=2.0.0&on_conflict=reject", Some(A.key)).await.err().unwrap();
    assert_eq!(refused.0, 409);
    let body: serde_json::Value = serde_json::from_str(&refused.1).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["request_id"]), (&json!("connection_conflict"), &json!(null)));
    for (fault, query, status, code) in [
        (None, "vsn=2.0.0&on_conflict=maybe", 400, "invalid_on_conflict"),
        (Some(429), "vsn=2.0.0", 429, "too_many_requests"),
        (Some(503), "vsn=2.0.0", 503, "tracking_failed"),
    ] {
        if let Some(status) = fault {
            place.control.fault(Fault::new(FaultPlace::Upgrade, FaultAction::Status).code(status)).unwrap();
        }
        let (got, body) = Client::connect(place.address, query, Some(A.key)).await.err().unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((got, &body["error"]["code"]), (status, &json!(code)));
    }
    let mut second = Client::connect(place.address, "vsn=2.0.0&on_conflict=supersede", Some(A.key)).await.unwrap();
    let told = first.hear().await;
    assert!(told.starts_with(r#"["2",null,"agent_control:a","supersede",{"reason":"#), "{told}");
    assert!(told.contains("\"retryable\":false"));
    assert_eq!(first.end().await, Some(1000));
    second.join().await;
    place.control.request(&NewRequest::to("a")).unwrap();
    assert!(second.hear().await.contains("contact_request_received"));
    let mut other = place.connect(B).await;
    other.beat().await;
    let live: Vec<_> = place.control.overview().live.into_iter().map(|live| live.agent).collect();
    assert_eq!(live, ["a", "b"]);
    let why: Vec<_> = place.control.overview().ends.into_iter().map(|end| end.why).collect();
    assert_eq!(why, ["superseded"]);
}

#[tokio::test]
async fn upgrades_are_refused_as_phoenix_refuses_them() {
    let place = TestSandbox::start().await;
    for (query, key, status, body) in [
        ("vsn=3.0.0", Some(A.key), 403, ""),
        ("vsn=abc", Some(A.key), 403, ""),
        ("vsn=2.0.0", None, 401, "unauthorized"),
        ("vsn=2.0.0", Some("wrong"), 401, "unauthorized"),
        ("vsn=2.0.0&agent_id=b", Some(A.key), 403, ""),
        ("vsn=2.0.0&agent_id=b", Some("kj"), 403, ""),
    ] {
        let refused = Client::connect(place.address, query, key).await.err().unwrap();
        assert_eq!(refused.0, status, "{query}");
        assert!(if body.is_empty() { refused.1.is_empty() } else { refused.1.contains(body) }, "{}", refused.1);
    }
    for (query, key) in [
        ("vsn=2.0.0&agent_id=a&api_key=ka", None),
        ("vsn=2.0.0&agent_id=a", Some(A.key)),
        ("vsn=2.0.0", Some(A.key)),
        ("vsn=2.0.0&agent_id=a", Some("kj")),
    ] {
        let mut client = Client::connect(place.address, query, key).await.unwrap();
        client.join().await;
    }
    let mut user = Client::connect(place.address, "vsn=2.0.0", Some("kj")).await.unwrap();
    user.say(&format!(r#"["1","1","{T}","phx_join",{{}}]"#)).await;
    assert!(user.hear().await.contains("unauthorized"));
    let mut old = Client::connect(place.address, "agent_id=a", Some(A.key)).await.unwrap();
    assert_eq!(old.end().await, Some(1011));
    let plain = raw_http(place.address, "GET", "/api/v1/socket/websocket?vsn=2.0.0", Some(A.key), "").await;
    assert_eq!(plain.status, 400);
    let connects = place.control.overview().connects;
    let keys: Vec<_> = connects.iter().map(|connect| (connect.status, connect.key.as_str())).collect();
    assert_eq!(keys[2..5], [(401, "none"), (401, "header"), (403, "header")]);
    assert_eq!(keys[6], (101, "query"));
}

#[tokio::test]
async fn a_kick_has_the_code_that_was_ordered() {
    let place = TestSandbox::start().await;
    for (code, seen) in [(None, Some(1001)), (Some(4000), Some(4000)), (Some(0), None)] {
        let mut client = place.join(A).await;
        place.control.kick("a", code).unwrap();
        assert_eq!(client.end().await, seen);
        place.until(|state| state.live.is_empty()).await;
    }
    assert!(place.control.kick("a", None).is_err());
    assert!(place.control.kick("nobody", None).is_err());
}

#[tokio::test]
async fn a_burst_arrives_whole_and_in_order() {
    let place = TestSandbox::start().await;
    let mut client = place.join(A).await;
    let control = place.control.clone();
    let burst = NewRequest::to("a").from("u{n}/bot").id("r{n}").count(20_000);
    let ids = tokio::task::spawn_blocking(move || control.request(&burst).unwrap());
    for number in 1..=20_000 {
        let frame = client.hear().await;
        assert!(frame.contains(&format!("\"u{number}/bot\"")), "{number}: {frame}");
    }
    assert_eq!(ids.await.unwrap().len(), 20_000);
    assert_eq!(place.control.counts().pushed, 20_000);
}

#[tokio::test]
async fn tls_is_spoken_when_asked_for() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let place = TestSandbox::with(SandboxOptions { tls: Some(server.into()), ..SandboxOptions::default() }).await;
    assert!(place.sandbox.url().starts_with("https://127.0.0.1:"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(place.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let request = harness::upgrade_request(A.query(), Some(A.key));
    let (mut socket, response) =
        tokio::time::timeout(TIME, tokio_tungstenite::client_async(request, tls)).await.unwrap().unwrap();
    assert!(response.headers().contains_key("date"));
    place.control.kick("a", Some(1013)).unwrap();
    let close = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    assert!(close.is_close());
}
