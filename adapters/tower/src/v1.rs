//! The messages and the client of `quotad.v1`, generated from `proto/quotad/v1/decision.proto`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto says what each thing is"
)]

tonic::include_proto!("quotad.v1");
