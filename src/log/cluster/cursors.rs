//! CursorBuffer and times of tokens that are written behind: the newest of each in memory until it is stored. Pure.
//!
//! A row stays here until the store has exactly this value. Answers of the store are completed with what is here.

use std::{collections::HashMap, sync::Mutex};

use super::{engine::StoreChange, lock};
use crate::{
    ids::{Epoch, Fence, Platform, SessionKey, UserId},
    log::{SessionRow, TokenTimes},
};

/// The rows that are not stored yet. Their number is at most that of the sessions and of the tokens that were noted since the store
/// answered last.
#[derive(Default)]
struct Unwritten {
    /// A cursor of another epoch does not replace one that counts. Of two in one epoch, the one with the higher fence counts.
    cursors: HashMap<(SessionKey, Epoch), (Fence, SessionRow)>,
    /// When the newest token was issued, Unix ms.
    tokens: HashMap<(UserId, Platform), u64>,
}

/// The rows that are written behind.
#[derive(Default)]
pub(super) struct CursorBuffer(Mutex<Unwritten>);

impl CursorBuffer {
    /// Moves a session's cursor.
    pub(super) fn store(&self, key: &SessionKey, epoch: Epoch, fence: Fence, row: SessionRow) {
        let mut rows = lock(&self.0);
        let newest = rows.cursors.entry((key.clone(), epoch));
        let newest = newest.or_insert((fence, row));
        if fence >= newest.0 {
            *newest = (fence, row);
        }
    }

    /// Remembers a token.
    pub(super) fn note(&self, user: &UserId, platform: Platform, issued_at_ms: u64) {
        let mut rows = lock(&self.0);
        let row = rows.tokens.entry((user.clone(), platform)).or_default();
        *row = issued_at_ms.max(*row);
    }

    /// The session's cursor with its fence, which the store has as `stored`.
    pub(super) fn newest(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        stored: Option<(Fence, SessionRow)>,
    ) -> Option<(Fence, SessionRow)> {
        let rows = lock(&self.0);
        let newest = rows.cursors.get(&(key.clone(), epoch)).copied();
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
        let rows = lock(&self.0);
        let of_user = rows.cursors.iter();
        let of_user = of_user.filter(|((key, of), _)| key.user == *user && *of == epoch);
        for ((key, _), (_, row)) in of_user {
            match sessions.iter_mut().find(|(stored, _)| stored == key) {
                Some((_, stored)) => *stored = *row,
                None => sessions.push((key.clone(), *row)),
            }
        }
    }

    /// Completes the times of the tokens of (user, platform).
    pub(super) fn complete_tokens(
        &self,
        user: &UserId,
        platform: Platform,
        stored: TokenTimes,
    ) -> TokenTimes {
        let rows = lock(&self.0);
        let noted = rows.tokens.get(&(user.clone(), platform));
        TokenTimes {
            newest_ms: noted.map_or(stored.newest_ms, |noted| stored.newest_ms.max(*noted)),
            ..stored
        }
    }

    /// Everything that is not stored yet.
    pub(super) fn changes(&self) -> Vec<StoreChange> {
        let rows = lock(&self.0);
        let cursors = rows.cursors.iter();
        let cursors = cursors.map(|((key, epoch), (fence, row))| {
            StoreChange::Cursor(key.clone(), *epoch, *fence, *row)
        });
        let tokens = rows.tokens.iter().map(|((user, platform), newest_ms)| {
            let times = TokenTimes {
                revoked_before_ms: 0,
                newest_ms: *newest_ms,
            };
            StoreChange::Tokens(user.clone(), *platform, times)
        });
        cursors.chain(tokens).collect()
    }

    /// These changes are stored. What has moved since stays.
    pub(super) fn stored(&self, changes: &[StoreChange]) {
        let mut rows = lock(&self.0);
        for change in changes {
            match change {
                StoreChange::Cursor(key, epoch, fence, row) => {
                    let key = (key.clone(), *epoch);
                    if rows.cursors.get(&key) == Some(&(*fence, *row)) {
                        rows.cursors.remove(&key);
                    }
                }
                StoreChange::Tokens(user, platform, times) => {
                    let key = (user.clone(), *platform);
                    if rows.tokens.get(&key) == Some(&times.newest_ms) {
                        rows.tokens.remove(&key);
                    }
                }
                StoreChange::Register(..)
                | StoreChange::Delete(..)
                | StoreChange::Settings(..)
                | StoreChange::Rows(..) => {}
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
}
