//! Writes a line in each format; its values are sanitized already.

use std::fmt::Write as _;

use jiff::Timestamp;
use tracing::Level;

use super::events::word;
use super::fields::{FieldValue, LogFields, PROBLEMS};

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// For people.
    Human {
        /// With colours.
        colour: bool,
    },
    /// One JSON object a line.
    Json,
    /// One datagram in journald's protocol.
    Journald,
}

/// The content of a line.
#[derive(Debug)]
pub(crate) struct LogLine {
    /// The time.
    pub ts: Timestamp,
    /// The level.
    pub level: Level,
    /// The event's stable name.
    pub event: String,
    /// For people.
    pub message: String,
    /// The spans' fields and then the event's.
    pub fields: LogFields,
}

impl LogLine {
    /// The line in this format; it ends in a newline if the format has lines.
    pub fn render(&self, format: LineFormat) -> Vec<u8> {
        match format {
            LineFormat::Human { colour } => self.human(colour).into_bytes(),
            LineFormat::Json => self.json().into_bytes(),
            LineFormat::Journald => self.journald(),
        }
    }

    fn human(&self, colour: bool) -> String {
        let paint = |style: anstyle::Style| if colour { (style, style) } else { Default::default() };
        let dim = paint(anstyle::Style::new().dimmed());
        let loud = paint(level_style(self.level));
        let bold = paint(anstyle::Style::new().bold());
        let mut out = String::with_capacity(256);
        let level = word(self.level).to_uppercase();
        let _ = write!(out, "{}{:.3}{:#} ", dim.0, self.ts, dim.1);
        let _ = write!(out, "{}{level:>5}{:#} ", loud.0, loud.1);
        let _ = write!(out, "{}{}{:#}", bold.0, self.event, bold.1);
        if !self.message.is_empty() {
            let _ = write!(out, ": {}", self.message);
        }
        for (name, value) in self.fields.0.iter().filter(|(name, _)| *name != PROBLEMS) {
            let _ = write!(out, "  {}{name}={:#}", dim.0, dim.1);
            match value {
                FieldValue::Text(text) if !plain(text) => {
                    let _ = write!(out, "\"{}\"", text.replace('"', "\\u{22}"));
                }
                value => {
                    let _ = write!(out, "{value}");
                }
            }
        }
        out.push('\n');
        // A file's problems follow below their line. Each of their lines has a mark, so that none can look like a log
        // line.
        for (_, value) in self.fields.0.iter().filter(|(name, _)| *name == PROBLEMS) {
            for line in value.to_string().lines() {
                let _ = writeln!(out, "    {}|{:#} {line}", dim.0, dim.1);
            }
        }
        out
    }

    fn json(&self) -> String {
        let mut out = String::with_capacity(384);
        let _ = write!(out, "{{\"ts\":\"{:.6}\",\"level\":\"{}\",\"event\":", self.ts, word(self.level));
        quote(&self.event, &mut out);
        out.push_str(",\"message\":");
        quote(&self.message, &mut out);
        for (name, value) in &self.fields.0 {
            out.push(',');
            quote(name, &mut out);
            out.push(':');
            match value {
                FieldValue::Text(text) => quote(text, &mut out),
                value => {
                    let _ = write!(out, "{value}");
                }
            }
        }
        out.push_str("}\n");
        out
    }

    /// `NAME`, newline, length as 64 bits little-endian, value, newline: a value cannot imitate another field.
    fn journald(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let mut put = |name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        };
        put("PRIORITY", priority(self.level));
        put("SYSLOG_IDENTIFIER", "doorman");
        put("MESSAGE", if self.message.is_empty() { &self.event } else { &self.message });
        put("DOORMAN_EVENT", &self.event);
        for (name, value) in &self.fields.0 {
            let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            put(&format!("DOORMAN_{}", name.to_ascii_uppercase()), &value.to_string());
        }
        out
    }
}

/// Whether a text is unambiguous without quotes.
fn plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_./:@+%#,…".contains(c))
}

/// A JSON string.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    // What needs no escape, which is nearly all, is taken as a whole.
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            byte => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

fn level_style(level: Level) -> anstyle::Style {
    let colour = match level {
        Level::ERROR => anstyle::AnsiColor::Red,
        Level::WARN => anstyle::AnsiColor::Yellow,
        Level::INFO => anstyle::AnsiColor::Green,
        Level::DEBUG => anstyle::AnsiColor::Blue,
        Level::TRACE => anstyle::AnsiColor::Magenta,
    };
    colour.on_default()
}

/// Syslog's number.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> LogLine {
        let mut fields = LogFields::default();
        fields.set("agent", FieldValue::Text("a-1".to_owned()));
        fields.set("name", FieldValue::Text("x verdict=approve \"y\" \\u{1b}".to_owned()));
        fields.set("latency_ms", FieldValue::Fraction(1.25));
        LogLine {
            ts: "2026-11-23T18:13:02.123456Z".parse().unwrap(),
            level: Level::INFO,
            event: "decided".to_owned(),
            message: "approve @alice, by `friends`".to_owned(),
            fields,
        }
    }

    #[test]
    fn for_people() {
        assert_eq!(
            line().human(false),
            "2026-11-23T18:13:02.123Z  INFO decided: approve @alice, by `friends`  agent=a-1  \
             name=\"x verdict=approve \\u{22}y\\u{22} \\u{1b}\"  latency_ms=1.25\n"
        );
        let coloured = line().human(true);
        assert!(coloured.contains("\u{1b}[32m INFO\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn for_machines() {
        let text = line().json();
        assert_eq!(
            text,
            "{\"ts\":\"2026-11-23T18:13:02.123456Z\",\"level\":\"info\",\"event\":\"decided\",\"message\":\
             \"approve @alice, by `friends`\",\"agent\":\"a-1\",\"name\":\"x verdict=approve \\\"y\\\" \\\\u{1b}\",\
             \"latency_ms\":1.25}\n"
        );
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["name"], "x verdict=approve \"y\" \\u{1b}");
    }

    #[test]
    fn for_journald_every_value_has_its_length() {
        let bytes = line().journald();
        let mut rest = bytes.as_slice();
        let mut names = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            names.push(String::from_utf8(rest[..end].to_vec()).unwrap());
            let length = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap()) as usize;
            assert_eq!(rest[end + 9 + length], b'\n');
            rest = &rest[end + 10 + length..];
        }
        assert_eq!(
            names,
            [
                "PRIORITY",
                "SYSLOG_IDENTIFIER",
                "MESSAGE",
                "DOORMAN_EVENT",
                "DOORMAN_AGENT",
                "DOORMAN_NAME",
                "DOORMAN_LATENCY_MS"
            ]
        );
    }

    #[test]
    fn problems_stand_below_their_line() {
        let mut line = line();
        line.fields = LogFields::default();
        line.fields.set(PROBLEMS, FieldValue::Text("error: x\n  ^ here".to_owned()));
        assert!(line.human(false).ends_with("`friends`\n    | error: x\n    |   ^ here\n"));
        assert_eq!(line.json().matches('\n').count(), 1);
    }
}
