//! The `doorman` binary: parse, dispatch, exit code. Everything else is in the library.

/// Gives the memory of a flood back to the system, if the system's own allocator keeps most of it. `.cargo/config.toml`
/// has its settings. It needs `make` to build, so it is a feature, which the packages have.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    doorman::cli::main().into()
}
