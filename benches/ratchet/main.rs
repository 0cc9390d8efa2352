//! How many instructions doorman needs for a request, stage by stage: a number that hardly depends on the machine and not at
//! all on its load, so that CI can refuse what makes it grow.
//!
//! `cargo bench --bench ratchet` plays a fixed script under valgrind (which `benches/ratchet/run` installs), compares
//! with `counts.txt`, and ends with 1 if a stage needs over a tenth more. `-- --accept WHY` writes the new counts there
//! instead, with the reason. Each stage is played twice, short and long: the cost of the start is in both, and is
//! subtracted.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

mod counts;
mod play;
mod stages;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use counts::Counts;
use stages::Stage;

/// The allocator of the binary that ships.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Requests of the short and of the long play.
const SHORT: u64 = 256;
const LONG: u64 = 1_280;
/// Without these settings glibc chooses its copy and compare functions by the machine's CPU.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-BMI2,-LZCNT,-MOVBE,-RTM";

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--platform"] => stages::platform()?,
        ["--stage", stage, requests] => {
            let stage = Stage::parse(stage).ok_or("no such stage")?;
            stage.play(requests.parse()?)?;
        }
        [] => return compare(&count()?),
        ["--accept", why] if !why.trim().is_empty() => {
            counts::accept(&file(), &count()?, why)?;
        }
        _ => return Err("arguments: none, or `--accept WHY`".into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ratchet/counts.txt")
}

/// The instructions for a request, by stage.
fn count() -> Result<Counts, Box<dyn std::error::Error>> {
    let mut counts = Counts::new();
    for stage in Stage::ALL {
        let both = [SHORT, LONG].map(|requests| start(stage, requests));
        let [short, long] = both.map(|run| run.and_then(finish));
        counts.push((stage, (long? - short?) / (LONG - SHORT)));
    }
    // This stage measures the core together with the ledger, so the cost of the core alone is subtracted.
    let core = counts.iter().find(|(stage, _)| *stage == Stage::Core).map_or(0, |(_, count)| *count);
    for (stage, count) in &mut counts {
        *count -= if *stage == Stage::Record { core } else { 0 };
    }
    Ok(counts)
}

/// Starts one run under valgrind. `callgrind_annotate` can read the profile of the long run.
fn start(stage: Stage, requests: u64) -> Result<std::process::Child, Box<dyn std::error::Error>> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ratchet.{}.{requests}", stage.as_str()));
    let started = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
        .arg(std::env::current_exe()?)
        .args(["--stage", stage.as_str(), &requests.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    started.map_err(|error| format!("valgrind: {error}; `benches/ratchet/run` installs it").into())
}

/// The number of instructions of the run.
fn finish(run: std::process::Child) -> Result<u64, Box<dyn std::error::Error>> {
    let done = run.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.filter(|_| done.status.success()).ok_or_else(|| format!("it did not play to the end: {said}").into())
}

fn compare(counted: &Counts) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let accepted = counts::accepted(&std::fs::read_to_string(file())?)?;
    let (table, within) = counts::compared(counted, &accepted);
    print!("{table}");
    if within {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("over a tenth more than was accepted: make it cheaper, or say why it must be so:");
    eprintln!("benches/ratchet/run --accept WHY");
    Ok(ExitCode::FAILURE)
}
