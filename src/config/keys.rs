//! Every table and key of `doorman.toml`. The reader uses this table to refuse unknown keys,
//! `config/doorman.schema.json` is generated from it, and tests compare `docs/configuration.md` and the README with it.

mod notify;

use crate::document::keys::{KeyType, Section, key, required};

pub(crate) use notify::{NOTIFY, NOTIFY_KINDS, NOTIFY_REPLIES, NOTIFY_TEXTS};

/// The words of `connection`.
pub(crate) const CONNECTIONS: &[&str] = &["yield", "take", "poll"];
/// The words of `credentials`.
pub(crate) const CREDENTIALS: &[&str] = &["auto", "header", "query"];
/// The words of `log.format`.
pub(crate) const FORMATS: &[&str] = &["auto", "human", "json", "journald"];
/// The words of `metrics.per_agent`.
pub(crate) const PER_AGENT: &[&str] = &["auto", "always", "never"];
/// The words of `page.identity`.
pub(crate) const PAGE_IDENTITIES: &[&str] = &["peer", "proxy", "token"];
/// Keys whose names sound like a secret's and whose values only say where it is.
pub(crate) const NO_SECRETS: [&str; 9] = [
    "api_key_file",
    "api_key_env",
    "api_key_credential",
    "secret_file",
    "secret_env",
    "secret_credential",
    "proxy_secret_credential",
    "password_file",
    "password_credential",
];
/// Most answers of one agent in flight at once.
pub(crate) const IN_FLIGHT_MAX: u64 = 1024;

/// No table of this file takes a secret.
const OURS: Section =
    Section { secrets: "put it in a file of its own: `api_key_file` in `[[agents]]`", ..Section::PLAIN };

/// The whole file.
pub static FILE: Section = Section {
    path: "",
    meaning: "doorman's configuration.",
    keys: &[
        key("platform", KeyType::Table(&PLATFORM), "all defaults", "Where the platform is."),
        key(
            "agents",
            KeyType::Tables(&AGENT),
            "the environment's agent",
            "The agents whose contact requests doorman answers.",
        ),
        key("deciders", KeyType::Named(&DECIDER), "none", "Programs that rules may ask about doubtful requests."),
        key("answers", KeyType::Table(&ANSWERS), "all defaults", "How fast doorman answers, for each agent."),
        key("ledger", KeyType::Table(&LEDGER), "all defaults", "The record."),
        key(
            "fleet",
            KeyType::Table(&FLEET),
            "all defaults",
            "This doorman among those that share its PostgreSQL database.",
        ),
        key(
            "control",
            KeyType::Table(&CONTROL),
            "all defaults",
            "The socket that commands such as `doorman status` use.",
        ),
        key("metrics", KeyType::Table(&METRICS), "all defaults", "Metrics and health over TCP."),
        key(
            "page",
            KeyType::Table(&PAGE),
            "all defaults",
            "The page for people: who waits and why, and how all agents are.",
        ),
        key(
            "notify",
            KeyType::Tables(&NOTIFY),
            "nobody",
            "Who gets a message when a request waits for a person, or when something is wrong.",
        ),
        key("reload", KeyType::Table(&RELOAD), "all defaults", "When rules are loaded again."),
        key("log", KeyType::Table(&LOG), "all defaults", "What is logged, and in which format."),
        key("timing", KeyType::Table(&TIMING), "all defaults", "Time limits, for tests and unusual platforms."),
    ],
    elsewhere: &[
        (&AGENT, "it belongs in `[[agents]]`"),
        (&PLATFORM, "it belongs in `[platform]`"),
        (&DECIDER, "it belongs in `[deciders.NAME]`"),
        (&ANSWERS, "it belongs in `[answers]`"),
        (&LEDGER, "it belongs in `[ledger]`"),
        (&FLEET, "it belongs in `[fleet]`"),
        (&LOG, "it belongs in `[log]`"),
        (&METRICS, "it belongs in `[metrics]`"),
        (&NOTIFY, "it belongs in `[[notify]]`"),
        (&PAGE, "it belongs in `[page]`"),
        (&RELOAD, "it belongs in `[reload]`"),
        (&TIMING, "it belongs in `[timing]`"),
    ],
    ..OURS
};

/// `[platform]`.
pub(crate) static PLATFORM: Section = Section {
    path: "platform",
    meaning: "Where the platform is.",
    keys: &[
        key("url", KeyType::Text, "https://app.band.ai", "Its address; the other two follow from it."),
        key("rest_url", KeyType::Text, "from `url`", "The address of its REST interface, if it is a different one."),
        key("socket_url", KeyType::Text, "from `url`", "The address of its WebSocket, if it is a different one."),
        key("ca_file", KeyType::Text, "none", "One more certificate authority to trust, a PEM file."),
        key(
            "credentials",
            KeyType::Word(CREDENTIALS),
            "auto",
            "How the API key is sent when the WebSocket opens: `header`, `query`, or `auto` (header first).",
        ),
        key(
            "user_agent",
            KeyType::Text,
            concat!("Mozilla/5.0 (compatible; doorman/", env!("CARGO_PKG_VERSION"), ")"),
            "The `User-Agent` of every request, as a CDN in front of the platform sees it.",
        ),
        key(
            "headers",
            KeyType::TextList,
            "none",
            "More headers for every request, each as `Name: value`, for example for a firewall. Values are never shown.",
        ),
        key(
            "calls_per_second_max",
            KeyType::Count(1, 10_000),
            "200",
            "Most connections and listings that all agents together begin in a second. Further pages of a listing that has begun well come on top: as many a second, and five seconds' worth at once. doorman slows down by itself when the platform refuses calls.",
        ),
    ],
    ..OURS
};

/// One of `[[agents]]`.
pub static AGENT: Section = Section {
    path: "agents",
    meaning: "One agent.",
    keys: &[
        required("id", KeyType::Text, "The agent's id, a UUID."),
        key("name", KeyType::Text, "none", "What rules call it in `agents`: a-z, 0-9 and `-`."),
        key(
            "api_key_file",
            KeyType::Text,
            "none",
            "The file that holds its API key. Only the daemon's user may read it.",
        ),
        key("api_key_env", KeyType::Text, "none", "The environment variable that holds its key."),
        key("api_key_credential", KeyType::Text, "none", "The systemd credential that holds its key, by name."),
        key(
            "rules",
            KeyType::Text,
            "rules.toml",
            "Its rules file; several agents may share one. With `url` in `[ledger]` also `ledger:NAME`: the rules that `doorman policy push NAME` put there.",
        ),
        key(
            "connection",
            KeyType::Word(CONNECTIONS),
            "yield",
            "What to do when the agent itself is connected: `yield` never takes its connection, `take` does, `poll` never opens one.",
        ),
    ],
    ..OURS
};

/// `[deciders.NAME]`.
pub(crate) static DECIDER: Section = Section {
    path: "deciders.NAME",
    meaning: "A program on this machine that is asked about requests which a rule with `ask` keeps waiting.",
    keys: &[
        key("url", KeyType::Text, "none", "Its address: `http://` on loopback. Either this or `unix`."),
        key("unix", KeyType::Text, "none", "The Unix socket that it serves HTTP on."),
        key("path", KeyType::Text, "/decide", "The path of the URL, with `unix`."),
        key("timeout", KeyType::Duration, "20s", "The longest wait for its answer, at most `5m`."),
        key("in_flight", KeyType::Count(1, 64), "4", "Most questions at once, of all agents together."),
        key("per_hour", KeyType::Count(1, 1_000_000), "200", "Most questions in an hour, of all agents together."),
        key(
            "secret_file",
            KeyType::Text,
            "none",
            "The file that holds the secret that signs the questions (two lines while you change it).",
        ),
        key("secret_env", KeyType::Text, "none", "The environment variable that holds it."),
        key("secret_credential", KeyType::Text, "none", "The systemd credential that holds it, by name."),
    ],
    ..OURS
};

/// `[answers]`.
pub(crate) static ANSWERS: Section = Section {
    path: "answers",
    meaning: "How fast doorman answers, for each agent.",
    keys: &[
        key("in_flight", KeyType::Count(1, IN_FLIGHT_MAX), "8", "Most answers sent at the same time."),
        key("per_second", KeyType::Count(0, 1_000_000), "20", "Most answers begun in a second; 0 means no limit."),
    ],
    ..OURS
};

/// `[ledger]`.
pub(crate) static LEDGER: Section = Section {
    path: "ledger",
    meaning: "The record.",
    keys: &[
        key(
            "path",
            KeyType::Text,
            "ledger.db in the state directory",
            "The database. With `url` it is not used, but other files of the daemon are still beside this path.",
        ),
        key(
            "url",
            KeyType::Text,
            "none",
            "A PostgreSQL database that holds the record in place of the file, such as `postgresql://doorman@db.example/doorman`.",
        ),
        key(
            "ca_file",
            KeyType::Text,
            "none",
            "A file with a certificate authority that the database's TLS may use, besides the machine's.",
        ),
        key("password_file", KeyType::Text, "none", "The file that holds the database's password."),
        key("password_credential", KeyType::Text, "none", "The systemd credential that holds it, by name."),
        key("connections", KeyType::Count(3, 64), "6", "Most connections to the database; two of them read."),
        key(
            "keep",
            KeyType::Duration,
            "400d",
            "Names and messages of older requests are deleted; everything else is kept.",
        ),
    ],
    secrets: "put it in a file of its own, and name that with `password_file` in `[ledger]`",
    ..OURS
};

/// `[fleet]`.
pub(crate) static FLEET: Section = Section {
    path: "fleet",
    meaning: "This doorman among those that share its PostgreSQL database.",
    keys: &[
        key(
            "name",
            KeyType::Text,
            "none",
            "Its name for people, for example in the log; without one, the machine's name.",
        ),
        key(
            "ttl",
            KeyType::Duration,
            "15s",
            "A doorman that does not reach the database for this long loses its agents to the others.",
        ),
        key(
            "let_go_after",
            KeyType::Duration,
            "30s",
            "How long it then keeps the connections of its agents, if it cannot see who has them.",
        ),
        key(
            "give_when_away",
            KeyType::Duration,
            "5m",
            "If the platform answers no call of this doorman for this long, and does answer another one, its agents go there.",
        ),
        key(
            "keys_dir",
            KeyType::Text,
            "none",
            "The directory with the keys of the roster's agents, a file `ID.key` each (`doorman fleet add`).",
        ),
        key("weight", KeyType::Count(1, 10_000), "100", "Its share of the agents, compared with the others'."),
        key("agents_max", KeyType::Count(0, 1_000_000), "20000", "Most agents that it takes."),
        key(
            "dials_per_second",
            KeyType::Count(1, 1_000_000),
            "500",
            "Most connections, `me` calls and listing pages that all doormen together begin in a second.",
        ),
    ],
    ..OURS
};

/// `[control]`.
pub(crate) static CONTROL: Section = Section {
    path: "control",
    meaning: "The socket that commands such as `doorman status` use.",
    keys: &[
        key("path", KeyType::Text, "doorman.sock in the runtime directory", "The Unix socket, at most 107 bytes."),
        key("group", KeyType::Text, "none", "The group whose members may use it, besides root and doorman's own user."),
        key(
            "read_path",
            KeyType::Text,
            "none",
            "A second socket, for commands that only read; with `read_group` alone it is `read.sock` beside `path`.",
        ),
        key("read_group", KeyType::Text, "none", "The group whose members may use that one."),
    ],
    ..OURS
};

/// `[metrics]`.
pub(crate) static METRICS: Section = Section {
    path: "metrics",
    meaning: "Metrics and health over TCP.",
    keys: &[
        key(
            "listen",
            KeyType::Text,
            "none",
            "The address and port that serve `/metrics`, `/healthz` and `/readyz`, such as `127.0.0.1:9464`.",
        ),
        key(
            "allow_remote",
            KeyType::Bool,
            "false",
            "Whether `listen` may be an address that other machines can reach, without a warning.",
        ),
        key(
            "per_agent",
            KeyType::Word(PER_AGENT),
            "auto",
            "Whether each agent has series of its own: `auto` for up to 500 agents, `always`, or `never`.",
        ),
    ],
    ..OURS
};

/// `[page]`.
pub static PAGE: Section = Section {
    path: "page",
    meaning: "The page for people: who waits and why, and how all agents are.",
    keys: &[
        key(
            "socket",
            KeyType::Text,
            "none",
            "The Unix socket that serves it, at most 107 bytes, for whoever may use the control socket.",
        ),
        key("listen", KeyType::Text, "none", "The address and port that serve it, such as `127.0.0.1:8480`."),
        key("act", KeyType::Bool, "false", "Whether known people may approve, reject and hold there."),
        key(
            "identity",
            KeyType::Word(PAGE_IDENTITIES),
            "peer",
            "How a person is known: `peer` by the account at the other end of the socket, `proxy` by a header of a proxy, `token` by `doorman page login`.",
        ),
        key("proxy_user", KeyType::Text, "Remote-User", "The header in which the proxy says who it is."),
        key(
            "proxy_secret_credential",
            KeyType::Text,
            "none",
            "The systemd credential that the proxy sends as `X-Doorman-Proxy`, by name; needed with `listen` and `proxy`.",
        ),
        key(
            "url",
            KeyType::Text,
            "none",
            "Where browsers find the page, such as `https://doorman.example.org`; `localhost` and `127.0.0.1` need not be named.",
        ),
    ],
    ..OURS
};

/// `[reload]`.
pub(crate) static RELOAD: Section = Section {
    path: "reload",
    meaning: "When rules are loaded again.",
    keys: &[key("watch", KeyType::Bool, "false", "Check the rules and their lists for changes every two seconds.")],
    ..OURS
};

/// `[log]`.
pub static LOG: Section = Section {
    path: "log",
    meaning: "What is logged, and in which format.",
    keys: &[
        key(
            "format",
            KeyType::Word(FORMATS),
            "auto",
            "`auto` (for people on a terminal, else JSON), `human`, `json` or `journald`.",
        ),
        key("level", KeyType::Text, "info", "`error`, `warn`, `info`, `debug`, `trace`, or a filter by module."),
    ],
    ..OURS
};

/// `[timing]`.
pub static TIMING: Section = Section {
    path: "timing",
    meaning: "Time limits, for tests and unusual platforms.",
    keys: &[
        key("heartbeat", KeyType::Duration, "25s", "The time between heartbeats, ± 10 %."),
        key(
            "dead_after",
            KeyType::Duration,
            "55s",
            "The connection counts as dead after this time without a heartbeat reply.",
        ),
        key(
            "join_timeout",
            KeyType::Duration,
            "15s",
            "The longest time for a join, for connecting, and for each REST call.",
        ),
        key(
            "backoff_min",
            KeyType::Duration,
            "500ms",
            "The first upper limit of the random wait before connecting again.",
        ),
        key("backoff_max", KeyType::Duration, "60s", "The largest upper limit of that wait."),
        key(
            "proven_after",
            KeyType::Duration,
            "60s",
            "After a connection has lasted this long, the wait starts small again.",
        ),
        key("list_live", KeyType::Duration, "5m", "The time between listings while live, ± 20 %."),
        key("list_away", KeyType::Duration, "30s", "The time between listings otherwise, ± 20 %."),
        key(
            "yield_retry",
            KeyType::Duration,
            "5m",
            "The time between attempts while another client has the connection.",
        ),
        key(
            "ghost_window",
            KeyType::Duration,
            "90s",
            "A refusal (409) this soon after doorman's own connection broke may be caused by that old connection.",
        ),
        key("ghost_retry", KeyType::Duration, "15s", "The time between attempts in that case, up to a third more."),
        key("refused_min", KeyType::Duration, "60s", "The first wait after the platform refused the key."),
        key("refused_max", KeyType::Duration, "15m", "The longest such wait."),
        key("retry_after_max", KeyType::Duration, "15m", "The longest `Retry-After` that doorman follows."),
        key("drain", KeyType::Duration, "10s", "The longest time to finish answers when doorman stops."),
    ],
    ..OURS
};

/// All tables, the file itself first.
pub static SECTIONS: &[&Section] = &[
    &FILE, &PLATFORM, &AGENT, &DECIDER, &ANSWERS, &LEDGER, &FLEET, &CONTROL, &METRICS, &PAGE, &NOTIFY, &RELOAD, &LOG,
    &TIMING,
];

/// The JSON Schema of `doorman.toml`.
pub fn schema() -> serde_json::Value {
    crate::document::schema::schema("doorman configuration", &FILE, &SECTIONS[1..])
}
