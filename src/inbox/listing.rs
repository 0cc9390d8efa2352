//! When to read the platform's list of pending requests, and how a reading goes: passes over pages, in rounds.
//!
//! A round has at most three passes. Another pass follows if the last one found something new, since rows move between
//! pages while answers go out, or if one pass over several pages did not show the outcome of an answer. Between rounds
//! there is one fixed interval, and anything may ask for an earlier round.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::Mark;
use crate::clock::Mono;
use crate::model::RequestId;

/// Rows a page: the most that the platform gives \[docs\].
pub(crate) const PAGE_SIZE: u32 = 100;
/// The requests of a first pass wait at most this long for its end.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(5);
const PASSES_MAX: u8 = 3;
/// Ends a pass if a platform reports more and more pages.
const PAGES_MAX: u32 = 5_000;

/// The sizes that a page is read in, largest first: each divides the one before, so that a page that is too large is read
/// again as whole smaller ones.
pub(crate) const PAGE_SIZES: [u32; 5] = [PAGE_SIZE, 50, 10, 5, 1];

/// Read this page next. `pass` names the reading; a page of another pass is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// Which pass.
    pub pass: u64,
    /// Which page, from 1.
    pub page: u32,
    /// Rows a page.
    pub size: u32,
}

/// The position of a row without a readable id: as long as there is one, no pass proves that a request is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnidentifiedRow {
    /// Its page, from 1.
    pub page: u32,
    /// Rows a page.
    pub size: u32,
    /// Its place on the page, from 1.
    pub position: u32,
    /// How many such rows the pass has met.
    pub rows: u32,
}

/// A page, in numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageCounts<'a> {
    /// Rows with a readable id.
    pub(super) shown: usize,
    /// Requests that were new.
    pub(super) new: usize,
    /// Positions of rows without a readable id.
    pub(super) nameless: &'a [u32],
    /// How many there are in all.
    pub(super) total: Option<u64>,
    /// How many pages of this size.
    pub(super) pages: Option<u32>,
    /// The inbox had no room for some of it.
    pub(super) full: bool,
    /// Which rows it held: see [`fingerprint`].
    pub(super) print: u64,
}

/// A fingerprint of a page's ids. Without it, a platform that reports no number of pages and always returns the same
/// page would be read without end.
pub(crate) fn fingerprint<'a>(ids: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    ids.into_iter().for_each(|id| id.hash(&mut hasher));
    hasher.finish()
}

/// A pass that read every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PassEnd {
    /// Its number.
    pub number: u64,
    /// The pass says nothing about requests that came after this mark.
    pub mark: Mark,
    /// Its total never changed, every row's id could be read, as many rows came as reported, and nothing was answered
    /// during the pass: a request that it does not show is no longer pending.
    pub stable: bool,
    /// It reached the last page, every row's id could be read, and as many rows came as reported, unless the total
    /// changed meanwhile: a missing request has ended, or moved to another page as others came and went.
    pub whole: bool,
    /// Fewer rows came than the platform reported: the list is read again at once.
    pub short: bool,
    /// The inbox had no room for some of the shown requests.
    pub full: bool,
    /// The first of its round.
    pub first: bool,
    /// Requests it showed.
    pub shown: u64,
    /// Requests that were new.
    pub new: u64,
    /// Pages it read.
    pub pages: u32,
    /// When it began.
    pub started: Mono,
}

/// If passes in a row with this total weight do not show a request, it is no longer pending.
pub(crate) const MISSED_ENOUGH: u8 = 4;

impl PassEnd {
    /// The weight of this pass as evidence against a request that it did not show. If one request ends while another
    /// arrives, the total does not change, and a third row may move to a page already read: of several pages, two
    /// passes are needed. A disturbed pass may have missed the request, but several in a row do not. When many requests
    /// arrive, every pass is disturbed. Passes of one round follow each other too closely to count separately.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            PassEnd { stable: true, pages: 1, .. } => MISSED_ENOUGH,
            PassEnd { stable: true, .. } => MISSED_ENOUGH / 2,
            PassEnd { whole: true, first: true, .. } => 1,
            _ => 0,
        }
    }
}

/// What a finished listing pass means for requests that were known before it began, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// Requests with an attempt of unknown outcome that are still pending: the same answer is sent again.
    pub still_pending: Vec<RequestId>,
    /// Requests with an attempt of unknown outcome that are no longer pending.
    pub no_longer: Vec<RequestId>,
    /// Requests that we never answered and that are no longer pending.
    pub gone: Vec<RequestId>,
    /// Requests that it should have shown, and did not: that proves nothing yet.
    pub missing: Vec<RequestId>,
    /// One more such pass shows the outcome of an answer.
    pub open: bool,
}

#[derive(Debug)]
pub(super) struct Pass {
    pub(super) number: u64,
    pub(super) mark: Mark,
    pub(super) started: Mono,
    pub(super) first: bool,
    page: u32,
    size: u32,
    total: Option<u64>,
    blind: Option<UnidentifiedRow>,
    /// Something was answered, or settled, while it was read.
    disturbed: bool,
    /// A page did not report the total.
    odd: bool,
    /// Not every page promised the same total.
    moved: bool,
    full: bool,
    /// The fingerprint of the page before.
    print: Option<u64>,
    shown: u64,
    new: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Listing {
    /// When the next round is due, and why.
    next: (Mono, &'static str),
    pass: Option<Pass>,
    passes_in_round: u8,
    numbers: u64,
    failures: u32,
    rng: fastrand::Rng,
    away: Duration,
    blind: Option<UnidentifiedRow>,
}

impl Listing {
    /// The first round is due at `first`. `away` is the rhythm while there is no channel, which also bounds the wait
    /// after a failure.
    pub fn new(first: Mono, away: Duration, seed: u64) -> Self {
        Self {
            next: (first, "start"),
            pass: None,
            passes_in_round: 0,
            numbers: 0,
            failures: 0,
            rng: fastrand::Rng::with_seed(seed),
            away,
            blind: None,
        }
    }

    /// The first row without a readable id that the last whole reading met.
    pub(crate) fn blind(&self) -> Option<UnidentifiedRow> {
        self.blind
    }

    /// Asks for a round not later than `at`.
    pub fn want(&mut self, why: &'static str, at: Mono) {
        if at < self.next.0 {
            self.next = (at, why);
        }
    }

    /// A channel was joined: the current pass began too early, so a new one begins at once.
    pub fn restart(&mut self, why: &'static str, now: Mono) {
        self.pass = None;
        self.failures = 0;
        self.next = (now, why);
    }

    /// When the next round is due; `None` while one is under way.
    pub fn due(&self) -> Option<Mono> {
        self.pass.is_none().then_some(self.next.0)
    }

    /// Begins a round, if it is due and none is under way. `rhythm` is the time to the round after it.
    pub fn begin(&mut self, mark: Mark, now: Mono, rhythm: Duration) -> Option<Fetch> {
        if self.pass.is_some() || self.next.0 > now {
            return None;
        }
        self.passes_in_round = 0;
        self.next = (now + self.jittered(rhythm), "rhythm");
        Some(self.begin_pass(mark, now))
    }

    /// Begins another pass of the same round, if there should be one; `open`: it would prove what this one does not.
    pub fn again(&mut self, end: &PassEnd, open: bool, mark: Mark, now: Mono) -> Option<Fetch> {
        ((end.new > 0 || end.short || open) && self.passes_in_round < PASSES_MAX).then(|| self.begin_pass(mark, now))
    }

    fn begin_pass(&mut self, mark: Mark, now: Mono) -> Fetch {
        self.numbers += 1;
        self.passes_in_round += 1;
        self.pass = Some(Pass {
            number: self.numbers,
            mark,
            started: now,
            first: self.passes_in_round == 1,
            page: 1,
            size: PAGE_SIZE,
            total: None,
            blind: None,
            disturbed: false,
            odd: false,
            moved: false,
            full: false,
            print: None,
            shown: 0,
            new: 0,
        });
        Fetch { pass: self.numbers, page: 1, size: PAGE_SIZE }
    }

    pub(super) fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// Whether this page belongs to the current pass and is the expected one.
    pub(crate) fn expects(&self, fetch: Fetch) -> bool {
        self.pass
            .as_ref()
            .is_some_and(|pass| (pass.number, pass.page, pass.size) == (fetch.pass, fetch.page, fetch.size))
    }

    /// The page to read next.
    pub(crate) fn next_page(&self) -> Option<Fetch> {
        self.pass.as_ref().map(|pass| Fetch { pass: pass.number, page: pass.page, size: pass.size })
    }

    /// Something was answered or settled: a request that this pass does not show may still be pending.
    pub(crate) fn disturb(&mut self) {
        if let Some(pass) = &mut self.pass {
            pass.disturbed = true;
        }
    }

    /// The expected page has more bytes than the limit: it is read again in smaller ones. A single row that is too
    /// large counts as a row without a readable id; returns `true` if there is no smaller page.
    pub(crate) fn too_large(&mut self) -> bool {
        let Some(pass) = &mut self.pass else { return false };
        let Some(smaller) = PAGE_SIZES.into_iter().find(|size| *size < pass.size) else { return true };
        pass.page = (pass.page - 1).saturating_mul(pass.size / smaller).saturating_add(1);
        pass.size = smaller;
        false
    }

    pub(super) fn page_read(&mut self, counted: PageCounts<'_>) -> Option<PassEnd> {
        let pass = self.pass.as_mut()?;
        pass.shown += counted.shown as u64;
        pass.new += counted.new as u64;
        pass.full |= counted.full;
        pass.odd |= counted.total.is_none();
        let nameless = u32::try_from(counted.nameless.len()).unwrap_or(u32::MAX);
        if let Some(position) = counted.nameless.first() {
            let first = UnidentifiedRow { page: pass.page, size: pass.size, position: *position, rows: 0 };
            pass.blind.get_or_insert(first).rows += nameless;
        }
        pass.moved |= pass.page > 1 && pass.total != counted.total;
        pass.total = counted.total;
        let rows = u32::try_from(counted.shown).unwrap_or(u32::MAX).saturating_add(nameless);
        let more = match counted.pages {
            Some(pages) => pass.page < pages,
            None => rows >= pass.size,
        };
        let same = counted.pages.is_none() && pass.print.replace(counted.print) == Some(counted.print);
        if more && pass.page < PAGES_MAX && rows > 0 && !same {
            pass.page += 1;
            return None;
        }
        let pass = self.pass.take()?;
        self.failures = 0;
        let counted = pass.total == Some(pass.shown);
        let whole = !pass.odd && pass.blind.is_none() && !more && (counted || pass.moved);
        self.blind = pass.blind;
        Some(PassEnd {
            number: pass.number,
            mark: pass.mark,
            short: pass.total > Some(pass.shown + pass.blind.map_or(0, |blind| u64::from(blind.rows))),
            stable: whole && !pass.moved && !pass.disturbed,
            whole,
            full: pass.full,
            first: pass.first,
            shown: pass.shown,
            new: pass.new,
            pages: pass.page,
            started: pass.started,
        })
    }

    /// The pass failed; another round comes after a while that grows, but never beyond the rhythm while away.
    pub fn failed(&mut self, now: Mono, not_before: Option<Duration>) {
        self.pass = None;
        self.failures = self.failures.saturating_add(1);
        let ceiling = Duration::from_secs(1).saturating_mul(1 << self.failures.min(6)).min(self.away);
        let wait = ceiling.mul_f64(0.5 + self.rng.f64() / 2.0).max(not_before.unwrap_or_default());
        self.next = (now + wait, "the last listing failed");
    }

    /// The rhythm changed: the next round is due within it.
    pub(crate) fn hasten(&mut self, rhythm: Duration, now: Mono) {
        let at = now + self.jittered(rhythm);
        self.want("rhythm", at);
    }

    /// How long the next listing waits after the inbox was full.
    pub(super) fn pause_when_full(&self) -> Duration {
        (self.away / 30).max(Duration::from_millis(100))
    }

    /// ± 20 %.
    fn jittered(&mut self, rhythm: Duration) -> Duration {
        rhythm.mul_f64(0.8 + self.rng.f64() * 0.4)
    }
}
