//! Logging: one line for each event that matters, for people on a terminal and as JSON otherwise, under spans for the
//! agent and the request. This module owns the contract of `docs/logs.md` ([`events`]). It also makes sure that no line
//! shows a key, that a stranger's text cannot control a terminal or imitate another line, that no line grows without
//! bound, and that the daemon never waits for the log.
//!
//! Lines go to stderr (or to journald's socket) through a bounded queue and a thread of its own.

pub mod events;
pub(crate) mod fields;
pub(crate) mod folded;
pub mod format;
mod panic;
pub(crate) mod writer;

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use self::fields::{Collect, FieldValue, LogFields};
use self::folded::stderr_width;
use self::format::{LineFormat, LogLine};
use self::writer::{LogQueue, LogTarget, QUEUE_BYTES_MAX, Sink};
use crate::clock::Clock;
use crate::config::settings::{LogFormat, LogSettings};
use crate::config::{LevelProblem, filter};
use crate::model::AgentId;
use crate::secret::Redact;

pub use self::panic::hook as panic_hook;

/// journald's socket.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Longest wait at the end for lines to be read.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is not a filter.
    #[error(transparent)]
    Level(#[from] LevelProblem),
    /// journald was chosen and is not running.
    #[error("journald cannot be reached at `{JOURNALD}` ({0}): choose another `log.format`")]
    Journald(std::io::Error),
    /// The writer could not be started.
    #[error("the log's writer cannot be started: {0}")]
    Writer(std::io::Error),
    /// A subscriber has been set already.
    #[error("this process has a log already")]
    Twice,
}

/// Keeps the log running; dropping it writes the remaining lines, for at most 2 s.
#[must_use = "dropping it ends the log"]
pub struct LogHandle {
    queue: LogQueue,
    redact: Redact,
}

impl LogHandle {
    /// The keys that no line shows: code that reads a key adds it here first.
    pub fn redact(&self) -> &Redact {
        &self.redact
    }

    /// Waits until all lines are written, at most this long. Returns whether they were.
    pub(crate) fn flush(&self, at_most: Duration) -> bool {
        self.queue.flush(at_most)
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.queue.flush(FLUSH_MAX);
        self.queue.close();
    }
}

/// How lines look on this stderr with this setting: for `auto`, human on a terminal and JSON otherwise; colour if it
/// is a terminal and `NO_COLOR` is not set.
pub fn line_format(format: LogFormat, terminal: bool, no_color: bool) -> LineFormat {
    let human = LineFormat::Human { colour: terminal && !no_color };
    match format {
        LogFormat::Auto if terminal => human,
        LogFormat::Auto | LogFormat::Json => LineFormat::Json,
        LogFormat::Human => human,
        LogFormat::Journald => LineFormat::Journald,
    }
}

/// Starts the log of this process, on stderr or journald, and catches panics into it. Call once, before any runtime.
///
/// # Errors
/// See [`LogError`]; except for [`LogError::Writer`] and [`LogError::Twice`] the configuration is the cause.
pub fn init(settings: &LogSettings, clock: &Clock, redact: Redact) -> Result<LogHandle, LogError> {
    init_at(settings, clock, redact, Path::new(JOURNALD))
}

/// The same with another journald socket: a test cannot use the real one.
///
/// # Errors
/// As [`init`].
pub fn init_at(settings: &LogSettings, clock: &Clock, redact: Redact, journald: &Path) -> Result<LogHandle, LogError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let format = line_format(settings.format, std::io::stderr().is_terminal(), no_color);
    let filter = filter(&settings.level)?;
    let target = match format {
        LineFormat::Journald => LogTarget::journald(journald).map_err(LogError::Journald)?,
        LineFormat::Human { .. } => LogTarget::Terminal { stream: Box::new(std::io::stderr()), width: stderr_width },
        LineFormat::Json => LogTarget::Stream(Box::new(std::io::stderr())),
    };
    let queue = LogQueue::start(target, format, clock.clone(), QUEUE_BYTES_MAX).map_err(LogError::Writer)?;
    let layer = layer(format, queue.clone(), redact.clone(), clock.clone());
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    std::panic::set_hook(Box::new(panic_hook));
    Ok(LogHandle { queue, redact })
}

/// The span for all work for one agent: the field `agent`.
pub fn agent_span(agent: &AgentId) -> Span {
    tracing::error_span!("agent", agent = %agent)
}

/// A layer that renders every event and gives it to `sink`; for [`init`], and for tests without a global subscriber.
pub fn layer<K: Sink>(format: LineFormat, sink: K, redact: Redact, clock: Clock) -> LineLayer<K> {
    LineLayer { format, sink, redact, clock }
}

/// See [`layer`].
pub struct LineLayer<K> {
    format: LineFormat,
    sink: K,
    redact: Redact,
    clock: Clock,
}

/// The sanitized values of a span, stored with the span.
struct SpanFields(LogFields);

impl<S, K> Layer<S> for LineLayer<K>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    K: Sink,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = LogFields::default();
        attributes.record(&mut Collect::new(&mut fields, &self.redact));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = LogFields::default();
        values.record(&mut Collect::new(&mut fields, &self.redact));
        if let Some(span) = context.span(id)
            && let Some(known) = span.extensions_mut().get_mut::<SpanFields>()
        {
            for (name, value) in fields.0 {
                known.0.set(name, value);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = LogFields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(known) = span.extensions().get::<SpanFields>() {
                for (name, value) in &known.0.0 {
                    fields.set(name, value.clone());
                }
            }
        }
        // A span must not set an event's name or message, and no field can set the time or the level.
        fields.0.retain(|(name, _)| !matches!(*name, "event" | "message"));
        event.record(&mut Collect::new(&mut fields, &self.redact));
        let message = fields.take("message").unwrap_or_default();
        let name = fields.take("event").unwrap_or_else(|| {
            fields.set("target", FieldValue::Text(event.metadata().target().to_owned()));
            events::LOG.to_owned()
        });
        fields.0.retain(|(name, _)| !matches!(*name, "ts" | "level"));
        let level = *event.metadata().level();
        let line = LogLine { ts: self.clock.now().wall, level, event: name, message, fields };
        self.sink.line(level, line.render(self.format));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_people_and_a_pipe_gets_machines() {
        assert_eq!(line_format(LogFormat::Auto, true, false), LineFormat::Human { colour: true });
        assert_eq!(line_format(LogFormat::Auto, true, true), LineFormat::Human { colour: false });
        assert_eq!(line_format(LogFormat::Auto, false, false), LineFormat::Json);
        assert_eq!(line_format(LogFormat::Human, false, false), LineFormat::Human { colour: false });
        assert_eq!(line_format(LogFormat::Json, true, false), LineFormat::Json);
        assert_eq!(line_format(LogFormat::Journald, true, false), LineFormat::Journald);
    }
}
