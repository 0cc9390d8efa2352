//! `/r/LINK`: the request behind a link in a message, and the answers that the link allows. Looking changes nothing,
//! however often: a program that opens links in advance answers nothing.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::acting::{ask_as, fields};
use super::door::{self, Denied, Visitor};
use super::replies::{LinkProblem, ReplyLink, Rights};
use super::views::{self, ReplyView};
use super::{RunningPage, views::rows};
use crate::config::settings::NotifyText;
use crate::model::{RequestId, Verdict};

fn not_taken(page: &RunningPage, problem: LinkProblem) -> Response {
    let gone = |why| door::turned_away(page, Denied { status: StatusCode::GONE, why });
    match problem {
        LinkProblem::Unknown => gone("there is no such link, or its message is too old"),
        LinkProblem::Old => gone("this link is older than a day: `doorman pending` and the page show who waits"),
        LinkProblem::NotAllowed => door::turned_away(
            page,
            Denied { status: StatusCode::FORBIDDEN, why: "this link is not good for that answer" },
        ),
        LinkProblem::TooMany => {
            let why = "too many links were tried that nobody was given: wait a minute";
            door::turned_away(page, Denied { status: StatusCode::TOO_MANY_REQUESTS, why })
        }
        LinkProblem::NotNow => {
            let why = "it cannot be written down just now that this link is used, so nothing was done: try again";
            door::turned_away(page, Denied { status: StatusCode::SERVICE_UNAVAILABLE, why })
        }
        LinkProblem::Used(verdict, at) => {
            let text = format!("this link was used at {}, to {}", rows::clock(at), word(verdict));
            views::outside(StatusCode::GONE, "Used", &text)
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approve",
        Verdict::Reject => "reject",
        Verdict::Defer => "hold",
    }
}

/// `GET /r/LINK`.
pub(super) async fn show(State(page): State<Arc<RunningPage>>, Path(link): Path<String>) -> Response {
    let (offer, rights) = match page.replies.find(&link) {
        Ok(found) => found,
        Err(problem) => return not_taken(&page, problem),
    };
    match view(&page, &offer, &rights, &link).await {
        Ok(view) => views::reply(&view),
        Err(response) => response,
    }
}

/// What is shown of the request: no more than the message may contain. If the request is settled, the page says so.
async fn view(page: &Arc<RunningPage>, offer: &ReplyLink, rights: &Rights, link: &str) -> Result<ReplyView, Response> {
    let now = page.clock.now().wall;
    let Ok(id) = RequestId::parse(&offer.request) else { return Err(not_taken(page, LinkProblem::Unknown)) };
    let card = match views::pending_card(page, Some(&offer.agent), &id).await? {
        Some(card) => card,
        None => {
            let read = page.read(move |page, reader| rows::read_request(page, reader, &id, now)).await?;
            let text = match read {
                Some(it) => format!("it is not pending any more, or not shown just now: {}", it.sentence),
                None => "this request is not on record".to_owned(),
            };
            return Err(views::outside(StatusCode::GONE, "Not pending", &text));
        }
    };
    let (handle, all) = (rights.text != NotifyText::None, rights.text == NotifyText::Full);
    Ok(ReplyView {
        handle: if handle { card.handle } else { "Somebody".to_owned() },
        name: if all { card.name } else { String::new() },
        message: if all { card.message } else { String::new() },
        agent: card.agent_called,
        since: card.since,
        why: card.why,
        replies: card.replies.iter().map(|word| if all { word.clone() } else { without_reason(word) }).collect(),
        link: link.to_owned(),
        approve: rights.may.contains(&Verdict::Approve),
        reject: rights.may.contains(&Verdict::Reject),
        hold: rights.may.contains(&Verdict::Defer) && !card.held,
    })
}

/// A decider's word alone: its reason may quote what the target is not to have.
fn without_reason(word: &str) -> String {
    word.split_once(": ").map_or(word, |(said, _)| said).to_owned()
}

/// `POST /r/LINK`: uses up the link.
pub(super) async fn act(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    Path(link): Path<String>,
    request: Request,
) -> Response {
    let fields = match fields(request).await {
        Ok(fields) => fields,
        Err(denied) => return door::turned_away(&page, denied),
    };
    let verdict = match fields.get("say").map(String::as_str) {
        Some("approve") => Verdict::Approve,
        Some("reject") => Verdict::Reject,
        Some("hold") => Verdict::Defer,
        Some(_) | None => {
            let why = "the form is not one of this page's";
            return door::turned_away(&page, Denied { status: StatusCode::BAD_REQUEST, why });
        }
    };
    let (offer, rights) = match page.replies.take(&link, verdict).await {
        Ok(taken) => taken,
        Err(problem) => return not_taken(&page, problem),
    };
    let Ok(id) = RequestId::parse(&offer.request) else { return not_taken(&page, LinkProblem::Unknown) };
    // The person is unknown, unless a proxy or a login names them.
    let person = match &visitor.name {
        Some(name) => format!("{name} via link.{}", offer.target),
        None => format!("link.{}", offer.target),
    };
    match ask_as(&page, verdict, (&id, &offer.agent), None, &person).await {
        Ok(answered) => {
            let ok = answered.is_done();
            if ok && verdict != Verdict::Defer {
                page.just_answered(offer.agent.clone(), id);
            }
            let status = if ok { StatusCode::OK } else { StatusCode::CONFLICT };
            let text = match rights.text {
                // The usual sentence would name the sender.
                NotifyText::None if ok => format!("{}: done", word(verdict)),
                NotifyText::None => "it was not taken: the request is settled, or the platform refused".to_owned(),
                NotifyText::Handle | NotifyText::Full => (page.words.sentence)(&answered).trim_end().to_owned(),
            };
            views::outside(status, if ok { "Done" } else { "Not done" }, &text)
        }
        Err(error) => {
            if matches!(error.code.as_str(), "busy" | "failed") {
                page.replies.give_back(&offer).await;
            }
            let status = if error.code == "gone" { StatusCode::GONE } else { StatusCode::CONFLICT };
            views::outside(status, "Not done", &error.message)
        }
    }
}
