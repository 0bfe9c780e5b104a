//! Some rows of a table, in the order of their keys. Memory and sled each have a part of them.

use std::{collections::BTreeMap, ops::Bound};

use super::{
    super::lock::lock,
    StateError,
    table::{Row, Table},
};

/// The rows in memory that a page looks at in one go. Their keys are copied under the lock that the writer needs, so they are few.
const RECENT_AT_ONCE: usize = 1024;

/// A row with its key.
type KeyedRow<R> = (Box<[u8]>, R);

impl<R: Row> Table<R> {
    /// The rows whose keys begin with `prefix` and come after `after`, ascending, at most `limit`. Not a snapshot. Costs a look at
    /// the removed rows among them that sled still has.
    pub(super) fn page(
        &self,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<KeyedRow<R>>, StateError> {
        let mut page = Vec::new();
        let mut after: Box<[u8]> = after.into();
        while page.len() < limit {
            let room = limit - page.len();
            let keys = self.recent_after(prefix, &after);
            // There may be others behind the last one.
            let end = keys.get(RECENT_AT_ONCE - 1).cloned();
            let recent = keys.into_iter().filter_map(|key| {
                // A row that left memory meanwhile is in sled.
                let row = self.recent.get(&key)?.row.clone();
                Some((key, row))
            });
            let mut rows: BTreeMap<Box<[u8]>, Option<R>> = recent.collect();
            let mut stored = 0;
            self.tree.scan(prefix, &after, &mut |key, value| {
                if stored == room || end.as_deref().is_some_and(|end| key > end) {
                    return Ok(false);
                }
                if !rows.contains_key(key) {
                    let row = R::from_bytes(value).ok_or(StateError::Undecodable)?;
                    rows.insert(key.into(), Some(row));
                    stored += 1;
                }
                Ok(true)
            })?;
            let present = rows.into_iter().filter_map(|(key, row)| Some((key, row?)));
            page.extend(present.take(room));
            match end {
                Some(end) => after = end,
                None => break,
            }
        }
        Ok(page)
    }

    /// The keys of the first rows in memory that begin with `prefix` and come after `after`, ascending.
    fn recent_after(&self, prefix: &[u8], after: &[u8]) -> Vec<Box<[u8]>> {
        let sorted = self.sorted.get();
        let sorted = sorted.expect("pages are made of tables with sorted keys");
        let begin = if after < prefix {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
        };
        let sorted = lock(&sorted.keys);
        let keys = sorted.range::<[u8], _>((begin, Bound::Unbounded));
        let of_prefix = keys.take_while(|key| key.starts_with(prefix));
        of_prefix.take(RECENT_AT_ONCE).cloned().collect()
    }
}
