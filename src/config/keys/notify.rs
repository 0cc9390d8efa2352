//! The keys of `[[notify]]`.

use super::OURS;
use crate::document::keys::{KeyType, Section, key, required};

/// The words of `notify.kind`.
pub(crate) const NOTIFY_KINDS: &[&str] = &["webhook", "slack", "discord", "matrix", "ntfy", "mail", "command"];
/// The words of `notify.reply`.
pub(crate) const NOTIFY_REPLIES: &[&str] = &["none", "link"];
/// The words of `notify.text`.
pub(crate) const NOTIFY_TEXTS: &[&str] = &["none", "handle", "full"];

/// One of `[[notify]]`.
pub(crate) static NOTIFY: Section = Section {
    path: "notify",
    meaning: "Who gets a message when a request waits for a person, or when something is wrong.",
    keys: &[
        required("name", KeyType::Text, "Its name in commands, in the log and in the record: a–z, 0–9 and `-`."),
        required(
            "kind",
            KeyType::Word(NOTIFY_KINDS),
            "How it is reached; `docs/notifications.md` has a recipe for each.",
        ),
        key(
            "url",
            KeyType::Text,
            "none",
            "The server of `matrix` (`https://…`) or `mail` (`smtps://USER@HOST` or `smtp://…`).",
        ),
        key(
            "url_file",
            KeyType::Text,
            "none",
            "The file that holds the address of `webhook`, `slack`, `discord` or `ntfy`. Whoever knows it can write there, so it is a secret.",
        ),
        key("url_env", KeyType::Text, "none", "The environment variable that holds that address."),
        key("url_credential", KeyType::Text, "none", "The systemd credential that holds that address, by name."),
        key(
            "secret_file",
            KeyType::Text,
            "none",
            "The file that holds the signing secret of `webhook` (two lines while you change it), the access token of `matrix` or `ntfy`, or the password of `mail`.",
        ),
        key("secret_env", KeyType::Text, "none", "The environment variable that holds it."),
        key("secret_credential", KeyType::Text, "none", "The systemd credential that holds it, by name."),
        key("ca_file", KeyType::Text, "none", "One more certificate authority to trust for this target, a PEM file."),
        key("room", KeyType::Text, "none", "The room of `matrix`, by its id."),
        key("from", KeyType::Text, "none", "The sender of `mail`."),
        key("to", KeyType::TextList, "none", "The receivers of `mail`."),
        key("command", KeyType::TextList, "none", "The program of `command`, an absolute path, and its arguments."),
        key("events", KeyType::TextList, "all", "The events that it gets; `docs/notifications.md` lists them."),
        key("agents", KeyType::TextList, "all", "The agents whose events it gets, by id."),
        key(
            "reply",
            KeyType::Word(NOTIFY_REPLIES),
            "none",
            "Whether each request in a message has a link that answers it (`link`), for everybody who has the message. Needs `page.url`.",
        ),
        key("reply_may", KeyType::TextList, "reject, hold", "What such a link may do: `approve`, `reject`, `hold`."),
        key(
            "text",
            KeyType::Word(NOTIFY_TEXTS),
            "handle",
            "How much of what strangers wrote it gets: `none`, `handle`, or `full` (with names and messages).",
        ),
        key(
            "every",
            KeyType::Duration,
            "5m",
            "The shortest time between two messages; what happens in between comes in one message.",
        ),
        key("max_per_hour", KeyType::Count(1, 1000), "30", "Most messages in an hour."),
    ],
    ..OURS
};
