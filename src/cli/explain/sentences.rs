//! What `explain` says to people: the record in a sentence, then the reasons. Times are local.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::shapes::{ExplainOutput, RecordView, VerdictView};
use crate::cli::output;
use crate::clock::Clock;
use crate::model::{Outcome, Verdict};
use crate::policy::By;

const HANDLE_CHARS: usize = 64;
const REASON_CHARS: usize = 200;
const BOLD: Style = Style::new().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();

/// All of it, ending in a newline.
pub(super) fn shown(output: &ExplainOutput, colour: bool) -> String {
    let now = Clock::start().now().wall;
    match (&output.record, &output.explanation) {
        (Some(story), explanation) => {
            let mut text = story_shown(story, now, &TimeZone::system(), colour);
            match explanation {
                Some(explanation) => text += &explanation.render_reasons(colour),
                None => text.push('\n'),
            }
            text
        }
        (None, Some(explanation)) => {
            let what = match output.basis {
                "now" => "hypothetical, if it came now",
                _ => "hypothetical",
            };
            let zone = TimeZone::system();
            format!("{what}: {}", explanation.render(colour, &|at| time(at, now, &zone)))
        }
        (None, None) => String::new(),
    }
}

fn story_shown(story: &RecordView, now: Timestamp, zone: &TimeZone, colour: bool) -> String {
    let paint = |style: Style, text: &str| if colour { format!("{style}{text}{style:#}") } else { text.to_owned() };
    let time = |at| time(at, now, zone);
    let mut out = paint(BOLD, &sentence(story, &time)) + "\n";
    let who = output::stranger(story.handle.as_deref(), HANDLE_CHARS);
    let _ = writeln!(
        out,
        "request {} by {who}, to agent {}, received {}",
        output::shown(story.request.as_str()),
        story.agent,
        time(story.received_at)
    );
    if let Some(note) = &story.note {
        let _ = writeln!(out, "note: {}", output::shown(note));
    }
    for line in beside(story, &time) {
        let _ = writeln!(out, "{line}");
    }
    match story.older_requests.as_slice() {
        [] => {}
        named => {
            let count = match story.older {
                super::OLDER_MAX => format!("{} or more", super::OLDER_MAX),
                count => count.to_string(),
            };
            let named: Vec<String> =
                named.iter().map(|id| format!("`doorman explain {}`", output::shown(id.as_str()))).collect();
            let _ = writeln!(out, "older requests by {who}: {count}; the newest: {}", named.join(", "));
        }
    }
    if let Some(today) = &story.today {
        let said = format!(
            "the rules in force now (policy {}) would say: {} by {}",
            short(&today.policy),
            today.verdict,
            output::shown(&today.by.to_string())
        );
        let _ = writeln!(out, "{}", paint(YELLOW, &said));
    }
    if let Some(why) = &story.unexplained {
        let _ = writeln!(out, "{}", output::shown_lines(why));
    }
    if let Some(differs) = &story.differs {
        let said = format!(
            "decided again from the record, the same rules say {} by {}, which is not what was decided: the record does \
             not hold everything that the decision saw. The conditions below are those of the new decision.",
            differs.verdict,
            output::shown(&differs.by.to_string())
        );
        let _ = writeln!(out, "\n{}", paint(YELLOW, &said));
    } else if let (Some(rules), None) = (&story.rules, &story.unexplained) {
        let _ = writeln!(out, "\nthe conditions as they were at {}, policy {}:", time(rules.at), short(&rules.policy));
    }
    out
}

/// What there is to say beside the decision, a sentence each, escaped: what deciders said, and what became of the contact.
pub(super) fn beside(story: &RecordView, time: &impl Fn(Timestamp) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    for word in &story.replies {
        let reason = word.reason.as_deref().map(|reason| format!(": {}", output::stranger(Some(reason), REASON_CHARS)));
        let (decider, reason) = (output::shown(&word.decider), reason.unwrap_or_default());
        lines.push(format!("a decider replied at {}: {decider} says {}{reason}", time(word.at), word.verdict));
    }
    let noted = |note: &Option<String>| {
        note.as_ref().map(|note| format!(", note: {}", output::shown(note))).unwrap_or_default()
    };
    if let Some(paused) = &story.paused {
        let by = output::shown(paused.by.who());
        lines.push(format!("the agent was paused by {by} at {}{}", time(paused.at), noted(&paused.note)));
    }
    for one in &story.settlements {
        let (by, said) = (output::shown(&one.by), output::shown(&one.said));
        let about = one.request.as_ref().map(|request| format!("the doubt about request {}", output::shown(request)));
        let about = about.unwrap_or_else(|| "a doubt about this owner".to_owned());
        lines.push(format!("{by} settled {about} at {}: {said}{}", time(one.at), noted(&one.note)));
    }
    if let Some(moved) = &story.end_moved {
        let (by, at, note) = (output::shown(&moved.by), time(moved.at), noted(&moved.note));
        lines.push(match moved.ends_at {
            Some(end) => format!("{by} moved the end of the contact to {}, at {at}{note}", time(end)),
            None => format!("{by} lifted the end of the contact, at {at}{note}: the guest stays"),
        });
    }
    if let Some(removed) = &story.removed {
        let (at, note) = (time(removed.at), noted(&removed.note));
        lines.push(match removed.by.person() {
            Some(person) => format!("the contact was removed by {} at {at}{note}", output::shown(person.name())),
            None => format!("removed: {}; the end of the contact had come, at {at}", removed.by),
        });
    } else if let Some(at) = story.contact_removed_at {
        lines.push(format!("the contact was removed, not by doorman, which saw that at {}", time(at)));
    } else if let Some(end) = story.ends_at {
        lines.push(match story.end_in_doubt {
            None => format!("let in for a time: the contact ends at {}", time(end)),
            Some(why) => {
                format!("let in for a time, to {}, and not removed by itself: {}", time(end), output::shown(why))
            }
        });
    }
    lines
}

/// What happened, in one sentence that begins with the verdict.
pub(super) fn sentence(story: &RecordView, time: &impl Fn(Timestamp) -> String) -> String {
    let by = story.by.as_ref().map(|by| output::shown(&by.to_string())).unwrap_or_default();
    if let (Some(By::Person(person)), Some(answered), Some(verdict)) = (&story.by, story.answered_at, story.verdict) {
        let person = output::shown(person.name());
        let until = match &story.rules {
            Some(VerdictView { verdict, by, .. }) => {
                format!("; until then the rules had said {verdict}, {}", output::shown(&by.to_string()))
            }
            None => "; no rules had decided it".to_owned(),
        };
        let done = match story.outcome {
            Some(Outcome::Confirmed(_) | Outcome::Presumed(_)) => past(verdict).to_owned(),
            other => format!("{verdict}, which {}", came_to(other)),
        };
        return format!("{done} by {person} at {}{until}", time(answered));
    }
    let (Some(verdict), Some(rules)) = (story.verdict, &story.rules) else {
        return match story.settled_at {
            Some(at) => format!("not decided by doorman: {} at {}", settled(story), time(at)),
            None => "not decided yet".to_owned(),
        };
    };
    let decided = format!("{verdict} by {by}, decided at {}", time(rules.at));
    match (story.answered_at, story.outcome, story.settled_at) {
        (Some(at), None | Some(Outcome::Unknown), _) => {
            format!("{decided}; {} at {}", came_to(story.outcome), time(at))
        }
        (Some(at), Some(Outcome::Confirmed(_) | Outcome::Presumed(_)), _) => {
            format!("{decided}; {} at {}", past(verdict), time(at))
        }
        (Some(_), Some(Outcome::Refused), None) => format!("{decided}; the platform refused the answer"),
        (_, _, Some(at)) => format!("{decided}; {} at {}", settled(story), time(at)),
        (_, _, None) if story.mode == "shadow" => format!("{decided}; not answered: the rules are in shadow"),
        (_, _, None) if story.rules.as_ref().is_some_and(|rules| rules.verdict != Verdict::Defer) => {
            format!("{decided}; not answered yet")
        }
        (_, _, None) => format!("{decided}; it is pending"),
    }
}

fn past(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approved",
        Verdict::Reject => "rejected",
        Verdict::Defer => "held",
    }
}

fn came_to(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        None => "its answer is on its way",
        Some(Outcome::Confirmed(_) | Outcome::Presumed(_)) => "was carried out",
        Some(Outcome::SettledElsewhere) => "came after somebody else's answer",
        Some(Outcome::Gone) => "came when the request was gone",
        Some(Outcome::Refused) => "the platform refused",
        Some(Outcome::Unknown) => "its answer was sent, and it is not known whether it arrived",
    }
}

/// How it was settled without an answer of ours.
fn settled(story: &RecordView) -> String {
    match story.settled.as_deref() {
        Some("approved") => "approved by somebody else".to_owned(),
        Some("rejected") => "rejected by somebody else".to_owned(),
        Some("expired") => "the request expired".to_owned(),
        Some("cancelled") => "the sender took it back".to_owned(),
        Some("gone") => "the platform did not list it any more".to_owned(),
        Some("elsewhere") | None => "settled by somebody else".to_owned(),
        Some(word) => format!("the platform says `{}`", output::shown(word)),
    }
}

fn short(policy: &str) -> &str {
    &policy[..policy.floor_char_boundary(12)]
}

/// The time of day; with the date if it is not today.
fn time(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (zone.to_datetime(at), zone.to_datetime(now));
    let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::shapes::{DeciderReplyView, EndMovedView, PausedView, SettlementView};
    use super::*;
    use crate::model::{AgentId, PausedBy, RequestId};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn story() -> RecordView {
        RecordView {
            request: RequestId::parse("r-1").unwrap(),
            agent: AgentId::parse("a-1").unwrap(),
            handle: Some("@carol\u{1b}".to_owned()),
            received_at: at(0),
            verdict: Some(Verdict::Defer),
            by: Some(By::NoMatch),
            note: None,
            ends_at: None,
            end_in_doubt: None,
            end_moved: None,
            removed: None,
            contact_removed_at: None,
            paused: None,
            settlements: Vec::new(),
            replies: Vec::new(),
            answered_at: None,
            outcome: None,
            settled: None,
            settled_at: None,
            mode: "enforce",
            rules: Some(VerdictView { verdict: Verdict::Defer, by: By::NoMatch, policy: "ab".repeat(32), at: at(1) }),
            differs: None,
            today: None,
            older: 0,
            older_requests: Vec::new(),
            unexplained: None,
        }
    }

    #[test]
    fn who_settled_a_doubt_is_said() {
        let one = |request: Option<&str>, said: &str| SettlementView {
            request: request.map(str::to_owned),
            said: said.to_owned(),
            by: "ann (claimed by root)".to_owned(),
            at: at(2),
            note: request.map(|_| "on the\u{1b} web".to_owned()),
        };
        let settlements = vec![one(Some("r-0"), "rejected"), one(None, "not-removed")];
        let lines = beside(&RecordView { settlements, ..story() }, &|at| time(at, at, &TimeZone::UTC));
        assert_eq!(
            lines,
            [
                "ann (claimed by root) settled the doubt about request r-0 at 08:00:02: rejected, note: on the\\u{1b} web",
                "ann (claimed by root) settled a doubt about this owner at 08:00:02: not-removed",
            ]
        );
    }

    #[test]
    fn who_paused_the_agent_is_said() {
        let by = |by: &str, note: Option<&str>| {
            let paused =
                Some(PausedView { by: PausedBy::parse(by).unwrap(), at: at(2), note: note.map(str::to_owned) });
            beside(&RecordView { paused, ..story() }, &|at| time(at, at, &TimeZone::UTC)).join("\n")
        };
        let ann = by("person:ann (claimed by root)", Some("lunch\u{1b}"));
        assert_eq!(ann, "the agent was paused by ann (claimed by root) at 08:00:02, note: lunch\\u{1b}");
        assert_eq!(by("approvals_max", None), "the agent was paused by approvals_max at 08:00:02");
    }

    #[test]
    fn what_happened_is_one_sentence() {
        let said = |change: fn(&mut RecordView)| {
            let mut story = story();
            change(&mut story);
            sentence(&story, &|at| time(at, at, &TimeZone::UTC))
        };
        assert_eq!(said(|_| {}), "defer by no_match, decided at 08:00:01; it is pending");
        assert_eq!(
            said(|story| {
                story.verdict = Some(Verdict::Approve);
                story.by = Some(By::Person("ann".into()));
                (story.answered_at, story.outcome) =
                    (Some(at(9)), Some(Outcome::Confirmed(crate::model::Answer::Approve)));
            }),
            "approved by ann at 08:00:09; until then the rules had said defer, no_match"
        );
        assert_eq!(
            said(|story| (story.settled, story.settled_at) = (Some("approved".to_owned()), Some(at(5)))),
            "defer by no_match, decided at 08:00:01; approved by somebody else at 08:00:05"
        );
        assert_eq!(
            said(|story| {
                (story.verdict, story.by, story.rules) = (None, None, None);
                (story.settled, story.settled_at) = (Some("cancelled".to_owned()), Some(at(5)));
            }),
            "not decided by doorman: the sender took it back at 08:00:05"
        );
        assert_eq!(
            said(|story| {
                story.verdict = Some(Verdict::Reject);
                (story.by, story.mode) = (By::parse("spam"), "shadow");
            }),
            "reject by spam, decided at 08:00:01; not answered: the rules are in shadow"
        );
    }

    #[test]
    fn what_deciders_said_and_what_became_of_the_contact_is_shown() {
        let mut story = story();
        let reason = Some("sales\n\u{1b}[2J".to_owned());
        story.replies.push(DeciderReplyView {
            at: at(2),
            decider: "screen".to_owned(),
            verdict: Verdict::Reject,
            reason,
        });
        story.ends_at = Some(at(3_600));
        let said = |story: &RecordView| beside(story, &|at| time(at, at, &TimeZone::UTC));
        assert_eq!(
            said(&story),
            [
                "a decider replied at 08:00:02: screen says reject: sales\\n\\u{1b}[2J",
                "let in for a time: the contact ends at 09:00:00"
            ]
        );
        story.replies.clear();
        let moved =
            |ends_at| EndMovedView { ends_at, by: "ann".to_owned(), at: at(5), note: Some("they asked".to_owned()) };
        story.end_moved = Some(moved(Some(at(3_600))));
        assert_eq!(said(&story)[0], "ann moved the end of the contact to 09:00:00, at 08:00:05, note: they asked");
        (story.end_moved, story.ends_at) = (Some(moved(None)), None);
        assert_eq!(said(&story), ["ann lifted the end of the contact, at 08:00:05, note: they asked: the guest stays"]);
        (story.end_moved, story.contact_removed_at) = (None, Some(at(9)));
        assert_eq!(said(&story), ["the contact was removed, not by doorman, which saw that at 08:00:09"]);
    }

    #[test]
    fn a_difference_and_the_rules_of_today_are_said_and_nothing_steers_the_terminal() {
        let mut story = story();
        let other = |by: &str| VerdictView {
            verdict: Verdict::Approve,
            by: By::parse(by).unwrap(),
            policy: "cd".repeat(32),
            at: at(1),
        };
        (story.differs, story.today) = (Some(other("friends")), Some(other("everybody")));
        (story.older, story.older_requests) = (2, vec![RequestId::parse("r-0").unwrap()]);
        let text = story_shown(&story, at(100_000), &TimeZone::UTC, false);
        insta::assert_snapshot!(text, @r"
        defer by no_match, decided at 2027-01-15 08:00:01; it is pending
        request r-1 by @carol\u{1b}, to agent a-1, received 2027-01-15 08:00:00
        older requests by @carol\u{1b}: 2; the newest: `doorman explain r-0`
        the rules in force now (policy cdcdcdcdcdcd) would say: approve by everybody

        decided again from the record, the same rules say approve by friends, which is not what was decided: the record does not hold everything that the decision saw. The conditions below are those of the new decision.
        ");
    }
}
