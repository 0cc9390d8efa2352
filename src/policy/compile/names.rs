//! Windows, and the names by which conditions speak of lists and windows.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Compiling;
use crate::document::{At, nearest, shown};
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
        Some(Window { name: self.name(name)?, tz, days: raw.days.clone(), from: raw.from, to: raw.to })
    }

    /// The lists of these names. Names that do not exist are reported.
    pub(crate) fn lists_named(&mut self, names: &[At<String>]) -> Vec<Arc<List>> {
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

    /// The windows of these names. Names that do not exist are reported.
    pub(crate) fn windows_named(&mut self, names: &[At<String>]) -> Vec<Arc<Window>> {
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
    pub(super) fn no_such(&mut self, kind: &str, name: &At<String>, near: Option<String>) {
        let shown = shown(&name.value);
        let diagnostic = self.problems.error(&name.span, format!("there is no {kind} `{shown}`"));
        match near {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!("write `[{kind}s.{shown}]`, or name another")),
        };
    }
}

/// The system's time zone of this name, or the bundled one where the system has none: newer systems lack old names such
/// as `US/Eastern`, and a file must load wherever doorman runs.
fn time_zone(name: &str) -> Option<TimeZone> {
    let known = |zone: &TimeZone| !zone.is_unknown();
    let bundled = || jiff::tz::TimeZoneDatabase::bundled().get(name).ok().filter(known);
    TimeZone::get(name).ok().filter(known).or_else(bundled)
}

/// By the whole name, or by the city alone.
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
