//! Checks what runs beside the agents: the page, metrics, the targets of notifications, the deciders. The daemon works
//! without each of them, so a failure may stay unnoticed for long.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinSet;
use url::Url;

use super::{Findings, check_trust};
use crate::config::Settings;
use crate::config::settings::{
    DeciderAddress, KeySource, NotifyTarget, NotifyWay, PageIdentity, PageSettings, SecretKind, loopback,
};
use crate::decider;
use crate::notify;
use crate::platform::tls;
use crate::secret::{self, KeyReadError, Redact};

/// How long to wait for something on this machine, and for something elsewhere.
const HERE_MAX: Duration = Duration::from_secs(3);
const THERE_MAX: Duration = Duration::from_secs(8);
/// Most bytes that are read of the reply at a port.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// Checks all of it. `running`: a daemon runs, so the ports should belong to it.
pub(super) async fn check(settings: &Settings, running: bool, findings: &mut Findings) {
    page(&settings.page, running, findings).await;
    if let Some(at) = settings.metrics.listen {
        port(&format!("metrics {at}"), at, running, ("/metrics", "doorman_build_info"), findings).await;
    }
    targets(settings, findings).await;
    for decider in &settings.deciders {
        let what = format!("decider {}", decider.name);
        let at = match &decider.address {
            DeciderAddress::Tcp { address, .. } => address.to_string(),
            DeciderAddress::Unix { socket, .. } => socket.display().to_string(),
        };
        if decider.secret.as_ref().is_some_and(secret::of_unit) {
            findings.ok(&what, format!("not tried: its secret is {}", unseen()));
            continue;
        }
        match decider::reach(decider).await {
            Ok(()) => findings.ok(&what, format!("takes a connection at {at}; it was asked nothing")),
            Err(why) => findings.fail(69, &what, format!("{at}: {why}; until it works, whom it is asked about waits")),
        }
    }
}

pub(super) fn unseen() -> &'static str {
    "a credential of the unit, which only the service sees"
}

async fn page(settings: &PageSettings, running: bool, findings: &mut Findings) {
    if let Some(at) = settings.listen {
        port(&format!("page {at}"), at, running, ("/", "· doorman</title>"), findings).await;
    }
    if let Some(path) = &settings.socket {
        let what = format!("page {}", path.display());
        check_trust(path, &what, 78, findings);
        socket(path, &what, running, findings);
    }
    if settings.identity == PageIdentity::Proxy
        && let Some(name) = &settings.proxy_secret
    {
        let source = KeySource::Credential(name.clone());
        match secret::of_unit(&source) {
            true => findings.ok("page", format!("the proxy's secret is {}", unseen())),
            false => match secret::inspect(&source, SecretKind::Secret).key {
                Ok(_) => findings.ok("page", "the proxy's secret can be read"),
                Err(error) => findings.fail(77, "page", format!("{error}: without it the page is not served")),
            },
        }
    }
    if let Some(url) = settings.url.as_ref().filter(|url| !loopback(url)) {
        let what = format!("page {}", url.as_str().trim_end_matches('/'));
        match fetched(url).await {
            Ok(()) => findings.ok(&what, "something answers there"),
            Err(why) => findings.warn(&what, format!("nobody would find the page there: {why}")),
        }
    }
}

/// Whether anything answers at an address.
async fn fetched(url: &Url) -> Result<(), String> {
    let tls = tls::client_config(None).map_err(|error| error.to_string())?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls.as_ref().clone())
        .redirect(reqwest::redirect::Policy::none())
        .timeout(THERE_MAX)
        .build()
        .map_err(|error| error.to_string())?;
    client.head(url.clone()).send().await.map(drop).map_err(|error| {
        let error = error.without_url();
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            why.push_str(&format!(": {error}"));
            cause = error.source();
        }
        why
    })
}

/// Checks that a port is free or belongs to the daemon: the reply at `path` must then contain `sign`.
async fn port(what: &str, at: SocketAddr, running: bool, (path, sign): (&str, &str), findings: &mut Findings) {
    if !running {
        match std::net::TcpListener::bind(at) {
            Ok(_) => findings.ok(what, "the port is free"),
            Err(error) => {
                let help = "stop who has it, or choose another";
                findings.fail(78, what, format!("the port cannot be used: {error}: {help}"));
            }
        }
        return;
    }
    if at.port() == 0 {
        return findings.ok(what, "the system chooses the port: the log says which");
    }
    // An address for all interfaces is tried at this machine's loopback address.
    let (host, port) = (at.ip(), at.port());
    let host = match host.is_unspecified() {
        true => "localhost".to_owned(),
        false => SocketAddr::new(host, port)
            .to_string()
            .rsplit_once(':')
            .map(|(host, _)| host.to_owned())
            .unwrap_or_default(),
    };
    match answer(&format!("http://{host}:{port}{path}")).await {
        Ok(text) if text.contains(sign) => findings.ok(what, "the daemon serves it"),
        Ok(_) => findings.fail(78, what, "another program has the port: stop it, or choose another port"),
        Err(why) => {
            let help = "`doorman status` says why";
            findings.fail(78, what, format!("the daemon does not serve it: {help} ({why})"));
        }
    }
}

async fn answer(url: &str) -> Result<String, String> {
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(HERE_MAX).build();
    let said = |error: reqwest::Error| error.without_url().to_string();
    let mut response = client.map_err(said)?.get(url).send().await.map_err(said)?;
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX
        && let Some(piece) = response.chunk().await.map_err(said)?
    {
        body.extend_from_slice(&piece);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Checks that a socket is free, or that something answers there.
fn socket(path: &Path, what: &str, running: bool, findings: &mut Findings) {
    use std::os::unix::fs::FileTypeExt as _;
    let there = std::fs::symlink_metadata(path);
    let answers = UnixStream::connect(path).is_ok();
    let strange = there.as_ref().is_ok_and(|found| !found.file_type().is_socket());
    match (running, answers) {
        _ if strange => {
            findings.fail(78, what, "something that is not a socket is there: remove it, or choose another path");
        }
        (true, true) => findings.ok(what, "somebody answers there"),
        (true, false) => findings.fail(78, what, "the daemon does not serve it: `doorman status` says why"),
        (false, true) => {
            findings.fail(
                78,
                what,
                "somebody answers there, and no daemon runs here: stop them, or choose another path",
            );
        }
        (false, false) => findings.ok(what, "the daemon will make it"),
    }
}

/// All at the same time, since each may take a while.
async fn targets(settings: &Settings, findings: &mut Findings) {
    let mut looks = JoinSet::new();
    for (index, target) in settings.notify.iter().enumerate() {
        if [target.way.secret_address(), target.secret.as_ref()].into_iter().flatten().any(secret::of_unit) {
            let how =
                format!("not tried: what it needs is {}; `doorman notify test {}` tries it", unseen(), target.name);
            findings.ok(&format!("notify {}", target.name), how);
            continue;
        }
        let (target, redact) = (target.clone(), findings.redact.clone());
        looks.spawn(async move { (index, reached(&target, &redact).await) });
    }
    let mut found = looks.join_all().await;
    found.sort_unstable_by_key(|(index, _)| *index);
    for (index, reached) in found {
        let target = &settings.notify[index];
        let what = format!("notify {}", target.name);
        for warning in kept_badly(target) {
            findings.warn(&what, warning);
        }
        match reached {
            Ok(how) => findings.ok(&what, format!("{how}; nothing was sent: `doorman notify test {}`", target.name)),
            Err(why) => findings.fail(69, &what, why),
        }
    }
}

/// Whether a target can be reached, else the reason.
async fn reached(target: &NotifyTarget, redact: &Redact) -> Result<&'static str, String> {
    let of_files = target.clone();
    let unread = tokio::task::spawn_blocking(move || unreadable(&of_files)).await;
    if let Some(error) = unread.map_err(|error| error.to_string())? {
        return Err(error.to_string());
    }
    notify::reach(target, redact).await.map_err(|why| {
        let help = match target.way {
            NotifyWay::Command { .. } => "is `command` right?",
            NotifyWay::Matrix { .. } | NotifyWay::Mail { .. } => "are `url` and the secret right?",
            _ => "is its address right?",
        };
        format!("{why}: {help}")
    })
}

/// The first of its secrets that cannot be read.
fn unreadable(target: &NotifyTarget) -> Option<KeyReadError> {
    let lines_max = target.way.secret_lines_max();
    let address = target.way.secret_address().map(|source| secret::read(source, SecretKind::Address).err());
    let kind = target.way.secret_kind();
    let secret = target.secret.as_ref().map(|source| secret::read_lines(source, kind, lines_max).err());
    address.into_iter().chain(secret).flatten().next()
}

/// What is wrong with how its secrets are stored.
fn kept_badly(target: &NotifyTarget) -> Vec<String> {
    target.secrets().flat_map(|(source, kind)| secret::inspect(source, kind).warnings).collect()
}
