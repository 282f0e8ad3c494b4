// Makes messages and client from the contract, and with pbjson their JSON form.
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_well_known_types(true)
        .file_descriptor_set_path(&descriptors)
        .compile_protos(&["headlight/v1/attention_service.proto"], &["../../../proto"])?;
    pbjson_build::Builder::new()
        .register_descriptors(&fs::read(descriptors)?)?
        .build(&[".headlight.v1"])?;
    Ok(())
}
