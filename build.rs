//! Compiles `proto/` without protoc, and keeps the descriptor set for server reflection.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

/// What is served; what they import comes along.
const FILES: [&str; 5] = [
    "quotad/v1/decision.proto",
    "envoy/service/auth/v3/external_auth.proto",
    "envoy/service/ratelimit/v3/rls.proto",
    "envoy/service/accesslog/v3/als.proto",
    "envoy/service/ext_proc/v3/external_processor.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let with_docs = compiler.file_descriptor_set();
    println!("cargo:rerun-if-changed=proto");

    let mut slim = with_docs.clone();
    for file in &mut slim.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), slim.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::Codec")
        .emit_rerun_if_changed(false)
        .compile_fds(with_docs)?;
    Ok(())
}
