//! One call of the API: its paths, its access, its description and its handler.

use std::sync::Arc;

use axum::{extract::Request, routing::MethodRouter};
use schemars::{Schema, SchemaGenerator};

use super::call::App;
use crate::config::Role;

/// The proof that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// None.
    Open,
    /// The secret of the configuration, in the body.
    Secret,
    /// Any good token, in the header `token`.
    Token,
    /// The same, for what belongs to the token's user. For what belongs to another user, as [`Admin`](Self::Admin).
    Own(Role),
    /// The token of an administrator with this role, in the header `token`.
    Admin(Role),
}

impl Access {
    /// The access of the request's route.
    pub(super) fn of(request: &Request) -> Self {
        let access = request.extensions().get();
        *access.expect("the guard around every handler adds it")
    }

    /// The role that an administrator needs; `None` for a call that is not an administrator's.
    pub(super) fn role(self) -> Option<Role> {
        match self {
            Self::Own(role) | Self::Admin(role) => Some(role),
            Self::Open | Self::Secret | Self::Token => None,
        }
    }
}

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
