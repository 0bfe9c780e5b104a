//! Secrets as the configuration prints them.

use serde::Serializer;

/// Prints a secret as stars, and an empty one as nothing.
pub(super) fn mask<S: Serializer>(secret: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(masked(secret))
}

/// Prints each secret of a list like that.
pub(super) fn mask_each<S: Serializer>(
    secrets: &[String],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|secret| masked(secret)))
}

fn masked(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "********" }
}
