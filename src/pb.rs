//! The generated messages and services of `proto/`, and the descriptor set for reflection.

#![expect(missing_docs, reason = "generated; the documentation is in the proto files")]
#![allow(clippy::all, reason = "generated")]
#![allow(clippy::as_conversions, clippy::large_futures, unreachable_pub, reason = "generated")]
#![allow(clippy::allow_attributes_without_reason, clippy::too_many_lines, reason = "generated")]

/// `quotad.v1`.
pub mod quotad {
    /// The native API.
    pub mod v1 {
        tonic::include_proto!("quotad.v1");
    }
}

/// All of `proto/` as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
