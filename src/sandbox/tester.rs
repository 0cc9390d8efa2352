//! The control over HTTP: `/_sandbox/…`, JSON in and out.

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Control;
use super::control::ControlError;
use super::fault::Fault;
use super::reply::{HttpReply, error, json_text, json_value};
use super::server::query;
use super::store::json as to_json;
use super::wire::{NewRequest, SandboxStatus};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettleBody {
    status: SandboxStatus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseSocketBody {
    agent: String,
    code: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveContact {
    agent: String,
    handle: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameRequest {
    id: String,
    from_handle: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameContact {
    agent: String,
    handle: String,
    to: Option<String>,
}

/// Answers `path` (below `/_sandbox/`).
pub(super) fn handle(path: &str, parts: &Parts, body: &Bytes, control: &Control) -> HttpReply {
    let done = || json_value(200, &json!({ "ok": true }));
    let result = match (&parts.method, path) {
        (&Method::POST, "requests") => read::<NewRequest>(body).and_then(|new| control.request(&new)).map(|ids| {
            let id = ids.first().cloned();
            json_value(201, &json!({ "id": id, "ids": ids }))
        }),
        (&Method::GET, "state") => Ok(match query(parts, "requests").as_deref() {
            Some("false" | "0") => json_text(200, to_json(&control.overview())),
            _ => json_text(200, to_json(&control.state())),
        }),
        (&Method::GET, "counts") => Ok(json_text(200, to_json(&control.counts()))),
        (&Method::GET, "latencies") => Ok(json_text(200, to_json(&control.latencies()))),
        (&Method::DELETE, "latencies") => {
            control.clear_latencies();
            Ok(done())
        }
        (&Method::POST, "faults") => {
            read::<Vec<Fault>>(body).and_then(|faults| control.faults(faults)).map(|()| done())
        }
        (&Method::DELETE, "faults") => {
            control.clear_faults();
            Ok(done())
        }
        (&Method::POST, "kick") => {
            read::<CloseSocketBody>(body).and_then(|kick| control.kick(&kick.agent, kick.code)).map(|()| done())
        }
        (&Method::POST, "contacts/remove") => read::<RemoveContact>(body)
            .and_then(|remove| control.remove_contact(&remove.agent, &remove.handle))
            .map(|()| done()),
        (&Method::POST, "contacts/rename") => read::<RenameContact>(body)
            .and_then(|rename| control.rename_contact(&rename.agent, &rename.handle, rename.to.as_deref()))
            .map(|()| done()),
        (&Method::POST, "requests/rename") => read::<RenameRequest>(body)
            .and_then(|rename| control.rename_request(&rename.id, rename.from_handle.as_deref()))
            .map(|()| done()),
        (&Method::POST, path) if path.starts_with("requests/") => {
            let id = path.trim_start_matches("requests/");
            read::<SettleBody>(body).and_then(|settle| control.settle(id, settle.status)).map(|()| done())
        }
        _ => Err(ControlError::NotFound("no such call of the sandbox; `docs/sandbox.md` lists them".into())),
    };
    result.unwrap_or_else(|problem| {
        let (status, code) = match &problem {
            ControlError::NotFound(_) => (404, "not_found"),
            ControlError::Conflict(_) => (409, "conflict"),
            ControlError::Invalid(_) => (422, "invalid"),
        };
        error(status, code, &problem.to_string(), None)
    })
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(|problem| ControlError::Invalid(problem.to_string()))
}
