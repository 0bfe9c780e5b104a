//! The administrators, and the roles of each.

use std::collections::HashMap;

use super::{call::SetupError, error::Refusal};
use crate::{
    config::{self, Role},
    ids::UserId,
};

/// The users of `admin.user_ids`, each with its roles.
pub(super) struct Administrators(HashMap<UserId, Vec<Role>>);

impl Administrators {
    pub(super) fn new(config: &config::Admin) -> Result<Self, SetupError> {
        let administrator = |user: &String| {
            let id = UserId::new(user).map_err(|error| SetupError::UserId {
                user: user.clone(),
                error,
            })?;
            let roles = config.roles.get(user).cloned();
            Ok((id, roles.unwrap_or_else(|| Role::ALL.into())))
        };
        let administrators = config.user_ids.iter().map(administrator);
        Ok(Self(administrators.collect::<Result<_, _>>()?))
    }

    /// True if this user is an administrator, with any role.
    pub(super) fn contains(&self, user: &UserId) -> bool {
        self.0.contains_key(user)
    }

    /// `Ok` if this user is an administrator with the role. `None`: the call is no administrator's.
    pub(super) fn check(&self, user: &UserId, role: Option<Role>) -> Result<(), Refusal> {
        let (Some(role), Some(roles)) = (role, self.0.get(user)) else {
            return Err(Refusal::NotAuthorized);
        };
        if roles.contains(&role) {
            Ok(())
        } else {
            Err(Refusal::NoRole(role))
        }
    }
}
