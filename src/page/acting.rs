//! What people do on the page: answer a request, log in, log out. Each action is a form, and takes the same way as the
//! command of the same name: nothing is decided or recorded here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use jiff::SignedDuration;
use tokio::sync::oneshot;

use super::door::{self, Denied, Visitor, cookie_name};
use super::form::FormProblem;
use super::logins::LoginFailure;
use super::sessions::SESSION_LASTS;
use super::{REQUEST_BYTES_MAX, RunningPage, SPEAK_MAX, views};
use crate::model::{AgentId, Person, RequestId, Verdict};
use crate::ops::control::wire::{AnswerDone, ControlCall, ControlOp, OpError, OpReply};

/// Longest wait for the outcome of an answer.
const REPLY_MAX: Duration = Duration::from_secs(25);
/// Most fields of a form.
const FIELDS_MAX: usize = 16;

/// For how long a guest may be let in here: the word of the form, for people, and in hours. `doorman approve --for` takes any.
pub(super) const LASTS: [(&str, &str, i64); 6] = [
    ("", "for good", 0),
    ("1h", "for an hour", 1),
    ("4h", "for 4 hours", 4),
    ("1d", "for a day", 24),
    ("7d", "for 7 days", 7 * 24),
    ("30d", "for 30 days", 30 * 24),
];

pub(super) type FormFields = BTreeMap<String, String>;

/// Reads the fields of a form, within limits of time and size; no field may occur twice.
pub(super) async fn fields(request: Request) -> Result<FormFields, Denied> {
    let bad = |why| Denied { status: StatusCode::BAD_REQUEST, why };
    let long =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if long.is_some_and(|length| length > REQUEST_BYTES_MAX) {
        return Err(Denied { status: StatusCode::PAYLOAD_TOO_LARGE, why: "a form has at most 64 KiB" });
    }
    let body = tokio::time::timeout(SPEAK_MAX, Bytes::from_request(request, &())).await;
    let Ok(Ok(body)) = body else { return Err(bad("the form did not arrive in time, or not whole")) };
    let mut fields = FormFields::new();
    for (name, value) in url::form_urlencoded::parse(&body) {
        if fields.len() >= FIELDS_MAX || fields.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(bad("the form is not one of this page's"));
        }
    }
    Ok(fields)
}

/// Whether this page made the form, for this person, and not too long ago.
fn made_here(page: &RunningPage, fields: &FormFields, name: &str) -> Result<(), Denied> {
    let token = fields.get("form").map(String::as_str).unwrap_or_default();
    page.forms.check(token, name, page.clock.now().wall).map_err(|problem| {
        let why = match problem {
            FormProblem::Old => "this page was left open for too long, so nothing was done: open it again",
            FormProblem::NotOurs => {
                "this form was made for somebody else, or before the daemon was started, so nothing was done: open the page again"
            }
        };
        Denied { status: StatusCode::FORBIDDEN, why }
    })
}

/// `POST /requests/ID/approve|reject|hold`.
pub(super) async fn answer(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    Path((id, word)): Path<(String, String)>,
    request: Request,
) -> Response {
    let away = |status, why| door::turned_away(&page, Denied { status, why });
    if !page.settings.act {
        return away(StatusCode::FORBIDDEN, "nobody acts on this page: `act = true` in `[page]` allows it");
    }
    let Some(name) = visitor.name.clone() else {
        return away(StatusCode::FORBIDDEN, "nobody knows who you are here, so you may only look");
    };
    let verdict = match word.as_str() {
        "approve" => Verdict::Approve,
        "reject" => Verdict::Reject,
        "hold" => Verdict::Defer,
        _ => return away(StatusCode::NOT_FOUND, "there is no such form"),
    };
    let fields = match fields(request).await {
        Ok(fields) => fields,
        Err(denied) => return door::turned_away(&page, denied),
    };
    if let Err(denied) = made_here(&page, &fields, &name) {
        return door::turned_away(&page, denied);
    }
    let lasts = fields.get("for").map_or("", String::as_str);
    let Some((_, _, hours)) = LASTS.iter().find(|(word, ..)| *word == lasts) else {
        return away(StatusCode::BAD_REQUEST, "the form names no time that this page offers");
    };
    let lasts = (verdict == Verdict::Approve && *hours > 0).then(|| SignedDuration::from_hours(*hours));
    let agent = fields.get("agent").and_then(|agent| AgentId::parse(agent).ok());
    let (Ok(id), Some(agent)) = (RequestId::parse(&id), agent) else {
        return away(StatusCode::BAD_REQUEST, "the form names no request of an agent");
    };
    // A reject is final, so the person must confirm it.
    if verdict == Verdict::Reject && fields.get("sure").is_none_or(|sure| sure != "yes") {
        return views::sure(&page, &visitor, &id, &agent).await;
    }
    match ask_as(&page, verdict, (&id, &agent), lasts, &format!("{name} via page")).await {
        Ok(answered) => {
            if answered.is_done() && verdict != Verdict::Defer {
                page.just_answered(agent, id.clone());
            }
            let status = if answered.is_done() { StatusCode::OK } else { StatusCode::CONFLICT };
            views::said(&page, &visitor, status, &id, &(page.words.sentence)(&answered))
        }
        Err(error) => {
            let status = match error.code.as_str() {
                "busy" | "waits" => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::CONFLICT,
            };
            views::said(&page, &visitor, status, &id, &error.message)
        }
    }
}

/// The same operation as `doorman approve`, as the record shall name the person; an approval, for so long.
pub(super) async fn ask_as(
    page: &RunningPage,
    verdict: Verdict,
    (id, agent): (&RequestId, &AgentId),
    lasts: Option<SignedDuration>,
    person: &str,
) -> Result<AnswerDone, OpError> {
    let error = |code: &str, message: &str| OpError { code: code.to_owned(), message: message.to_owned() };
    let target = id.as_str().to_owned();
    let for_ms = lasts.and_then(|lasts| u64::try_from(lasts.as_millis()).ok());
    let op = ControlOp::Answer { verdict, target, agent: Some(agent.clone()), for_ms, exact: true };
    let person = Person::from(person);
    let (reply, receiver) = oneshot::channel();
    match tokio::time::timeout(SPEAK_MAX, page.calls.send(ControlCall { op, person, reply })).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(error("busy", "the daemon is stopping")),
        Err(_) => return Err(error("busy", "the daemon has too much to do just now: try again")),
    }
    match tokio::time::timeout(REPLY_MAX, receiver).await {
        Ok(Ok(Ok(OpReply::Answered(answered)))) => Ok(answered),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Ok(Ok(_)) | Err(_)) => Err(error("failed", "the daemon gave no answer; its log says more")),
        Err(_) => Err(error("busy", "it took too long, and may still be done: the history says later")),
    }
}

/// `GET /login/LINK`: shows whose link it is. The link stays valid, so that a program that opens links in advance does
/// not use it up.
pub(super) async fn invited(State(page): State<Arc<RunningPage>>, Path(link): Path<String>) -> Response {
    match page.logins.invited(&link) {
        Some(name) => views::login(&name, &link),
        None => not_in(&page, LoginFailure::UsedUp),
    }
}

/// `POST /login/LINK`: uses it up.
pub(super) async fn enter(State(page): State<Arc<RunningPage>>, Path(link): Path<String>) -> Response {
    let secret = match page.logins.enter(&link).await {
        Ok(secret) => secret,
        Err(problem) => return not_in(&page, problem),
    };
    let name = cookie_name(&page);
    let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
    let lasts = SESSION_LASTS.as_secs();
    let cookie = format!("{name}={secret}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}");
    with_cookie(Redirect::to("/").into_response(), &cookie)
}

fn not_in(page: &RunningPage, problem: LoginFailure) -> Response {
    let (status, why) = match problem {
        LoginFailure::UsedUp => (
            StatusCode::GONE,
            "this link is used up or older than 10 minutes: ask for another, which `doorman page login NAME` makes",
        ),
        LoginFailure::NotNow => (
            StatusCode::SERVICE_UNAVAILABLE,
            "it cannot be written down just now that this link is used, so nobody is logged in: try again",
        ),
    };
    door::turned_away(page, Denied { status, why })
}

/// `POST /logout`.
pub(super) async fn leave(
    State(page): State<Arc<RunningPage>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let fields = match fields(request).await {
        Ok(fields) => fields,
        Err(denied) => return door::turned_away(&page, denied),
    };
    let Some(name) = visitor.name.filter(|_| visitor.by_link) else { return Redirect::to("/").into_response() };
    if let Err(denied) = made_here(&page, &fields, &name) {
        return door::turned_away(&page, denied);
    }
    let left = page.logins.leave(Some(&name), &Person::from(format!("{name} via page").as_str())).await;
    let (status, why) = match left {
        Ok(_) => (StatusCode::OK, "you are logged out, here and everywhere else".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let cookie = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict", cookie_name(&page));
    with_cookie(views::plain(status, "Logged out", &why), &cookie)
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
