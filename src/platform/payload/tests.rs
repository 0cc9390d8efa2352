use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;

fn raw(payload: &Value) -> Box<RawValue> {
    to_raw_value(payload).unwrap()
}

fn received(change: impl FnOnce(&mut Value)) -> Result<ContactRequest, PayloadProblem> {
    let mut payload = json!({
        "id": "r1", "status": "pending", "inserted_at": "2026-03-02T10:00:00.123456Z",
        "from_handle": "@Ann/helper", "from_name": "Ann's helper", "message": "hello",
    });
    change(&mut payload);
    contact_request(&raw(&payload))
}

#[test]
fn a_request_is_read() {
    let request = received(|_| ()).unwrap();
    assert_eq!(request.id.as_str(), "r1");
    assert_eq!(request.sender.handle().unwrap().as_str(), "ann/helper");
    assert_eq!(request.sender.original().unwrap().raw(), "@Ann/helper");
    assert_eq!(request.name.unwrap().raw(), "Ann's helper");
    assert_eq!(request.message.unwrap().raw(), "hello");
    assert_eq!(request.inserted_at.unwrap().to_string(), "2026-03-02T10:00:00.123456Z");
}

#[test]
fn absent_null_and_empty_are_the_same() {
    for value in [None, Some(Value::Null), Some(json!(""))] {
        let request = received(|payload| {
            for key in ["from_handle", "from_name", "message"] {
                match &value {
                    None => drop(payload.as_object_mut().unwrap().remove(key)),
                    Some(value) => payload[key] = value.clone(),
                }
            }
        })
        .unwrap();
        assert_eq!((request.sender, request.name, request.message), (Sender::Absent, None, None), "{value:?}");
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let request = received(|payload| payload["from_avatar_url"] = json!({"deep": [1, {"er": null}]}));
    assert!(request.is_ok());
}

#[test]
fn whose_a_handle_is_may_stand_in_several_places_and_what_is_no_id_spoils_nothing() {
    let ids = |sender: &str, owner: &str| {
        let id = |text: &str| SenderId::parse(text).ok();
        (!sender.is_empty() || !owner.is_empty()).then(|| Box::new(SenderIds { sender: id(sender), owner: id(owner) }))
    };
    for (more, wanted) in [
        (json!({}), ids("", "")),
        (json!({"from_id": "u1"}), ids("u1", "")),
        (json!({"sender_id": 17, "owner": {"id": "o1", "handle": "ann"}}), ids("17", "o1")),
        (json!({"from": {"id": "u1"}, "owner_uuid": "o1"}), ids("u1", "o1")),
        (json!({"from_id": "u1", "sender_id": "u2", "owner_id": "o1"}), ids("u1", "o1")),
        (json!({"from_id": "5F0C1A52-0000-4C0E-8F5E-6D1B3A0C9E21"}), ids("5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21", "")),
        (json!({"from_id": null, "sender_id": "", "owner_id": -1, "owner": "ann"}), ids("", "")),
        (json!({"from_id": "two words", "owner_id": {"id": 1}, "owner": {"id": [1]}}), ids("", "")),
        (json!({"from_id": "x".repeat(200), "sender": {"id": "\u{0}"}, "owner": [1]}), ids("", "")),
    ] {
        let with = |payload: &mut Value| {
            for (key, value) in more.as_object().unwrap() {
                payload[key] = value.clone();
            }
        };
        assert_eq!(received(with).unwrap().ids, wanted, "{more}");
        // The same in a row of a list, which is read without being parsed.
        let mut row = json!({"id": "r1", "status": "pending", "inserted_at": "2026-03-02T10:00:00Z"});
        with(&mut row);
        let page = json!({"data": {"received": [row]}}).to_string();
        let page = crate::platform::bodies::requests(page.as_bytes()).unwrap();
        assert_eq!(page.items[0].ids, wanted, "{more}");
    }
}

#[test]
fn an_odd_handle_is_kept_as_odd() {
    for odd in ["@@ann", "a/b/c", "jöhn", &"x".repeat(5000)] {
        let request = received(|payload| payload["from_handle"] = json!(odd)).unwrap();
        assert!(matches!(request.sender, Sender::Odd { .. }), "{odd:.20}");
    }
}

#[test]
fn times_are_read_leniently_and_never_guessed() {
    for (text, wanted) in [
        ("2026-03-02T12:00:00+02:00", Some("2026-03-02T10:00:00Z")),
        ("2026-03-02T10:00:00", Some("2026-03-02T10:00:00Z")),
        ("2026-03-02T10:00:00.000000", Some("2026-03-02T10:00:00Z")),
        ("yesterday", None),
        ("0000-00-00T00:00:00Z", None),
        (&"2".repeat(10_000), None),
    ] {
        let request = received(|payload| payload["inserted_at"] = json!(text)).unwrap();
        assert_eq!(request.inserted_at.map(|time| time.to_string()).as_deref(), wanted, "{text:.40}");
    }
}

#[test]
fn every_broken_field_is_named_and_no_text_repeated() {
    let problem = contact_request(&raw(&json!({
        "id": "evil id\u{1b}[31m", "status": "approved", "inserted_at": 7, "from_name": ["evil"],
        "message": "evil".repeat(2000),
    })))
    .unwrap_err();
    assert_eq!(
        problem.to_string(),
        "`id` is not a valid id, `status` is not `pending`, `inserted_at` is not text, `from_name` is not text"
    );
}

#[test]
fn what_is_required_is_required() {
    for key in ["id", "status", "inserted_at"] {
        for (value, problem) in [
            (None, FieldProblem::Missing),
            (Some(Value::Null), FieldProblem::Missing),
            (Some(json!("")), FieldProblem::Empty),
        ] {
            let problem_found = received(|payload| match &value {
                None => drop(payload.as_object_mut().unwrap().remove(key)),
                Some(value) => payload[key] = value.clone(),
            })
            .unwrap_err();
            assert_eq!(problem_found.broken(), [(key, problem)]);
        }
    }
}

#[test]
fn what_is_no_object_is_refused() {
    for payload in [json!(null), json!([]), json!("x"), json!(1), json!(true)] {
        assert_eq!(contact_request(&raw(&payload)).unwrap_err().to_string(), "`payload` is not an object");
        assert!(contact(&raw(&payload)).is_err());
        for event in ["contact_request_updated", "contact_removed"] {
            assert!(channel_event(event, &raw(&payload)).unwrap().is_err());
        }
    }
}

#[test]
fn a_message_of_five_hundred_wide_characters_is_whole() {
    let message = "😀".repeat(500);
    let request = received(|payload| payload["message"] = json!(message)).unwrap();
    assert_eq!(request.message.unwrap().raw(), message);
}

#[test]
fn a_contact_is_read() {
    let contact = contact(&raw(&json!({
        "id": "c1", "type": "Agent", "inserted_at": "2026-03-02T10:00:00Z", "handle": null, "name": null,
        "tags": null, "is_external": false,
    })))
    .unwrap();
    assert_eq!((contact.id.as_str(), contact.kind), ("c1", ContactKind::Agent));
    assert_eq!((contact.sender, contact.name), (Sender::Absent, None));
}

#[test]
fn a_kind_of_contact_that_is_new_is_no_problem_and_a_missing_one_is() {
    let row = |kind: Value| json!({"id": "c1", "type": kind, "inserted_at": "2026-03-02T10:00:00Z"});
    assert_eq!(contact(&raw(&row(json!("Team")))).unwrap().kind, ContactKind::Other);
    assert_eq!(contact(&raw(&row(json!("User")))).unwrap().kind, ContactKind::User);
    assert_eq!(contact(&raw(&row(Value::Null))).unwrap_err().to_string(), "`type` is missing");
}

#[test]
fn every_event_is_known_by_name() {
    let updated = |status: &str| channel_event("contact_request_updated", &raw(&json!({"id": "r1", "status": status})));
    for (word, status) in [
        ("approved", RequestStatus::Approved),
        ("rejected", RequestStatus::Rejected),
        ("expired", RequestStatus::Expired),
        ("cancelled", RequestStatus::Cancelled),
        ("withdrawn", RequestStatus::Other("withdrawn".into())),
    ] {
        let id = RequestId::parse("r1").unwrap();
        assert_eq!(updated(word), Some(Ok(ChannelEvent::RequestUpdated { id, status })));
    }
    let removed = channel_event("contact_removed", &raw(&json!({"id": "c1"})));
    assert_eq!(removed, Some(Ok(ChannelEvent::ContactRemoved { id: ContactId::parse("c1").unwrap() })));
    assert_eq!(channel_event("contact_request_exploded", &raw(&json!({}))), None);
}

#[test]
fn a_supersede_is_one_whatever_it_carries() {
    let none = Supersede { reason: None, message: None, correlation_id: None };
    for payload in [json!({}), json!([]), json!(null), json!({"reason": 7, "message": ""})] {
        assert_eq!(supersede(&raw(&payload), &Redact::default()), none);
    }
    let full =
        supersede(&raw(&json!({"reason": "new_connection", "message": "bye", "retryable": false})), &Redact::default());
    assert_eq!(full.reason.unwrap().raw(), "new_connection");
}

/// As in a row of a list: what cannot be read costs its own field, and contradictions count for nothing.
#[test]
fn a_payload_is_read_field_by_field() {
    let read = |text: &str| contact_request(serde_json::from_str(text).unwrap());
    let half = r#"{"id":"r1","status":"pending","inserted_at":"2026-03-02T10:00:00Z","message":"\ud800"}"#;
    assert_eq!(read(half).unwrap_err().broken(), [("message", FieldProblem::NoCharacter)]);
    let beyond = r#"{"id":"r1","status":"pending","inserted_at":"2026-03-02T10:00:00Z","score":1e999}"#;
    assert!(read(beyond).is_ok());
    let twice = r#"{"id":"r1","id":"r2","status":"pending","inserted_at":"2026-03-02T10:00:00Z"}"#;
    assert_eq!(read(twice).unwrap_err().broken(), [("id", FieldProblem::NotText)]);
}
