//! The events and fields of the log: a contract. Code emits events by these constants, and a test compares
//! `docs/logs.md` with the tables in here. A change breaks somebody's alerts: only add, and record it in the changelog.

use tracing::Level;

/// One event of the contract.
#[derive(Debug, Clone, Copy)]
pub struct EventDoc {
    /// The value of the field `event`.
    pub name: &'static str,
    /// The level of the event; [`EventDoc::softer`] may name a second level.
    pub level: Level,
    /// A second level, if the event has two meanings.
    pub softer: Option<Level>,
    /// The fields it may carry beside `ts`, `level`, `event`, `message`, `agent` and `request`.
    pub fields: &'static [&'static str],
    /// What it means, as in the documentation.
    pub meaning: &'static str,
}

/// One field of the contract.
#[derive(Debug, Clone, Copy)]
pub struct FieldDoc {
    /// Its name.
    pub name: &'static str,
    /// `text`, `number` or `yes/no`.
    pub kind: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

macro_rules! events {
    ($($constant:ident = $name:literal, $level:ident $(or $softer:ident)?, [$($field:literal),*], $meaning:literal;)*) => {
        $(#[doc = concat!("`", $name, "`: ", $meaning)]
        pub const $constant: &str = $name;)*

        /// Every event, in the order of the documentation.
        pub const EVENTS: &[EventDoc] = &[$(EventDoc {
            name: $name,
            level: Level::$level,
            softer: { #[allow(unused_mut, unused_assignments)] let mut softer = None; $(softer = Some(Level::$softer);)? softer },
            fields: &[$($field),*],
            meaning: $meaning,
        }),*];
    };
}

macro_rules! fields {
    ($($name:literal, $kind:literal, $meaning:literal;)*) => {
        /// Every field, in the order of the documentation.
        pub const FIELDS: &[FieldDoc] = &[$(FieldDoc { name: $name, kind: $kind, meaning: $meaning }),*];
    };
}

events! {
    STARTED = "started", INFO, ["version", "agents", "pid", "rest_proxy", "socket_proxy", "authorities"], "doorman is up: configuration, ledger and control socket are there";
    CONFIG_LOADED = "config_loaded", INFO, ["path", "agents"], "the configuration was read";
    CONFIG_WARNED = "config_warned", WARN, ["path", "problems"], "the configuration or a policy was taken, with warnings";
    CONFIG_REFUSED = "config_refused", ERROR, ["path", "problems"], "a reload found an error in the configuration; the configuration read at the start stays in force; logged again every 5 minutes until a reload finds no error";
    POLICY_LOADED = "policy_loaded", INFO, ["path", "policy", "version", "mode", "rules"], "a policy is in force, also the same as before once its file is no longer refused; `version`: of rules that were pushed into the ledger";
    LIST_CHANGED = "list_changed", INFO, ["path", "list", "added", "removed", "entries"], "the entries of a list changed with the policy that is now in force";
    POLICY_IN_FORCE = "policy_in_force", DEBUG, ["policy"], "an agent uses another policy from now on";
    POLICY_REFUSED = "policy_refused", ERROR, ["path", "policy", "problems"], "a rules file was refused; `policy` is what stays in force, absent if nothing does";
    AGENT_WITHOUT_RULES = "agent_without_rules", ERROR, ["path", "problems"], "no usable rules for the agent: everything stays pending until its rules file is correct";
    STATE_CHANGED = "state_changed", INFO or WARN, ["state", "why"], "the agent's state changed; a warning if the new state is `refused`";
    IDENTIFIED = "identified", DEBUG, ["handle"], "the key belongs to this agent; `handle` is its handle";
    CONNECTION_DEAD = "connection_dead", WARN, ["why"], "no heartbeat got a reply for `timing.dead_after`: doorman closes the connection";
    JOIN_REFUSED = "join_refused", WARN or DEBUG, ["why"], "the platform refused the join of one of the agent's channels; at debug for `agent_control`, which doorman does not need";
    CHANNEL_CRASHED = "channel_crashed", WARN or DEBUG, ["why"], "the platform's side of a channel crashed; joining again";
    CHANNEL_CLOSED = "channel_closed", WARN or DEBUG, ["why"], "the platform closed a channel; joining again";
    JOIN_TIMEOUT = "join_timeout", WARN or DEBUG, ["why"], "a join got no reply for `timing.join_timeout`; doorman joins again";
    JOIN_STALE = "join_stale", DEBUG, ["why"], "the reply to a join that doorman had already given up; ignored";
    RECONNECT = "reconnect", DEBUG, ["why"], "the connection is closed; doorman will connect again";
    SUPERSEDED = "superseded", WARN, ["why", "code"], "another connection took this agent's place";
    CONNECTION_FIGHT = "connection_fight", WARN, ["why"], "two clients take the connection from each other; doorman stays away for a while";
    CREDENTIALS_FALLBACK = "credentials_fallback", WARN, ["why"], "the socket refused the key in the header, and the query is tried once; or it was refused there as well";
    KEY_EXPOSED = "key_exposed", WARN, ["source", "why", "notify", "decider"], "other users of this machine may read or change the file of a key, or of a secret of the target `notify` or of a decider; logged at start";
    KEY_REFUSED = "key_refused", ERROR, ["source", "why"], "there is no key, or the platform refuses it; `source` says where doorman reads it";
    BLOCKED_IN_BETWEEN = "blocked_in_between", WARN or DEBUG, ["status", "why"], "something between doorman and the platform (a CDN, a proxy, a firewall, a login page) answers in its place; `why` holds the beginning of its page; at debug while the page stays the same";
    POLICY_VIOLATION = "policy_violation", WARN, ["why"], "the platform closed the connection with 1008; tried again slowly";
    CONNECTION_PATTERN = "connection_pattern", WARN, ["why"], "several connections in a row ended in the same way; logged once";
    THROTTLED = "throttled", WARN or DEBUG, ["status", "in_ms", "why"], "the platform's host refuses calls (429, or 503 with `Retry-After`); all agents share what it still takes; a warning from time to time for the whole process, at debug for each agent that waits";
    LISTED = "listed", DEBUG, ["pending", "pages", "latency_ms"], "a listing of the pending requests is complete";
    IDENTITY_UNKNOWN = "identity_unknown", WARN, ["why", "status"], "doorman could not verify whose key this is; it retries, and lists and answers nothing until then";
    LISTING_FAILED = "listing_failed", WARN, ["why", "status"], "the pending requests could not be listed; doorman retries";
    REQUEST_SEEN = "request_seen", DEBUG or WARN, ["handle", "name", "via"], "doorman sees a request for the first time; a warning if the platform lists a settled request again";
    REQUEST_CHANGED = "request_changed", WARN, ["handle", "name", "before"], "a pending request has another sender, name or message than before; it is decided again";
    INBOX_FULL = "inbox_full", WARN, [], "more requests are pending than fit into memory; a later listing brings the rest";
    DECIDED = "decided", INFO or DEBUG, ["handle", "name", "verdict", "by", "policy", "due", "mode"], "the policy's decision about a request: the first one, and each one that differs from the last; at debug if the answer goes out at once, since `answered` follows";
    ANSWERING = "answering", DEBUG, ["verdict", "attempt"], "the intent is on record and doorman sends the answer";
    ANSWERED = "answered", INFO, ["handle", "name", "verdict", "by", "outcome", "attempt", "latency_ms"], "the platform's final word on an answer; `latency_ms` is the time from the event to that word";
    ANSWER_RETRY = "answer_retry", DEBUG, ["verdict", "attempt", "status", "why"], "an answer failed for a passing reason; doorman will send it again";
    ANSWER_REFUSED = "answer_refused", WARN, ["verdict", "status", "code", "why"], "the platform refused this answer (400, 403, 422)";
    ANSWER_UNKNOWN = "answer_unknown", WARN, ["verdict", "attempt", "why"], "doorman does not know whether an answer arrived; it lists the pending requests before it sends another";
    SETTLED = "settled", INFO, ["status"], "somebody else settled a request, or an answer with unknown outcome turned out to have arrived";
    GONE = "gone", INFO, [], "a request is no longer listed";
    CONTACT_ADDED = "contact_added", DEBUG, ["contact", "handle", "name", "kind"], "the agent has a new contact: `answered` or `contact_unexplained` is about the same";
    CONTACT_REMOVED = "contact_removed", INFO, ["contact", "handle"], "a contact is gone";
    GUEST_EXPIRED = "guest_expired", INFO, ["contact", "handle", "request"], "the end of a contact had come (`for` in a rule, `approve --for`), and doorman removed it";
    GUEST_NOT_REMOVED = "guest_not_removed", WARN, ["contact", "handle", "attempt", "why"], "the end of a contact has come, and it could not be removed; doorman tries again; logged again when the reason changes";
    GUEST_END_MOVED = "guest_end_moved", INFO, ["handle", "request", "ends_at", "by"], "a person gave a guest another end (`approve --for` once more), or lets the guest stay (`ends_at` is absent)";
    GUEST_IN_DOUBT = "guest_in_doubt", WARN, ["contact", "handle", "request", "why"], "a contact with an end may be one that somebody else made; doorman does not remove it";
    CONTACT_MATCHED = "contact_matched", DEBUG, ["contact", "handle"], "a new contact comes from an answer of doorman";
    CONTACT_UNEXPLAINED = "contact_unexplained", WARN, ["contact", "handle", "name", "kind"], "a new contact that no answer of doorman made: the owner, the agent itself or the platform added it";
    NAME_IN_DOUBT = "name_in_doubt", WARN, ["handle", "why"], "a payload has another id for the name of this owner than before: somebody else may have the name by now";
    IN_DOUBT = "in_doubt", INFO, ["requests", "doubts"], "the pending requests were decided for the first time since the start, and something that the rules ask about is in doubt";
    CONTACTS_BASELINE = "contacts_baseline", INFO, ["contacts"], "doorman read all contacts of an agent for the first time; existing contacts cause no warning";
    SETTLED_AGAINST_POLICY = "settled_against_policy", WARN, ["handle", "verdict", "by"], "somebody else approved a request that the rules in force had not approved; `verdict` and `by` are the rules' decision";
    AGENT_PAUSED = "agent_paused", WARN, ["by"], "doorman answers nothing for this agent until `doorman resume`";
    AGENT_RESUMED = "agent_resumed", INFO, ["by"], "doorman answers for this agent again";
    PERSON_ANSWERED = "person_answered", INFO or DEBUG, ["handle", "verdict", "by"], "a person put a request on hold; at debug if a person approved or rejected it, since `answered` names the person";
    REVOKED = "revoked", WARN, ["contact", "handle", "by"], "a person removed a contact with `doorman revoke`";
    DECIDER_REPLIED = "decider_replied", INFO, ["handle", "decider", "rule", "verdict", "reason", "latency_ms"], "a decider said what it thinks of a request; the rule says what that may do";
    DECIDER_FAILED = "decider_failed", WARN, ["decider", "why", "failures"], "a decider has not answered for at least 20 s, although asked more than once, or may not be asked now; what it is asked about stays pending";
    DECIDER_RECOVERED = "decider_recovered", INFO, ["decider"], "a decider that had failed answers again";
    OVERDUE_NOTICE = "overdue_notice", WARN, ["handle", "name", "by"], "a request has been pending for longer than the policy's `overdue` allows";
    FRAME_MALFORMED = "frame_malformed", WARN or DEBUG, ["why"], "a frame on the socket could not be read; it was counted and dropped; a warning once for each connection";
    FRAME_TOO_LONG = "frame_too_long", WARN or DEBUG, ["why"], "a frame on the socket was over the limit; it was counted and dropped; a warning once for each connection";
    FRAME_BINARY = "frame_binary", DEBUG, ["why"], "a binary frame, which this protocol does not have; counted and dropped";
    REPLY_MALFORMED = "reply_malformed", WARN, ["why"], "the reply to a join could not be read; it was dropped";
    REPLY_UNMATCHED = "reply_unmatched", DEBUG, ["why"], "a reply to no open request; dropped";
    PAYLOAD_MALFORMED = "payload_malformed", WARN, ["what", "why"], "an event's payload, or a row of a listing, could not be read; a listing follows";
    EVENT_UNKNOWN = "event_unknown", DEBUG, ["why"], "an event that this version does not know; counted and dropped";
    TOPIC_UNKNOWN = "topic_unknown", DEBUG, ["why"], "a frame of a topic that was not joined; counted and dropped";
    LEDGER_BLOCKED = "ledger_blocked", ERROR, ["why"], "the ledger cannot be written; every answer waits";
    LEDGER_ASYNC = "ledger_async", WARN, ["database", "why"], "the PostgreSQL database may lose what it confirmed, in a crash or a fail-over; doorman uses it";
    LEASE_TAKEN = "lease_taken", INFO, ["lease", "epoch", "from"], "this doorman writes what `lease` is for into the PostgreSQL database from now on; whoever did before (`from`) writes nothing more";
    LEASE_LOST = "lease_lost", WARN, ["lease", "by"], "another doorman (`by`) took the lease; this one writes and answers nothing more for it until it has the lease again";
    LEASE_GIVEN = "lease_given", INFO, ["lease"], "this doorman finished what it had begun for the agent, and left the lease to the others";
    MEMBER_DEAD = "member_dead", WARN, ["member"], "a doorman on the same database did not beat for its whole `fleet.ttl`: this one and the others take its agents";
    MEMBER_AWAY = "member_away", WARN, ["for_ms"], "the platform has answered no call of this doorman for `fleet.give_when_away`, and answers another doorman: this one gives its agents, and takes none until it is answered";
    MEMBER_BACK = "member_back", INFO, [], "the platform answers this doorman again: it takes agents";
    COMMAND_TAKEN = "command_taken", INFO, ["op", "by", "from"], "a person asked another doorman (`from`) for something that concerns an agent of this one, and it is being done; `by` is that person";
    MEMBER_LOST = "member_lost", WARN, ["by"], "another doorman (`by`) found that this one did not beat: it lets go of its agents at once, and joins the others again";
    LEASE_LAPSED = "lease_lapsed", WARN, [], "the database has not confirmed for too long that this doorman lives, so that others may take its agents: it decides and sends nothing new, and its connections stay for `fleet.let_go_after`";
    LEASE_BACK = "lease_back", INFO, ["for_ms"], "the database confirms again that this doorman lives";
    LEDGER_EXPOSED = "ledger_exposed", WARN, ["path", "why"], "other users of the machine may read the ledger, or replace a directory on the way to it, and doorman cannot change that";
    LEDGER_UNREADABLE = "ledger_unreadable", ERROR, ["why", "in_ms"], "an agent's data could not be read from the ledger; doorman retries after `in_ms` and answers nothing for the agent until then";
    LEDGER_LOCK_REMADE = "ledger_lock_remade", WARN, ["path"], "the ledger's lock file was deleted while doorman runs; doorman made it again and locked it";
    LEDGER_RECOVERED = "ledger_recovered", INFO, ["for_ms"], "the ledger can be written again";
    CLOCK_UNSOUND = "clock_unsound", WARN, ["why"], "this machine's clock is wrong; conditions on time are unknown and timers wait";
    CLOCK_SOUND = "clock_sound", INFO, [], "this machine's clock is right again";
    RELOAD_STARTED = "reload_started", INFO, ["by"], "a reload began: by a signal, a person or `watch`";
    RELOADED = "reloaded", INFO or ERROR, ["ok", "policies", "needs_restart", "latency_ms"], "a reload ended; an error if something was refused";
    AGENT_ADDED = "agent_added", INFO, [], "the configuration, or the roster of the fleet, names an agent that it did not name before: it starts";
    AGENT_REMOVED = "agent_removed", INFO, [], "the configuration, or the roster of the fleet, names an agent no more: what it had begun is finished, its connection is closed, and what waits for it stays on record";
    ROSTER_TAKEN = "roster_taken", INFO, ["agents", "keys", "left_out"], "agents came or went with the roster in the database (`doorman fleet add`, `remove`), or with their keys; `agents` are on it, and this doorman has the keys of `keys`";
    ROSTER_OVERRULED = "roster_overruled", WARN, ["agents", "named"], "agents of the roster are in this doorman's configuration, too: what the configuration says of them holds here; `named` are the first of them";
    ROSTER_KEY = "roster_key", WARN, ["why"], "the key of an agent of the roster is in `fleet.keys_dir` and cannot be used: this doorman does not take the agent; at most 5 at once";
    KEYS_UNREADABLE = "keys_unreadable", ERROR, ["path", "why"], "`fleet.keys_dir` cannot be read: the roster's agents stay as they are; tried again every 2 s";
    AGENT_CHANGED = "agent_changed", INFO, [], "the configuration, or the roster of the fleet, says something else of an agent: it began again";
    METRICS_LISTENING = "metrics_listening", INFO, ["address"], "metrics and health are served at this address";
    METRICS_REFUSED = "metrics_refused", WARN, ["address", "why"], "metrics and health cannot be served at `metrics.listen`, which is tried again every 30 s, or at a port that was handed over";
    PAGE_LISTENING = "page_listening", INFO, ["address"], "the page is served at this address or socket";
    PAGE_REFUSED = "page_refused", WARN, ["address", "why"], "the page cannot be served there; tried again every 30 s, except if the socket was handed over or a secret is missing";
    PAGE_REMADE = "page_remade", WARN, ["path"], "the file of the page's socket was deleted or replaced while doorman runs; doorman made it again";
    PAGE_FILE = "page_file", WARN, ["path", "why"], "the file of the page's logins or links cannot be read, and they are void, or cannot be written, and nobody logs in or uses a link";
    PAGE_DENIED = "page_denied", WARN or DEBUG, ["why"], "somebody was turned away at the page; a warning the first time for each `why`";
    PAGE_LOGIN = "page_login", INFO, ["by", "why"], "somebody logged in to the page by a link, was given one, or was logged out; `why` says which";
    REPLY_USED = "reply_used", INFO, ["by", "notify", "verdict"], "somebody answered by a link of a message; what became of it is in `answered`";
    CONNECTIONS_CROWDED = "connections_crowded", WARN or DEBUG, ["address", "why"], "at the port of metrics, at the page or at a control socket come more connections than doorman serves at once; `why` says what it does; a warning once an hour for each address and `why`";
    CONTROL_CALL = "control_call", DEBUG, ["op", "by", "why"], "somebody used the control socket";
    CONTROL_REFUSED = "control_refused", WARN, ["why"], "a call on the control socket was refused, or the socket failed";
    CONTROL_EXPOSED = "control_exposed", WARN, ["path", "why"], "another group or user may replace a directory on the way to the control socket";
    CONTROL_REMADE = "control_remade", WARN, ["path"], "the control socket's file was deleted or replaced while doorman runs; doorman made it again";
    WATCHDOG_LATE = "watchdog_late", ERROR, ["loop", "late_ms"], "a loop of the daemon hangs; systemd's watchdog gets no signal until the loop runs again";
    WATCHDOG_RECOVERED = "watchdog_recovered", INFO, ["loop"], "a loop that hung runs again";
    NOTIFY_FAILED = "notify_failed", WARN, ["why"], "a message to systemd could not be sent";
    LOG_DROPPED = "log_dropped", WARN, ["lines"], "this many lines were dropped because nobody read the log fast enough";
    LOG_KEPT_BACK = "log_kept_back", WARN, ["what", "lines"], "the platform caused more lines of the event `what` than are written; `lines` of them were left out within 10 s";
    RECORD_ENDED = "record_ended", WARN, ["path", "why"], "the transcript of `run --record` ended early";
    MESSAGE_SENT = "message_sent", INFO, ["notify", "delivery", "attempt"], "a target of `[[notify]]` took a message";
    MESSAGE_FAILED = "message_failed", WARN, ["notify", "delivery", "attempt", "in_ms", "why"], "a target did not take a message; doorman tries again after `in_ms`";
    MESSAGE_GAVE_UP = "message_gave_up", ERROR, ["notify", "delivery", "attempt", "why"], "a message did not arrive for a day, or its target does not exist any more; other targets get a message about it";
    DRAINING = "draining", INFO, [], "doorman is stopping: it finishes the answers on their way; the rest stays pending";
    DRAINED = "drained", INFO, ["agents", "latency_ms"], "doorman finished its answers; `agents` counts those that did not finish in time, whose open answers are settled at the next start";
    STOPPED = "stopped", INFO, ["code"], "doorman ends";
    INTERNAL = "internal", ERROR or WARN, ["why"], "an error inside doorman; the requests concerned stay pending";
    PANIC = "panic", ERROR, ["why", "at", "thread"], "an error inside doorman that was contained; please report it";
    AGENT_RESTARTS = "agent_restarts", WARN, ["in_ms"], "a panic ended the agent's task; the agent starts again from the ledger after `in_ms`";
    LOG = "log", DEBUG, ["target"], "any line without a name of its own, for example from a library; not part of the contract";
}

fields! {
    "ts", "text", "when: RFC 3339 in UTC, with microseconds";
    "level", "text", "`error` (somebody has to look), `warn` (somebody may have to), `info`, `debug`, `trace`";
    "event", "text", "the stable name of what happened";
    "message", "text", "the same for people; may change";
    "agent", "text", "the id of the agent that it concerns";
    "request", "text", "the id of the contact request";
    "handle", "text", "the sender's handle as received, escaped; strangers choose it";
    "name", "text", "the sender's name as received, escaped; strangers choose it";
    "before", "text", "the sender's handle before it changed, escaped; strangers choose it";
    "verdict", "text", "`approve`, `reject` or `defer`; of a person: `approve`, `reject` or `hold`";
    "by", "text", "what gave the verdict: a rule's name, `guard:NAME`, `limit:RULE`, `ask:RULE`, `overdue:NAME`, `hold:NAME`, `person:NAME`, `no_match`, `paused`, `error:WHAT`; or who did it";
    "policy", "text", "the first 12 digits of the policy's hash";
    "mode", "text", "`enforce` or `shadow`";
    "due", "text", "when the answer goes out, if the rule has `wait`";
    "outcome", "text", "`approved`, `rejected`, `presumed-approved`, `presumed-rejected`, `settled-elsewhere`, `gone`, `refused` or `unknown`";
    "ends_at", "text", "when the contact of a guest is removed";
    "attempt", "number", "which try it was, from 1";
    "status", "text", "the HTTP status, or the platform's word for how a request stands";
    "code", "text", "the platform's error code, the close code, or the exit code";
    "latency_ms", "number", "how long it took, in milliseconds";
    "in_ms", "number", "until the next try, in milliseconds";
    "for_ms", "number", "how long it lasted, in milliseconds";
    "late_ms", "number", "by how much it is late, in milliseconds";
    "state", "text", "`starting`, `live`, `away`, `yielded`, `polling`, `refused` or `elsewhere`";
    "why", "text", "the reason, for people";
    "what", "text", "what kind of row it was; or the name of an event";
    "via", "text", "`event` or `listing`";
    "kind", "text", "`user`, `agent` or `other`";
    "contact", "text", "the id of a contact";
    "contacts", "number", "how many contacts";
    "doubts", "number", "how many doubts there are";
    "pending", "number", "how many requests are pending";
    "pages", "number", "how many pages a listing had";
    "authorities", "text", "the variables that name the certificate authorities of this machine; absent if none is set";
    "rest_proxy", "text", "the variable that names the proxy for REST, and its place; absent if there is none";
    "socket_proxy", "text", "the same for the WebSocket";
    "agents", "number", "how many agents";
    "policies", "number", "how many rules files";
    "requests", "number", "how many pending requests wait for a doubt";
    "rules", "number", "how many rules";
    "list", "text", "the name of a list in a rules file";
    "keys", "number", "how many keys";
    "left_out", "number", "rows of the database that doorman did not write, or too many; absent if there are none";
    "named", "text", "the ids of the first of them";
    "added", "number", "how many entries are new";
    "removed", "number", "how many entries are gone";
    "entries", "number", "how many entries there are now";
    "lines", "number", "how many lines";
    "decider", "text", "the name of a decider";
    "rule", "text", "the rule that asks it";
    "reason", "text", "what a decider gives as its reason, escaped; as untrusted as a stranger's text";
    "failures", "number", "how often in a row";
    "notify", "text", "the name of a target in `[[notify]]`";
    "delivery", "text", "the id of a message: the same for each try";
    "address", "text", "an address and a port of this machine";
    "path", "text", "a file";
    "database", "text", "the address of a PostgreSQL database, without a password";
    "lease", "text", "what a lease is for: an agent's id, or `notify` for messages to people";
    "epoch", "number", "how often the lease was taken or given";
    "from", "text", "the name of the doorman that had the lease before (absent if nobody had), or that a person asked";
    "member", "text", "the name of a doorman that shares the database (`fleet.name`)";
    "source", "text", "where a key comes from; never the key";
    "problems", "text", "everything that is wrong with a file, over several lines";
    "needs_restart", "text", "settings that changed and need a restart";
    "ok", "yes/no", "whether it was taken";
    "op", "text", "what was asked";
    "loop", "text", "the name of a loop";
    "version", "text", "doorman's version";
    "pid", "number", "the process";
    "at", "text", "the place in the source";
    "thread", "text", "the name of a thread";
    "target", "text", "the module that a line without a name came from";
}

/// The documentation's two tables, as Markdown.
pub fn markdown() -> String {
    let mut out = String::from("| event | level | fields | meaning |\n| --- | --- | --- | --- |\n");
    for event in EVENTS {
        let mut level = word(event.level).to_owned();
        if let Some(softer) = event.softer {
            level = format!("{level}, {}", word(softer));
        }
        let fields: Vec<String> = event.fields.iter().map(|field| format!("`{field}`")).collect();
        out.push_str(&format!("| `{}` | {level} | {} | {} |\n", event.name, fields.join(", "), event.meaning));
    }
    out.push_str("\n| field | kind | meaning |\n| --- | --- | --- |\n");
    for field in FIELDS {
        out.push_str(&format!("| `{}` | {} | {} |\n", field.name, field.kind, field.meaning));
    }
    out
}

/// The name of a level in every format.
pub fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
