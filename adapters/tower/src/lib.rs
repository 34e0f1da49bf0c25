#![doc = include_str!("../README.md")]

mod address;
mod answers;
mod ask;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod breaker;
mod claims;
mod client;
mod cookie;
mod cors;
mod decision;
mod error;
mod exchange;
mod facts;
mod grpc;
mod headers;
mod layer;
mod leases;
mod limits;
#[cfg(feature = "local")]
mod local;
mod notice;
mod rule;
mod settings;
mod settle;
mod shield;
#[cfg(feature = "axum")]
mod socket;
mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "types")]
pub mod types;
pub mod v1;

#[cfg(feature = "axum")]
pub use self::axum::{ClaimsRejection, NoShield};
pub use answers::ErrorBody;
pub use ask::Ask;
pub use body::Body;
pub use claims::Claims;
pub use cookie::{Logout, LogoutError, SameSite, SessionCookie};
pub use cors::Environment;
pub use decision::{Decision, PolicyStatus};
pub use error::{Cause, ConfigurationError, Denied, NoDecision};
pub use facts::PeerAddress;
pub use layer::{Hold, Limit, ShieldLayer, ShieldService};
pub use leases::{Ended, Lease};
pub use limits::Limits;
#[cfg(feature = "local")]
pub use local::Local;
pub use rule::{Cost, OnUnavailable, Rule};
pub use settings::ShieldBuilder;
pub use settle::{Answered, Reservation};
pub use shield::Shield;
#[cfg(feature = "axum")]
pub use socket::{Messages, OnDenied, Socket, SocketClosed, SocketRejection, SocketSender, SocketUpgrade};
