//! Deciding, as plain functions over plain data.
//!
//! Promise: given the numbers that a store read, everything about the answer follows from here: what fits,
//! what is left, when to come back, which headers and body to send. Constructors validate; after that
//! every function is total.
//!
//! Must never: read a clock, wait, lock, log, or know about gRPC or Redis. Time is an argument.

pub mod address;
pub mod ask;
pub mod bucket;
pub mod decision;
pub mod fixed;
pub mod glob;
pub mod http;
pub mod issuer;
pub mod key;
pub mod leases;
pub mod matcher;
pub mod mistake;
pub mod name;
pub mod path;
pub mod policy;
pub mod policy_set;
pub mod rate_limit;
pub mod revocation;
pub mod route;
pub mod rule;
pub mod settlement;
pub mod units;
pub mod window;
