//! Mail over SMTP. Strangers' text is only in the body, as plain text.

use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use url::Url;

use super::{Secrets, Undelivered};
use crate::config::settings::{NotifyTarget, loopback};
use crate::files::{self, FileTrust, ReadOptions};
use crate::notify::message::Message;
use crate::notify::render;

/// The time limit for each SMTP command.
const COMMAND_MAX: Duration = Duration::from_secs(10);
const CA_BYTES_MAX: usize = 1 << 20;

pub(super) async fn deliver(
    target: &NotifyTarget,
    server: &Url,
    from: &str,
    to: &[String],
    secrets: &Secrets,
    id: &str,
    message: &Message,
) -> Result<(), Undelivered> {
    let mail = mail(from, to, id, message)?;
    let transport = transport(target, server, secrets).await?;
    transport.send(mail).await.map(drop).map_err(|error| failure(&error))
}

/// Connects to the server, logs in if there is a password, and disconnects.
pub(super) async fn greet(target: &NotifyTarget, server: &Url, secrets: &Secrets) -> Result<(), Undelivered> {
    match transport(target, server, secrets).await?.test_connection().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Undelivered::new("the server takes the connection and refuses to work")),
        Err(error) => Err(failure(&error)),
    }
}

/// What failed, with its causes.
fn failure(error: &lettre::transport::smtp::Error) -> Undelivered {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !why.contains(&more) {
            why.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    Undelivered::new(crate::model::StrangerText::new(&why).shown(300))
}

fn mail(from: &str, to: &[String], id: &str, message: &Message) -> Result<Mail, Undelivered> {
    let unusable = |what: &str| Undelivered::new(format!("the mail could not be made: {what}"));
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|_| unusable("an address"));
    // Keeps out-of-office programs from replying.
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut mail = Mail::builder()
        .from(mailbox(from)?)
        .subject(render::title(message))
        .message_id(Some(format!("<{id}@doorman.invalid>")))
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    for receiver in to {
        mail = mail.to(mailbox(receiver)?);
    }
    mail.body(render::text(message)).map_err(|error| unusable(&error.to_string()))
}

async fn transport(
    target: &NotifyTarget,
    server: &Url,
    secrets: &Secrets,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, Undelivered> {
    let host = server.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let wrapped = server.scheme() == "smtps";
    let port = server.port().unwrap_or(if wrapped { 465 } else { 25 });
    let ca_file = target.ca_file.clone();
    let of_tls = host.clone();
    let parameters = tokio::task::spawn_blocking(move || {
        let mut parameters = TlsParameters::builder(of_tls);
        if let Some(path) = ca_file {
            let how = ReadOptions { bytes_max: CA_BYTES_MAX, pipes: false, trust: FileTrust::Path };
            let contents = files::read(&path, how).map_err(|error| format!("`{}`: {error}", path.display()))?;
            let certificate = Certificate::from_pem(&contents.bytes)
                .map_err(|error| format!("`{}` is not a certificate: {error}", path.display()))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        parameters.build_rustls().map_err(|error| error.to_string())
    });
    let parameters = match parameters.await {
        Ok(Ok(parameters)) => parameters,
        Ok(Err(why)) => return Err(Undelivered::new(why)),
        Err(_) => return Err(Undelivered::new("setting TLS up failed inside doorman")),
    };
    let password = secrets.keys.first();
    let tls = match (wrapped, password.is_some() && !loopback(server)) {
        (true, _) => Tls::Wrapper(parameters),
        // A password is never sent unencrypted.
        (false, true) => Tls::Required(parameters),
        (false, false) => Tls::Opportunistic(parameters),
    };
    let mut builder =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).timeout(Some(COMMAND_MAX)).tls(tls);
    if let Some(password) = password {
        let user = percent_decoded(server.username());
        builder = builder.credentials(Credentials::new(user, password.expose().to_owned()));
    }
    Ok(builder.build())
}

/// The user of a server address, who may be a mail address (`doorman%40example.org`).
fn percent_decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("u={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, user)| user.into_owned())
        .unwrap_or_default()
}
