//! The `doorman` binary: parse, dispatch, exit code. Everything else is in the library.

fn main() -> std::process::ExitCode {
    doorman::cli::main().into()
}
