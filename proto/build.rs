//! Compiles the protobuf files without a system `protoc`.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 7] = ["common", "room", "node", "link", "event", "cluster", "admin"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=waystation");
    let files = FILES.map(|name| format!("waystation/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("waystation_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
