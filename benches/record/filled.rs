//! The content of the ledger for this bench.

use std::path::Path;
use std::sync::Arc;

use doorman::ledger::{Record, Via};
use doorman::model::{AgentId, Answer, ContactRequest, Outcome, RequestId, Sender, StrangerText, Verdict};
use doorman::policy::{By, Circumstances, ClockHealth, Decision, ErrorKind, PolicyHash, RuleName};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::Args;

/// The first is the one that the sandbox of [`super::common`] knows.
pub fn agent(n: u64) -> AgentId {
    if n == 0 {
        return AgentId::parse(super::common::AGENT).unwrap();
    }
    AgentId::parse(&format!("{n:08x}-0000-4000-8000-000000000000")).unwrap()
}

fn hash() -> PolicyHash {
    PolicyHash::new(&"0f".repeat(32))
}

/// Requests that are approved, 64 in a batch, as entries of one agent.
pub fn batches(requests: u64) -> impl Iterator<Item = Vec<Record>> {
    let agent = agent(0);
    let one = move |n: u64| {
        let id = RequestId::parse(&format!("{n:08x}-1111-7000-8000-000000000000")).unwrap();
        let request = ContactRequest {
            id: id.clone(),
            sender: Sender::parse(Some(&format!("owner-{}/bot-{n}", n % 5000))),
            name: Some(StrangerText::new("A stranger")),
            message: Some(StrangerText::new("hello, may I talk to this agent about the weather in Paris?")),
            inserted_at: Some(Timestamp::now()),
            ids: None,
        };
        let by = By::Rule(RuleName::parse("everybody").unwrap());
        let decision = Decision { verdict: Verdict::Approve, by, ..Decision::error(ErrorKind::Internal, hash()) };
        let at = Timestamp::now();
        let circumstances = Circumstances::new(at, ClockHealth::Sound);
        let agent = agent.clone();
        [
            Record::Seen { agent: agent.clone(), request: Arc::new(request), via: Via::Event, at },
            Record::Decided {
                agent: agent.clone(),
                request: id.clone(),
                decision: Box::new(decision),
                circumstances,
                at,
            },
            Record::Intent {
                agent: agent.clone(),
                request: id.clone(),
                answer: Answer::Approve,
                by: doorman::policy::By::parse("everybody").unwrap(),
                lasts: None,
                policy: Some(hash()),
                head: None,
                charges: Vec::new(),
                counts: true,
                attempt: 1,
                at,
            },
            Record::Outcome {
                agent,
                request: id,
                outcome: Outcome::Confirmed(Answer::Approve),
                detail: None,
                refusal: None,
                stay: None,
                at,
            },
        ]
    };
    (0..requests / 64).map(move |batch| (batch * 64..batch * 64 + 64).flat_map(&one).collect())
}

/// Fills the file by SQL alone: one request a second until now, nine in ten of them answered, each with its decision;
/// every second approval has its contact.
pub fn fill(path: &Path, requests: u64, agents: u64) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN").unwrap();
    let mut insert = connection.prepare("INSERT INTO agent (id) VALUES (?1)").unwrap();
    for n in 0..agents {
        insert.execute([agent(n).as_str()]).unwrap();
    }
    connection.execute("INSERT INTO policy (hash) VALUES (?1)", [hash().as_str()]).unwrap();
    let begun = (Timestamp::now().as_second() - requests as i64) * 1_000_000;
    let numbers = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?1)";
    let facts = r#"{"voices":[{}],"known":{"contacts":7}}"#;
    let fill = |sql: &str| {
        connection
            .prepare(sql)
            .and_then(|mut statement| statement.execute(params![requests as i64, agents as i64, begun, facts]))
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
    };
    fill(&format!(
        "{numbers} INSERT INTO request (agent, id, owner, handle, name, message, inserted_at, first_seen, via, settled, settled_at)
         SELECT 1 + n % ?2, printf('%08x-2222-7000-8000-000000000000', n), printf('owner-%d', n % 50000),
             printf('owner-%d/bot', n % 50000), 'A stranger', 'hello, may I talk to this agent about the weather in Paris?',
             ?3 + n * 1000000, ?3 + n * 1000000, 'event', iif(n % 1000, 'approved', NULL), iif(n % 1000, ?3 + n * 1000000 + 2000, NULL)
         FROM c WHERE ?4 IS NOT NULL"
    ));
    fill(
        "INSERT INTO decision (request, at, verdict, \"by\", policy, mode, facts)
         SELECT n, first_seen, iif(settled IS NULL, 'defer', 'approve'), iif(settled IS NULL, 'no_match', 'everybody'), 1, 'enforce', ?4
         FROM request WHERE ?1 AND ?2 AND ?3",
    );
    fill(
        "INSERT INTO answer (agent, request, answer, \"by\", policy, counts, at, attempts, reserved_at, last_at, outcome, outcome_at)
         SELECT agent, n, 'approve', 'everybody', 1, 0, first_seen, 1, first_seen, first_seen,
             (SELECT outcome FROM (SELECT 'approved' AS outcome)), first_seen + 2000
         FROM request WHERE settled IS NOT NULL AND ?1 AND ?2 AND ?3 AND ?4 IS NOT NULL",
    );
    fill(
        "INSERT INTO contact (agent, id, owner, handle, name, kind, inserted_at, added_at, request)
         SELECT agent, 'c' || n, owner, handle, name, 'agent', first_seen, first_seen, n
         FROM request WHERE settled IS NOT NULL AND n % 2 AND ?1 AND ?2 AND ?3 AND ?4 IS NOT NULL",
    );
    fill(
        "INSERT INTO contact_owner (contact, owner, agent, at) SELECT n, owner, agent, added_at FROM contact WHERE ?1 AND ?2 AND ?3 AND ?4 IS NOT NULL",
    );
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

/// The commands to time.
pub fn commands(args: &Args, rules: &str) -> Vec<Vec<String>> {
    let middle = args.requests / 2;
    // One with contacts: every second request of those who have an odd number made one.
    let busy = agent(77 % args.agents);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    vec![
        words("history"),
        words("history -n 20"),
        words("history --since 10m"),
        words("history --handle owner-77/bot"),
        words(&format!("explain {middle:08x}-2222-7000-8000-000000000000")),
        words("explain @owner-77/bot"),
        words("history --since 10m --json"),
        words("history -q --since 1h"),
        words(&format!("contacts --agent {busy}")),
        words(&format!("audit --agent {busy} --rules {rules}")),
        words(&format!("revoke --agent {busy} --since 1h --dry-run")),
        words("contacts"),
        words("contacts -n 20"),
        words("contacts --since 10m"),
        words("contacts --matching owner-77/*"),
        words("contacts --matching */no-such-slug"),
        words("contacts --matching a*/bot"),
        words("contacts --rule friends"),
        words("contacts --not-by-doorman"),
        words("revoke owner-77/bot --dry-run"),
        words("revoke owner-77/* --dry-run"),
        words("revoke --rule friends --dry-run"),
    ]
}

/// Those that read everything, each timed once.
pub fn whole(rules: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    vec![
        words("contacts --json"),
        words("contacts --all"),
        words("history --all"),
        words(&format!("audit --json --all --rules {rules}")),
    ]
}
