//! The command line: what it accepts, and the commands that ask a running quotad or application.
//!
//! Promise: exit codes are 0 allow or done, 1 deny, 2 error; answers go to standard output, trouble to standard
//! error; every command can answer in JSON with names that stay.
//!
//! Must never: read the environment (the configuration does), or print past the given [`Screen`].

pub mod audit;
pub mod bench;
pub mod check;
#[cfg(test)]
mod fake;
pub mod json;
pub mod screen;
pub mod span;
pub mod table;
pub mod words;

pub use self::audit::audit;
pub use self::bench::bench;
pub use self::check::check;
pub use self::screen::{Colour, Screen};

use crate::client::Address;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Allowed, or done.
pub const EXIT_ALLOW: u8 = 0;
/// Denied; or the bench found more admitted than promised; or a check of the audit failed.
pub const EXIT_DENY: u8 = 1;
/// No decision could be made.
pub const EXIT_ERROR: u8 = 2;

const ABOUT: &str = "A decision service: may this request pass, may this connection stay open, is this token good?\n\
Without a command it serves gRPC on 127.0.0.1:50051 with the configuration in config/quotad.yaml.";

const AFTER_HELP: &str = "\
Examples:
  quotad                                               serve, with the embedded store
  quotad --store redis://127.0.0.1:6379                serve; several of them agree through Redis
  quotad check --policy auth-per-ip ip=203.0.113.7     may one more request of this address pass?
  quotad check --peek --json user=42                   what is left for this user, for a script
  quotad --ratelimit-env                               serve in the place of envoyproxy/ratelimit
  quotad token mint --subject alice                    a token to try with
  quotad config check config/quotad.yaml               every mistake, with line and hint
  quotad audit --url https://app.example.com           what of it is weaker than it need be?
  quotad bench --keys 1000 --duration 10s              how fast is it here?

Exit codes:
  0  allowed, or done       1  denied, or a check of the audit failed       2  error; standard error says what failed

Environment (over the file, under the flags):
  QUOTAD_CONFIG          the configuration file           QUOTAD_STORE_URL       as --store
  QUOTAD_LISTEN_GRPC     as --listen, with commas         QUOTAD_STORE_DATA_DIR  as --data-dir
  QUOTAD_LISTEN_HTTP     as --http                        QUOTAD_STORE_TIMEOUT   as --store-timeout
  QUOTAD_LISTEN_ADMIN    as --admin                       QUOTAD_LOG             as --log
  QUOTAD_THREADS         as --threads                     QUOTAD_LOG_FORMAT      as --log-format
  NO_COLOR               no colours";

/// The whole command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "quotad", version, about = ABOUT, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Args {
    /// Flags of `quotad` without a command, which serves.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// What to do; nothing: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve; the same as no command
    Serve(ServeArgs),
    /// Ask a running quotad about one request, and charge it
    #[command(after_help = check::AFTER_HELP)]
    Check(CheckArgs),
    /// Load a running quotad; measure latency, and check that it never admits too much
    #[command(after_help = bench::AFTER_HELP)]
    Bench(bench::BenchArgs),
    /// Tell what of the configuration, and of the application behind it, is weaker than it need be
    #[command(after_help = audit::AFTER_HELP)]
    Audit(audit::AuditArgs),
    /// Make tokens to try with
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look at a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Commands about tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Sign a token with an issuer's key of the configuration, and print it
    Mint(MintArgs),
}

/// Commands about the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every mistake of a file with line, column and hint; exit code 2 when there is one
    Check(ConfigCheckArgs),
}

/// Flags of serving, as typed: the configuration checks them like the file and the environment, in the same words.
#[derive(Clone, Default, PartialEq, Eq, clap::Args)]
pub struct ServeArgs {
    /// The configuration file [default: config/quotad.yaml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take the variables of envoyproxy/ratelimit too: RUNTIME_ROOT, REDIS_URL, GRPC_PORT, PORT and others
    #[arg(long)]
    pub ratelimit_env: bool,
    /// Where to serve gRPC: HOST:PORT or unix:/path; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// The same as --listen 127.0.0.1:N; 0 takes a free port, which is printed
    #[arg(long, value_name = "N", conflicts_with = "listen")]
    pub port: Option<u16>,
    /// Where to serve HTTP/1.1, /json and /healthcheck, with commas between; empty: nowhere
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Where to serve the admin service; empty: nowhere
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Where state lives: memory: or redis://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// The same as --store memory:
    #[arg(long, conflicts_with = "store")]
    pub memory: bool,
    /// Where revocations survive a restart (embedded store); empty: nowhere
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// How long a decision waits for Redis
    #[arg(long, value_name = "TIME")]
    pub store_timeout: Option<String>,
    /// Threads that serve; 0: one a core
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// How logs look: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// How much is logged: error, warn, info, debug, or target=level with commas
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
}

impl std::fmt::Debug for ServeArgs {
    /// A store's URL may hold a password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ServeArgs").field("config", &self.config).finish_non_exhaustive()
    }
}

/// `quotad check`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Where quotad listens: HOST:PORT or unix:/path
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub addr: Address,
    /// The domain of the policies
    #[arg(long, default_value = "default")]
    pub domain: String,
    /// Ask exactly this policy; may be repeated [default: every policy whose match holds]
    #[arg(long, value_name = "NAME")]
    pub policy: Vec<String>,
    /// Units to charge [default: each policy's own cost]
    #[arg(long, value_name = "UNITS", conflicts_with = "peek")]
    pub cost: Option<u32>,
    /// Decide without charging anything
    #[arg(long)]
    pub peek: bool,
    /// Charge once, however often this id is asked within the window, and 10 minutes at most
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    pub request_id: String,
    /// How long to wait for the answer
    #[arg(long, default_value = "1s", value_parser = span::parse, value_name = "TIME")]
    pub timeout: Duration,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Facts about the request, such as ip=203.0.113.7 or user=42
    #[arg(value_parser = parse_entry, value_name = "KEY=VALUE")]
    pub entries: Vec<(String, String)>,
}

/// `quotad token mint`.
#[derive(Clone, Debug, clap::Args)]
pub struct MintArgs {
    /// The configuration file [default: config/quotad.yaml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The `sub` claim: whose token it is
    #[arg(long)]
    pub subject: String,
    /// The issuer, by its name or `iss` in the configuration [default: the first that has a signing key]
    #[arg(long)]
    pub issuer: Option<String>,
    /// How long it is good
    #[arg(long, default_value = "1h", value_parser = span::parse, value_name = "TIME")]
    pub expires_in: Duration,
    /// The `aud` claim; may be repeated
    #[arg(long)]
    pub audience: Vec<String>,
    /// The `jti` claim [default: 128 random bits]
    #[arg(long, value_name = "ID")]
    pub token_id: Option<String>,
    /// Another claim; the value is taken as JSON when it is JSON; may be repeated
    #[arg(long = "claim", value_parser = parse_entry, value_name = "NAME=VALUE")]
    pub claims: Vec<(String, String)>,
}

/// `quotad config check`.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigCheckArgs {
    /// The configuration file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl Args {
    /// What to do, with the flags before the command laid under those behind it.
    ///
    /// # Errors
    /// A flag of serving stands before a command that has no use for it: said, rather than without effect.
    pub fn into_command(self) -> Result<Command, clap::Error> {
        let Self { serve: before, command } = self;
        let Some(command) = command else { return Ok(Command::Serve(before)) };
        match command {
            Command::Serve(behind) => Ok(Command::Serve(behind.over(before))),
            Command::Token(TokenCommand::Mint(mut mint)) if before.is_config_only() => {
                mint.config = mint.config.or(before.config);
                Ok(Command::Token(TokenCommand::Mint(mint)))
            }
            Command::Audit(mut audit) if before.is_config_only() => {
                audit.config = audit.config.or(before.config);
                Ok(Command::Audit(audit))
            }
            other if before == ServeArgs::default() => Ok(other),
            _ => Err(Self::command().error(
                ErrorKind::ArgumentConflict,
                "flags of serving have no effect on this command; put its own flags behind it",
            )),
        }
    }
}

impl ServeArgs {
    /// These flags where given, else those of `under`.
    fn over(self, under: Self) -> Self {
        Self {
            config: self.config.or(under.config),
            ratelimit_env: self.ratelimit_env || under.ratelimit_env,
            port: if self.listen.is_empty() { self.port.or(under.port) } else { None },
            listen: if self.listen.is_empty() && self.port.is_none() { under.listen } else { self.listen },
            http: self.http.or(under.http),
            admin: self.admin.or(under.admin),
            memory: self.memory || (under.memory && self.store.is_none()),
            store: self.store.or(under.store),
            data_dir: self.data_dir.or(under.data_dir),
            store_timeout: self.store_timeout.or(under.store_timeout),
            threads: self.threads.or(under.threads),
            log_format: self.log_format.or(under.log_format),
            log: self.log.or(under.log),
        }
    }

    /// Where to serve, by either flag.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.port.map_or_else(|| self.listen.clone(), |port| vec![format!("127.0.0.1:{port}")])
    }

    /// Where state lives, by either flag.
    #[must_use]
    pub fn store_url(&self) -> Option<String> {
        if self.memory { Some("memory:".to_owned()) } else { self.store.clone() }
    }

    fn is_config_only(&self) -> bool {
        Self { config: None, ..self.clone() } == Self::default()
    }
}

/// `key=value`; the value may hold further `=`.
fn parse_entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        None => Err("there is no `=`; write key=value, such as ip=203.0.113.7".to_owned()),
        Some(("", _)) => Err("the key before `=` is missing".to_owned()),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Args::try_parse_from(line.split(' ')).and_then(Args::into_command)
    }

    fn check(line: &str) -> CheckArgs {
        match parse(line).unwrap() {
            Command::Check(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        parse(line).map(|command| panic!("{command:?}")).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let Command::Serve(args) = parse("quotad --listen 127.0.0.1:1 --listen unix:/q --threads 2").unwrap()
        else {
            panic!("serves");
        };
        assert_eq!(args.listen, ["127.0.0.1:1", "unix:/q"]);
        assert_eq!(args.threads.as_deref(), Some("2"));
    }

    #[test]
    fn a_port_and_the_embedded_store_have_short_flags() {
        let Command::Serve(args) = parse("quotad serve --memory --port 0").unwrap() else {
            panic!("serves");
        };
        assert_eq!(args.addresses(), ["127.0.0.1:0"]);
        assert_eq!(args.store_url().as_deref(), Some("memory:"));
        let serve = |line: &str| match parse(line).unwrap() {
            Command::Serve(args) => (args.addresses(), args.store_url()),
            other => panic!("{other:?}"),
        };
        let of = |address: &str, store: &str| (vec![address.to_owned()], Some(store.to_owned()));
        let behind = serve("quotad --port 1 --memory serve --listen 127.0.0.1:2 --store redis://h");
        assert_eq!(behind, of("127.0.0.1:2", "redis://h"));
        let behind = serve("quotad --listen 127.0.0.1:2 --store redis://h serve --port 1 --memory");
        assert_eq!(behind, of("127.0.0.1:1", "memory:"));
        assert!(refused("quotad --memory --store redis://h").contains("cannot be used with"));
        assert!(refused("quotad --port 1 --listen 127.0.0.1:2").contains("cannot be used with"));
        assert!(refused("quotad --port 65536").contains("65536"));
    }

    #[test]
    fn flags_behind_the_command_win_over_those_before() {
        let Command::Serve(args) = parse("quotad --config a --log warn serve --config b").unwrap() else {
            panic!("serves");
        };
        assert_eq!((args.config, args.log.as_deref()), (Some("b".into()), Some("warn")));
        let Command::Token(TokenCommand::Mint(mint)) =
            parse("quotad --config a token mint --subject x").unwrap()
        else {
            panic!("mints");
        };
        assert_eq!(mint.config, Some("a".into()));
        let Command::Audit(audit) = parse("quotad --config a audit").unwrap() else { panic!("audits") };
        assert_eq!((audit.config, audit.tries), (Some("a".into()), 20));
        assert_eq!(mint.expires_in, Duration::from_secs(3_600));
    }

    #[test]
    fn a_flag_without_effect_is_refused() {
        assert!(refused("quotad --store memory: check a=b").contains("no effect"));
        assert!(refused("quotad audit --origin https://a.example").contains("--url"));
        assert!(refused("quotad --threads 2 token mint --subject x").contains("no effect"));
    }

    #[test]
    fn check_takes_policies_and_entries() {
        let args = check("quotad check --policy a --policy b --cost 3 ip=::1 q=a=b empty=");
        assert_eq!(args.policy, ["a", "b"]);
        assert_eq!(args.cost, Some(3));
        let entries: Vec<_> =
            args.entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(entries, [("ip", "::1"), ("q", "a=b"), ("empty", "")]);
        assert_eq!(args.timeout, Duration::from_secs(1));
    }

    #[test]
    fn cost_and_peek_exclude_each_other() {
        assert!(refused("quotad check --cost 1 --peek a=b").contains("cannot be used with"));
    }

    #[test]
    fn an_entry_needs_a_key_and_an_equals_sign() {
        assert!(refused("quotad check ip").contains("write key=value"));
        assert!(refused("quotad check =x").contains("the key before"));
        assert!(refused("quotad check --cost 4294967296 a=b").contains("4294967296"));
        assert!(refused("quotad check --addr nowhere a=b").contains("write HOST:PORT"));
    }

    #[test]
    fn help_names_the_exit_codes_and_every_variable() {
        let help = Args::command().render_help().to_string();
        for word in
            ["Exit codes:", "QUOTAD_STORE_URL", "QUOTAD_LOG_FORMAT", "NO_COLOR", "quotad check --policy"]
        {
            assert!(help.contains(word), "{word} is missing in\n{help}");
        }
    }
}
