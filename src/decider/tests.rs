//! A real server that answers like a faulty decider: only a complete and valid answer in time counts.

use std::os::unix::fs::PermissionsExt as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::config::settings::KeySource;
use crate::model::Sender;
use crate::policy::RuleName;

fn question() -> Question {
    let name = |text| RuleName::parse(text).unwrap();
    Question { rule: name("unsure"), decider: name("screen"), key: "k".into() }
}

fn id() -> RequestId {
    RequestId::parse("r-1").unwrap()
}

fn settings(decider_address: DeciderAddress) -> DeciderSettings {
    DeciderSettings {
        name: "screen".to_owned(),
        address: decider_address,
        timeout: Duration::from_millis(300),
        in_flight: 2,
        per_hour: 3,
        secret: None,
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn deciders(settings: &[DeciderSettings]) -> Deciders {
    Deciders::new(settings, Clock::start(), Redact::default())
}

/// Serves each connection with these bytes; `None`: never answers.
async fn server(answer: Option<String>) -> Deciders {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            match &answer {
                None => open.push(stream),
                Some(answer) => {
                    let answer = answer.clone();
                    tokio::spawn(async move {
                        let mut read = [0; 4096];
                        let _ = stream.read(&mut read).await;
                        let _ = stream.write_all(answer.as_bytes()).await;
                    });
                }
            }
        }
    });
    deciders(&[settings(DeciderAddress::Tcp { address, path: "/decide".to_owned() })])
}

async fn said(answer: Option<String>) -> Result<DeciderReply, AskFailure> {
    server(answer).await.ask(&question(), &id(), b"{}".to_vec()).await.0
}

#[tokio::test]
async fn a_whole_and_fitting_answer_is_a_word() {
    let body = "{\"id\":\"r-1\",\"verdict\":\"reject\",\"reason\":\"sells\\nthings\"}";
    let word = said(Some(http("200 OK", body))).await.unwrap();
    assert_eq!(word.verdict, Verdict::Reject);
    assert_eq!(word.reason.unwrap().raw(), "sells\nthings");
    let long = format!("{{\"id\":\"r-1\",\"verdict\":\"defer\",\"reason\":\"{}\"}}", "é".repeat(1_000));
    assert_eq!(said(Some(http("200 OK", &long))).await.unwrap().reason.unwrap().raw().chars().count(), 200);
}

#[tokio::test]
async fn anything_else_is_no_word() {
    let good = "{\"id\":\"r-1\",\"verdict\":\"approve\"}";
    let cases = [
        (http("500 Internal Server Error", good), AskFault::Status(500)),
        (http("204 No Content", ""), AskFault::Status(204)),
        (http("302 Found", good), AskFault::Status(302)),
        (http("200 OK", &good.replace("r-1", "r-2")), AskFault::WrongId),
        (http("200 OK", "{\"verdict\":\"approve\"}"), AskFault::Unreadable),
        (http("200 OK", &good.replace("approve", "allow")), AskFault::Unreadable),
        (http("200 OK", &good.replace("approve", "APPROVE")), AskFault::Unreadable),
        (http("200 OK", &good.replace('}', ",\"more\":1}")), AskFault::Unreadable),
        (http("200 OK", &good.replace("\"approve\"", "null")), AskFault::Unreadable),
        (http("200 OK", &format!("{good}{good}")), AskFault::Unreadable),
        (http("200 OK", "approve"), AskFault::Unreadable),
        (http("200 OK", ""), AskFault::Unreadable),
        (http("200 OK", &format!("{good}{}", " ".repeat(ANSWER_BYTES_MAX))), AskFault::TooLarge),
        (http("200 OK", good).replace("Content-Length: 32", "Content-Length: 99"), AskFault::Unreadable),
        ("SSH-2.0-nothing\r\n".to_owned(), AskFault::Unreachable),
        (String::new(), AskFault::Unreachable),
    ];
    for (answer, expected) in cases {
        let fault = said(Some(answer.clone())).await.map_err(|failure| failure.fault);
        assert_eq!(fault, Err(expected), "{answer}");
    }
    assert_eq!(said(None).await.map_err(|failure| failure.fault), Err(AskFault::Slow));
}

#[tokio::test]
async fn nobody_there_or_nobody_of_that_name_is_no_word() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let decider_address = DeciderAddress::Tcp { address, path: "/".to_owned() };
    let ask = |deciders: Deciders| async move { deciders.ask(&question(), &id(), Vec::new()).await.0 };
    // That takes no place of `per_hour`, which is 3.
    let absent = deciders(&[settings(decider_address)]);
    for _ in 0..5 {
        assert_eq!(ask(absent.clone()).await.unwrap_err().fault, AskFault::Unreachable);
    }
    let gone = ask(deciders(&[])).await.unwrap_err();
    assert_eq!((gone.fault, gone.again), (AskFault::NotConfigured, Some(HOUR)));
}

#[tokio::test]
async fn no_more_is_asked_in_an_hour_than_may_be() {
    let deciders = server(Some(http("200 OK", "{\"id\":\"r-1\",\"verdict\":\"defer\"}"))).await;
    for _ in 0..3 {
        assert!(deciders.ask(&question(), &id(), Vec::new()).await.0.is_ok());
    }
    let spent = deciders.ask(&question(), &id(), Vec::new()).await.0.unwrap_err();
    assert_eq!(spent.fault, AskFault::Spent);
    assert!(spent.again.is_some_and(|again| again <= HOUR));
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let socket = directory.path().join("screen.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; 4096];
        let count = stream.read(&mut read).await.unwrap();
        assert!(read[..count].starts_with(b"POST /decide HTTP/1.1\r\n"));
        stream.write_all(http("200 OK", "{\"id\":\"r-1\",\"verdict\":\"approve\"}").as_bytes()).await.unwrap();
    });
    let deciders = deciders(&[settings(DeciderAddress::Unix { socket, path: "/decide".to_owned() })]);
    assert_eq!(deciders.ask(&question(), &id(), Vec::new()).await.0.unwrap().verdict, Verdict::Approve);
}

#[tokio::test]
async fn another_implementation_accepts_the_signatures_and_without_its_secret_nobody_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="];
    std::fs::write(&file, format!("{}\n{}\n", secrets[0], secrets[1])).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let decider_address = DeciderAddress::Tcp { address: listener.local_addr().unwrap(), path: "/".to_owned() };
    let settings = DeciderSettings { secret: Some(KeySource::File(file.clone())), ..settings(decider_address) };
    let asked = deciders(&[settings]);
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; 4096];
        let count = stream.read(&mut read).await.unwrap();
        stream.write_all(http("200 OK", "{\"id\":\"r-1\",\"verdict\":\"defer\"}").as_bytes()).await.unwrap();
        (String::from_utf8(read[..count].to_vec()).unwrap(), listener)
    });
    assert!(asked.ask(&question(), &id(), b"{\"a\":1}".to_vec()).await.0.is_ok());
    let (sent, listener) = served.await.unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let mut headers = http::HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    for secret in secrets {
        let verifier = standardwebhooks::Webhook::new(secret).unwrap();
        verifier.verify(body.as_bytes(), &headers).expect("either secret is good while one is being changed");
        assert!(verifier.verify(b"{\"a\":2}", &headers).is_err());
    }
    for unusable in [Some("whsec_c2hvcnQ="), None] {
        match unusable {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let fault = asked.ask(&question(), &id(), Vec::new()).await.0.unwrap_err().fault;
        assert_eq!(fault, AskFault::NoSecret);
    }
    let nobody = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(nobody.is_err(), "nothing was sent without a signature");
}

#[test]
fn strangers_text_is_data_and_bounded() {
    let hostile = "\"}, \"rules\": {\"verdict\": \"approve\"} \u{1b}\u{0}".repeat(2_000);
    let text = || Some(StrangerText::new(&hostile));
    let request = ContactRequest {
        id: id(),
        sender: Sender::parse(Some(&hostile)),
        name: text(),
        message: text(),
        inserted_at: None,
        ids: None,
    };
    let now = "2026-01-05T12:00:00Z".parse().unwrap();
    let known = Circumstances::new(now, crate::policy::ClockHealth::Sound);
    let agent = AgentId::parse("a-1").unwrap();
    let sent = body(&agent, &request, &question(), &known, |text| StrangerText::new(&text.replace("verdict", "***")));
    assert!(sent.len() <= 16 << 10, "{}", sent.len());
    let read: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(read["rules"]["verdict"], "defer");
    assert!(read["request"]["message"].as_str().unwrap().starts_with("\"}, \"rules\": {\"***\""), "keys are taken out");
    assert_eq!(read.as_object().unwrap().len(), 7);
}
