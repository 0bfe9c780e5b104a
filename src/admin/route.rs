//! One call of the API: its paths, its access, its description and its handler.

use std::sync::Arc;

use axum::routing::MethodRouter;
use schemars::{Schema, SchemaGenerator};

use super::{access::Access, call::App};

/// Describes one type, and adds the types that it refers to to the generator.
pub(super) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// One call of the API.
pub(super) struct Route {
    /// All spellings of its path. The first is its name in metrics.
    pub(super) paths: &'static [&'static str],
    pub(super) summary: &'static str,
    pub(super) access: Access,
    /// True if a call changes something. Then it has a line in the audit log.
    pub(super) changes: bool,
    /// The schema of the body. A call without one is a `GET`.
    pub(super) request: Option<Describe>,
    /// The schema of the answer. An answer without one is plain text.
    pub(super) answer: Option<Describe>,
    /// Makes the handler.
    pub(super) handler: fn() -> MethodRouter<Arc<App>>,
}
