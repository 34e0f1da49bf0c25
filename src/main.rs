//! The life of the process, on one page: parse the command line, run one command, end with its exit code.
//!
//! A mistake of the configuration is printed and is exit code 2; `anyhow` gathers what cannot be mended here.

use clap::Parser as _;
use mimalloc::MiMalloc;
use quotad::app::commands::{audit, check_config, load, mint_token, source};
use quotad::cli::{self, Args, Colour, Command, ConfigCommand, EXIT_ERROR, Screen, ServeArgs, TokenCommand};
use quotad::config::{Environment, LogFormat};
use quotad::{app, telemetry};
use std::process::ExitCode;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let command = Args::parse().into_command().unwrap_or_else(|error| error.exit());
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let colour = Colour::for_stdout(Environment::process().get("NO_COLOR").as_deref());
    let mut screen = Screen { out: &mut out, err: &mut err, colour };
    let code = match command {
        Command::Config(ConfigCommand::Check(args)) => Ok(check_config(&args, &mut screen)),
        Command::Token(TokenCommand::Mint(args)) => Ok(mint_token(&args, &mut screen)),
        Command::Serve(args) => serve(&args, &mut screen),
        Command::Check(args) => run(cli::check(&args, &mut screen)),
        Command::Audit(args) => run(audit(&args, &mut screen)),
        Command::Bench(args) => run(cli::bench(&args, &mut screen)),
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        screen.complain(&format!("{error:#}"), None);
        EXIT_ERROR
    }))
}

/// Loads the configuration, starts logging, and serves until the process is asked to stop.
fn serve(args: &ServeArgs, screen: &mut Screen<'_>) -> anyhow::Result<u8> {
    let source = source(args.config.clone(), args);
    let config = match load(&source) {
        Ok(config) => config,
        Err(mistakes) => {
            screen.report(&mistakes.to_string());
            return Ok(EXIT_ERROR);
        }
    };
    let shape = match config.log.format {
        LogFormat::Text => telemetry::LogShape::Text,
        LogFormat::Json => telemetry::LogShape::Json,
    };
    telemetry::start(&config.log.filter, shape)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    run(async { app::serve(source, config).await.map(|()| 0) })?.map_err(Into::into)
}

/// Runs a future on a runtime of one thread.
fn run<T>(task: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, task))
}
