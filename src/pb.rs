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

/// `google`.
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}
/// `envoy`.
pub mod envoy {
    /// `envoy.config`.
    pub mod config {
        /// `envoy.config.core`.
        pub mod core {
            /// `envoy.config.core.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    /// `envoy.type`.
    pub mod r#type {
        /// `envoy.type.v3`.
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
    /// `envoy.extensions`.
    pub mod extensions {
        /// `envoy.extensions.common`.
        pub mod common {
            /// `envoy.extensions.common.ratelimit`.
            pub mod ratelimit {
                /// `envoy.extensions.common.ratelimit.v3`.
                pub mod v3 {
                    tonic::include_proto!("envoy.extensions.common.ratelimit.v3");
                }
            }
        }
        /// `envoy.extensions.filters`.
        pub mod filters {
            /// `envoy.extensions.filters.http`.
            pub mod http {
                /// `envoy.extensions.filters.http.ext_proc`.
                pub mod ext_proc {
                    /// `envoy.extensions.filters.http.ext_proc.v3`.
                    pub mod v3 {
                        tonic::include_proto!("envoy.extensions.filters.http.ext_proc.v3");
                    }
                }
            }
        }
    }
    /// `envoy.service`.
    pub mod service {
        /// `envoy.service.auth`.
        pub mod auth {
            /// `envoy.service.auth.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }
        /// `envoy.service.ratelimit`.
        pub mod ratelimit {
            /// `envoy.service.ratelimit.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.service.ratelimit.v3");
            }
        }
        /// `envoy.service.accesslog`.
        pub mod accesslog {
            /// `envoy.service.accesslog.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.service.accesslog.v3");
            }
        }
        /// `envoy.service.ext_proc`.
        pub mod ext_proc {
            /// `envoy.service.ext_proc.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.service.ext_proc.v3");
            }
        }
    }
    /// `envoy.data`.
    pub mod data {
        /// `envoy.data.accesslog`.
        pub mod accesslog {
            /// `envoy.data.accesslog.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.data.accesslog.v3");
            }
        }
    }
}

/// All of `proto/` as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
