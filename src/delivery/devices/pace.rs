//! The rate at which a user may change devices. Each change is a write and a sync of the log.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::ids::UserId;

/// The changes of one user within a window. A phone registers once when its app starts.
const CHANGES_MAX: u32 = 30;
/// The time in which they are counted.
const CHANGES_WINDOW: Duration = Duration::from_secs(60);
/// The users who are counted within a window: some 10 MB. The changes of further users are not counted: so many users write more by
/// their number than by their pace.
const CHANGING_USERS_MAX: usize = 65_536;

/// The changes within the present window.
#[derive(Default)]
pub(super) struct ChangePace(Mutex<Option<ChangeWindow>>);

struct ChangeWindow {
    begun: Instant,
    changes: HashMap<UserId, u32>,
}

impl ChangePace {
    /// Counts a change. False: the user has made too many.
    pub(super) fn take(&self, user: &UserId) -> bool {
        let now = Instant::now();
        let mut window = self.0.lock().expect("no holder panics");
        let is_over = |window: &mut ChangeWindow| now - window.begun >= CHANGES_WINDOW;
        drop(window.take_if(is_over));
        let window = window.get_or_insert_with(|| ChangeWindow {
            begun: now,
            changes: HashMap::new(),
        });
        if window.changes.len() >= CHANGING_USERS_MAX && !window.changes.contains_key(user) {
            return true;
        }
        let changes = window.changes.entry(user.clone()).or_default();
        *changes = changes.saturating_add(1);
        *changes <= CHANGES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_changes_devices_30_times_a_minute_and_delays_no_other_user() {
        let pace = ChangePace::default();
        let [one, other] = ["one", "other"].map(|id| UserId::new(id).unwrap());
        for _ in 0..2 {
            let taken = (0..1000).filter(|_| pace.take(&one)).count();
            assert_eq!(taken, CHANGES_MAX as usize);
            assert!(pace.take(&other));
            tokio::time::advance(CHANGES_WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_users_who_are_counted_have_a_bound() {
        let pace = ChangePace::default();
        for number in 0..2 * CHANGING_USERS_MAX {
            assert!(pace.take(&UserId::new(&format!("u{number}")).unwrap()));
        }
        let window = pace.0.lock().unwrap();
        let counted = window.as_ref().unwrap().changes.len();
        assert_eq!(counted, CHANGING_USERS_MAX);
    }
}
