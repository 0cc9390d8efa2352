//! `doorman sandbox`: an imitation of the platform in a process of its own.

mod request;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{CliError, Global};
use crate::config::settings::loopback_ip;
use crate::model::StrangerText;
use crate::sandbox::replay::{RunningReplay, Script};
use crate::sandbox::world::PartyKind;
use crate::sandbox::{Sandbox, SandboxOptions, World};
use crate::transcript::{self, READ_BYTES_MAX};

const SHIPPED_WORLD: &str = include_str!("../../config/world.toml");

/// Most bytes of a world.
const WORLD_BYTES_MAX: usize = 16 << 20;
/// Most bytes of a certificate, or of its key.
const PEM_BYTES_MAX: usize = 1 << 20;
/// Most agents of a world that are printed at the start.
const AGENTS_SHOWN: usize = 10;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  doorman sandbox
  doorman sandbox request @carol --message hello    in another terminal
  doorman init here --agent ID --url http://127.0.0.1:4400

It keeps everything in memory, its keys protect nothing, and whoever reaches its
address controls it. SIGINT or SIGTERM ends it like a platform that restarts; a
second one ends it at once.

Exit status: 0 ended, 1 the address cannot be used, 2 usage, 78 the world or the
certificate cannot be used."
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<SandboxCommand>,
    /// Where to listen; port 0 takes a free one. Keep it on loopback
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4400")]
    listen: SocketAddr,
    /// The file that says who exists; else the world that doorman ships
    #[arg(long, value_name = "PATH")]
    world: Option<PathBuf>,
    /// Close a socket that sent nothing for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    /// Push events with a null join_ref, as a Phoenix broadcast does
    #[arg(long)]
    null_join_ref: bool,
    /// Ignore `on_conflict` and have no `agent_control`, as an older deployment
    #[arg(long)]
    older: bool,
    /// Use `https` and `wss` with this certificate and its chain, PEM
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Play the platform's side of a transcript instead (`doorman run --record`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["world", "idle", "null_join_ref", "tls_cert"])]
    replay: Option<PathBuf>,
    /// Which agent's part, if the transcript has several
    #[arg(long, value_name = "ID", requires = "replay")]
    replay_agent: Option<String>,
    /// Leave the recorded pauses out
    #[arg(long, requires = "replay")]
    fast: bool,
}

#[derive(Debug, clap::Subcommand)]
enum SandboxCommand {
    /// Make a contact request to an agent of a running sandbox
    Request(request::Args),
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    if let Some(SandboxCommand::Request(args)) = &args.action {
        return request::run(args, global);
    }
    if let Some(path) = &args.replay {
        let script = script(&args, path)?;
        return super::runtime(1)?.block_on(replay(&args, script));
    }
    let world = match &args.world {
        None => parse(SHIPPED_WORLD, Path::new("config/world.toml"))?,
        Some(path) => {
            let text = super::named_text(path, WORLD_BYTES_MAX)
                .map_err(|why| CliError::new(78, format!("cannot read `{}`: {why}", path.display())))?;
            parse(&text, path)?
        }
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(server_tls(certificate, key)?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(1, format!("cannot start: {error}")))?;
    runtime.block_on(serve(args, world, tls))
}

/// A server's TLS from two PEM files.
fn server_tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, CliError> {
    let refuse = |path: &Path, why: String| CliError::new(78, format!("`{}` cannot be used: {why}", path.display()));
    let read = |path: &Path| super::named_file(path, PEM_BYTES_MAX).map_err(|why| refuse(path, why));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate)?).flatten().collect();
    if chain.is_empty() {
        return Err(refuse(certificate, "no certificate, PEM, in it".into()));
    }
    // The error text of the PEM reader could repeat contents of the file.
    let private =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| refuse(key, "no private key, PEM, in it".into()))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map(Arc::new)
        .map_err(|error| refuse(certificate, error.to_string()))
}

async fn serve(args: Args, world: World, tls: Option<Arc<ServerConfig>>) -> Result<u8, CliError> {
    let mut signals = signal_hook_tokio::Signals::new([SIGINT, SIGTERM])
        .map_err(|error| CliError::new(1, format!("cannot listen for signals: {error}")))?;
    let options = SandboxOptions {
        tls,
        idle: Duration::from_secs(args.idle),
        push_join_ref: !args.null_join_ref,
        older: args.older,
    };
    let agents = agents(&world);
    let sandbox = Sandbox::start(args.listen, world, options).await.map_err(|error| refused(args.listen, &error))?;
    let mut err = anstream::stderr();
    let _ = writeln!(err, "doorman: this is a sandbox, an imitation of the platform: it is not the platform");
    if !loopback_ip(sandbox.address().ip()) {
        let _ = writeln!(err, "doorman: whoever can reach {} controls it", sandbox.address());
    }
    let mut out = std::io::stdout();
    let _ = write!(out, "listening on {}\n{agents}", sandbox.url()).and_then(|()| out.flush());
    signals.next().await;
    tokio::select! {
        () = sandbox.stop() => {}
        _ = signals.next() => {}
    }
    Ok(0)
}

/// The agents with their keys, which are valid only for this sandbox.
fn agents(world: &World) -> String {
    let agents: Vec<_> = world.parties().iter().filter(|party| party.kind == PartyKind::Agent).collect();
    let rows = agents.iter().take(AGENTS_SHOWN).map(|one| vec![one.handle.clone(), one.id.clone(), one.key.clone()]);
    let mut shown = super::table::table(&["AGENT OF THIS WORLD", "ID", "KEY"], rows.collect());
    if agents.len() > AGENTS_SHOWN {
        shown += &format!("and {} more agents\n", agents.len() - AGENTS_SHOWN);
    }
    super::output::shown_lines(&shown)
}

/// Reads a transcript.
fn script(args: &Args, path: &Path) -> Result<Script, CliError> {
    // A transcript comes from somebody else, and an error may repeat some of it.
    let refuse = |why: String| {
        let why = StrangerText::new(&why).shown(400);
        CliError::new(78, format!("`{}` cannot be played: {why}", path.display()))
    };
    let text = super::named_text(path, READ_BYTES_MAX).map_err(refuse)?;
    let lines = transcript::read(&text).map_err(|error| refuse(error.to_string()))?;
    Script::of(&lines, args.replay_agent.as_deref()).map_err(|error| refuse(error.to_string()))
}

/// Plays it until a signal arrives.
async fn replay(args: &Args, script: Script) -> Result<u8, CliError> {
    let mut signals = crate::ops::signals::listen(0)
        .map_err(|error| CliError::new(1, format!("cannot listen for signals: {error}")))?;
    signals.started();
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let replay = RunningReplay::start(args.listen, script, args.fast, events)
        .await
        .map_err(|error| refused(args.listen, &error))?;
    super::output::print(&format!("listening on {}\n", replay.url()))?;
    loop {
        tokio::select! {
            _ = signals.next() => break,
            Some(sentence) = heard.recv() => super::output::print(&format!("{sentence}\n"))?,
        }
        if super::output::reader_left() {
            break;
        }
    }
    replay.stop().await;
    Ok(0)
}

fn parse(text: &str, path: &Path) -> Result<World, CliError> {
    World::parse(text, &path.to_string_lossy()).map_err(|report| {
        let shown = report.render(std::io::stderr().is_terminal());
        CliError::new(78, format!("the world cannot be used\n{shown}"))
    })
}

fn refused(listen: SocketAddr, error: &std::io::Error) -> CliError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => CliError::new(
            1,
            format!(
                "`{listen}` is in use already: stop what listens there, or take a free port with `--listen 127.0.0.1:0`"
            ),
        ),
        std::io::ErrorKind::InvalidInput => CliError::new(78, format!("the world cannot be used: {error}")),
        _ => CliError::new(1, format!("cannot listen on `{listen}`: {error}")),
    }
}
