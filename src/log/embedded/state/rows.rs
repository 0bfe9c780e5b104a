//! The rows of the tables in `table_id.rs`, looked up by table and key, and the users' numbers.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    super::table_id::{TableId, number_key},
    State, StateError, keys, settings_value, users,
};
use crate::ids::UserId;

impl State {
    /// The present value of a row of a table.
    pub(in crate::log::embedded) fn row(
        &self,
        table: TableId,
        key: &[u8],
    ) -> Result<Option<Bytes>, StateError> {
        if table == TableId::Settings {
            let conversation = self.conversations.get(key)?;
            return Ok(conversation.and_then(|row| settings_value(row.settings)));
        }
        self.rows.get(&keys::row(table, key))
    }

    /// Takes a user's settings of a conversation.
    pub(super) fn set(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let Some(user) = keys::user_of(key) else {
            // No version writes such a key.
            return Ok(());
        };
        if self.conversations.set(key, value)? {
            // Reads of the inbox look for removed messages from now on.
            self.users.update(&user, |row| row.has_deleted = true)?;
        }
        Ok(())
    }

    /// The rows of a table whose keys begin with `prefix`, with their keys, ascending.
    pub(in crate::log::embedded) fn rows_of(
        &self,
        table: TableId,
        prefix: &[u8],
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let mut rows = Vec::new();
        self.rows.visit(&keys::row(table, prefix), |key, value| {
            rows.push((Bytes::copy_from_slice(&key[1..]), value.clone()));
        })?;
        rows.sort_unstable();
        Ok(rows)
    }

    /// The rows of a table whose keys begin with `prefix` and come after `after`, with their keys, ascending, at most `limit`.
    pub(in crate::log::embedded) fn page_of(
        &self,
        table: TableId,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let (prefix, after) = (keys::row(table, prefix), keys::row(table, after));
        let rows = self.rows.page(&prefix, &after, limit)?.into_iter();
        let row = |(key, value): (Box<[u8]>, _)| (Bytes::copy_from_slice(&key[1..]), value);
        Ok(rows.map(row).collect())
    }

    /// Forgets a row of a table, because its segment is removed.
    pub(in crate::log::embedded) fn forget_row(&self, table: TableId, key: &[u8]) {
        self.rows.remove(keys::row(table, key));
    }

    /// Users get numbers from now on: those who are known, and later ones as they become known. Reads the whole user table.
    pub(in crate::log::embedded) fn start_numbering(&self) -> Result<(), StateError> {
        if self.users.start_numbering() {
            // A user who becomes known meanwhile is noted in the other way.
            let known = self.unnumbered_users();
            let known = known.inspect_err(|_| self.users.stop_numbering())?;
            self.users.await_numbers(known);
        }
        Ok(())
    }

    /// All known users without a number. A user may have only a session.
    fn unnumbered_users(&self) -> Result<BTreeSet<UserId>, StateError> {
        let mut unnumbered = BTreeSet::new();
        self.cursors.rows.visit(&[], |key, _| {
            unnumbered.extend(keys::read_session(key).map(|session| session.user));
        })?;
        self.users.rows.visit(&[], |key, row| {
            let Ok(user) = users::read_user(key) else {
                return;
            };
            if row.number == 0 {
                unnumbered.insert(user);
            } else {
                unnumbered.remove(&user);
            }
        })?;
        Ok(unnumbered)
    }

    /// The user with this number.
    pub(in crate::log::embedded) fn user_of(
        &self,
        number: u64,
    ) -> Result<Option<UserId>, StateError> {
        let value = self.row(TableId::Numbers, &number_key(number))?;
        value.map(|value| users::read_user(&value)).transpose()
    }
}
