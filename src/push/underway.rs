//! The calls to vendors that are under way, by the users whom they are for: an erasure waits until those of its user have ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::ids::UserId;

/// The calls under way. At most 16 for each vendor.
#[derive(Default)]
pub(super) struct CallsUnderway {
    of: Mutex<HashMap<UserId, usize>>,
    ended: Notify,
}

/// Some users' call, which ends with this.
pub(super) struct CallUnderway {
    calls: Arc<CallsUnderway>,
    users: Vec<UserId>,
}

impl CallsUnderway {
    /// A call begins for these users.
    pub(super) fn begin(self: &Arc<Self>, users: Vec<UserId>) -> CallUnderway {
        let mut of = self.lock();
        for user in &users {
            *of.entry(user.clone()).or_default() += 1;
        }
        drop(of);
        CallUnderway {
            calls: Arc::clone(self),
            users,
        }
    }

    /// Waits until no call for this user is under way. Each call has a deadline of its own. Cancel safe.
    pub(super) async fn none_for(&self, user: &UserId) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !self.lock().contains_key(user) {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        // A panic of the lock's holder leaves plain numbers.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallUnderway {
    fn drop(&mut self) {
        let mut of = self.calls.lock();
        for user in &self.users {
            if let Some(count) = of.get_mut(user) {
                *count -= 1;
                if *count == 0 {
                    of.remove(user);
                }
            }
        }
        drop(of);
        self.calls.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_the_last_call_of_its_user() {
        let user = |name: &str| UserId::new(name).unwrap();
        let calls = Arc::new(CallsUnderway::default());
        let first = calls.begin(vec![user("u1"), user("u2")]);
        let second = calls.begin(vec![user("u1")]);
        let first_user = user("u1");
        let wait = calls.none_for(&first_user);
        tokio::pin!(wait);
        assert!(timeout(Duration::ZERO, wait.as_mut()).await.is_err());
        drop(first);
        calls.none_for(&user("u2")).await;
        assert!(timeout(Duration::ZERO, wait.as_mut()).await.is_err());
        drop(second);
        wait.await;
    }
}
