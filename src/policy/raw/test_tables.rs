//! `[tests.NAME]`: a stranger, what came before, and what must be decided.

use jiff::{SignedDuration, Timestamp};

use super::tables::{narrow, verdict};
use super::{RawTest, RawTestHistory};
use crate::document::{Problems, Reader};

/// When a test plays that does not say.
const TEST_AT: Timestamp = Timestamp::constant(1_767_614_400, 0);

pub(super) fn test(reader: &Reader<'_, '_>, _what: &str, problems: &mut Problems) -> Option<RawTest> {
    let at = reader.get("at").map(|value| value.moment(problems));
    let history = reader.get("history").and_then(|value| value.tables("this history", problems)).unwrap_or_default();
    let history: Vec<_> = history.iter().map(|one| test_history(one, problems)).collect();
    let request = reader.get("request").and_then(|value| value.table("the `request`", problems));
    let expected = reader.get("expect").and_then(|value| Some((value.span(), value.table("`expect`", problems)?)));
    let text = |key: &str, problems: &mut Problems| {
        request
            .as_ref()
            .and_then(|reader| reader.get(key))
            .and_then(|value| value.text(problems))
            .map(|text| text.value)
    };
    let (from_handle, from_name, message) =
        (text("from_handle", problems), text("from_name", problems), text("message", problems));
    let ago = request.as_ref().and_then(|reader| reader.get("ago")).and_then(|value| value.duration_or_zero(problems));
    let contacts = request.as_ref().and_then(|reader| reader.get("contacts")).and_then(|value| value.count(problems));
    let (span, expect) = expected?;
    let verdict = expect.get("verdict").and_then(|value| verdict(&value, problems));
    let by = expect.get("by").and_then(|value| value.text(problems));
    Some(RawTest {
        at: at.flatten().map_or(TEST_AT, |at| at.value),
        history: history.into_iter().flatten().collect(),
        from_handle,
        from_name,
        message,
        ago: ago.map_or(SignedDuration::ZERO, |ago| ago.value),
        contacts: contacts.map(|count| count.value),
        expect: span,
        verdict: verdict.map(|verdict| verdict.value),
        by,
    })
}

fn test_history(reader: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawTestHistory> {
    let from_handle = reader.get("from_handle").and_then(|value| value.text(problems));
    let verdict = reader.get("verdict").and_then(|value| verdict(&value, problems));
    let by = reader.get("by").and_then(|value| value.text(problems));
    let times = reader.get("times").map(|value| value.count(problems));
    let ago = reader.get("ago").and_then(|value| value.duration(problems));
    let removed = reader.get("removed").and_then(|value| value.boolean(problems)).is_some_and(|one| one.value);
    Some(RawTestHistory {
        span: reader.span.clone(),
        from_handle: from_handle?.value,
        verdict: verdict?,
        by,
        times: times.flatten().map_or(1, |times| narrow(times.value)),
        ago: ago?.value,
        removed,
    })
}
