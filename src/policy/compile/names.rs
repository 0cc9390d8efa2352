//! Windows, and the names by which conditions speak of lists and windows.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Compiling, calendar};
use crate::diagnostics::Severity;
use crate::document::{WithSpan, nearest, shown};
use crate::policy::raw::{Named, RawWindow};
use crate::policy::rules::{List, Window};

impl Compiling<'_> {
    /// Compiles all windows.
    pub(super) fn windows(&mut self, raw: &[Named<RawWindow>]) {
        for Named { name, value } in raw {
            let window = value.as_ref().and_then(|window| self.window(&name.value, window));
            self.windows.insert(name.value.clone(), window.map(Arc::new));
        }
    }

    fn window(&mut self, name: &str, raw: &RawWindow) -> Option<Window> {
        let written = &raw.tz.value;
        let before = self.problems.errors();
        let mut except: Vec<Date> = raw.except.iter().filter_map(|date| self.date(date)).collect();
        except.extend(raw.except_file.iter().flat_map(|file| self.dates_of_file(file)));
        let mut only: Vec<Date> = raw.only.iter().filter_map(|date| self.date(date)).collect();
        for dates in [&mut except, &mut only] {
            dates.sort_unstable();
            dates.dedup();
        }
        let found = (written.len() <= 64).then(|| time_zone(written)).flatten();
        let Some(tz) = found else {
            let crowded = self.problems.crowded();
            let message = format!("`{}` is not a known time zone", shown(written));
            let diagnostic = self.problems.error(&raw.tz.span, message);
            diagnostic.label("expected a name such as `Europe/Paris`");
            let known =
                jiff::tz::db().available().map(|name| name.as_str().to_owned()).take(if crowded { 0 } else { 10_000 });
            let known: Vec<String> = known.collect();
            if let Some(near) = nearest_zone(written, &known) {
                diagnostic.help(format!("did you mean `{near}`?"));
            }
            return None;
        };
        let (days, from, to) = (raw.days.clone(), raw.from, raw.to);
        let name = self.name(name)?;
        (self.problems.errors() == before).then_some(Window { name, tz, days, from, to, except, only })
    }

    fn date(&mut self, written: &WithSpan<String>) -> Option<Date> {
        let date = date(&written.value);
        if date.is_none() {
            self.problems
                .error(&written.span, format!("`{}` is not a date", shown(&written.value)))
                .label("expected a date, such as `2026-12-25`");
        }
        date
    }

    /// The dates of a file; errors are reported at their place in that file.
    fn dates_of_file(&mut self, file: &WithSpan<String>) -> Vec<Date> {
        if file.value.to_ascii_lowercase().ends_with(".ics") {
            let Some((source, text)) = self.text_of(file) else { return Vec::new() };
            return calendar::days(&text).unwrap_or_else(|why| {
                self.problems.push(Severity::Error, source, None, why);
                Vec::new()
            });
        }
        let Some(read) = self.lines_of(file) else { return Vec::new() };
        let mut dates = Vec::with_capacity(read.lines.len());
        for line in &read.lines {
            let written = line.value.split('#').next().unwrap_or_default().trim();
            match date(written) {
                Some(date) => dates.push(date),
                None => {
                    let message = format!("`{}` is not a date, such as `2026-12-25`", shown(written));
                    self.problems.push(Severity::Error, read.source, Some(line.span.clone()), message);
                }
            }
        }
        dates
    }

    /// The lists with these names. Unknown names are reported.
    pub(crate) fn lists_named(&mut self, names: &[WithSpan<String>]) -> Vec<Arc<List>> {
        let mut lists = Vec::with_capacity(names.len());
        for name in names {
            self.used.insert(("list", name.value.clone()));
            match self.lists.get(&name.value) {
                Some(list) => lists.extend(list.clone()),
                None => {
                    let known = self.lists.keys().map(String::as_str).take(self.advice());
                    let near = nearest(&name.value, known).map(str::to_owned);
                    self.no_such("list", name, near);
                }
            }
        }
        lists
    }

    /// The windows with these names. Unknown names are reported.
    pub(crate) fn windows_named(&mut self, names: &[WithSpan<String>]) -> Vec<Arc<Window>> {
        let mut windows = Vec::with_capacity(names.len());
        for name in names {
            self.used.insert(("window", name.value.clone()));
            match self.windows.get(&name.value) {
                Some(window) => windows.extend(window.clone()),
                None => {
                    let known = self.windows.keys().map(String::as_str).take(self.advice());
                    let near = nearest(&name.value, known).map(str::to_owned);
                    self.no_such("window", name, near);
                }
            }
        }
        windows
    }

    /// How many names are worth comparing with a wrong one.
    pub(super) fn advice(&self) -> usize {
        if self.problems.crowded() { 0 } else { 10_000 }
    }

    /// Nothing of this kind has this name.
    pub(super) fn no_such(&mut self, kind: &str, name: &WithSpan<String>, near: Option<String>) {
        let shown = shown(&name.value);
        let diagnostic = self.problems.error(&name.span, format!("there is no {kind} `{shown}`"));
        match near {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!("write `[{kind}s.{shown}]`, or name another")),
        };
    }
}

/// Parses `2026-12-25`, and no other form.
fn date(text: &str) -> Option<Date> {
    (text.len() == 10).then(|| text.parse().ok()).flatten()
}

/// The system's time zone of this name, or the bundled one if the system has none: newer systems lack old names such
/// as `US/Eastern`, and a file must load wherever doorman runs.
fn time_zone(name: &str) -> Option<TimeZone> {
    let known = |zone: &TimeZone| !zone.is_unknown();
    let bundled = || jiff::tz::TimeZoneDatabase::bundled().get(name).ok().filter(known);
    TimeZone::get(name).ok().filter(known).or_else(bundled)
}

/// The nearest time zone, by the whole name or by the city alone.
fn nearest_zone<'a>(written: &str, known: &'a [String]) -> Option<&'a str> {
    let lower = written.to_lowercase();
    let city = lower.rsplit('/').next().unwrap_or_default().replace(' ', "_");
    let same_city = known
        .iter()
        .find(|zone| zone.rsplit('/').next().is_some_and(|its| its.eq_ignore_ascii_case(&city)) && zone.contains('/'));
    match same_city {
        Some(zone) => Some(zone),
        None => nearest(written, known.iter().map(String::as_str)),
    }
}
