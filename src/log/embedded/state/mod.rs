//! The state: rows that follow from the records in the segments. sled holds them, so that a start need not read every
//! segment. Memory holds the newest ones.
//!
//! All rows can be thrown away and rebuilt. [`State::apply`] is the only function that turns a record into rows, both for a
//! commit that just became durable and for one replayed after a crash. sled names a position. It has the rows of every record
//! before this position, and may also have rows of later records. A start replays the later records, and a record that is
//! applied again changes nothing.
//!
//! - `keys.rs`: the catalogue of the rows in sled
//! - `store.rs`: sled behind a trait, opened or set aside; `memory.rs`: its replacement while the disk is full
//! - `table.rs`: one kind of row, written behind; `page.rs`: some rows of a table, in the order of their keys
//! - `checkpoint.rs`: rows go to sled, and sled claims what it has
//! - `conversations.rs`: conversations and their read marks; `conversation_row.rs`: the row of one; `unnumbered.rs`: entries of an
//!   earlier version; `settings.rs`: a user's settings as bytes
//! - `mark_rows.rs`: which entries of an inbox are read marks
//! - `erasures.rs`: users who were erased, and what of their rows goes
//! - `users.rs`, `cursors.rs`, `idempotency.rs`, `tokens.rs`: the rows; `rows.rs`: the rows of the tables in `table_id.rs`

mod checkpoint;
mod conversation_row;
mod conversations;
mod cursors;
mod erasures;
mod idempotency;
mod keys;
mod mark_rows;
mod memory;
mod page;
mod rows;
mod settings;
mod store;
mod table;
mod tokens;
mod unnumbered;
mod users;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;

use self::keys::u64_at;
pub use self::store::{Opened, Pace, StateStore, StoreHome, Tree, Visit};
use self::table::WriteBehind;
use self::users::PendingChange;
pub(super) use self::{
    checkpoint::{Checkpoint, Claim},
    conversation_row::{ConversationRow, newest_base},
    conversations::Conversations,
    cursors::{Cursors, is_forgotten},
    erasures::{ErasureRow, Erasures},
    idempotency::KeyRow,
    idempotency::Keys,
    memory::MemoryHome,
    settings::settings_of,
    settings::settings_value,
    store::SledHome,
    table::{ChangedRows, Row, Table},
    tokens::TokenTable,
    users::{UserRow, Users},
};
use super::{
    LogError, ReadError, SessionRow,
    entry_fields::{MARKS, MESSAGE},
    message_facts::{MessageFacts, conversation_key},
    record::{Position, Record},
    table_id::TableId,
};
use crate::{
    ids::{Seq, SessionKey, UserId},
    metrics::ByKind,
};

/// The number of tables.
const TABLES: usize = 13;

/// The state store failed: only rows in memory can be looked up.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// sled's own error.
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    /// A value differs from the value that was written.
    #[error("a row does not read")]
    Undecodable,
    /// The rows need more memory than is allowed.
    #[error("the state does not fit the memory it may have while the disk is full")]
    NoRoom,
    /// sled panicked while opening.
    #[error("sled panicked while opening")]
    Panicked,
    /// The directory could not be prepared.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<StateError> for ReadError {
    fn from(error: StateError) -> Self {
        tracing::error!(%error, "the state store failed");
        Self::State
    }
}

impl From<StateError> for LogError {
    fn from(error: StateError) -> Self {
        ReadError::from(error).into()
    }
}

impl Row for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_le_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        u64_at(bytes, 0)
    }
}

impl Row for () {
    fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

impl Row for Bytes {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::copy_from_slice(bytes))
    }
}

/// The part of the log that sled is known to contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// Every record before this is in sled.
    pub(super) position: Position,
    /// The CRC of the last of these records.
    pub(super) crc: u32,
}

/// All rows.
pub(super) struct State {
    store: Arc<dyn StateStore>,
    meta: Arc<dyn Tree>,
    pub(super) users: Users,
    pub(super) conversations: Conversations,
    /// False while the format is held back to one without conversations.
    pub(super) has_conversations: bool,
    pub(super) cursors: Cursors,
    pub(super) keys: Keys,
    pub(super) tokens: TokenTable,
    pub(super) erasures: Erasures,
    deleted: Table<()>,
    profiles: Table<Bytes>,
    rows: Table<Bytes>,
    /// Entries retained and not acked by any session, over all users.
    pending: ByKind<AtomicU64>,
    /// Entries that erasures took while no session had acked them, until they are counted.
    lapsed: ByKind<AtomicU64>,
}

impl State {
    /// Opens the store. A panic of sled becomes an `Err`. The flag tells if the contents can be believed.
    pub(super) fn open(home: &dyn StoreHome) -> Result<(Self, bool), StateError> {
        let open = || {
            let Opened { store, is_believed } = home.open()?;
            Ok((Self::open_trees(store)?, is_believed))
        };
        catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(StateError::Panicked))
    }

    fn open_trees(store: Arc<dyn StateStore>) -> Result<Self, StateError> {
        let state = Self {
            meta: store.tree("meta")?,
            users: Users::open(&*store)?,
            conversations: Conversations::open(&*store)?,
            has_conversations: true,
            cursors: Cursors {
                rows: Table::open_logged(&*store, "sessions")?,
            },
            keys: Keys {
                rows: Table::open(&*store, "keys")?,
            },
            tokens: TokenTable {
                rows: Table::open_logged(&*store, "revoked")?,
            },
            erasures: Erasures::open(&*store)?,
            deleted: Table::open(&*store, "deleted")?,
            profiles: Table::open(&*store, "profiles")?,
            rows: Table::open_sorted(&*store, "rows")?,
            pending: ByKind::default(),
            lapsed: ByKind::default(),
            store,
        };
        state.users.rows.visit(&[], |_, row| {
            state.book((ByKind::default(), row.pending()));
            state.users.note(row);
        })?;
        Ok(state)
    }

    /// Entries retained and not acked by any session.
    pub(super) fn pending(&self) -> ByKind<u64> {
        ByKind {
            messages: self.pending.messages.load(Relaxed),
            marks: self.pending.marks.load(Relaxed),
        }
    }

    /// Takes a change into the books. Returns the number of entries that are not pending any more.
    fn book(&self, (before, after): PendingChange) -> ByKind<u64> {
        let book = |pending: &AtomicU64, before: u64, after: u64| {
            // Adding what wraps around takes off.
            pending.fetch_add(after.wrapping_sub(before), Relaxed);
            before.saturating_sub(after)
        };
        ByKind {
            messages: book(&self.pending.messages, before.messages, after.messages),
            marks: book(&self.pending.marks, before.marks, after.marks),
        }
    }

    /// Changes a user's row in what is pending. Returns the result of `change`, and the number of entries that are not pending any
    /// more.
    pub(super) fn change<T>(
        &self,
        user: &UserId,
        change: impl FnOnce(&mut UserRow) -> T,
    ) -> Result<(T, ByKind<u64>), StateError> {
        let (answer, pending) = self.users.change(user, change)?;
        Ok((answer, self.book(pending)))
    }

    /// Turns a durable record into rows. `message` has the facts of an entry's message; without them the entry is in no
    /// conversation.
    pub(super) fn apply(
        &self,
        record: &Record,
        at: Position,
        message: Option<&MessageFacts>,
    ) -> Result<(), StateError> {
        match record {
            Record::GroupEnd { .. } => {}
            Record::Message(message) if message.is_keyed => self.keys.put(&message.key, at),
            Record::Message(_) => {}
            Record::Entry {
                user, seq, fields, ..
            } => {
                let is_marks = fields.kind == MARKS;
                self.book(self.users.add_entry(user, *seq, at, is_marks)?);
                match (fields.kind, message) {
                    (MESSAGE, Some(message)) => {
                        let conversations = &self.conversations;
                        conversations.add_entry(user, *seq, at, fields, message)?;
                    }
                    (MARKS, Some(message)) => self.conversations.mark(user, message)?,
                    _ => {}
                }
            }
            Record::Cursor {
                session,
                cursor,
                acked_at_ms,
            } => {
                self.store_cursor(
                    session,
                    SessionRow {
                        cursor: *cursor,
                        acked_at_ms: *acked_at_ms,
                    },
                )?;
            }
            Record::Register { user, profile } => {
                self.profiles.put(user.as_str().into(), profile.clone());
                self.users.update(user, |row| row.is_erased = false)?;
            }
            Record::Revoke {
                user,
                platform,
                before_ms,
            } => self.tokens.revoke(user, *platform, *before_ms)?,
            Record::Token {
                user,
                platform,
                issued_at_ms,
            } => self.tokens.note(user, *platform, *issued_at_ms)?,
            Record::Erase {
                user,
                head,
                time_ms,
                before_ms,
            } => {
                let erased = ErasureRow {
                    head: *head,
                    time_ms: *time_ms,
                    before_ms: *before_ms,
                };
                self.erase(user, erased, at)?;
            }
            Record::Delete { user, seq, place } => {
                self.deleted.put(keys::entry(user, *seq), ());
                self.users.update(user, |row| row.has_deleted = true)?;
                if let Some((number, conversation)) = place {
                    let key = conversation_key(user, conversation);
                    self.conversations.delete(key, *number)?;
                }
            }
            Record::Head { user, head, first } => {
                self.change(user, |row| {
                    if *head > row.head {
                        *row = UserRow {
                            head: *head,
                            first: *first,
                            newest: Position::NONE,
                            ..*row
                        };
                    }
                })?;
            }
            Record::Key(key) => {
                if self
                    .keys
                    .get(&key.sender, &key.client_message_id)?
                    .is_none()
                {
                    self.keys.put(key, Position::NONE);
                }
            }
            Record::Row {
                table: TableId::Conversations,
                key,
                value,
            } => self
                .conversations
                .merge(key, value.as_deref().unwrap_or_default())?,
            Record::Row {
                table: TableId::Settings,
                key,
                value,
            } => self.set(key, value.as_deref())?,
            Record::Row { table, key, value } => {
                if let (TableId::Numbers, Some(user)) = (table, value) {
                    self.users.number(key, user)?;
                }
                let key = keys::row(*table, key);
                match value {
                    // A value that a replay read is a part of a larger read, and must not keep all of it.
                    Some(value) => self.rows.put(key, Bytes::copy_from_slice(value)),
                    None => self.rows.remove(key),
                }
            }
        }
        Ok(())
    }

    /// The pace of work on many rows.
    pub(super) fn pace(&self) -> Pace {
        self.store.pace()
    }

    /// Moves a session's cursor. Returns the number of entries that no session had acked before.
    pub(super) fn store_cursor(
        &self,
        session: &SessionKey,
        row: SessionRow,
    ) -> Result<ByKind<u64>, StateError> {
        self.cursors.put(session, row);
        if row.cursor == Seq::ZERO {
            // Nothing was acked. The user is known from here on.
            self.users.know(&session.user)?;
            return Ok(ByKind::default());
        }
        let ((), acked) = self.change(&session.user, |user| {
            user.acked = user.acked.max(row.cursor.min(user.head));
            user.is_erased = false;
        })?;
        Ok(acked)
    }

    /// Removes everything below `first` from the inbox, because retention did. Returns the number of entries that no
    /// session had acked.
    pub(super) fn expire(
        &self,
        user: &UserId,
        first: Seq,
        removed_before: Position,
    ) -> Result<ByKind<u64>, StateError> {
        let ((from, has_marks), expired) = self.change(user, |row| {
            let from = row.first;
            row.first = row.first.max(first);
            if row.newest < removed_before {
                row.newest = Position::NONE;
            }
            (from, row.has_marks)
        })?;
        self.users.forget_waypoints(user, from, first);
        if has_marks {
            self.users.marks.forget(user, from, first);
        }
        Ok(expired)
    }

    /// True if the message was deleted.
    pub(super) fn is_deleted(&self, user: &UserId, seq: Seq) -> Result<bool, StateError> {
        Ok(self.deleted.get(&keys::entry(user, seq))?.is_some())
    }

    /// Forgets that a message was deleted, because its segment is removed.
    pub(super) fn forget_deleted(&self, user: &UserId, seq: Seq) {
        self.deleted.remove(keys::entry(user, seq));
    }

    /// The profile of the user's registration.
    pub(super) fn profile(&self, user: &UserId) -> Result<Option<Bytes>, StateError> {
        self.profiles.get(user.as_str().as_bytes())
    }

    /// All known users. A user who was erased is unknown, until something new comes.
    pub(super) fn all_users(&self) -> Result<Vec<UserId>, StateError> {
        let mut users = BTreeSet::new();
        self.users.rows.visit(&[], |key, row| {
            let text = std::str::from_utf8(key).ok().filter(|_| !row.is_erased);
            users.extend(text.and_then(|user| UserId::new(user).ok()));
        })?;
        self.cursors.rows.visit(&[], |key, _| {
            users.extend(keys::read_session(key).map(|session| session.user));
        })?;
        Ok(users.into_iter().collect())
    }

    fn tables(&self) -> [&dyn WriteBehind; TABLES] {
        [
            &self.cursors.rows,
            &self.tokens.rows,
            &self.users.rows,
            &self.users.waypoints,
            // After the users' rows: a crash that loses what a user's row says of removed entries loses no row of marks.
            &self.users.marks.rows,
            &self.conversations.rows,
            &self.conversations.waypoints,
            &self.conversations.unnumbered,
            &self.keys.rows,
            &self.erasures.rows,
            &self.deleted,
            &self.profiles,
            &self.rows,
        ]
    }

    /// The number of rows not yet in sled.
    pub(super) fn dirty_rows(&self) -> usize {
        self.tables().iter().map(|table| table.dirty_rows()).sum()
    }

    /// All rows so far came from the segments. Call it when a replay ends.
    pub(super) fn are_logged(&self) {
        self.cursors.rows.are_logged();
        self.tokens.rows.are_logged();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Platform;

    #[test]
    fn rows_that_wait_grow_with_sessions_and_not_with_their_acks() {
        let (state, _) = State::open(&MemoryHome::default()).unwrap();
        for sessions in 1..=3 {
            let session = SessionKey {
                user: UserId::new(&format!("u{sessions}")).unwrap(),
                platform: Platform::Web,
                device: "".into(),
            };
            for cursor in 0..100 {
                let row = SessionRow {
                    cursor: Seq(cursor),
                    acked_at_ms: cursor,
                };
                state.store_cursor(&session, row).unwrap();
                let noted = state.tokens.note(&session.user, session.platform, cursor);
                noted.unwrap();
            }
            // The cursor, the token and the user.
            assert_eq!(state.dirty_rows(), 3 * sessions);
        }
    }
}
