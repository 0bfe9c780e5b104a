//! The administrators: the roles of each, and how fast each may send.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::error::Refusal;
use crate::{
    config::{self, Role},
    ids::{IdError, UserId},
};

/// The debt with which an administrator may still send. It lets the calls of one moment come together.
const DEBT_MAX: Duration = Duration::from_millis(100);

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An administrator's id is not a valid id.
    #[error("admin.user_ids: {user:?} {error}")]
    UserId {
        /// The text in the configuration.
        user: String,
        /// The reason for which it is not valid.
        error: IdError,
    },
}

/// The users of `admin.user_ids`. Their number is fixed, and so is what is kept for each.
pub(super) struct Administrators {
    by_user: HashMap<UserId, Arc<Administrator>>,
    /// The time that one message costs; zero: no limit.
    cost: Duration,
}

struct Administrator {
    roles: Vec<Role>,
    /// The moment at which the sends so far are paid.
    paid: Mutex<Option<Instant>>,
    /// True while a send to everyone runs.
    is_sending_to_all: AtomicBool,
}

/// A send to everyone that is limited. Its receivers are known when it has ended, so that no other one runs meanwhile.
pub(super) struct SendToAll {
    administrator: Arc<Administrator>,
    cost: Duration,
}

impl Administrators {
    pub(super) fn new(config: &config::Admin) -> Result<Self, SetupError> {
        let administrator = |user: &String| {
            let id = UserId::new(user).map_err(|error| SetupError::UserId {
                user: user.clone(),
                error,
            })?;
            let roles = config.roles.get(user).cloned();
            let administrator = Administrator {
                roles: roles.unwrap_or_else(|| Role::ALL.into()),
                paid: Mutex::default(),
                is_sending_to_all: AtomicBool::new(false),
            };
            Ok((id, Arc::new(administrator)))
        };
        let by_user = config.user_ids.iter().map(administrator);
        let cost = Duration::from_secs(1).checked_div(config.sends_per_second_max);
        Ok(Self {
            by_user: by_user.collect::<Result<_, _>>()?,
            cost: cost.unwrap_or_default(),
        })
    }

    /// True if this user is an administrator, with any role.
    pub(super) fn contains(&self, user: &UserId) -> bool {
        self.by_user.contains_key(user)
    }

    /// `Ok` if this user is an administrator with the role. `None`: the call is no administrator's.
    pub(super) fn check(&self, user: &UserId, role: Option<Role>) -> Result<(), Refusal> {
        let (Some(role), Some(administrator)) = (role, self.by_user.get(user)) else {
            return Err(Refusal::NotAuthorized);
        };
        if administrator.roles.contains(&role) {
            Ok(())
        } else {
            Err(Refusal::NoRole(role))
        }
    }

    /// Charges so many messages to the administrator. A batch is taken whole, and paid afterwards.
    ///
    /// # Errors
    /// The sends before are not paid yet. Nothing was charged.
    pub(super) fn charge(&self, user: &UserId, messages: u64) -> Result<(), Refusal> {
        self.limited(user).map_or(Ok(()), |administrator| {
            administrator.owe(self.cost, messages, Some(DEBT_MAX))
        })
    }

    /// Begins a send to everyone; `None` without a limit. It charges one message, and [`SendToAll::sent`] the others.
    ///
    /// # Errors
    /// The sends before are not paid yet, or another send to everyone runs. Nothing was charged.
    pub(super) fn send_to_all(&self, user: &UserId) -> Result<Option<SendToAll>, Refusal> {
        let Some(administrator) = self.limited(user) else {
            return Ok(None);
        };
        if administrator.is_sending_to_all.swap(true, Relaxed) {
            return Err(Refusal::TooManySends(1));
        }
        let send = SendToAll {
            administrator: Arc::clone(administrator),
            cost: self.cost,
        };
        administrator.owe(self.cost, 1, Some(DEBT_MAX))?;
        Ok(Some(send))
    }

    fn limited(&self, user: &UserId) -> Option<&Arc<Administrator>> {
        self.by_user.get(user).filter(|_| !self.cost.is_zero())
    }
}

impl SendToAll {
    /// Charges the receivers of the send.
    pub(super) fn sent(self, receivers: u64) {
        let more = receivers.saturating_sub(1);
        // Without a bound nothing is refused.
        let _ = self.administrator.owe(self.cost, more, None);
    }
}

impl Drop for SendToAll {
    fn drop(&mut self) {
        self.administrator.is_sending_to_all.store(false, Relaxed);
    }
}

impl Administrator {
    fn owe(&self, cost: Duration, messages: u64, max: Option<Duration>) -> Result<(), Refusal> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = paid.unwrap_or(now).max(now);
        let wait = max.and_then(|max| before.duration_since(now).checked_sub(max));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            let seconds = wait.as_millis().div_ceil(1000);
            return Err(Refusal::TooManySends(
                seconds.try_into().unwrap_or(u16::MAX),
            ));
        }
        let cost = cost.saturating_mul(messages.try_into().unwrap_or(u32::MAX));
        *paid = before.checked_add(cost).or(*paid);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_batch_counts_its_messages_and_each_administrator_pays_its_own() {
        let config = config::Admin {
            user_ids: vec!["a".into(), "b".into()],
            sends_per_second_max: 10,
            ..config::Admin::default()
        };
        let administrators = Administrators::new(&config).unwrap();
        let user = |name: &str| UserId::new(name).unwrap();
        let charge = |name: &str, messages| match administrators.charge(&user(name), messages) {
            Ok(()) => 0,
            Err(Refusal::TooManySends(seconds)) => seconds,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(charge("a", 30), 0);
        assert_eq!(charge("a", 1), 3);
        assert_eq!(charge("b", 1), 0);
        advance(Duration::from_millis(2500)).await;
        assert_eq!(charge("a", 1), 1);
        advance(Duration::from_millis(500)).await;
        let sent = (0..100).filter(|_| charge("a", 1) == 0).count();
        assert!((1..=2).contains(&sent), "{sent}");
        for _ in 0..10 {
            advance(Duration::from_millis(100)).await;
            assert_eq!(charge("a", 1), 0);
        }
        advance(Duration::from_millis(100)).await;
        let to_all = administrators.send_to_all(&user("a")).unwrap().unwrap();
        // A send to everyone is charged when it has ended, and no second one runs meanwhile.
        advance(Duration::from_secs(1)).await;
        let second = administrators.send_to_all(&user("a"));
        assert!(matches!(second, Err(Refusal::TooManySends(1))));
        assert!(administrators.send_to_all(&user("b")).is_ok());
        to_all.sent(u64::MAX);
        assert_eq!(charge("a", 1), u16::MAX);
        let third = administrators.send_to_all(&user("a"));
        assert!(matches!(third, Err(Refusal::TooManySends(u16::MAX))));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_is_counted() {
        let administrators = Administrators::new(&config::Admin::default()).unwrap();
        let user = UserId::new("openIM123456").unwrap();
        for _ in 0..3 {
            assert!(administrators.charge(&user, u64::MAX).is_ok());
            assert!(administrators.send_to_all(&user).unwrap().is_none());
        }
    }
}
