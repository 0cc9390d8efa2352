//! A message as plain text, for people; and the escapes that each service needs. Pure.

use jiff::Timestamp;

use super::message::{ConditionLine, Message, RequestLine};
use crate::model::StrangerText;

/// The longest line for one text of a stranger, in columns.
const COLUMNS_MAX: usize = 120;

/// What a message is about, on one line and without a stranger's text.
pub(super) fn title(message: &Message) -> String {
    if message.test {
        return "doorman: this is a test".to_owned();
    }
    let new = message.requests.len() as u64 + message.more_requests;
    let holding =
        message.conditions.iter().filter(|condition| condition.holds).count() as u64 + message.more_conditions;
    let waits = match new {
        0 => None,
        1 => Some("1 request waits for a person".to_owned()),
        _ => Some(format!("{new} requests wait for a person")),
    };
    let wrong = match holding {
        0 => None,
        1 => Some("1 problem".to_owned()),
        _ => Some(format!("{holding} problems")),
    };
    match (waits, wrong) {
        (Some(waits), Some(wrong)) => format!("doorman: {waits}, {wrong}"),
        (Some(only), None) | (None, Some(only)) => format!("doorman: {only}"),
        (None, None) => "doorman: a problem is over".to_owned(),
    }
}

/// The whole text, without the title. Strangers' text is escaped, each text on one line.
pub(super) fn text(message: &Message) -> String {
    if message.test {
        return "Somebody ran `doorman notify test`. This target works.".to_owned();
    }
    let mut lines: Vec<String> = message.conditions.iter().map(condition_line).collect();
    if message.more_conditions > 0 {
        lines.push(format!("… and {} more, see `doorman status`", message.more_conditions));
    }
    if !message.requests.is_empty() {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(message.requests.iter().map(request_lines));
        if message.more_requests > 0 {
            lines.push(format!("… and {} more", message.more_requests));
        }
        let all = match message.waiting {
            1 => "1 request waits in all".to_owned(),
            all => format!("{all} requests wait in all"),
        };
        lines.push(format!("{all}: see `doorman pending`, answer with `doorman approve`, `reject` or `hold`."));
    }
    lines.join("\n")
}

fn condition_line(condition: &ConditionLine) -> String {
    match condition.since {
        Some(since) => format!("• {} (since {})", condition.text, moment(since)),
        None => format!("• {}", condition.text),
    }
}

fn request_lines(request: &RequestLine) -> String {
    let shown = |text: &str| StrangerText::new(text).in_columns(COLUMNS_MAX);
    let who = request.handle.as_deref().map_or_else(|| "somebody".to_owned(), |handle| format!("@{}", shown(handle)));
    let agent = match &request.agent_handle {
        Some(handle) => format!("@{}", shown(handle)),
        None => request.agent.clone(),
    };
    let why = match &request.overdue {
        Some(name) => format!("overdue by {}", shown(name)),
        None => shown(&request.by),
    };
    let mut line =
        format!("• {who} → {agent}: {why}, since {} (request {})", moment(request.since), shown(&request.request));
    if let Some(name) = &request.name {
        line.push_str(&format!("\n   name: {}", shown(name)));
    }
    if let Some(message) = &request.message {
        line.push_str(&format!("\n   message: {}", shown(message)));
    }
    for reply in &request.replies {
        let reason = reply.reason.as_deref().map(|reason| format!(": {}", shown(reason))).unwrap_or_default();
        line.push_str(&format!("\n   {} says {}{reason}", shown(&reply.decider), shown(&reply.verdict)));
    }
    if let Some(reply) = &request.reply {
        line.push_str(&format!("\n   answer: {reply}"));
    }
    line
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// For Slack: escapes mentions, links with another text, and channels.
pub(super) fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// For Discord: escapes Markdown, and cuts after `chars_max`.
pub(super) fn discord(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = 0;
    for character in text.chars() {
        // All markup is ASCII, and a backslash escapes it. A colon would turn an address into a link.
        let escaped = character.is_ascii_punctuation() && !matches!(character, '.' | ',' | '-' | '/' | '(' | ')');
        let cost = 1 + usize::from(escaped);
        if chars + cost > chars_max - 1 {
            out.push('…');
            return out;
        }
        if escaped {
            out.push('\\');
        }
        out.push(character);
        chars += cost;
    }
    out
}

/// For Discord: turns our own links back into working links. Everything else stays escaped.
pub(super) fn own_links(text: String, message: &Message) -> String {
    let links = message.requests.iter().filter_map(|request| request.reply.as_deref());
    links.fold(text, |text, link| text.replace(&discord(link, usize::MAX), link))
}

/// The beginning of a text, at most this many bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max - '…'.len_utf8())])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::message::DeciderReplyLine;

    fn with(handle: &str, text: &str) -> Message {
        let mut message = Message::test(Timestamp::UNIX_EPOCH);
        message.test = false;
        message.waiting = 1;
        message.requests.push(RequestLine {
            event: "deferred".to_owned(),
            agent: "a".to_owned(),
            agent_handle: None,
            request: "r".to_owned(),
            handle: Some(handle.to_owned()),
            name: Some(text.to_owned()),
            message: Some(text.to_owned()),
            by: "no_match".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            overdue: None,
            replies: vec![DeciderReplyLine {
                decider: "screen".to_owned(),
                verdict: "reject".to_owned(),
                reason: Some(text.to_owned()),
            }],
            reply: None,
        });
        message
    }

    #[test]
    fn a_title_counts_and_says_no_word_of_a_stranger() {
        let mut message = with("carol", "hello");
        assert_eq!(title(&message), "doorman: 1 request waits for a person");
        message.more_requests = 4;
        assert_eq!(title(&message), "doorman: 5 requests wait for a person");
    }

    #[test]
    fn slack_gets_no_mention_and_discord_no_markup() {
        assert_eq!(slack("<!channel> & <a|b>"), "&lt;!channel&gt; &amp; &lt;a|b&gt;");
        assert_eq!(discord("**b** <@1> https://x", 100), r"\*\*b\*\* \<\@1\> https\://x");
        assert_eq!(discord(&"*".repeat(3000), 2000).chars().count(), 1999);
    }

    proptest! {
        #[test]
        fn whatever_strangers_write_makes_no_line_and_steers_nothing(handle in any::<String>(), text in any::<String>()) {
            let rendered = super::text(&with(&handle, &text));
            prop_assert_eq!(rendered.lines().count(), 5, "{}", rendered);
            prop_assert!(rendered.contains("\n   screen says reject: "), "{}", rendered);
            let harmless = |letter: char| matches!(letter, '\n' | ' ') || !crate::model::hides(letter) && !letter.is_control();
            prop_assert!(rendered.chars().all(harmless), "{:?}", rendered);
            prop_assert!(discord(&rendered, 2000).chars().count() <= 2000);
            prop_assert!(cut(&rendered, 50).len() <= 50);
        }
    }
}
