//! `[[notify]]`: checks each table, then all names together.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use url::Url;

use super::Loading;
use super::layers::{Layer, Layered};
use crate::config::keys;
use crate::config::raw::RawConfigTable;
use crate::config::settings::{AgentSettings, KeySource, NotifyEvent, NotifyTarget, NotifyText, NotifyWay, loopback};
use crate::document::{duration, nearest};
use crate::model::{AgentId, Verdict};

/// Longest name of a target.
const NAME_MAX: usize = 32;
/// Messages at a shorter interval would be noise.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_DEFAULT: Duration = Duration::from_secs(300);

/// The keys that only some kinds have; all other keys belong to every kind.
const OF_KINDS: [(&str, &[&str]); 9] = [
    ("url", &["matrix", "mail"]),
    ("url_file", &["webhook", "slack", "discord", "ntfy"]),
    ("url_env", &["webhook", "slack", "discord", "ntfy"]),
    ("url_credential", &["webhook", "slack", "discord", "ntfy"]),
    ("room", &["matrix"]),
    ("from", &["mail"]),
    ("to", &["mail"]),
    ("command", &["command"]),
    ("ca_file", &["webhook", "slack", "discord", "ntfy", "matrix", "mail"]),
];
pub(super) const SECRETS: [&str; 3] = ["secret_file", "secret_env", "secret_credential"];
const ADDRESSES: [&str; 3] = ["url_file", "url_env", "url_credential"];

impl Loading<'_> {
    /// The targets of the file, in its order.
    pub(super) fn notify(&mut self, known: Option<&[AgentSettings]>) -> Option<Vec<NotifyTarget>> {
        let raw = std::mem::take(&mut self.raw.notify);
        let mut targets: Vec<NotifyTarget> = Vec::with_capacity(raw.len());
        let mut whole = true;
        for one in &raw {
            let Some(target) = self.target(one) else {
                whole = false;
                continue;
            };
            if targets.iter().any(|other| other.name == target.name) {
                let span = one.get("name").map_or(one.span.clone(), |name| name.span.clone());
                self.problems
                    .error(&span, format!("the target `{}` is there twice", target.name))
                    .help("give each `[[notify]]` a name of its own");
            }
            let stranger = |id: &&AgentId| known.is_some_and(|known| !known.iter().any(|agent| agent.id == **id));
            if let (Some(id), Some(at)) = (target.agents.iter().find(stranger), one.get("agents")) {
                let message =
                    format!("the target `{}` hears of an agent `{id}` that is not in `[[agents]]`", target.name);
                self.problems.warning(&at.span, message).help("correct the id, or remove it");
            }
            targets.push(target);
        }
        whole.then_some(targets)
    }

    fn target(&mut self, raw: &RawConfigTable) -> Option<NotifyTarget> {
        let name = layered(raw, "name").and_then(|name| self.parsed("notify.name", &name, target_name));
        let kind = layered(raw, "kind").and_then(|kind| self.word("notify.kind", &kind, keys::NOTIFY_KINDS));
        // Without a valid kind the other keys would give misleading problems.
        let kind = kind?;
        for (key, kinds) in OF_KINDS {
            if let (Some(at), false) = (raw.get(key), kinds.contains(&kind)) {
                let help = match key {
                    "url" => {
                        "an address that lets anybody write there is a secret: put it into a file and write `url_file = \"…\"`"
                    }
                    _ => "remove it",
                };
                let span = at.span.clone();
                if key == "url" {
                    self.problems.hide(span.clone());
                }
                self.problems.error(&span, format!("`{key}` does not belong to a target of kind `{kind}`")).help(help);
                return None;
            }
        }
        let way = self.way(raw, kind);
        let secret = self.source(raw, &SECRETS);
        if let ("matrix", Some(None)) = (kind, &secret) {
            self.problems
                .error(&raw.span, "a Matrix homeserver takes messages only with an access token")
                .help("put the token into a file and write `secret_file = \"…\"`");
            return None;
        }
        if let ("slack" | "discord" | "command", Some(at)) = (kind, SECRETS.into_iter().find_map(|key| raw.get(key))) {
            self.problems
                .error(&at.span.clone(), format!("a target of kind `{kind}` has no secret beside its address"))
                .help("remove it");
        }
        let events = self.events(raw);
        let agents = self.agents_of(raw);
        let reply = self.reply(raw);
        let text = layered(raw, "text").unwrap_or_else(|| default("handle"));
        let text = self.word("notify.text", &text, keys::NOTIFY_TEXTS);
        let every = match layered(raw, "every") {
            None => Some(EVERY_DEFAULT),
            Some(every) => self.parsed("notify.every", &every, |text| {
                let every = duration(text).ok().and_then(|every| Duration::try_from(every).ok());
                let every = every.ok_or_else(|| "expected a duration, such as `\"5m\"`".to_owned())?;
                if every < EVERY_MIN { Err("expected at least 1 second".to_owned()) } else { Ok(every) }
            }),
        };
        let max_per_hour = match layered(raw, "max_per_hour") {
            None => Some(30),
            Some(most) => self.parsed("notify.max_per_hour", &most, |text| {
                text.parse().map_err(|_| "expected a whole number from 1 to 1000".to_owned())
            }),
        };
        let ca_file = raw.get("ca_file").map(|at| self.resolve(&at.value));
        Some(NotifyTarget {
            name: name?,
            way: way?,
            secret: secret?,
            ca_file,
            events: events?,
            agents: agents?,
            reply: reply?,
            text: match text? {
                "none" => NotifyText::None,
                "full" => NotifyText::Full,
                _ => NotifyText::Handle,
            },
            every: every?,
            max_per_hour: max_per_hour?,
        })
    }

    fn way(&mut self, raw: &RawConfigTable, kind: &str) -> Option<NotifyWay> {
        Some(match kind {
            "matrix" => {
                let server = self.server(raw, "https://matrix.example.org", &["https", "http"]);
                let room = self.needed(raw, kind, "room", "!abc:example.org")?;
                let room = self.parsed("notify.room", &room, |text| {
                    let sound = text.starts_with('!') && text.len() <= 255 && !text.contains(char::is_whitespace);
                    sound.then(|| text.to_owned()).ok_or_else(|| {
                        "expected a room's id, which begins with `!`: an alias (`#…`) may be moved to another room"
                            .to_owned()
                    })
                });
                NotifyWay::Matrix { server: server?, room: room? }
            }
            "mail" => {
                let server = self.server(raw, "smtps://doorman@mail.example.org", &["smtps", "smtp"]);
                let from = self.needed(raw, kind, "from", "doorman@example.org");
                let from = from.and_then(|from| self.parsed("notify.from", &from, mailbox));
                let to = self.needed(raw, kind, "to", "ops@example.org")?;
                let mut receivers = Vec::new();
                for line in to.value.lines() {
                    let one = Layered { value: line.to_owned(), layer: to.layer.clone() };
                    receivers.push(self.parsed("notify.to", &one, mailbox)?);
                }
                if receivers.is_empty() {
                    self.refuse("notify.to", &to, "expected at least one address", None);
                    return None;
                }
                NotifyWay::Mail { server: server?, from: from?, to: receivers }
            }
            "command" => {
                let command = self.needed(raw, kind, "command", "/usr/local/bin/tell")?;
                let mut words = command.value.lines().map(str::to_owned);
                let program = PathBuf::from(words.next().unwrap_or_default());
                if !program.is_absolute() {
                    let expected = "expected a program's absolute path first, as in `[\"/usr/local/bin/tell\"]`";
                    self.refuse("notify.command", &command, expected, None);
                    return None;
                }
                NotifyWay::Command { program, arguments: words.collect() }
            }
            _ => {
                let Some(url) = self.source(raw, &ADDRESSES)? else {
                    self.problems.error(&raw.span, format!("a target of kind `{kind}` needs an address")).help(
                        "put the address into a file and write `url_file = \"…\"`, or `url_credential`, or `url_env`",
                    );
                    return None;
                };
                match kind {
                    "slack" => NotifyWay::Slack { url },
                    "discord" => NotifyWay::Discord { url },
                    "ntfy" => NotifyWay::Ntfy { url },
                    _ => NotifyWay::Webhook { url },
                }
            }
        })
    }

    /// The address of a server, which is not a secret.
    fn server(&mut self, raw: &RawConfigTable, example: &str, schemes: &[&str]) -> Option<Url> {
        let url = self.needed(raw, if schemes.contains(&"smtp") { "mail" } else { "matrix" }, "url", example)?;
        let server = self.parsed("notify.url", &url, |text| {
            let url = Url::parse(text).map_err(|_| format!("expected an address, such as `{example}`"))?;
            if !schemes.contains(&url.scheme()) || url.host_str().is_none() {
                return Err(format!("expected an address that begins with `{}://`", schemes[0]));
            }
            if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
                return Err("expected an address without a password, a query or a fragment".to_owned());
            }
            Ok(url)
        })?;
        if matches!(server.scheme(), "http" | "smtp") && !loopback(&server) {
            let (message, help) = match server.scheme() {
                "smtp" => ("mail leaves in the clear if the server does not offer STARTTLS", "use `smtps://`"),
                _ => ("the access token can be read on the way", "use `https://`"),
            };
            self.warn("notify.url", &url, message, help);
        }
        Some(server)
    }

    /// A key that this kind requires.
    fn needed(&mut self, raw: &RawConfigTable, kind: &str, key: &str, example: &str) -> Option<Layered> {
        let found = layered(raw, key);
        if found.is_none() {
            self.problems
                .error(&raw.span, format!("a target of kind `{kind}` needs `{key}`"))
                .help(format!("add it, such as `{key} = \"{example}\"`"));
        }
        found
    }

    /// Where a secret is, if one is named; `None` if two are.
    #[expect(clippy::option_option, reason = "the outer one says whether the table is sound")]
    pub(super) fn source(&mut self, raw: &RawConfigTable, names: &[&'static str; 3]) -> Option<Option<KeySource>> {
        let named: Vec<_> = names.iter().filter_map(|name| Some((*name, raw.get(name)?))).collect();
        Some(match named.as_slice() {
            [] => None,
            [(name, at)] => Some(match *name {
                name if name.ends_with("_file") => KeySource::File(self.resolve(&at.value)),
                name if name.ends_with("_env") => KeySource::Env(at.value.clone()),
                _ => KeySource::Credential(at.value.clone()),
            }),
            [.., (name, second)] => {
                let span = second.span.clone();
                self.problems
                    .error(&span, "there is more than one source for this")
                    .label(format!("`{name}` beside `{}`", named[0].0))
                    .help(format!("keep one of `{}`, `{}`, `{}`", names[0], names[1], names[2]));
                return None;
            }
        })
    }

    fn events(&mut self, raw: &RawConfigTable) -> Option<Vec<NotifyEvent>> {
        let Some(written) = layered(raw, "events") else { return Some(NotifyEvent::ALL.to_vec()) };
        let mut events = Vec::new();
        for word in written.value.lines() {
            match NotifyEvent::parse(word) {
                Some(event) => events.push(event),
                None => {
                    let one = Layered { value: word.to_owned(), layer: written.layer.clone() };
                    let near = nearest(word, NotifyEvent::WORDS.iter().copied());
                    let near = near.map(|near| format!("did you mean `{near}`?"));
                    let expected = format!("expected one of {}", NotifyEvent::WORDS.join(", "));
                    self.refuse("notify.events", &one, &expected, near);
                    return None;
                }
            }
        }
        if events.is_empty() {
            self.refuse("notify.events", &written, "expected at least one event", None);
            return None;
        }
        Some(events)
    }

    /// The answers that links in messages allow. A link leads to the page, so there must be a page that others can
    /// reach.
    fn reply(&mut self, raw: &RawConfigTable) -> Option<Vec<Verdict>> {
        let reply = layered(raw, "reply").unwrap_or_else(|| default("none"));
        let wanted = self.word("notify.reply", &reply, keys::NOTIFY_REPLIES)? == "link";
        let may = layered(raw, "reply_may");
        if let (false, Some(may)) = (wanted, &may) {
            self.refuse("notify.reply_may", may, "belongs beside `reply = \"link\"`", None);
            return None;
        }
        if !wanted {
            return Some(Vec::new());
        }
        let url = self.env.text("DOORMAN_PAGE_URL").is_some() || self.raw.scalars.contains_key("page.url");
        if !url {
            let help = "add `url = \"https://…\"` to `[page]`: the address by which browsers reach it, which `listen` does not tell";
            self.refuse(
                "notify.reply",
                &reply,
                "needs the `url` of the page that a link leads to",
                Some(help.to_owned()),
            );
            return None;
        }
        let Some(may) = may else { return Some(vec![Verdict::Reject, Verdict::Defer]) };
        let mut verdicts = Vec::new();
        for word in may.value.lines() {
            let verdict = match word {
                "approve" => Verdict::Approve,
                "reject" => Verdict::Reject,
                "hold" => Verdict::Defer,
                _ => {
                    let one = Layered { value: word.to_owned(), layer: may.layer.clone() };
                    self.refuse("notify.reply_may", &one, "expected `approve`, `reject` or `hold`", None);
                    return None;
                }
            };
            verdicts.push(verdict);
        }
        if verdicts.is_empty() {
            self.refuse("notify.reply_may", &may, "expected at least one of `approve`, `reject` and `hold`", None);
            return None;
        }
        Some(verdicts)
    }

    fn agents_of(&mut self, raw: &RawConfigTable) -> Option<Vec<AgentId>> {
        let Some(written) = layered(raw, "agents") else { return Some(Vec::new()) };
        let mut agents = Vec::new();
        for id in written.value.lines() {
            let one = Layered { value: id.to_owned(), layer: written.layer.clone() };
            agents.push(self.parsed("notify.agents", &one, |text| {
                AgentId::parse(text).map_err(|_| "expected an agent's id, as in `[[agents]]`".to_owned())
            })?);
        }
        Some(agents)
    }
}

fn layered(raw: &RawConfigTable, key: &str) -> Option<Layered> {
    raw.get(key).map(|at| Layered { value: at.value.clone(), layer: Layer::File(at.span.clone()) })
}

fn default(value: &str) -> Layered {
    Layered { value: value.to_owned(), layer: Layer::Default }
}

fn target_name(text: &str) -> Result<String, String> {
    let sound = !text.is_empty()
        && text.len() <= NAME_MAX
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    sound.then(|| text.to_owned()).ok_or_else(|| format!("expected 1 to {NAME_MAX} of a–z, 0–9 and `-`"))
}

fn mailbox(text: &str) -> Result<String, String> {
    text.parse::<Mailbox>()
        .map(|mailbox| mailbox.to_string())
        .map_err(|_| "expected a mail address, such as `ops@example.org`".to_owned())
}
