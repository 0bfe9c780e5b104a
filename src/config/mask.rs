//! Secrets as the configuration prints them.

use serde::Serializer;

/// Prints a secret as stars, and an empty one as nothing.
pub(super) fn mask<S: Serializer>(secret: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.is_empty() { "" } else { "********" })
}
