//! The views of the page. Templates escape for HTML. Strangers' text is sanitized before that, so that no character
//! hides or reorders its neighbours.

mod chart;
pub(super) mod rows;

use std::ops::ControlFlow;
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use jiff::Timestamp;
use serde::Deserialize;

use self::chart::Chart;
use self::rows::{AgentRow, ContactRow, HistoryRow, PendingCard, RequestPage, RulesCard};
use super::door::Visitor;
use super::reading::HOURS;
use super::{ROWS_MAX, RunningPage};
use crate::ledger::Filter;
use crate::ledger::read::WantedContacts;
use crate::model::{AgentId, AgentState, RequestId, StrangerText};
use crate::ops::board::{AgentBoard, Board, DaemonPhase};
use crate::ops::control::wire::PendingRow;

/// Most pages of rows that can be reached.
const PAGES_MAX: usize = 50;

/// What every page has.
pub(super) struct Shell {
    title: &'static str,
    /// The menu entry that is highlighted.
    tab: &'static str,
    /// Seconds until the browser reloads the page; 0: never.
    refresh: u32,
    name: Option<String>,
    by_link: bool,
    /// Proves that a form of this page is ours.
    form: String,
    acts: bool,
    waiting: u64,
    now: String,
    troubles: Vec<String>,
}

impl Shell {
    fn new(page: &RunningPage, visitor: &Visitor, title: &'static str, tab: &'static str, refresh: u32) -> Self {
        let (board, now) = (page.board.borrow().clone(), page.clock.now().wall);
        Self {
            title,
            tab,
            refresh,
            form: visitor.name.as_ref().map(|name| page.forms.token(name, now)).unwrap_or_default(),
            acts: page.settings.act && visitor.name.is_some(),
            name: visitor.name.clone(),
            by_link: visitor.by_link,
            waiting: board.agents.iter().map(|agent| agent.status.deferred).sum(),
            now: rows::clock(now),
            troubles: troubles(&board),
        }
    }
}

/// The problems of the daemon as a whole.
fn troubles(board: &Board) -> Vec<String> {
    let mut troubles = Vec::new();
    match board.phase {
        DaemonPhase::Starting => troubles.push("The daemon is starting.".to_owned()),
        DaemonPhase::Draining => troubles.push("The daemon is stopping.".to_owned()),
        DaemonPhase::Running => {}
    }
    if let Some(blocked) = &board.ledger_blocked {
        troubles.push(format!("The ledger cannot be written, so nothing is answered: {}", blocked.why));
    }
    if board.configuration.problem.is_some() {
        troubles.push("The configuration was refused at the last reload; what was in force stays.".to_owned());
    }
    for policy in board.policies.iter().filter(|policy| policy.problem.is_some()) {
        troubles.push(format!("{} was refused; what was in force stays.", policy.path));
    }
    for target in board.notify.iter().filter(|target| target.why.is_some()) {
        troubles.push(format!("The target {} of notifications did not take the last message.", target.name));
    }
    troubles
}

fn html(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Template)]
#[template(path = "plain.html")]
struct Plain<'a> {
    title: &'a str,
    /// Alternately plain text, and text that was between backticks.
    parts: Vec<&'a str>,
    /// Whether the visitor can open the other pages.
    known: bool,
}

/// A page with one message.
pub(super) fn plain(status: StatusCode, title: &str, text: &str) -> Response {
    html(status, &Plain { title, parts: text.split('`').collect(), known: true })
}

/// The same for a visitor who cannot open the other pages.
pub(super) fn outside(status: StatusCode, title: &str, text: &str) -> Response {
    html(status, &Plain { title, parts: text.split('`').collect(), known: false })
}

/// The page for an unknown path.
pub(super) async fn nothing() -> Response {
    plain(StatusCode::NOT_FOUND, "Nothing here", "there is no such page")
}

/// The one style sheet.
pub(super) async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("assets/style.css")).into_response()
}

/// Which page of a long list was requested.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListPage {
    #[serde(default)]
    page: Option<String>,
}

impl ListPage {
    fn number(&self) -> usize {
        self.page.as_deref().and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, PAGES_MAX)
    }
}

/// The position in a long list.
struct Paging {
    number: usize,
    before: Option<usize>,
    after: Option<usize>,
}

impl Paging {
    fn new(number: usize, more: bool) -> Self {
        let after = (more && number < PAGES_MAX).then_some(number + 1);
        Self { number, before: (number > 1).then(|| number - 1), after }
    }
}

fn turned<T>(rows: Vec<T>, number: usize) -> (Vec<T>, Paging) {
    let more = rows.len() > number * ROWS_MAX;
    (rows.into_iter().skip((number - 1) * ROWS_MAX).take(ROWS_MAX).collect(), Paging::new(number, more))
}

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsView {
    shell: Shell,
    rows: Vec<AgentRow>,
    turns: Paging,
    chart: Chart,
}

/// The requested page, or the page that says why it cannot be shown.
type PageResult = Result<Response, Response>;

/// The beginning of every page of the menu.
struct PageOpening {
    page: Arc<RunningPage>,
    visitor: Visitor,
    now: Timestamp,
    board: Arc<Board>,
}

impl PageOpening {
    fn new(page: Arc<RunningPage>, visitor: Visitor) -> Self {
        let (now, board) = (page.clock.now().wall, page.board.borrow().clone());
        Self { page, visitor, now, board }
    }

    fn shell(&self, title: &'static str, tab: &'static str) -> Shell {
        Shell::new(&self.page, &self.visitor, title, tab, 0)
    }
}

/// The row of a pending request, with its agent; of this agent, if one is named.
fn pending_row<'a>(
    board: &'a Board,
    agent: Option<&AgentId>,
    request: &str,
) -> Option<(&'a AgentBoard, &'a PendingRow)> {
    let agents = board.agents.iter().filter(|one| agent.is_none_or(|agent| one.status.id == *agent));
    agents.map(AsRef::as_ref).find_map(|one| {
        let row = one.pending.iter().find(|row| row.request == request)?;
        Some((one, row))
    })
}

/// The card of a pending request; of this agent, if one is named. What another doorman's agent was asked is on record.
pub(super) async fn pending_card(
    page: &Arc<RunningPage>,
    agent: Option<&AgentId>,
    request: &RequestId,
) -> Result<Option<PendingCard>, Response> {
    let (board, now) = (page.board.borrow().clone(), page.clock.now().wall);
    if let Some((whose, row)) = pending_row(&board, agent, request.as_str()) {
        let answered = page.was_just_answered(&row.agent, &row.request);
        return Ok((!answered).then(|| PendingCard::new(whose, row, now)));
    }
    let (rows, _) = page.elsewhere(Some(request)).await?;
    let row = rows.into_iter().find(|row| agent.is_none_or(|agent| row.agent == *agent));
    Ok(row.filter(|row| !page.was_just_answered(&row.agent, &row.request)).and_then(|row| {
        let whose = board.agents.iter().find(|one| one.status.id == row.agent)?;
        Some(PendingCard::new(whose, &row, now))
    }))
}

/// `/`.
pub(super) async fn agents(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    Query(turn): Query<ListPage>,
) -> Response {
    // The board is useful without the ledger, too.
    let by_hour = page.by_hour().await.unwrap_or_default();
    let at = PageOpening::new(page, visitor);
    let mut rows: Vec<AgentRow> = at.board.agents.iter().map(|agent| AgentRow::new(agent, at.now)).collect();
    rows.sort_by_key(|row| !row.bad);
    let (rows, turns) = turned(rows, turn.number());
    let chart = Chart::new(&by_hour, at.now, HOURS);
    let shell = Shell { refresh: 10, ..at.shell("Agents", "agents") };
    html(StatusCode::OK, &AgentsView { shell, rows, turns, chart })
}

#[derive(Template)]
#[template(path = "pending.html")]
struct PendingView {
    shell: Shell,
    cards: Vec<PendingCard>,
    turns: Paging,
    /// Pending requests for which the board has no room.
    more: u64,
    /// The requests of agents that other doormen hold could not be read.
    others_unread: bool,
}

/// `/pending`.
pub(super) async fn pending(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    Query(turn): Query<ListPage>,
) -> Response {
    let others = page.elsewhere(None).await;
    let at = PageOpening::new(page, visitor);
    let agents = &at.board.agents;
    let known: u64 = agents.iter().map(|agent| agent.status.pending).sum();
    let mut pending: Vec<_> =
        agents.iter().flat_map(|agent| agent.pending.iter().map(move |row| (agent, row))).collect();
    let more = known.saturating_sub(pending.len() as u64);
    let others_unread = others.is_err();
    let (others, more_others) = others.unwrap_or_default();
    let whose = |row: &PendingRow| agents.iter().find(|agent| agent.status.id == row.agent);
    // An agent may have come to this doorman meanwhile.
    let theirs = others.iter().filter_map(|row| Some((whose(row)?, row)));
    pending.extend(theirs.filter(|(agent, _)| agent.status.state == AgentState::Elsewhere));
    let more = more + more_others;
    pending.retain(|(_, row)| !at.page.was_just_answered(&row.agent, &row.request));
    pending.sort_by_key(|(_, row)| (!rows::waits(row), row.inserted_at.unwrap_or(row.first_seen)));
    let (pending, turns) = turned(pending, turn.number());
    let cards = pending.into_iter().map(|(agent, row)| PendingCard::new(agent, row, at.now)).collect();
    let shell = at.shell("Pending", "pending");
    // This page does not reload: a person may be about to press a button.
    let shell = Shell { refresh: if shell.acts { 0 } else { 30 }, ..shell };
    html(StatusCode::OK, &PendingView { shell, cards, turns, more, others_unread })
}

#[derive(Template)]
#[template(path = "request.html")]
struct Request {
    shell: Shell,
    it: RequestPage,
}

/// `/requests/ID`.
pub(super) async fn request(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> PageResult {
    let Ok(id) = RequestId::parse(&id) else { return Ok(nothing().await) };
    let at = PageOpening::new(page, visitor);
    // What cannot be read has no buttons.
    let card = pending_card(&at.page, None, &id).await.unwrap_or_default();
    let (now, wanted) = (at.now, id.clone());
    let read = at.page.read(move |page, reader| rows::read_request(page, reader, &wanted, now)).await;
    let it = match (read, card) {
        (Ok(Some(it)), card) => RequestPage { card, ..it },
        (Err(response), None) => return Err(response),
        (Ok(None), None) => {
            return Ok(plain(StatusCode::NOT_FOUND, "Not on record", "no request with this id is on record"));
        }
        (Ok(None) | Err(_), Some(card)) => RequestPage::not_on_record(card),
    };
    Ok(html(StatusCode::OK, &Request { shell: at.shell("Request", ""), it }))
}

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryView {
    shell: Shell,
    rows: Vec<HistoryRow>,
    turns: Paging,
}

/// `/history`: the newest first.
pub(super) async fn history(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    Query(turn): Query<ListPage>,
) -> PageResult {
    let (number, names) = (turn.number(), rows::names(&page));
    let at = PageOpening::new(page, visitor);
    let now = at.now;
    let read = at.page.read(move |_, reader| {
        let filter = Filter { limit: Some(number * ROWS_MAX + 1), ..Filter::default() };
        let mut found = reader.requests(&filter).map_err(|error| error.to_string())?;
        found.reverse();
        let (found, turns) = turned(found, number);
        Ok((found.iter().map(|one| HistoryRow::new(one, &names, now)).collect(), turns))
    });
    let (rows, turns) = read.await?;
    Ok(html(StatusCode::OK, &HistoryView { shell: at.shell("History", "history"), rows, turns }))
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesView {
    shell: Shell,
    files: Vec<RulesCard>,
    decisions: u64,
    since: Option<String>,
}

/// `/rules`.
pub(super) async fn rules(State(page): State<Arc<RunningPage>>, Extension(visitor): Extension<Visitor>) -> PageResult {
    let found = page.rules().await?;
    let at = PageOpening::new(page, visitor);
    let files = found.files.iter().map(|file| RulesCard::new(file, at.now)).collect();
    let (decisions, since) = (found.matches.decisions, found.matches.since.map(rows::clock));
    Ok(html(StatusCode::OK, &RulesView { shell: at.shell("Rules", "rules"), files, decisions, since }))
}

#[derive(Template)]
#[template(path = "contacts.html")]
struct ContactsView {
    shell: Shell,
    rows: Vec<ContactRow>,
    turns: Paging,
}

/// `/contacts`: oldest first, in the order of the ledger.
pub(super) async fn contacts(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    Query(turn): Query<ListPage>,
) -> PageResult {
    let (number, names) = (turn.number(), rows::names(&page));
    let at = PageOpening::new(page, visitor);
    let now = at.now;
    let read = at.page.read(move |_, reader| {
        let place = std::cell::Cell::new(0);
        let window = (number - 1) * ROWS_MAX..=number * ROWS_MAX;
        let fits = |_: Option<&str>| window.contains(&place.replace(place.get() + 1));
        let wanted = WantedContacts { fits: Some(&fits), ..WantedContacts::default() };
        let mut kept = Vec::new();
        let read = reader.each_contact(&wanted, |contact| {
            kept.push(contact);
            ControlFlow::Continue(())
        });
        read.map_err(|error| error.to_string())?;
        let turns = Paging::new(number, kept.len() > ROWS_MAX);
        kept.truncate(ROWS_MAX);
        Ok((kept.iter().map(|one| ContactRow::new(one, &names, now)).collect(), turns))
    });
    let (rows, turns) = read.await?;
    Ok(html(StatusCode::OK, &ContactsView { shell: at.shell("Contacts", "contacts"), rows, turns }))
}

#[derive(Template)]
#[template(path = "sure.html")]
struct ConfirmView {
    shell: Shell,
    id: String,
    path: String,
    agent: String,
    card: Option<PendingCard>,
    /// If the board has no room for it: from the record.
    it: Option<RequestPage>,
}

/// Asks once more before a reject, and shows whom and what.
pub(super) async fn sure(page: &Arc<RunningPage>, visitor: &Visitor, id: &RequestId, agent: &AgentId) -> Response {
    let now = page.clock.now().wall;
    let card = pending_card(page, Some(agent), id).await.unwrap_or_default();
    let it = match &card {
        Some(_) => None,
        None => {
            let (id, of) = (id.clone(), agent.clone());
            let read = page.read(move |page, reader| rows::read_request_of(page, reader, &id, &of, now)).await;
            read.ok().flatten()
        }
    };
    let shell = Shell::new(page, visitor, "Reject?", "pending", 0);
    let (path, agent) = (rows::path_of(id.as_str()), agent.to_string());
    let view = ConfirmView { shell, id: id.to_string(), path, agent, card, it };
    html(StatusCode::OK, &view)
}

#[derive(Template)]
#[template(path = "said.html")]
struct MessageView<'a> {
    shell: Shell,
    ok: bool,
    text: &'a str,
    path: String,
}

/// The result of an action.
pub(super) fn said(page: &RunningPage, visitor: &Visitor, status: StatusCode, id: &RequestId, text: &str) -> Response {
    let ok = status.is_success();
    let shell = Shell::new(page, visitor, if ok { "Done" } else { "Not done" }, "pending", 0);
    html(status, &MessageView { shell, ok, text: text.trim_end(), path: rows::path_of(id.as_str()) })
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    name: &'a str,
    link: &'a str,
}

/// Shows whose link it is.
pub(super) fn login(name: &str, link: &str) -> Response {
    html(StatusCode::OK, &Login { name, link })
}

/// A request behind a link of a message.
pub(super) struct ReplyView {
    pub(super) handle: String,
    pub(super) name: String,
    pub(super) message: String,
    pub(super) agent: String,
    pub(super) since: rows::ShownTime,
    pub(super) why: String,
    /// What deciders said of it.
    pub(super) replies: Vec<String>,
    pub(super) link: String,
    pub(super) approve: bool,
    pub(super) reject: bool,
    pub(super) hold: bool,
}

#[derive(Template)]
#[template(path = "reply.html")]
struct ReplyPage<'a> {
    it: &'a ReplyView,
}

/// Shows the request and the answers that a link allows.
pub(super) fn reply(it: &ReplyView) -> Response {
    html(StatusCode::OK, &ReplyPage { it })
}

/// A stranger's text, cut after `most` characters.
fn shown(text: Option<&str>, most: usize) -> String {
    text.map(|text| StrangerText::new(text).shown(most)).unwrap_or_default()
}
