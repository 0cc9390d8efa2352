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
#[command(after_help = "Examples:
  doorman init my-agent
  doorman init my-agent --agent 5f0c1a52-... --client python < key.txt
  doorman init --systemd                      as root, into /etc/doorman

Writes doorman.toml, rules.toml, agent.key (mode 0600) and a schema for each of
the two TOML files, for completion in editors. It never replaces a file. The
rules begin in shadow: doorman decides and records, and answers nothing until
they say `mode = \"enforce\"`. `doorman recipes` has rules for common
situations.

It asks for what is missing, and does not show the key. Without a terminal, the
key is the first line of standard input. Without `--client`, it assumes a client
that does not connect with `on_conflict=reject`.

A client that connects with `on_conflict=reject`, as the TypeScript SDK does on
every reconnect, cannot start while doorman has the connection: for it, `init`
writes `connection = \"poll\"`, and doorman answers from listings every 30 s.

Exit status: 0 written, and `check` accepts it; 1 a file exists already, or
cannot be written; 2 the agent, the key or the address is not valid; 69 the
platform cannot be reached (`--offline` does without it); 77 the key is refused,
or another agent's; 78 written, but `check` refuses it here, for example because
of an environment variable.")]
pub struct Args {
    /// Where to write; it is created if it does not exist
    #[arg(value_name = "DIRECTORY", default_value = ".", default_value_if("systemd", "true", SYSTEMD))]
    directory: PathBuf,
    /// The agent's id, a UUID; else it is asked for
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// The platform's address
    #[arg(long, value_name = "URL", default_value = "https://app.band.ai")]
    url: String,
    /// Do not ask the platform whether it accepts the key
    #[arg(long)]
    offline: bool,
    /// Which client the agent uses besides doorman; else it is asked for
    #[arg(long, value_name = "CLIENT")]
    client: Option<AgentClient>,
    /// That client connects with `on_conflict=reject`
    #[arg(long)]
    client_rejects: bool,
    /// For the systemd unit: into /etc/doorman, with the key as a credential
    #[arg(long)]
    systemd: bool,
}

/// What the agent itself connects with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AgentClient {
    /// The Python SDK: takes the connection, unless it is configured otherwise
    Python,
    /// The TypeScript SDK: reconnects with `on_conflict=reject`
    Typescript,
    /// Another one
    Other,
    /// None: the agent does not run
    None,
}

/// The directory of the systemd unit's configuration.
const SYSTEMD: &str = "/etc/doorman";

/// Runs the command.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    let path = |name: &str| args.directory.join(name);
    let files = ["doorman.toml", "rules.toml", "agent.key", "doorman.schema.json", "rules.schema.json"];
    let units = if packaged() { &[] } else { UNITS.as_slice() };
    for name in files.into_iter().chain(units.iter().map(|(name, ..)| *name)) {
        if path(name).exists() {
            let there = path(name).display().to_string();
            return Err(CliError::new(
                1,
                format!("`{there}` is there already: nothing was written; name another directory"),
            ));
        }
    }
    let agent = match &args.agent {
        Some(id) => agent_id(id)?,
        None => insist("the agent's id (a UUID): ", false, "say which agent with `--agent ID`", agent_id)?,
    };
    let client = client(args.client, args.client_rejects)?;
    let configuration = configuration(&args.url, &agent, args.systemd, client)?;
    let platform = judged(path("doorman.toml"), &configuration)?;
    let otherwise = "give the key as the first line of standard input";
    let (key, owner) = insist("its API key (not shown): ", true, otherwise, |key| {
        let key = Key::parse(key).map_err(|problem| CliError::new(2, format!("not a valid key: {problem}")))?;
        let owner = if args.offline { None } else { owner(&platform, &agent, &key)? };
        Ok((key, owner))
    })?;
    let failed =
        |error: std::io::Error| CliError::new(1, format!("cannot write to `{}`: {error}", args.directory.display()));
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    write(&path("agent.key"), key.expose(), 0o600).map_err(failed)?;
    write(&path("rules.toml"), &rules(owner.as_deref()), 0o644).map_err(failed)?;
    for (name, schema) in [("rules", crate::policy::schema()), ("doorman", config::schema())] {
        write(&path(&format!("{name}.schema.json")), &format!("{schema:#}\n"), 0o644).map_err(failed)?;
    }
    write(&path("doorman.toml"), &configuration, 0o644).map_err(failed)?;
    let file = std::fs::canonicalize(path("doorman.toml")).map_err(failed)?;
    if args.systemd {
        for (name, _, text) in units {
            write(&path(name), &unit(text)?, 0o644).map_err(failed)?;
        }
    }
    // The credential exists only inside the unit, so only the rules are checked here; the configuration was checked
    // before.
    let checked = check::Args::of(args.systemd.then(|| path("rules.toml")));
    let code = check::run(checked, &Global { config: Some(file.clone()) })?;
    output::print(&format!("\nwritten: {}, and beside it rules.toml, agent.key and the schemas\n", file.display()))?;
    if code != 0 {
        let next =
            format!("\nNext: correct what is reported above, then `doorman check --config {}`\n", file.display());
        return output::print(&next).map(|()| code);
    }
    if client != OwnClient::Absent {
        output::print(
            "\nSet the contact strategy of the agent's own client to `DISABLED`: otherwise it answers requests before doorman \
             does.\n",
        )?;
    }
    let next = match args.systemd {
        true => format!(
            "\nNext, as root:\n{}  systemctl enable --now doorman\n  \
             usermod -aG doorman-admin YOU   # and log in again: then `doorman status` needs no root\n",
            installs(units, &args.directory)
        ),
        false => format!(
            "\nNext:\n  export DOORMAN_CONFIG={}\n  doorman doctor     # does everything work?\n  doorman run\n",
            file.display()
        ),
    };
    output::print(&format!(
        "{next}  doorman history -f # what the rules would have done\n  doorman recipes    # rules for common situations\n\
         Then write `mode = \"enforce\"` into rules.toml, and run `doorman reload --wait`\n"
    ))?;
    Ok(code)
}

/// The shipped units and the groups of their sockets: name, where it is installed, text.
const UNITS: [(&str, &str, &str); 7] = [
    ("doorman.service", "/etc/systemd/system/", include_str!("../../systemd/doorman.service")),
    ("doorman.socket", "/etc/systemd/system/", include_str!("../../systemd/doorman.socket")),
    ("doorman-read.socket", "/etc/systemd/system/", include_str!("../../systemd/doorman-read.socket")),
    ("doorman-metrics.socket", "/etc/systemd/system/", include_str!("../../systemd/doorman-metrics.socket")),
    ("doorman-page.socket", "/etc/systemd/system/", include_str!("../../systemd/doorman-page.socket")),
    ("doorman-failed.target", "/etc/systemd/system/", include_str!("../../systemd/doorman-failed.target")),
    ("doorman.sysusers.conf", "/etc/sysusers.d/doorman.conf", include_str!("../../systemd/doorman.sysusers.conf")),
];

/// A shipped unit, with the path of this program.
fn unit(text: &str) -> Result<String, CliError> {
    let program = std::env::current_exe().map_err(|error| CliError::new(1, error.to_string()))?;
    Ok(text.replace("/usr/bin/doorman", &program.display().to_string()))
}

/// Whether this program came in a package, which also brings the units.
fn packaged() -> bool {
    let here = std::env::current_exe().is_ok_and(|program| program == Path::new("/usr/bin/doorman"));
    here && Path::new("/usr/lib/systemd/system/doorman.service").exists()
}

/// The commands that install these units; empty if there is nothing to install.
fn installs(units: &[(&str, &str, &str)], directory: &Path) -> String {
    let line =
        |(name, to, _): &(&str, &str, &str)| format!("  install -D -m 644 {} {to}\n", directory.join(name).display());
    let lines: String = units.iter().map(line).collect();
    if lines.is_empty() { lines } else { lines + "  systemd-sysusers\n  systemctl daemon-reload\n" }
}

/// How the agent's own client gets its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnClient {
    /// It takes the connection.
    Takes,
    /// It connects with `on_conflict=reject`.
    Rejects,
    /// There is none.
    Absent,
    /// Not said.
    Unknown,
}

/// By the arguments; else asked for, if there is a terminal.
fn client(given: Option<AgentClient>, rejects: bool) -> Result<OwnClient, CliError> {
    let asked = given.is_none() && !rejects && std::io::stdin().is_terminal();
    let client = match given {
        None if asked => {
            let names = "the agent's own client (python, typescript, other, none): ";
            Some(insist(names, false, "say which with `--client`", |word| {
                clap::ValueEnum::from_str(word, true)
                    .map_err(|_| CliError::new(2, format!("`{}` is none of these", output::shown(word))))
            })?)
        }
        given => given,
    };
    let rejects = match client {
        Some(AgentClient::Python | AgentClient::Other) if asked => {
            let question = "does it connect with `on_conflict=reject` (yes, no): ";
            insist(question, false, "say so with `--client-rejects`", |word| {
                match word.to_ascii_lowercase().as_str() {
                    "y" | "yes" => Ok(true),
                    "n" | "no" => Ok(false),
                    _ => Err(CliError::new(
                        2,
                        "answer `yes` or `no`; the Python SDK does not unless you configured it to",
                    )),
                }
            })?
        }
        Some(AgentClient::Typescript) => true,
        _ => rejects,
    };
    Ok(match client {
        Some(AgentClient::None) => OwnClient::Absent,
        _ if rejects => OwnClient::Rejects,
        Some(_) => OwnClient::Takes,
        None => OwnClient::Unknown,
    })
}

fn agent_id(text: &str) -> Result<AgentId, CliError> {
    let bad = || {
        let shown = output::shown(text);
        CliError::new(2, format!("not a valid agent id: `{shown}`; it is a UUID, as the platform shows it"))
    };
    if uuid::Uuid::parse_str(text).is_err() {
        return Err(bad());
    }
    AgentId::parse(text).map_err(|_| bad())
}

/// Asks until the answer is valid and the platform accepts it; without a terminal, once.
fn insist<T>(
    question: &str,
    secret: bool,
    otherwise: &str,
    read: impl Fn(&str) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let nothing = || CliError::new(2, format!("nothing was entered: {otherwise}"));
    loop {
        let line = ask(question, secret, otherwise)?.ok_or_else(nothing)?;
        let answer = if line.is_empty() { Err(nothing()) } else { read(&line) };
        match answer {
            Err(error) if std::io::stdin().is_terminal() && matches!(error.code, 2 | 77) => {
                output::note(&format!("{}\n", error.message));
            }
            result => return result,
        }
    }
}

/// One line from the terminal, without showing it if it is a secret; or from standard input. `None` at its end.
fn ask(question: &str, secret: bool, otherwise: &str) -> Result<Option<String>, CliError> {
    let failed = |error: std::io::Error| CliError::new(2, format!("nothing could be read ({error}): {otherwise}"));
    if secret && std::io::stdin().is_terminal() {
        return rpassword::prompt_password(question).map(|line| Some(line.trim().to_owned())).map_err(failed);
    }
    if std::io::stdin().is_terminal() {
        write!(anstream::stderr(), "{question}").map_err(failed)?;
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

/// The platform of a configuration that is to be written, as the daemon would read it: nothing is written that it would refuse.
fn judged(file: PathBuf, text: &str) -> Result<Platform, CliError> {
    let loaded = config::load_text(Some(file), Some(text), &Env::default(), &Overrides::default());
    let refused = |report: Report| {
        CliError::new(2, format!("nothing was written: it would be refused\n{}", report.render(false)))
    };
    Ok(loaded.map_err(refused)?.settings.platform)
}

/// Asks the platform which agent the key belongs to; returns the owner's handle.
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

/// Writes a new file; never replaces an existing one.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn configuration(url: &str, agent: &AgentId, systemd: bool, client: OwnClient) -> Result<String, CliError> {
    // The message leaves out the URL, which may hold a password.
    let url = Url::parse(url)
        .map_err(|why| CliError::new(2, format!("`--url` is not a valid address ({why}): nothing was written")))?;
    let url = url.as_str().trim_end_matches('/');
    let key = if systemd { "api_key_credential = \"agent.key\"" } else { "api_key_file = \"agent.key\"" };
    let connection = if client == OwnClient::Rejects { "poll" } else { "yield" };
    Ok(format!(
        "#:schema ./doorman.schema.json\n#\n# doorman's configuration. `doorman config` shows all of it, and where each value came from.\n\n\
         [platform]\nurl = \"{url}\"\n\n[[agents]]\nid = \"{agent}\"\n{key}\nrules = \"rules.toml\"\n\
         # yield: leave the connection to the agent's own client, and use it while it is free. poll: open no socket, and\n\
         # answer from listings every 30 s. A client that connects with `on_conflict=reject` (the TypeScript SDK does) cannot\n\
         # start while doorman is live: it needs \"poll\". With \"take\", an official client stops for good.\n\
         connection = \"{connection}\"\n"
    ))
}

fn rules(owner: Option<&str>) -> String {
    let protect = owner.map_or_else(String::new, |owner| {
        format!("protect = [\"{owner}\"]                          # look-alikes are never approved\n")
    });
    let mine = match owner {
        Some(owner) => format!(
            "# You, and your other agents.\n[rules.mine]\nthen = \"approve\"\nwhen = {{ handle = [\"{owner}\", \"{owner}/*\"] }}\n\n\
             [tests.mine]\nrequest = {{ from_handle = \"@{owner}/other\" }}\nexpect = {{ verdict = \"approve\", by = \"mine\" }}\n\n"
        ),
        None => "# [rules.mine]\n# then = \"approve\"\n# when = { handle = [\"you\", \"you/*\"] }\n\n".to_owned(),
    };
    format!(
        "#:schema ./rules.schema.json\n#\n\
         # Who gets in. Reject beats defer, defer beats approve; if no rule matches, a person decides.\n\
         # `doorman check` finds errors, `doorman explain HANDLE` says why somebody would be approved or not.\nversion = 1\n\n\
         [policy]\nmode = \"shadow\"                              # decide and record, answer nothing; then \"enforce\"\n\
         no_match = \"defer\"\n{protect}approvals_max = {{ count = 20, per = \"1h\" }} # one more pauses the agent until `doorman resume`\n\n\
         {mine}[tests.stranger]\nrequest = {{ from_handle = \"a-stranger\", message = \"hello\" }}\n\
         expect = {{ verdict = \"defer\", by = \"no_match\" }}\n"
    )
}
