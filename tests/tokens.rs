//! The token verifier from outside: several hundred hostile tokens, good ones of each algorithm, every mistake of a
//! configuration, key sets, revocation and minting.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test builds itself is there, or the test fails"
)]

#[path = "tokens/changes.rs"]
mod changes;
#[path = "tokens/hostile.rs"]
mod hostile;
#[path = "tokens/mistakes.rs"]
mod mistakes;
#[path = "tokens/pairs.rs"]
mod pairs;
#[path = "tokens/revocations.rs"]
mod revocations;
#[path = "tokens/verdicts.rs"]
mod verdicts;
#[path = "tokens/world.rs"]
mod world;
