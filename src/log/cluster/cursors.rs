//! Cursors and times of tokens that are written behind: the newest of each in memory until it is stored. Pure.
//!
//! A row stays here until the store has exactly this value. Answers of the store are completed with what is here. A row that reached
//! the store between a read of the store and the look here would be in neither. So a reader remembers the rows that were here before
//! its read, and reads again if one of them has left.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use super::{engine::StoreChange, lock};
use crate::{
    ids::{Epoch, Fence, Platform, SessionKey, UserId},
    log::{Erasure, SessionRow, TokenTimes},
};

/// A cursor that is not stored yet.
struct HeldCursor {
    key: SessionKey,
    epoch: Epoch,
    fence: Fence,
    row: SessionRow,
}

impl HeldCursor {
    fn is_of(&self, key: &SessionKey, epoch: Epoch) -> bool {
        self.key == *key && self.epoch == epoch
    }
}

/// The rows of one user that are not stored yet.
#[derive(Default)]
struct HeldOfUser {
    /// A cursor of another epoch does not replace one that counts.
    cursors: Vec<HeldCursor>,
    /// When the newest token was issued, Unix ms.
    tokens: BTreeMap<Platform, u64>,
}

/// The rows of a user that were in the buffer when a read began.
#[derive(Default)]
pub(super) struct HeldRows {
    cursors: Vec<(SessionKey, Epoch)>,
    tokens: Vec<Platform>,
}

/// The rows that are written behind. Their number is at most that of the sessions and of the tokens that were noted since the store
/// answered last.
#[derive(Default)]
pub(super) struct CursorBuffer(Mutex<HashMap<UserId, HeldOfUser>>);

impl CursorBuffer {
    /// Moves a session's cursor.
    pub(super) fn store(&self, key: &SessionKey, epoch: Epoch, fence: Fence, row: SessionRow) {
        let mut users = lock(&self.0);
        let cursors = &mut users.entry(key.user.clone()).or_default().cursors;
        match cursors.iter_mut().find(|held| held.is_of(key, epoch)) {
            Some(held) if fence >= held.fence => (held.fence, held.row) = (fence, row),
            Some(_) => {}
            None => cursors.push(HeldCursor {
                key: key.clone(),
                epoch,
                fence,
                row,
            }),
        }
    }

    /// Remembers a token.
    pub(super) fn note(&self, user: &UserId, platform: Platform, issued_at_ms: u64) {
        let mut users = lock(&self.0);
        let tokens = &mut users.entry(user.clone()).or_default().tokens;
        let row = tokens.entry(platform).or_default();
        *row = issued_at_ms.max(*row);
    }

    /// The rows of a user that are here before a read of the store.
    pub(super) fn held_of(&self, user: &UserId) -> HeldRows {
        let users = lock(&self.0);
        let Some(held) = users.get(user) else {
            return HeldRows::default();
        };
        let cursors = held.cursors.iter();
        HeldRows {
            cursors: cursors.map(|held| (held.key.clone(), held.epoch)).collect(),
            tokens: held.tokens.keys().copied().collect(),
        }
    }

    /// True if all these rows of the user are still here. A reader asks this after its look for the rows.
    pub(super) fn holds(&self, user: &UserId, rows: &HeldRows) -> bool {
        let users = lock(&self.0);
        let none = HeldOfUser::default();
        let held = users.get(user).unwrap_or(&none);
        let has_cursor = |(key, epoch): &(SessionKey, Epoch)| {
            held.cursors.iter().any(|cursor| cursor.is_of(key, *epoch))
        };
        let has_token = |platform| held.tokens.contains_key(platform);
        rows.cursors.iter().all(has_cursor) && rows.tokens.iter().all(has_token)
    }

    /// The session's cursor with its fence, which the store has as `stored`.
    pub(super) fn newest(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        stored: Option<(Fence, SessionRow)>,
    ) -> Option<(Fence, SessionRow)> {
        let users = lock(&self.0);
        let mut cursors = users
            .get(&key.user)
            .into_iter()
            .flat_map(|held| &held.cursors);
        let newest = cursors.find(|held| held.is_of(key, epoch));
        let newest = newest.map(|held| (held.fence, held.row));
        // The session may have been at another gateway meanwhile.
        let newest = newest.filter(|(fence, _)| stored.is_none_or(|(of, _)| *fence >= of));
        newest.or(stored)
    }

    /// Completes the sessions of a user.
    pub(super) fn complete(
        &self,
        user: &UserId,
        epoch: Epoch,
        sessions: &mut Vec<(SessionKey, SessionRow)>,
    ) {
        let users = lock(&self.0);
        let cursors = users.get(user).into_iter().flat_map(|held| &held.cursors);
        for held in cursors.filter(|held| held.epoch == epoch) {
            match sessions.iter_mut().find(|(stored, _)| *stored == held.key) {
                Some((_, stored)) => *stored = held.row,
                None => sessions.push((held.key.clone(), held.row)),
            }
        }
    }

    /// Forgets what is here of a user from before an erasure.
    pub(super) fn forget(&self, user: &UserId, erasure: &Erasure) {
        let mut users = lock(&self.0);
        let Some(held) = users.get_mut(user) else {
            return;
        };
        held.cursors
            .retain(|held| !erasure.covers_session(&held.row));
        held.tokens
            .retain(|_, issued_at_ms| *issued_at_ms >= erasure.revoked_before_ms);
        if held.cursors.is_empty() && held.tokens.is_empty() {
            users.remove(user);
        }
    }

    /// Completes the times of the tokens of (user, platform).
    pub(super) fn complete_tokens(
        &self,
        user: &UserId,
        platform: Platform,
        stored: TokenTimes,
    ) -> TokenTimes {
        let users = lock(&self.0);
        let noted = users.get(user).and_then(|held| held.tokens.get(&platform));
        TokenTimes {
            newest_ms: noted.map_or(stored.newest_ms, |noted| stored.newest_ms.max(*noted)),
            ..stored
        }
    }

    /// Everything that is not stored yet.
    pub(super) fn changes(&self) -> Vec<StoreChange> {
        let users = lock(&self.0);
        let mut changes = Vec::new();
        for (user, held) in &*users {
            let cursors = held.cursors.iter();
            changes.extend(cursors.map(|held| {
                StoreChange::Cursor(held.key.clone(), held.epoch, held.fence, held.row)
            }));
            changes.extend(held.tokens.iter().map(|(platform, newest_ms)| {
                let times = TokenTimes {
                    revoked_before_ms: 0,
                    newest_ms: *newest_ms,
                };
                StoreChange::Tokens(user.clone(), *platform, times)
            }));
        }
        changes
    }

    /// These changes are stored. What has moved since stays.
    pub(super) fn stored(&self, changes: &[StoreChange]) {
        let mut users = lock(&self.0);
        for change in changes {
            let (StoreChange::Cursor(SessionKey { user, .. }, ..) | StoreChange::Tokens(user, ..)) =
                change
            else {
                continue;
            };
            let Some(held) = users.get_mut(user) else {
                continue;
            };
            match change {
                StoreChange::Cursor(key, epoch, fence, row) => {
                    let moved = |held: &HeldCursor| {
                        !held.is_of(key, *epoch) || (held.fence, held.row) != (*fence, *row)
                    };
                    held.cursors.retain(moved);
                }
                StoreChange::Tokens(_, platform, times)
                    if held.tokens.get(platform) == Some(&times.newest_ms) =>
                {
                    held.tokens.remove(platform);
                }
                _ => {}
            }
            if held.cursors.is_empty() && held.tokens.is_empty() {
                users.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Seq, log::tests::conformance::user};

    const EPOCH: Epoch = Epoch(7);

    fn key() -> SessionKey {
        SessionKey {
            user: user("u1"),
            platform: Platform::Web,
            device: "".into(),
        }
    }

    fn row(cursor: u64) -> SessionRow {
        SessionRow {
            cursor: Seq(cursor),
            acked_at_ms: cursor,
        }
    }

    #[test]
    fn a_cursor_that_moved_during_its_write_is_written_again() {
        let cursors = CursorBuffer::default();
        cursors.store(&key(), EPOCH, Fence(3), row(1));
        let first = cursors.changes();
        cursors.store(&key(), EPOCH, Fence(3), row(2));
        cursors.stored(&first);
        let second = vec![StoreChange::Cursor(key(), EPOCH, Fence(3), row(2))];
        assert_eq!(cursors.changes(), second);
        cursors.stored(&second);
        assert_eq!(cursors.changes(), []);
        let stored = Some((Fence(3), row(2)));
        assert_eq!(cursors.newest(&key(), EPOCH, stored), stored);
    }

    #[test]
    fn a_replaced_sessions_cursor_hides_none_of_its_successor() {
        let cursors = CursorBuffer::default();
        cursors.store(&key(), EPOCH, Fence(3), row(5));
        cursors.store(&key(), EPOCH, Fence(2), row(9));
        let newest = |stored| cursors.newest(&key(), EPOCH, stored);
        assert_eq!(newest(None), Some((Fence(3), row(5))));
        let at_another_gateway = Some((Fence(4), row(1)));
        assert_eq!(newest(at_another_gateway), at_another_gateway);
    }

    #[test]
    fn a_cursor_of_another_epoch_hides_none_of_this_one() {
        let cursors = CursorBuffer::default();
        cursors.store(&key(), EPOCH, Fence::NONE, row(1));
        cursors.store(&key(), Epoch(8), Fence::NONE, row(9));
        let newest = cursors.newest(&key(), EPOCH, None);
        assert_eq!(newest, Some((Fence::NONE, row(1))));
        let mut sessions = Vec::new();
        cursors.complete(&user("u1"), EPOCH, &mut sessions);
        assert_eq!(sessions, [(key(), row(1))]);
    }

    #[test]
    fn the_time_of_a_token_never_goes_back() {
        let cursors = CursorBuffer::default();
        for issued_at_ms in [90, 80] {
            cursors.note(&user("u1"), Platform::Web, issued_at_ms);
        }
        let times = |stored_ms| {
            let stored = TokenTimes {
                revoked_before_ms: 5,
                newest_ms: stored_ms,
            };
            cursors.complete_tokens(&user("u1"), Platform::Web, stored)
        };
        assert_eq!((times(0).newest_ms, times(99).newest_ms), (90, 99));
        assert_eq!(times(0).revoked_before_ms, 5);
    }

    #[test]
    fn a_row_that_leaves_during_a_read_is_missed_and_one_that_comes_is_not() {
        let cursors = CursorBuffer::default();
        let none = cursors.held_of(&key().user);
        cursors.store(&key(), EPOCH, Fence::NONE, row(1));
        cursors.note(&user("u1"), Platform::Ios, 90);
        assert!(cursors.holds(&key().user, &none));
        for change in cursors.changes() {
            let held = cursors.held_of(&key().user);
            assert!(cursors.holds(&key().user, &held));
            cursors.stored(&[change]);
            assert!(!cursors.holds(&key().user, &held));
        }
    }
}
