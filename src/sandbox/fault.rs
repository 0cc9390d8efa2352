//! Faults: what shall go wrong, where, and how often. Each point of the sandbox asks this table. The table decides
//! which combinations have a meaning; the points carry them out (`docs/sandbox.md`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Mono;

/// Most faults waiting at once.
pub(crate) const FAULTS_MAX: usize = 10_000;
/// Longest `ms` of a fault.
pub(crate) const FAULT_MS_MAX: u64 = 3_600_000;

/// Where a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultPlace {
    /// The socket's upgrade request.
    Upgrade,
    /// `phx_join` of any topic.
    Join,
    /// A heartbeat.
    Heartbeat,
    /// An event that the sandbox pushes.
    Push,
    /// `GET /agent/me`.
    Me,
    /// `GET /agent/contacts/requests`.
    List,
    /// `POST /agent/contacts/requests/respond`.
    Respond,
    /// The first of these points at which the fault is possible.
    Any,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultAction {
    /// The agent's socket is closed with `code` (default 1000; 0: without a close frame).
    Close,
    /// What was about to happen is left out: a frame is not sent or read, an HTTP connection is cut without a reply.
    Drop,
    /// Nothing moves for `ms` (default: an hour); then HTTP is cut, a socket goes on.
    Stall,
    /// A reply with status `code` (default 500), without carrying out the call; `ms` becomes `Retry-After`.
    Status,
    /// Unreadable data instead of the correct data; `code` selects the kind.
    Malformed,
    /// The correct data, `ms` later (default 1000).
    Delay,
    /// The correct data, twice.
    Duplicate,
    /// The correct data, in another order.
    Reorder,
    /// The call is carried out, but reported as failed (status `code`, or no reply at all).
    ApplyThenFail,
    /// The contacts channel crashes: `phx_error`.
    CrashChannel,
    /// The agent's socket is taken over, as if another client had connected.
    Supersede,
    /// The socket's TCP connection ends without a close frame, and counts as live for `ms` more (default 60,000).
    Ghost,
    /// The listing is as it was `ms` ago (default 10,000).
    StaleList,
    /// A page of something in between (a CDN's bot check) instead of the answer, with status `code` (default 403).
    EdgePage,
    /// One row of the listing cannot be read; `code` picks which kind: 0 half a surrogate pair, 1 a number beyond range,
    /// 2 deep nesting, each with its id; 3 without a readable id.
    BadRow,
    /// A load balancer in front of the platform: at most `per_second` calls in any second, for all agents together or,
    /// with `shared` false, for each agent. Other calls get 429 without a body and without `Retry-After`. Until the
    /// faults are cleared.
    Throttle,
}

/// One fault, as the tester gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub at: FaultPlace,
    /// What.
    #[serde(rename = "do")]
    pub what: FaultAction,
    /// How often (default 1); 0: until the faults are cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// A close code, an HTTP status, or the kind of malformed data, depending on `do`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Milliseconds, depending on `do`; at most `FAULT_MS_MAX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// Only this agent, by id or handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// With `at: "push"`, only this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// With `do: "close"`, the close frame's reason; with `do: "status"`, what the answer says, or why a join is refused. At
    /// most `REASON_BYTES_MAX` bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With `do: "throttle"`, the calls of a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// With `do: "throttle"`, whether all agents share them (default true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
}

/// Longest reason of a close frame (RFC 6455, section 5.5).
pub(crate) const REASON_BYTES_MAX: usize = 123;

impl Fault {
    /// A fault that happens once, for any agent.
    pub fn new(at: FaultPlace, what: FaultAction) -> Self {
        Self {
            at,
            what,
            count: None,
            code: None,
            ms: None,
            agent: None,
            event: None,
            reason: None,
            per_second: None,
            shared: None,
        }
    }

    /// How often it happens; 0: until cleared.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// With this code.
    #[must_use]
    pub fn code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    /// With this number of milliseconds.
    #[must_use]
    pub fn ms(mut self, ms: u64) -> Self {
        self.ms = Some(ms);
        self
    }

    /// Only for this agent, by id or handle.
    #[must_use]
    pub fn agent(mut self, agent: &str) -> Self {
        self.agent = Some(agent.to_owned());
        self
    }

    /// With this reason in the close frame, or in the answer.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// This many calls per second, for all agents together.
    #[must_use]
    pub fn per_second(mut self, calls: u32) -> Self {
        self.per_second = Some(calls);
        self
    }

    /// Only for this event.
    #[must_use]
    pub fn event(mut self, event: &str) -> Self {
        self.event = Some(event.to_owned());
        self
    }

    /// The milliseconds, or this many.
    pub fn wait(&self, default: u64) -> Duration {
        Duration::from_millis(self.ms.unwrap_or(default))
    }

    /// Whether the fault has a meaning.
    ///
    /// # Errors
    ///
    /// A sentence for people.
    pub fn check(&self) -> Result<(), String> {
        let points = [
            FaultPlace::Upgrade,
            FaultPlace::Join,
            FaultPlace::Heartbeat,
            FaultPlace::Push,
            FaultPlace::Me,
            FaultPlace::List,
            FaultPlace::Respond,
        ];
        let possible =
            points.into_iter().any(|point| (self.at == FaultPlace::Any || self.at == point) && self.can(point));
        if !possible {
            return Err(format!("`{}` cannot be done at `{}`", word(&self.what), word(&self.at)));
        }
        if self.ms.is_some_and(|ms| ms > FAULT_MS_MAX) {
            return Err(format!("`ms` is at most {FAULT_MS_MAX}"));
        }
        if self.event.is_some() && self.at != FaultPlace::Push {
            return Err("`event` needs `at` to be `push`".into());
        }
        let speaks = matches!(self.what, FaultAction::Close | FaultAction::Status);
        if self.reason.as_ref().is_some_and(|reason| !speaks || reason.len() > REASON_BYTES_MAX) {
            return Err(format!("`reason` is for `close` and `status`, and has at most {REASON_BYTES_MAX} bytes"));
        }
        let throttles = self.what == FaultAction::Throttle;
        if throttles != self.per_second.is_some() || self.per_second == Some(0) || (self.shared.is_some() && !throttles)
        {
            return Err("`throttle` needs `per_second`, at least 1; nothing else takes it or `shared`".into());
        }
        let code = self.code.unwrap_or(1000);
        let status = match self.what {
            FaultAction::Status | FaultAction::ApplyThenFail | FaultAction::EdgePage => {
                self.code.is_none() || (200..=599).contains(&code)
            }
            FaultAction::Close => is_close_code(code),
            _ => true,
        };
        if status { Ok(()) } else { Err(format!("`{code}` is not a valid code for `{}`", word(&self.what))) }
    }

    fn can(&self, point: FaultPlace) -> bool {
        let http = matches!(point, FaultPlace::Upgrade | FaultPlace::Me | FaultPlace::List | FaultPlace::Respond);
        match self.what {
            FaultAction::Close
            | FaultAction::Drop
            | FaultAction::Stall
            | FaultAction::Malformed
            | FaultAction::Delay
            | FaultAction::Supersede
            | FaultAction::Ghost => true,
            FaultAction::Status => http || matches!(point, FaultPlace::Join | FaultPlace::Heartbeat),
            FaultAction::Duplicate => !matches!(point, FaultPlace::Upgrade | FaultPlace::Me),
            FaultAction::Reorder => {
                matches!(point, FaultPlace::Join | FaultPlace::Heartbeat | FaultPlace::Push | FaultPlace::List)
            }
            FaultAction::ApplyThenFail => matches!(point, FaultPlace::Respond | FaultPlace::Join),
            FaultAction::CrashChannel => point != FaultPlace::Upgrade,
            FaultAction::StaleList | FaultAction::BadRow => point == FaultPlace::List,
            FaultAction::EdgePage | FaultAction::Throttle => http,
        }
    }
}

/// Whether a server may close with this code: 0 (no close frame) or a code that a close frame may contain.
pub(crate) fn is_close_code(code: u16) -> bool {
    matches!(code, 0 | 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A balancer's limit, and the calls of the last second: those of all, or of each agent by id.
#[derive(Debug)]
struct Throttled {
    fault: Fault,
    taken: HashMap<String, VecDeque<Mono>>,
}

/// The faults that wait, in the order they were given.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: VecDeque<(Fault, u64)>,
    throttles: Vec<Throttled>,
    /// How many have struck.
    pub struck: u64,
    /// How many calls the throttles have let pass.
    pub let_pass: u64,
}

impl Faults {
    /// Adds a fault that has been checked.
    ///
    /// # Errors
    ///
    /// There are [`FAULTS_MAX`] already.
    pub fn add(&mut self, fault: Fault) -> Result<(), String> {
        if self.waiting.len() + self.throttles.len() >= FAULTS_MAX {
            return Err(format!("at most {FAULTS_MAX} faults wait at once"));
        }
        if fault.what == FaultAction::Throttle {
            self.throttles.push(Throttled { fault, taken: HashMap::new() });
            return Ok(());
        }
        let left = fault.count.map_or(1, |count| if count == 0 { u64::MAX } else { count });
        self.waiting.push_back((fault, left));
        Ok(())
    }

    /// The fault for this point, if there is one: the oldest that fits. `who` are the id and the handle of the agent.
    pub fn take(&mut self, point: FaultPlace, who: [&str; 2], event: &str) -> Option<Fault> {
        let at = self.waiting.iter().position(|(fault, _)| {
            (fault.at == point || fault.at == FaultPlace::Any)
                && fault.can(point)
                && fault.agent.as_deref().is_none_or(|agent| who.contains(&agent))
                && fault.event.as_deref().is_none_or(|wanted| wanted == event)
        })?;
        let (fault, left) = &mut self.waiting[at];
        let fault = fault.clone();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.waiting.remove(at);
        }
        self.struck += 1;
        Some(fault)
    }

    /// Whether a call now would exceed a limit. `who`: the id and the handle of the agent.
    pub fn throttled(&mut self, who: [&str; 2], now: Mono) -> bool {
        let mut over = false;
        for throttled in &mut self.throttles {
            if throttled.fault.agent.as_deref().is_some_and(|agent| !who.contains(&agent)) {
                continue;
            }
            let whose = if throttled.fault.shared == Some(false) { who[0] } else { "" };
            let taken = throttled.taken.entry(whose.to_owned()).or_default();
            taken.retain(|at| now.since(*at) < Duration::from_secs(1));
            if taken.len() >= throttled.fault.per_second.unwrap_or(u32::MAX) as usize {
                over = true;
            } else {
                taken.push_back(now);
            }
        }
        self.struck += u64::from(over);
        self.let_pass += u64::from(!over && !self.throttles.is_empty());
        over
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.throttles.clear();
        self.waiting.clear();
    }

    /// Those that wait, with how often each will still strike (`u64::MAX`: until cleared).
    pub fn waiting(&self) -> impl Iterator<Item = &(Fault, u64)> {
        self.waiting.iter()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.throttles.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_fitting_fault_strikes_as_often_as_ordered() {
        let mut faults = Faults::default();
        faults.add(Fault::new(FaultPlace::Push, FaultAction::Drop).event("contact_added")).unwrap();
        faults.add(Fault::new(FaultPlace::Any, FaultAction::StaleList)).unwrap();
        faults.add(Fault::new(FaultPlace::Push, FaultAction::Duplicate).count(2).agent("o/b")).unwrap();
        let mut take = |point, event| faults.take(point, ["a", "o/b"], event).map(|fault| fault.what);
        assert_eq!(
            take(FaultPlace::Push, "x"),
            Some(FaultAction::Duplicate),
            "any does not mean where it cannot be done"
        );
        assert_eq!(take(FaultPlace::Push, "contact_added"), Some(FaultAction::Drop));
        assert_eq!(take(FaultPlace::Push, "contact_added"), Some(FaultAction::Duplicate));
        assert_eq!(take(FaultPlace::Push, "contact_added"), None);
        assert_eq!(take(FaultPlace::List, ""), Some(FaultAction::StaleList));
        assert!(faults.is_empty());
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (fault, why) in [
            (Fault::new(FaultPlace::Push, FaultAction::Status), "`status` cannot be done at `push`"),
            (Fault::new(FaultPlace::Respond, FaultAction::StaleList), "`stale-list` cannot be done at `respond`"),
            (Fault::new(FaultPlace::Join, FaultAction::Close).code(1005), "`1005` is not a valid code for `close`"),
            (Fault::new(FaultPlace::List, FaultAction::Status).code(99), "`99` is not a valid code for `status`"),
            (Fault::new(FaultPlace::List, FaultAction::Delay).ms(FAULT_MS_MAX + 1), "`ms` is at most 3600000"),
            (Fault::new(FaultPlace::Push, FaultAction::EdgePage), "`edge-page` cannot be done at `push`"),
            (
                Fault::new(FaultPlace::Any, FaultAction::Throttle),
                "`throttle` needs `per_second`, at least 1; nothing else takes it or `shared`",
            ),
            (
                Fault::new(FaultPlace::List, FaultAction::Drop).reason("x"),
                "`reason` is for `close` and `status`, and has at most 123 bytes",
            ),
            (Fault::new(FaultPlace::List, FaultAction::Delay).event("x"), "`event` needs `at` to be `push`"),
        ] {
            assert_eq!(fault.check(), Err(why.to_owned()));
        }
    }
}
