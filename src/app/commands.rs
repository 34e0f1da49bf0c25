//! The commands that need a configuration and no server of ours: `config check`, `audit` and `token mint`.

use super::rate_limits::conflicts;
use super::verifier;
use crate::cli::audit::AuditArgs;
use crate::cli::{self, ConfigCheckArgs, EXIT_ALLOW, EXIT_ERROR, MintArgs, Screen, ServeArgs};
use crate::config::{self, Config, Environment, Mistakes, Overrides, Source};
use crate::engine::issuer::{IssuerSpec, KeySource};
use crate::engine::units::Micros;
use crate::token::mint::mint;
use crate::token::{Keys, Verifier};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Where the configuration comes from: the named file or the usual ones, the environment, the flags.
#[must_use]
pub fn source(file: Option<PathBuf>, flags: &ServeArgs) -> Source {
    let find = if flags.ratelimit_env { Source::rate_limit } else { Source::find };
    find(file, Environment::process()).with_overrides(Overrides {
        listen: flags.addresses(),
        http: flags.http.clone(),
        admin: flags.admin.clone(),
        threads: flags.threads.clone(),
        store: flags.store_url(),
        data_dir: flags.data_dir.clone(),
        store_timeout: flags.store_timeout.clone(),
        log: flags.log.clone(),
        log_format: flags.log_format.clone(),
    })
}

/// `quotad config check`: every mistake, or what the file holds.
pub fn check_config(args: &ConfigCheckArgs, screen: &mut Screen<'_>) -> u8 {
    let source = source(Some(args.file.clone()), &ServeArgs::default());
    match load(&source) {
        Ok(config) => {
            let mut warnings = config.warnings.clone();
            let mut rate_limits = String::new();
            if let Some(folder) = &config.envoy.ratelimit_config {
                match folder.load() {
                    Ok(loaded) => {
                        let together = conflicts(&config, &loaded.set);
                        if !together.is_empty() {
                            screen.print(&format!("{}\n", Mistakes::from(together)));
                            return EXIT_ERROR;
                        }
                        warnings.extend(loaded.warnings);
                        let path = folder.path.display();
                        let (files, domains) = (loaded.files, loaded.set.domains());
                        rate_limits = format!("{path}: good: {files} files, {domains} domains\n");
                    }
                    Err(mistakes) => {
                        screen.print(&format!("{mistakes}\n"));
                        return EXIT_ERROR;
                    }
                }
            }
            let warnings = warnings.iter().map(|warning| format!("{warning}\n")).collect::<String>();
            let good = format!("{}: good: {}\n", config.name(), config.summary());
            screen.print(&(warnings + &good + &rate_limits));
            EXIT_ALLOW
        }
        Err(mistakes) => {
            screen.print(&format!("{mistakes}\n"));
            EXIT_ERROR
        }
    }
}

/// `quotad audit`: what holds and is weaker than it need be. A configuration with mistakes has none to audit.
pub async fn audit(args: &AuditArgs, screen: &mut Screen<'_>) -> u8 {
    match load(&source(args.config.clone(), &ServeArgs::default())) {
        Ok(config) => cli::audit(args, &config, screen).await,
        Err(mistakes) => {
            screen.report(&mistakes.to_string());
            EXIT_ERROR
        }
    }
}

/// A configuration with keys that can be used; else every mistake in the words that `config check` prints.
///
/// # Errors
/// The mistakes.
pub fn load(source: &Source) -> Result<Config, Mistakes> {
    config::load_with(source, &|issuers| {
        Verifier::build(issuers.to_vec(), Keys::CheckOnly).err().unwrap_or_default()
    })
}

/// `quotad token mint`: signs a token to try with.
pub fn mint_token(args: &MintArgs, screen: &mut Screen<'_>) -> u8 {
    match minted(args) {
        Ok(token) => {
            screen.print(&format!("{token}\n"));
            EXIT_ALLOW
        }
        Err((message, hint)) => {
            screen.complain(&message, hint.as_deref());
            EXIT_ERROR
        }
    }
}

fn minted(args: &MintArgs) -> Result<String, (String, Option<String>)> {
    let source = source(args.config.clone(), &ServeArgs::default());
    let config = config::load(&source).map_err(|mistakes| (mistakes.to_string(), None))?;
    // The key is made at the first need, be it ours or the server's.
    verifier(&config, Keys::Make)
        .map_err(|found| (found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), None))?;
    let spec = issuer(&config, args.issuer.as_deref())?;
    let lifetime = Micros::from(args.expires_in);
    mint(spec, &args.subject, lifetime, crate::clock::now(), &extra(args))
        .map_err(|error| (error.to_string(), None))
}

fn issuer<'a>(config: &'a Config, named: Option<&str>) -> Result<&'a IssuerSpec, (String, Option<String>)> {
    let signs = |spec: &&IssuerSpec| {
        matches!(spec.key, KeySource::File { .. } | KeySource::Env { .. })
            && spec.algorithms.iter().all(|algorithm| algorithm.starts_with("HS"))
    };
    let names = || config.issuers.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>().join(", ");
    match named {
        Some(named) => {
            config.issuers.iter().find(|spec| spec.name == named || spec.issuer == named).ok_or_else(|| {
                (format!("`{named}` is not an issuer"), Some(format!("tokens has {}", names())))
            })
        }
        None => config.issuers.iter().find(signs).ok_or_else(|| {
            let hint =
                "add an entry under tokens with algorithms: [HS256] and key: {file: FILE, generate: true}";
            ("no issuer has a secret of its own to sign with".to_owned(), Some(hint.to_owned()))
        }),
    }
}

fn extra(args: &MintArgs) -> Map<String, Value> {
    let mut claims: Map<String, Value> = args
        .claims
        .iter()
        .map(|(name, text)| {
            (name.clone(), serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())))
        })
        .collect();
    if let Some(id) = &args.token_id {
        claims.insert("jti".to_owned(), Value::from(id.as_str()));
    }
    match args.audience.as_slice() {
        [] => {}
        [one] => drop(claims.insert("aud".to_owned(), Value::from(one.as_str()))),
        many => drop(claims.insert("aud".to_owned(), Value::from(many.to_vec()))),
    }
    claims
}
