use std::time::Duration;

use super::*;
use crate::model::RequestStatus;
use crate::platform::testing::{self, CannedServer, Then};

const KEY: &str = "band_secret_key";
const LONG: Duration = Duration::from_secs(30);
/// Long enough for a connection on a busy machine.
const SHORT: Duration = Duration::from_secs(1);

fn rest(platform: &Platform, timeout: Duration) -> AgentRest {
    let rest = Rest::new(platform, &Net::new(platform).unwrap(), timeout).unwrap();
    rest.agent(AgentId::parse("a-1").unwrap(), Key::parse(KEY).unwrap())
}

fn at(raw: &CannedServer) -> AgentRest {
    rest(&raw.platform(), LONG)
}

async fn respond(rest: &AgentRest) -> Reply<Responded> {
    rest.respond(&RequestId::parse("r-1").unwrap(), Answer::Approve).await
}

/// The fault of a reply to `respond`, after a check that nothing that can be shown contains the key.
fn fault<T: std::fmt::Debug>(reply: &Reply<T>) -> CallFault {
    let error = reply.result.as_ref().unwrap_err();
    for shown in [format!("{reply:?}"), error.to_string()] {
        assert!(!shown.contains(KEY), "{shown}");
    }
    error.fault
}

#[tokio::test]
async fn each_call_asks_as_documented() {
    let contact = ContactId::parse("c-1").unwrap();
    let me = CannedServer::reply("200 OK", "", br#"{"data":{"id":"a-1","handle":"ann/bot","name":"Bot"}}"#).await;
    assert_eq!(at(&me).me().await.result.unwrap().id.as_str(), "a-1");
    let answered = CannedServer::reply("200 OK", "", br#"{"data":{"id":"r-1","status":"approved"}}"#).await;
    assert_eq!(respond(&at(&answered)).await.result.unwrap().status, RequestStatus::Approved);
    let removed = CannedServer::reply("200 OK", "", b"").await;
    assert_eq!(at(&removed).remove_contact(&contact, true).await.result, Ok(()));
    let requests = CannedServer::reply("200 OK", "", br#"{"data":{"received":[{}]}}"#).await;
    assert_eq!(at(&requests).requests(2, 50, PagePlace::Begins).await.result.unwrap().nameless, [1]);
    let contacts = CannedServer::reply("200 OK", "", br#"{"data":[]}"#).await;
    assert_eq!(at(&contacts).contacts(1, 100, PagePlace::Begins).await.result.unwrap().items, []);
    for (server, begins, ends) in [
        (me, "GET /api/v1/agent/me HTTP/1.1\r\n", "\r\n\r\n"),
        (
            answered,
            "POST /api/v1/agent/contacts/requests/respond HTTP/1.1\r\n",
            r#"{"action":"approve","request_id":"r-1"}"#,
        ),
        (removed, "POST /api/v1/agent/contacts/remove HTTP/1.1\r\n", r#"{"contact_id":"c-1"}"#),
        (requests, "GET /api/v1/agent/contacts/requests?page=2&page_size=50 HTTP/1.1\r\n", "\r\n\r\n"),
        (contacts, "GET /api/v1/agent/contacts?page=1&page_size=100 HTTP/1.1\r\n", "\r\n\r\n"),
    ] {
        let [heard] = server.heard().try_into().unwrap();
        assert!(heard.starts_with(begins) && heard.ends_with(ends), "{heard}");
        assert!(heard.contains(&format!("x-api-key: {KEY}\r\n")), "{heard}");
        for line in [
            "user-agent: Mozilla/5.0 (compatible; doorman/test)",
            "accept: application/json",
            "accept-language: en-US,en;q=0.9",
            "x-more: more",
        ] {
            assert!(heard.contains(&format!("{line}\r\n")), "{heard}");
        }
    }
}

#[tokio::test]
async fn refusals_are_classified_with_what_they_say() {
    let headers = "date: Mon, 02 Mar 2026 10:00:00 GMT\r\nretry-after: Mon, 02 Mar 2026 10:00:30 GMT\r\n";
    let body = br#"{"error":{"code":"slow_down","message":"too fast","request_id":"x","retry_after":7}}"#;
    let reply = respond(&at(&CannedServer::reply("429 Too Many Requests", headers, body).await)).await;
    assert_eq!(fault(&reply), CallFault::Throttled);
    assert_eq!(reply.date.unwrap().to_string(), "2026-03-02T10:00:00Z");
    let error = reply.result.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(30)));
    assert_eq!(error.to_string(), "too many calls (http 429) `slow_down`: too fast");
    for (status, wanted) in [
        ("400 x", CallFault::Malformed(400)),
        ("401 x", CallFault::KeyRefused),
        ("403 x", CallFault::Forbidden),
        ("404 x", CallFault::NotFound),
        ("409 x", CallFault::Conflict),
        ("422 x", CallFault::Malformed(422)),
        ("503 x", CallFault::Passing(503)),
    ] {
        let own = br#"{"error":{"code":"c","message":"m","request_id":"r"}}"#;
        assert_eq!(fault(&respond(&at(&CannedServer::reply(status, "", own).await)).await), wanted);
        let page = format!("<html>{KEY}</html>");
        let reply = respond(&at(&CannedServer::reply(status, "", page.as_bytes()).await)).await;
        assert_eq!(fault(&reply), CallFault::InBetween(status[..3].parse().unwrap()));
        assert!(reply.result.unwrap_err().to_string().ends_with(": <html>***</html>"));
    }
}

#[tokio::test]
async fn a_refusal_stays_one_if_its_body_breaks_off_stalls_or_floods() {
    let cut = vec![testing::head("409 Conflict", "", 100), b"{\"error\":".to_vec()];
    let reply = respond(&at(&CannedServer::serve(cut.clone(), Then::Close).await)).await;
    assert_eq!(fault(&reply), CallFault::Conflict);
    let reply = respond(&rest(&CannedServer::serve(cut, Then::Stall).await.platform(), SHORT)).await;
    assert_eq!(fault(&reply), CallFault::Conflict);
    let flood = CannedServer::reply("404 Not Found", "", &vec![b' '; BODY_BYTES_MAX * 4]).await;
    assert_eq!(fault(&respond(&at(&flood)).await), CallFault::NotFound);
}

#[tokio::test]
async fn what_is_malformed_under_a_success_is_never_taken_for_one() {
    let deep = "[".repeat(10_000);
    for body in ["", "{}", r#"{"data":{"status":7}}"#, r#"{"data":{"status":"appro"#, &deep] {
        let reply = respond(&at(&CannedServer::reply("200 OK", "", body.as_bytes()).await)).await;
        assert_eq!(fault(&reply), CallFault::Unreadable(200), "{body:.30}");
    }
    for page in ["ok", "<html>captive portal</html>", "null"] {
        let raw = CannedServer::reply("200 OK", "", page.as_bytes()).await;
        assert_eq!(fault(&respond(&at(&raw)).await), CallFault::InBetween(200));
        assert!(at(&raw).me().await.result.unwrap_err().to_string().contains(page));
        // Nor does it remove a contact.
        assert_eq!(
            fault(&at(&raw).remove_contact(&ContactId::parse("c").unwrap(), false).await),
            CallFault::InBetween(200)
        );
    }
}

#[tokio::test]
async fn what_may_have_been_sent_is_not_taken_for_unsent() {
    for pieces in [
        vec![],
        vec![b"HTTP/1.1 200".to_vec()],
        vec![b"\x00\x01malformed\r\n\r\n".to_vec()],
        vec![testing::head("200 OK", "", 100), br#"{"data":{"status":"approved"}}"#.to_vec()],
    ] {
        let (closed, stalled) = (
            at(&CannedServer::serve(pieces.clone(), Then::Close).await),
            CannedServer::serve(pieces, Then::Stall).await,
        );
        let stalled = rest(&stalled.platform(), SHORT);
        let (closed, stalled) = tokio::join!(respond(&closed), respond(&stalled));
        assert_eq!((fault(&closed), fault(&stalled)), (CallFault::NoAnswer, CallFault::NoAnswer));
    }
}

#[tokio::test]
async fn what_was_never_sent_says_so() {
    // Bound but not listening: no other process gets the port, and no connection is accepted.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let reply = respond(&rest(&testing::platform(socket.local_addr().unwrap()), LONG)).await;
    assert_eq!(fault(&reply), CallFault::Unreachable);
    let shown = reply.result.unwrap_err().to_string();
    assert!(shown.contains("refused") && shown.contains("(tried http://127.0.0.1:"), "{shown}");
}

#[tokio::test]
async fn bodies_are_cut_off_at_their_bound() {
    let large = |size: usize| format!(r#"{{"data":{{"status":"approved"}},"x":"{}"}}"#, "x".repeat(size)).into_bytes();
    let fits = CannedServer::reply("200 OK", "", &large(BODY_BYTES_MAX - 100)).await;
    assert!(respond(&at(&fits)).await.result.is_ok());
    // These bodies never end: only a client that counts bytes stops reading.
    let most = testing::head("200 OK", "", usize::MAX >> 2);
    let endless = CannedServer::serve(vec![most.clone(), large(BODY_BYTES_MAX)], Then::Stall).await;
    let reply = respond(&at(&endless)).await;
    assert_eq!(fault(&reply), CallFault::Unreadable(200));
    assert!(reply.result.unwrap_err().to_string().contains("larger"));
    let endless = CannedServer::serve(vec![most, vec![b' '; PAGE_BYTES_MAX + 1]], Then::Stall).await;
    assert_eq!(fault(&at(&endless).requests(1, 50, PagePlace::Begins).await), CallFault::TooLarge);
}

#[tokio::test]
async fn a_page_of_millions_of_tiny_values_is_refused() {
    let body = format!(r#"{{"data":{{"received":[{}0]}}}}"#, "0,".repeat(1 << 20));
    let reply = at(&CannedServer::reply("200 OK", "", body.as_bytes()).await).requests(1, 50, PagePlace::Begins).await;
    assert!(reply.result.unwrap_err().to_string().contains("rows"));
}

/// Gzip of `a` again and again, 258 at a time for 13 bits each: 2 KiB become some 300 KiB, and 64 KiB some 10 MiB.
fn bomb(size: usize) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut held) = (0_u64, 0);
    let mut put = |value: u64, count: u32, reversed: bool| {
        for bit in 0..count {
            let at = if reversed { count - 1 - bit } else { bit };
            bits |= ((value >> at) & 1) << held;
            held += 1;
            if held == 8 {
                out.push(bits as u8);
                (bits, held) = (0, 0);
            }
        }
    };
    put(1, 1, false);
    put(1, 2, false);
    put(0x30 + u64::from(b'a'), 8, true);
    for _ in 0..size * 8 / 13 {
        put(0b1100_0101, 8, true);
        put(0, 5, true);
    }
    out
}

#[tokio::test]
async fn what_grows_when_decompressed_is_counted_decompressed() {
    let gzip = "content-encoding: gzip\r\n";
    let (small, large) = (bomb(2 << 10), bomb(64 << 10));
    assert!(small.len() < BODY_BYTES_MAX / 30 && large.len() < PAGE_BYTES_MAX / 100);
    let reply = respond(&at(&CannedServer::reply("200 OK", gzip, &small).await)).await;
    assert!(reply.result.unwrap_err().to_string().contains("larger than 65536 bytes"));
    let reply = at(&CannedServer::reply("200 OK", gzip, &large).await).requests(1, 50, PagePlace::Begins).await;
    assert!(reply.result.unwrap_err().to_string().contains("more than 8388608 bytes"));
    // A bomb in the body of a refusal does not change the refusal, but is not the platform's statement about a key
    // either.
    assert_eq!(fault(&respond(&at(&CannedServer::reply("409 x", gzip, &small).await)).await), CallFault::Conflict);
    assert_eq!(
        fault(&respond(&at(&CannedServer::reply("401 x", gzip, &small).await)).await),
        CallFault::InBetween(401)
    );
}

#[tokio::test]
async fn compression_is_understood_and_broken_compression_is_no_answer() {
    // {"data":{"id":"a-1"}}
    let whole = [
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x4a, 0x49, 0x2c, 0x49, 0x54, 0xb2,
        0xaa, 0x56, 0xca, 0x4c, 0x51, 0xb2, 0x52, 0x4a, 0xd4, 0x35, 0x54, 0xaa, 0xad, 0x05, 0x00, 0x51, 0x68, 0x55,
        0x33, 0x15, 0x00, 0x00, 0x00,
    ];
    let gzip = "content-encoding: gzip\r\n";
    assert_eq!(at(&CannedServer::reply("200 OK", gzip, &whole).await).me().await.result.unwrap().id.as_str(), "a-1");
    let reply = at(&CannedServer::reply("200 OK", gzip, b"not gzip at all").await).me().await;
    assert_eq!(fault(&reply), CallFault::NoAnswer);
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let elsewhere = CannedServer::reply("200 OK", "", br#"{"data":{"status":"approved"}}"#).await;
    for status in ["301 x", "302 x", "307 x", "308 x"] {
        let location = format!("location: http://{}/\r\n", elsewhere.address);
        let reply = respond(&at(&CannedServer::reply(status, &location, b"").await)).await;
        assert!(matches!(fault(&reply), CallFault::Passing(301..=308)));
        assert!(reply.result.unwrap_err().to_string().contains("points elsewhere"));
    }
    assert_eq!(elsewhere.heard(), [""; 0]);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_client_usable() {
    let stalled = CannedServer::serve(vec![], Then::Stall).await;
    let rest = at(&stalled);
    assert!(tokio::time::timeout(SHORT, respond(&rest)).await.is_err());
    let short = self::rest(&stalled.platform(), SHORT);
    assert_eq!(fault(&short.me().await), CallFault::NoAnswer);
}

#[test]
fn https_needs_tls_and_a_client_is_never_shown_with_its_key() {
    let mut platform = testing::platform("127.0.0.1:1".parse().unwrap());
    let shown = format!("{:?}", rest(&platform, LONG));
    assert!(shown.contains("***") && !shown.contains(KEY), "{shown}");
    let net = Net::new(&platform).unwrap();
    platform.rest = "https://127.0.0.1:1/api/v1".parse().unwrap();
    assert!(Rest::new(&platform, &net, LONG).unwrap_err().to_string().contains("TLS"));
}
