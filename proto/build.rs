//! Generates the prost types of `proto/` with a pure-Rust compiler, so that no `protoc` is needed. Names the gateway's version.

use std::{path::Path, process::Command};

/// The client protocol, which the gateway and the client package speak.
const PROTOCOL: &str = "towncrier/v1/gateway.proto";
/// The stored form of messages, which is the gateway's alone.
const STORE: &str = "towncrier/store/v1/message.proto";
/// The frames between the gateways of a fleet.
const MESH: &str = "towncrier/mesh/v1/mesh.proto";
/// The messages of OpenIM's v3 SDKs.
const OPENIM: &str = "openim/v3/sdk.proto";
/// The REST calls of OpenIM's JavaScript SDK.
const JSSDK: &str = "openim/v3/jssdk.proto";
/// The package of the messages of the SDKs.
const SDK: &str = ".openim.v3";
/// The objects of that file that are JSON as well, with OpenIM's names.
const JSON: &str = ".openim.v3.jssdk";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR")?;
    // The client package lives one folder below the workspace root and shares this script.
    let (folder, names) = if Path::new(&manifest).join("proto").is_dir() {
        ("proto", &[PROTOCOL, STORE, MESH, OPENIM, JSSDK][..])
    } else {
        ("../proto", &[PROTOCOL][..])
    };
    if folder == "proto" {
        println!("cargo:rustc-env=TOWNCRIER_VERSION={}", version()?);
    }
    let root = Path::new(&manifest).join(folder);
    let files: Vec<_> = names.iter().map(|name| root.join(name)).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [&root])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    // Maps in one order, so that the same answer has the same bytes.
    config.btree_map([SDK]);
    let derive = "#[derive(serde::Serialize)] #[serde(rename_all = \"camelCase\")]";
    config.message_attribute(JSON, derive);
    // Serde would write `userId`.
    for name in [
        "ownerUserID",
        "conversationID",
        "userID",
        "groupID",
        "faceURL",
    ] {
        config.field_attribute(name, format!("#[serde(rename = {name:?})]"));
    }
    // Protobuf alone has it as bytes.
    config.field_attribute(".openim.v3.jssdk.ConversationMsg.lastMsg", "#[serde(skip)]");
    config.compile_fds(descriptors)?;
    Ok(())
}

/// The package's version. A release build adds the commit; a debug build does not, because each commit would build everything anew.
fn version() -> Result<String, std::env::VarError> {
    let version = std::env::var("CARGO_PKG_VERSION")?;
    if std::env::var("PROFILE")? != "release" {
        return Ok(version);
    }
    // The reflog changes with each commit and each checkout. A file that does not exist would build everything at each call.
    if let Some(reflog) = git(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ]) && Path::new(&reflog).exists()
    {
        println!("cargo:rerun-if-changed={reflog}");
    }
    println!("cargo:rerun-if-env-changed=TOWNCRIER_COMMIT");
    let commit = std::env::var("TOWNCRIER_COMMIT").ok();
    let commit = commit.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    Ok(match commit {
        Some(commit) => format!("{version} ({commit})"),
        // A source archive has no repository.
        None => version,
    })
}

/// The line that git prints; `None` where there is no git, or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !line.trim().is_empty()).then(|| line.trim().to_owned())
}
