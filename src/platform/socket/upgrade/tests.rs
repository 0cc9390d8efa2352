use super::*;
use crate::platform::net::Net;
use crate::platform::testing::{self, CannedServer, Then, head};

const KEY: &str = "band_secret_key";
const LONG: Duration = Duration::from_secs(30);
/// Long enough for a connection on a busy machine.
const SHORT: Duration = Duration::from_secs(1);
const PLAN: ConnectPlan = ConnectPlan { take: false, key_in_query: false };

async fn refused_by(raw: &CannedServer, plan: ConnectPlan, limit: Duration) -> ConnectFailure {
    let dialer = Dialer::new(&raw.platform(), &Net::new(&raw.platform()).unwrap()).unwrap();
    let (agent, key) = (AgentId::parse("a-1").unwrap(), Key::parse(KEY).unwrap());
    let refusal = open(&dialer, &agent, &key, plan, limit).await.unwrap_err();
    assert!(!format!("{refusal:?} {dialer:?}").contains(KEY), "{refusal:?}");
    refusal
}

#[tokio::test]
async fn a_refusal_says_why() {
    let conflict = r#"{"error":{"code":"connection_conflict","message":"m","request_id":null}}"#;
    let later = r#"{"error":{"code":"rate_limited","message":"m","retry_after":9}}"#;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (status, headers, body, code, retry_after) in [
        ("400 Bad Request", "", "not a WebSocket upgrade request", None, None),
        ("401 Unauthorized", "", r#"{"error":"unauthorized","message":"m"}"#, Some("unauthorized"), None),
        ("403 Forbidden", "", "", None, None),
        ("409 Conflict", "", conflict, Some("connection_conflict"), None),
        ("429 Too Many Requests", "", later, Some("rate_limited"), seconds(9)),
        ("429 Too Many Requests", "retry-after: 30\r\n", later, Some("rate_limited"), seconds(30)),
        (
            "503 Service Unavailable",
            "date: Mon, 02 Mar 2026 10:00:00 GMT\r\nretry-after: Mon, 02 Mar 2026 10:01:00 GMT\r\n",
            "",
            None,
            seconds(60),
        ),
        ("500 Internal Server Error", "", r#"{"errors":{"detail":"Internal Server Error"}}"#, None, None),
    ] {
        let raw = CannedServer::reply(status, headers, body.as_bytes()).await;
        let refusal = refused_by(&raw, PLAN, LONG).await;
        let number: u16 = status[..3].parse().unwrap();
        assert_eq!((refusal.status, refusal.code.as_deref()), (Some(number), code), "{status}");
        assert_eq!(refusal.retry_after, retry_after, "{status}");
        let named = code.map(|code| format!(" `{code}`")).unwrap_or_default();
        assert_eq!(refusal.why, format!("upgrade: http {number}{named} (tried {})", raw.platform().socket));
    }
}

#[tokio::test]
async fn a_body_in_pieces_or_chunks_is_read_whole() {
    let body = br#"{"error":{"code":"connection_conflict","message":"m"}}"#;
    let pieces = vec![head("409 Conflict", "", body.len()), body[..20].to_vec(), body[20..].to_vec()];
    let chunked = b"HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let chunks = vec![chunked, chunk(&body[..20]), chunk(&body[20..]), chunk(b"")];
    for pieces in [pieces, chunks] {
        // The connection stays open, as it does behind most proxies.
        let refusal = refused_by(&CannedServer::serve(pieces, Then::Stall).await, PLAN, LONG).await;
        assert_eq!((refusal.status, refusal.code.as_deref()), (Some(409), Some("connection_conflict")));
    }
}

#[tokio::test]
async fn a_refusal_stays_one_if_its_body_breaks_off_or_floods() {
    let cut = vec![head("409 Conflict", "", 100), b"{".to_vec()];
    let flood = vec![head("409 Conflict", "", usize::MAX >> 2), vec![b' '; REFUSAL_BYTES_MAX + 1]];
    for (pieces, then) in [(cut, Then::Close), (flood, Then::Stall)] {
        let refusal = refused_by(&CannedServer::serve(pieces, then).await, PLAN, LONG).await;
        assert_eq!((refusal.status, refusal.code), (Some(409), None));
    }
}

#[tokio::test]
async fn a_code_is_escaped_and_cut() {
    let body = format!(r#"{{"error":{{"code":"\u001b[31m{}"}}}}"#, "x".repeat(5000));
    let refusal = refused_by(&CannedServer::reply("403 Forbidden", "", body.as_bytes()).await, PLAN, LONG).await;
    let code = refusal.code.unwrap();
    assert!(code.starts_with(r"\u{1b}[31m") && code.chars().count() < 80, "{code}");
    assert!(!refusal.why.contains('\u{1b}'));
}

#[tokio::test]
async fn what_is_no_upgrade_is_none() {
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    for (answer, why) in [
        (format!("{upgraded}\r\n"), "another request"),
        (format!("{upgraded}sec-websocket-accept: AAAA\r\n\r\n"), "another request"),
        ("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n".to_owned(), "not a WebSocket upgrade"),
        ("HTTP/1.1 101 x\r\n\r\n".to_owned(), "upgrade"),
        ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), "upgrade"),
        (String::new(), "upgrade"),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(4 * HEAD_BYTES_MAX)), "upgrade"),
    ] {
        let raw = CannedServer::serve(vec![answer.clone().into_bytes()], Then::Close).await;
        let refusal = refused_by(&raw, PLAN, LONG).await;
        assert!(refusal.status.is_none() && refusal.why.starts_with("upgrade: "), "{answer:.40} {refusal:?}");
        assert!(refusal.why.contains(why), "{answer:.40} {}", refusal.why);
    }
    let success = refused_by(&CannedServer::reply("200 OK", "", b"<html>").await, PLAN, LONG).await;
    assert_eq!(success.status, Some(200));
}

#[tokio::test]
async fn every_phase_ends_and_is_named() {
    let silent = refused_by(&CannedServer::serve(vec![], Then::Stall).await, PLAN, SHORT).await;
    assert!(silent.why.starts_with("upgrade: no answer within 1s (tried ws://"), "{}", silent.why);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let platform = testing::platform(socket.local_addr().unwrap());
    let dialer = Dialer::new(&platform, &Net::new(&platform).unwrap()).unwrap();
    let (agent, key) = (AgentId::parse("a-1").unwrap(), Key::parse(KEY).unwrap());
    let refusal = open(&dialer, &agent, &key, PLAN, LONG).await.unwrap_err();
    assert!(refusal.why.starts_with("connect: ") && refusal.why.contains("refused"), "{}", refusal.why);
}

#[tokio::test]
async fn the_key_is_in_the_header_or_in_the_query_and_never_in_both() {
    let raw = CannedServer::reply("403 Forbidden", "", b"").await;
    refused_by(&raw, PLAN, LONG).await;
    refused_by(&raw, ConnectPlan { take: true, key_in_query: true }, LONG).await;
    let [header, query]: [String; 2] = raw.heard().try_into().unwrap();
    let path = "GET /api/v1/socket/websocket?vsn=2.0.0&agent_id=a-1&on_conflict";
    assert!(header.starts_with(&format!("{path}=reject HTTP/1.1\r\n")), "{header}");
    assert!(header.contains(&format!("x-api-key: {KEY}\r\n")), "{header}");
    assert!(query.starts_with(&format!("{path}=supersede&api_key={KEY} HTTP/1.1\r\n")), "{query}");
    assert!(!query.contains("x-api-key"), "{query}");
    for request in [header, query] {
        assert!(request.contains(&format!("host: {}\r\n", raw.address)), "{request}");
        assert!(request.contains("sec-websocket-version: 13\r\n"), "{request}");
    }
}
