//! Generates the prost types from `towncrier/v1/gateway.proto` with a pure-Rust compiler, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR")?;
    // The client package lives one folder below the workspace root and shares this script.
    let root = ["proto", "../proto"]
        .map(|folder| std::path::Path::new(&manifest).join(folder))
        .into_iter()
        .find(|folder| folder.join("towncrier").is_dir())
        .ok_or("proto/ is not beside the manifest")?;
    let file = root.join("towncrier/v1/gateway.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    let descriptors = protox::compile([&file], [&root])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
