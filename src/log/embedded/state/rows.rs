//! The rows of the tables in `table_id.rs`, looked up by table and key.

use bytes::Bytes;

use super::{
    super::table_id::{TableId, number_key},
    State, StateError, keys, users,
};
use crate::ids::UserId;

impl State {
    /// The present value of a row of a table.
    pub(in crate::log::embedded) fn row(
        &self,
        table: TableId,
        key: &[u8],
    ) -> Result<Option<Bytes>, StateError> {
        self.rows.get(&keys::row(table, key))
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

    /// Forgets a row of a table, because its segment is removed.
    pub(in crate::log::embedded) fn forget_row(&self, table: TableId, key: &[u8]) {
        self.rows.remove(keys::row(table, key));
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
