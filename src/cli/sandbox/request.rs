//! `doorman sandbox request`: a contact request to an agent of a running sandbox, without JSON for curl.

use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::Value;
use url::Url;

use crate::cli::{CliError, Global, output};
use crate::platform::tls;
use crate::platform::tls::innermost;
use crate::sandbox::NewRequest;

/// The usual address of a sandbox.
const USUAL: &str = "http://127.0.0.1:4400";
/// Longest wait for the sandbox; a burst of 100,000 takes a moment.
const REPLY_MAX: Duration = Duration::from_secs(60);
/// Most bytes of its reply: 100,000 ids.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman sandbox request @carol --message hello
  doorman sandbox request acme/bot --to maria/scheduler --name 'Acme Bot'
  doorman sandbox request 'acme/{number}-bot' --count 8

Without `--url` the sandbox is the one that the configuration names as its
platform (an `http` address), and its first agent is asked.

Exit status: 0 made, 1 refused by the sandbox, 69 no sandbox answers, 78 the
configuration cannot be read.")]
pub struct Args {
    /// Who asks; with --count, `{number}` is the number in the burst
    #[arg(value_name = "HANDLE")]
    from: String,
    /// What they say
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// What they call themselves
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Whom they ask, by id or handle; else the configuration's first agent, else the world's
    #[arg(long, value_name = "AGENT")]
    to: Option<String>,
    /// How many requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// Where the sandbox listens; else as the configuration says, else http://127.0.0.1:4400
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
}

/// Runs the command.
///
/// # Errors
/// 1 if the sandbox refuses, 69 if none answers, 2 for an address that is not `http`, 78 for a configuration that cannot
/// be read.
pub fn run(args: &Args, global: &Global) -> Result<u8, CliError> {
    let (url, agent) = match &args.url {
        Some(url) => (url.clone(), None),
        None => configured(global)?,
    };
    let to = args.to.clone().or(agent).unwrap_or_default();
    let mut new = NewRequest::to(&to).from(&numbered(&args.from)).count(args.count);
    if let Some(message) = &args.message {
        new = new.saying(&numbered(message));
    }
    if let Some(name) = &args.name {
        new = new.named(&numbered(name));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(1, format!("the runtime cannot be started: {error}")))?;
    let reply = runtime.block_on(post(&url, &new))?;
    let ids = reply["ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    for id in ids.iter().filter_map(Value::as_str) {
        output::print(&format!("{}\n", output::shown(id)))?;
    }
    Ok(0)
}

/// The sandbox and the agent that the configuration names. What is spoken to over TLS is the platform: no stranger is imitated
/// there.
fn configured(global: &Global) -> Result<(Url, Option<String>), CliError> {
    let places = super::super::places(global, "--url URL")?;
    let agent = places.rules.into_iter().map(|(id, _)| id).find(|id| !id.is_empty());
    match places.platform.filter(|url| url.scheme() == "http") {
        Some(url) => Ok((url, agent)),
        None => Url::parse(USUAL).map(|url| (url, None)).map_err(|error| CliError::new(1, error.to_string())),
    }
}

/// The placeholder of the number in a burst, as the sandbox spells it. In a help text clap would turn `{n}` into a line
/// break.
fn numbered(text: &str) -> String {
    text.replace("{number}", "{n}")
}

async fn post(url: &Url, new: &NewRequest) -> Result<Value, CliError> {
    let absent = |why: String| {
        let why =
            format!("no sandbox answers at `{url}` ({why}): start one with `doorman sandbox`, or name it with `--url`");
        CliError::new(69, why)
    };
    let target = url.join("/_sandbox/requests").ok().filter(|_| url.scheme() == "http");
    let Some(target) = target else {
        return Err(CliError::new(2, format!("`{url}` is not an `http` address")));
    };
    // A sandbox is on this machine or near it: never through a proxy.
    let tls = tls::for_plain_http().map_err(|error| CliError::new(1, error.to_string()))?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .timeout(REPLY_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let client = client.map_err(|error| CliError::new(1, innermost(&error)))?;
    let response = client.post(target).json(new).send().await.map_err(|error| absent(innermost(&error)))?;
    let made = response.status().is_success();
    let body = bounded(response).await.map_err(absent)?;
    let reply: Value = serde_json::from_slice(&body).map_err(|_| absent("it is not a sandbox".to_owned()))?;
    if made {
        return Ok(reply);
    }
    let why = reply["error"]["message"].as_str().unwrap_or("it did not say why");
    Err(CliError::new(1, format!("the sandbox refused it: {}", output::shown(why))))
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| innermost(&error))? {
        if body.len() + part.len() > REPLY_BYTES_MAX {
            return Err("its reply is too long".to_owned());
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}
