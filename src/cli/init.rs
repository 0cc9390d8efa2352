//! `doorman init`: a first configuration and first rules that let in nobody but the agent's owner, in shadow.

use std::fs::OpenOptions;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::{CliError, Global, check, output};
use crate::config::settings::Platform;
use crate::config::{self, Env, Overrides};
use crate::diagnostics::Report;
use crate::model::AgentId;
use crate::platform::CallFault;
use crate::platform::net::Net;
use crate::platform::rest::Rest;
use crate::secret::Key;

const LIMIT: Duration = Duration::from_secs(15);

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes `doorman.toml`, `rules.toml` and `agent.key` (mode 0600), never over a file that is there. The rules begin in shadow:
doorman decides and records, and answers nothing until you say `mode = \"enforce\"`.

The key is asked for without being shown; where no terminal is, it is the first line of standard input:
  doorman init --agent 5f0c1a52-… < key.txt

Exit codes: 0 written, and `check` finds it good · 1 a file is there already, or none can be written · 2 the agent, the key or the
address is none · 69 the platform cannot be reached (`--offline` does without) · 77 the key is refused, or another agent's ·
78 written, but refused by `check` as things stand here, such as for a variable that is set; or TLS cannot be used")]
pub struct Args {
    /// Where to; it is made if it is not there
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// The agent's id, a UUID; else it is asked for
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// The platform
    #[arg(long, value_name = "URL", default_value = "https://app.band.ai")]
    url: String,
    /// Do not ask the platform whether the key is good
    #[arg(long)]
    offline: bool,
}

/// Runs the command.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    let path = |name: &str| args.directory.join(name);
    for name in ["doorman.toml", "rules.toml", "agent.key"] {
        if path(name).exists() {
            let there = path(name).display().to_string();
            return Err(CliError::new(
                1,
                format!("`{there}` is there already: nothing was written; name another directory"),
            ));
        }
    }
    let id = match args.agent.clone() {
        Some(id) => id,
        None => ask("the agent's id (a UUID): ", false, "say which agent with `--agent ID`")?,
    };
    if uuid::Uuid::parse_str(&id).is_err() {
        let shown = output::shown(&id);
        return Err(CliError::new(2, format!("`{shown}` is no agent's id: it is a UUID, as the platform shows it")));
    }
    let agent = AgentId::parse(&id).map_err(|problem| CliError::new(2, problem.to_string()))?;
    let configuration = configuration(&args.url, &agent)?;
    let platform = judged(path("doorman.toml"), &configuration)?;
    let key = ask("its API key (not shown): ", true, "give the key as the first line of standard input")?;
    let key = Key::parse(&key).map_err(|problem| CliError::new(2, format!("that is no key: {problem}")))?;
    let owner = if args.offline { None } else { owner(&platform, &agent, &key)? };
    let failed =
        |error: std::io::Error| CliError::new(1, format!("cannot write to `{}`: {error}", args.directory.display()));
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    write(&path("agent.key"), key.expose(), 0o600).map_err(failed)?;
    write(&path("rules.toml"), &rules(owner.as_deref()), 0o644).map_err(failed)?;
    write(&path("doorman.toml"), &configuration, 0o644).map_err(failed)?;
    let file = std::fs::canonicalize(path("doorman.toml")).map_err(failed)?;
    let code = check::run(check::Args::default(), &Global { config: Some(file.clone()) })?;
    output::print(&format!("\nwritten: {}, rules.toml and agent.key\n", file.display()))?;
    if code != 0 {
        let next = format!("\nnext: mend what is told above, then `doorman check --config {}`\n", file.display());
        return output::print(&next).map(|()| code);
    }
    output::print(&format!(
        "\nnext:\n  export DOORMAN_CONFIG={0}\n  doorman doctor              \
         # does everything work?\n  doorman run                 # decides and records; answers nothing yet\n  \
         doorman history -f          # what it would have done\nthen put `mode = \"enforce\"` into rules.toml, and `doorman \
         reload --wait`\n",
        file.display()
    ))?;
    Ok(code)
}

/// One line from the terminal, without showing it where it is a secret; or from standard input.
fn ask(question: &str, secret: bool, otherwise: &str) -> Result<String, CliError> {
    let failed = |error: std::io::Error| CliError::new(2, format!("nothing could be read ({error}): {otherwise}"));
    let line = if secret && std::io::stdin().is_terminal() {
        rpassword::prompt_password(question).map_err(failed)?
    } else {
        if std::io::stdin().is_terminal() {
            write!(anstream::stderr(), "{question}").map_err(failed)?;
        }
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
        line
    };
    let line = line.trim().to_owned();
    if line.is_empty() { Err(CliError::new(2, format!("nothing was said: {otherwise}"))) } else { Ok(line) }
}

/// The platform of a configuration that is to be written, as the daemon would read it: nothing is written that it would refuse.
fn judged(file: PathBuf, text: &str) -> Result<Platform, CliError> {
    let loaded = config::load_text(Some(file), Some(text), &Env::default(), &Overrides::default());
    let refused = |report: Report| {
        CliError::new(2, format!("nothing was written: it would be refused\n{}", report.render(false)))
    };
    Ok(loaded.map_err(refused)?.settings.platform)
}

/// Asks the platform whose key it is; the owner's handle.
fn owner(platform: &Platform, agent: &AgentId, key: &Key) -> Result<Option<String>, CliError> {
    let bad = |error: &dyn std::fmt::Display| CliError::new(78, error.to_string());
    let net = Net::new(platform).map_err(|error| bad(&error))?;
    let rest = Rest::new(platform, &net, LIMIT).map_err(|error| bad(&error))?;
    let reply = super::runtime(1)?.block_on(rest.agent(agent.clone(), key.clone()).me());
    match reply.result {
        Ok(me) if me.id == *agent => Ok(me.sender.handle().map(|handle| handle.owner().to_owned())),
        Ok(me) => {
            let whose = output::shown(me.id.as_str());
            Err(CliError::new(77, format!("this key is another agent's, `{whose}`: nothing was written")))
        }
        Err(error) => {
            let why = error.message.map(|message| format!(" ({message})")).unwrap_or_default();
            Err(match error.fault {
                CallFault::KeyRefused | CallFault::NoKey | CallFault::Forbidden => {
                    CliError::new(77, format!("the platform refuses this key{why}: nothing was written"))
                }
                fault => CliError::new(69, format!("{fault}{why}: try again, or use `--offline`; nothing was written")),
            })
        }
    }
}

/// Never over a file that is there.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn configuration(url: &str, agent: &AgentId) -> Result<String, CliError> {
    // Without its text, which may hold a password.
    let url = Url::parse(url)
        .map_err(|why| CliError::new(2, format!("`--url` is no address ({why}): nothing was written")))?;
    let url = url.as_str().trim_end_matches('/');
    Ok(format!(
        "# doorman's configuration. `doorman config` shows all of it, and where each value came from.\n\n\
         [platform]\nurl = \"{url}\"\n\n[[agents]]\nid = \"{agent}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
         connection = \"yield\" # never take the connection from the agent itself\n"
    ))
}

fn rules(owner: Option<&str>) -> String {
    let protect = owner.map_or_else(String::new, |owner| {
        format!("protect = [\"{owner}\"]                          # who looks like you is never let in\n")
    });
    let mine = match owner {
        Some(owner) => format!(
            "# You, and your other agents.\n[rules.mine]\nthen = \"approve\"\nwhen = {{ handle = [\"{owner}\", \"{owner}/*\"] }}\n\n\
             [tests.mine]\nrequest = {{ from_handle = \"@{owner}/other\" }}\nexpect = {{ verdict = \"approve\", by = \"mine\" }}\n\n"
        ),
        None => "# [rules.mine]\n# then = \"approve\"\n# when = { handle = [\"you\", \"you/*\"] }\n\n".to_owned(),
    };
    format!(
        "# Who gets in. Reject beats defer, defer beats approve; whom nothing matches waits for a person.\n\
         # `doorman check` says what is wrong, `doorman explain HANDLE` why somebody would be let in or not.\nversion = 1\n\n\
         [policy]\nmode = \"shadow\"                              # decide and record, answer nothing; then \"enforce\"\n\
         no_match = \"defer\"\n{protect}approvals_max = {{ count = 20, per = \"1h\" }} # one more pauses the agent until `doorman resume`\n\n\
         {mine}[tests.stranger]\nrequest = {{ from_handle = \"a-stranger\", message = \"hello\" }}\n\
         expect = {{ verdict = \"defer\", by = \"no_match\" }}\n"
    )
}
