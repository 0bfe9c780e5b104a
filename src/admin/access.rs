//! The proof that a caller needs for a call.

use axum::extract::Request;

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
    /// The same. That of an administrator needs this role.
    User(Role),
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
            Self::User(role) | Self::Own(role) | Self::Admin(role) => Some(role),
            Self::Open | Self::Secret | Self::Token => None,
        }
    }
}
