//! Transcripts from end to end: what the daemon records, that no secret is in it, and that playing it has the same
//! result.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use doorman::sandbox::replay::{RunningReplay, Script};
use doorman::sandbox::{NewRequest, Sandbox, SandboxOptions, World};
use doorman::transcript::{Direction, TranscriptLine, read};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::process::{AGENT, KEY, Site, TIME};

/// Words that occur only in strangers' text in these tests.
const WORDS: [&str; 4] = ["sesame", "zebedee", "friends", "foes"];

/// An evening with a friend, a foe and a stranger, and a connection that drops; what was recorded, and the verdicts.
async fn evening(arguments: &[&str]) -> (String, BTreeMap<String, String>) {
    let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
    let (control, site) = (sandbox.control(), Site::new(&format!("url = \"{}\"", sandbox.url())));
    let ask = |id: &str, handle: &str| {
        let name = Some(Some("Zebedee".to_owned()));
        let message = Some(Some("open sesame".to_owned()));
        let new = NewRequest { from_name: name, message, ..NewRequest::to(AGENT).from(handle).id(id) };
        control.request(&new).unwrap();
    };
    let file = site.path("evening.jsonl").display().to_string();
    ask("r-listed", "foes/early");
    let mut doorman = site.run(&[&["--record", &file], arguments].concat(), &[]);
    let mut verdicts = BTreeMap::new();
    doorman.is("live").await;
    verdicts.insert("r-listed".to_owned(), doorman.answers("r-listed").await["verdict"].to_string());
    ask("r-friend", "friends/ann");
    verdicts.insert("r-friend".to_owned(), doorman.answers("r-friend").await["verdict"].to_string());
    control.kick(AGENT, Some(1012)).unwrap();
    doorman.is("away").await;
    doorman.is("live").await;
    ask("r-foe", "@foes/Bob");
    ask("r-stranger", "zebedee");
    verdicts.insert("r-foe".to_owned(), doorman.answers("r-foe").await["verdict"].to_string());
    doorman.says("r-stranger", |line| line["event"] == "decided" && line["request"] == "r-stranger").await;
    let (code, said) = doorman.stop().await;
    assert_eq!(code, Some(0), "{said}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "nobody else reads it");
    (std::fs::read_to_string(&file).unwrap(), verdicts)
}

fn requests(lines: &[TranscriptLine], dir: Direction) -> impl Iterator<Item = &doorman::transcript::RestLine> {
    lines.iter().filter(move |line| line.dir == Some(dir)).filter_map(|line| line.rest.as_ref())
}

#[tokio::test]
async fn a_transcript_holds_what_happened_and_neither_key_nor_strangers_text() {
    let (text, _) = evening(&[]).await;
    assert!(!text.contains(KEY), "the key is in it");
    for word in WORDS {
        assert!(!text.to_lowercase().contains(word), "`{word}` is in it");
    }
    let lines = read(&text).unwrap();
    let upgrades: Vec<_> = lines.iter().filter_map(|line| line.upgrade.as_ref()?.status).collect();
    assert_eq!(upgrades, [101, 101]);
    assert!(lines.iter().any(|line| line.close == Some(Some(1012)) && line.dir == Some(Direction::In)));
    let events = |name: &str| {
        let name = name.to_owned();
        lines.iter().filter(move |line| line.frame.as_ref().is_some_and(|frame| frame[3] == name.as_str())).count()
    };
    assert_eq!((events("phx_join"), events("contact_request_received")), (4, 3));
    let answers: Vec<_> = requests(&lines, Direction::Out)
        .filter_map(|rest| Some((rest.body.as_ref()?["request_id"].as_str()?, rest.body.as_ref()?["action"].as_str()?)))
        .collect();
    assert_eq!(answers, [("r-listed", "reject"), ("r-friend", "approve"), ("r-foe", "reject")]);
    let calls = requests(&lines, Direction::Out).count();
    assert!(calls > 4 && requests(&lines, Direction::In).count() == calls, "every call has its answer");
    assert!(lines.iter().skip(1).all(|line| line.at.is_some() && line.agent.as_deref() == Some(AGENT)));
}

#[tokio::test]
async fn played_to_another_daemon_the_same_comes_of_it() {
    let (text, verdicts) = evening(&["--record-text"]).await;
    assert!(!text.contains(KEY), "the key is in it");
    assert!(text.contains("open sesame") && text.contains("@foes/Bob"), "text was asked for");
    let (told, mut heard) = mpsc::unbounded_channel();
    let script = Script::of(&read(&text).unwrap(), None).unwrap();
    let replay = RunningReplay::start(([127, 0, 0, 1], 0).into(), script, true, told).await.unwrap();
    let site = Site::new(&format!("url = \"{}\"", replay.url()));
    std::fs::write(site.path("agent.key"), "another-key-altogether").unwrap();
    let mut doorman = site.run(&[], &[]);
    for (request, verdict) in verdicts {
        let line = doorman.answers(&request).await;
        let outcome = if verdict.contains("approve") { "approved" } else { "rejected" };
        assert_eq!((line["verdict"].to_string(), &line["outcome"]), (verdict, &outcome.into()), "{request}");
    }
    let over = async { while heard.recv().await.unwrap() != "the transcript is over" {} };
    timeout(TIME, over).await.unwrap();
    doorman.stop().await;
    replay.stop().await;
}

/// `doorman sandbox --replay`.
struct ReplaySandbox {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl ReplaySandbox {
    async fn open(site: &Site, file: &Path) -> Self {
        let file = file.display().to_string();
        let mut child = site.command(&["sandbox", "--listen", "127.0.0.1:0", "--replay", &file]).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = said.next_line().await.unwrap().unwrap();
        let url = first.strip_prefix("listening on ").unwrap().to_owned();
        Self { child, said, url }
    }

    async fn says(&mut self, what: &str) {
        let reading = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                if line.contains(what) {
                    return;
                }
            }
            panic!("it never said: {what}");
        };
        timeout(TIME, reading).await.unwrap();
    }
}

#[tokio::test]
async fn what_real_servers_were_seen_to_say_is_played_to_the_real_daemon() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/phoenix");
    for (name, seen) in [
        ("event_pushed", Some("r1")),
        ("event_broadcast", Some("r1")),
        ("channel_crash", Some("r1")),
        ("second_join", None),
        ("malformed", Some("r1")),
        ("end_1001", None),
        ("end_killed", None),
        ("upgrade_503", None),
    ] {
        let site = Site::new("");
        let mut theatre = ReplaySandbox::open(&site, &folder.join(format!("{name}.jsonl"))).await;
        site.configure(&format!("url = \"{}\"", theatre.url));
        let mut doorman = site.run(&[], &[]);
        if let Some(request) = seen {
            doorman.says(request, |line| line["event"] == "decided" && line["request"] == request).await;
        }
        if name != "second_join" && name != "upgrade_503" {
            theatre.says("the transcript is over").await;
        } else {
            theatre.says("connection 1 of").await;
        }
        doorman.stop().await;
        theatre.child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_or_played_is_refused_with_a_reason() {
    let site = Site::new("url = \"http://127.0.0.1:9\"");
    let nowhere = site.path("no/such/folder/t.jsonl").display().to_string();
    let (code, said) = site.run(&["--record", &nowhere], &[]).ended().await;
    assert!(code == Some(78) && said.contains("no transcript can be written to"), "{code:?} {said}");
    for (text, why) in [
        ("hello\n", "line 1 is not a line of a transcript"),
        ("{\"transcript\": 99}\n", "use a newer one"),
        ("{\"dir\":\"\\u001b[2J\"}\n", "unknown variant `\\u{1b}[2J`"),
        ("", "the platform says nothing in it"),
        (
            "{\"agent\":\"a\",\"dir\":\"out\",\"upgrade\":{}}\n{\"agent\":\"b\",\"dir\":\"out\",\"upgrade\":{}}\n",
            "choose one with `--replay-agent`, such as `a`",
        ),
    ] {
        let path = site.path("bad.jsonl");
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let output = site.command(&["sandbox", "--listen", "127.0.0.1:0", "--replay", &path]).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(78) && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn a_key_that_the_platform_repeats_is_shown_nowhere() {
    // A refusal that repeats the key, like that of a careless platform.
    let text = format!(
        r#"{{"agent":"a","dir":"out","upgrade":{{}}}}
{{"agent":"a","dir":"in","upgrade":{{"status":400,"code":"{KEY}"}}}}
{{"agent":"a","dir":"out","rest":{{"call":1,"method":"GET","path":"agent/contacts/requests","query":"page=1&page_size=100"}}}}
{{"agent":"a","dir":"in","rest":{{"call":1,"status":422,"body":{{"error":{{"code":"{KEY}","message":"no {KEY}"}}}}}}}}
"#
    );
    let (told, _heard) = mpsc::unbounded_channel();
    let script = Script::of(&read(&text).unwrap(), None).unwrap();
    let replay = RunningReplay::start(([127, 0, 0, 1], 0).into(), script, true, told).await.unwrap();
    let site = Site::new(&format!("url = \"{}\"", replay.url()));
    let mut doorman = site.run(&[], &[]);
    doorman.says("the refused upgrade", |line| line["why"].to_string().contains("http 400 `***`")).await;
    doorman.says("the refused call", |line| line["event"] == "listing_failed").await;
    let status = site.status().await;
    assert!(!status.to_string().contains(KEY), "{status}");
    let (_, said) = doorman.stop().await;
    assert!(!said.contains(KEY), "{said}");
    let ledger = std::fs::read(site.path("ledger.db")).unwrap();
    assert!(!ledger.windows(KEY.len()).any(|bytes| bytes == KEY.as_bytes()), "the key is in the ledger");
}
