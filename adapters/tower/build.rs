//! Compiles the client from `proto/`, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = protox::compile(["proto/quotad/v1/decision.proto"], ["proto"])?;
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure().build_server(false).emit_rerun_if_changed(false).compile_fds(files)?;
    Ok(())
}
