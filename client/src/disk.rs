//! The store on disk: one redb file, messages and cursor in one durable transaction, opened by one process at a time.
//!
//! After any crash it opens with whole transactions only. It also remembers the landed messages that were not yet shown.
//! The transaction that lands a message sets its mark, and [`DiskStore::mark_shown`] removes the mark. So an application
//! that is killed in between shows the message at its next start. If it is killed between showing and marking, it shows the
//! message twice; the store still holds it once.
//!
//! The conversations change in the same transactions. Their knowledge holds for one position. An older client moves on
//! without it, so after such a client the knowledge is partial.
//!
//! | table | key | value | lifetime |
//! |---|---|---|---|
//! | `messages` | (epoch, seq) | the protobuf `Message` | until the application removes the file |
//! | `cursors` | epoch | highest seq landed | as long as the file |
//! | `unshown` | (epoch, seq) | nothing | until shown |
//! | `current` | `"epoch"` | the log landed from at present | as long as the file |
//! | `conversations` | conversation id | the protobuf [`KnownConversation`] | until another log begins |
//! | `knowledge` | `"at"` | (epoch, cursor) at which the conversations are known; none: partly | as long as the file |
//! | | `"gap"` | (from, to) of the gap that waits for the gateway's answer | until the answer |

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
};

use prost::Message as _;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};

use crate::{
    conversation::{ConversationRecord, Knowledge, KnownConversation},
    landing::StorePosition,
    proto::Message,
    store::{Store, StoreError},
};

const MESSAGES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("messages");
const CURSORS: TableDefinition<u64, u64> = TableDefinition::new("cursors");
const UNSHOWN: TableDefinition<(u64, u64), ()> = TableDefinition::new("unshown");
const CURRENT: TableDefinition<&str, u64> = TableDefinition::new("current");
const EPOCH: &str = "epoch";
const CONVERSATIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("conversations");
const KNOWLEDGE: TableDefinition<&str, (u64, u64)> = TableDefinition::new("knowledge");
const AT: &str = "at";
const GAP: &str = "gap";

/// An inbox is read rarely and by one reader, so a small cache is enough; redb's own default is 1 GiB.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// A store on disk. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct DiskStore {
    database: Arc<Database>,
}

impl DiskStore {
    /// Opens the file at `path`. Creates it and its directory if missing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: redb::Error| StoreError::Open {
            path: path.to_owned(),
            error: Box::new(error),
        };
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
            error => failed(error.into()),
        })?;
        create_tables(&database).map_err(failed)?;
        // Without this sync a power cut could remove the file's name, and every message would land a second time.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failed(error.into()))?;
        Ok(Self {
            database: Arc::new(database),
        })
    }

    /// Up to `limit` messages that landed and were not shown, oldest first within a log, each with its epoch.
    pub fn unshown(&self, limit: usize) -> Result<Vec<(u64, Message)>, StoreError> {
        let keys = || -> Result<Vec<(u64, u64)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(UNSHOWN)?;
            let rows = table.iter()?.take(limit);
            rows.map(|row| Ok(row?.0.value())).collect()
        };
        let keys = keys().map_err(Box::new)?;
        keys.into_iter()
            .map(|(epoch, seq)| Ok((epoch, self.message(epoch, seq)?)))
            .collect()
    }

    /// Records that these messages of a log have been shown.
    pub fn mark_shown(
        &self,
        epoch: u64,
        seqs: impl IntoIterator<Item = u64>,
    ) -> Result<(), StoreError> {
        let mark = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut unshown = transaction.open_table(UNSHOWN)?;
                for seq in seqs {
                    unshown.remove((epoch, seq))?;
                }
            }
            Ok(transaction.commit()?)
        };
        Ok(mark().map_err(Box::new)?)
    }

    /// The (epoch, seq) of every landed message, ascending, for a check of the store.
    pub fn landed(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let keys = || -> Result<Vec<(u64, u64)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(MESSAGES)?;
            table.iter()?.map(|row| Ok(row?.0.value())).collect()
        };
        Ok(keys().map_err(Box::new)?)
    }

    /// Number of messages that landed.
    pub fn len(&self) -> Result<u64, StoreError> {
        let count = || -> Result<u64, redb::Error> {
            Ok(self.database.begin_read()?.open_table(MESSAGES)?.len()?)
        };
        Ok(count().map_err(Box::new)?)
    }

    /// True if no message has landed yet.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    /// One message that landed. An absent message is an error as well: [`StoreError::Unreadable`].
    pub fn message(&self, epoch: u64, seq: u64) -> Result<Message, StoreError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(MESSAGES)?;
            Ok(table.get((epoch, seq))?.map(|bytes| bytes.value().to_vec()))
        };
        let bytes = read().map_err(Box::new)?;
        bytes
            .and_then(|bytes| Message::decode(&bytes[..]).ok())
            .ok_or(StoreError::Unreadable { epoch, seq })
    }
}

impl Store for DiskStore {
    fn position(&self) -> Result<StorePosition, StoreError> {
        let read = || -> Result<StorePosition, redb::Error> {
            let transaction = self.database.begin_read()?;
            let epoch = transaction.open_table(CURRENT)?.get(EPOCH)?;
            let epoch = epoch.map_or(0, |epoch| epoch.value());
            let cursor = transaction.open_table(CURSORS)?.get(epoch)?;
            Ok(StorePosition {
                epoch,
                cursor: cursor.map_or(0, |cursor| cursor.value()),
            })
        };
        Ok(read().map_err(Box::new)?)
    }

    fn conversations(&self) -> Result<(Knowledge, Vec<KnownConversation>), StoreError> {
        let StorePosition { epoch, cursor } = self.position()?;
        let read = || -> Result<(Knowledge, Vec<Vec<u8>>), redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(KNOWLEDGE)?;
            let at = table.get(AT)?.map(|at| at.value());
            let gap = table.get(GAP)?.map(|gap| gap.value());
            let knowledge = match gap {
                _ if at != Some((epoch, cursor)) => Knowledge::Partial,
                None => Knowledge::Whole,
                Some((from_seq, to_seq)) => Knowledge::Gap { from_seq, to_seq },
            };
            let table = transaction.open_table(CONVERSATIONS)?;
            let rows = table.iter()?.map(|row| Ok(row?.1.value().to_vec()));
            Ok((knowledge, rows.collect::<Result<_, redb::Error>>()?))
        };
        let (knowledge, rows) = read().map_err(Box::new)?;
        let rows = rows.iter().map(|row| KnownConversation::decode(&row[..]));
        let rows: Result<_, _> = rows.collect();
        Ok((
            knowledge,
            rows.map_err(|_| StoreError::UnreadableConversation)?,
        ))
    }

    fn land(
        &mut self,
        position: StorePosition,
        messages: Vec<Message>,
        record: &ConversationRecord,
    ) -> Result<Vec<Message>, StoreError> {
        let land = || -> Result<Vec<Message>, redb::Error> {
            let StorePosition { epoch, cursor } = position;
            let transaction = self.database.begin_write()?;
            let fresh = {
                let mut stored = transaction.open_table(MESSAGES)?;
                let mut unshown = transaction.open_table(UNSHOWN)?;
                let mut fresh = Vec::with_capacity(messages.len());
                for message in messages {
                    let key = (epoch, message.seq);
                    let before = stored.insert(key, &message.encode_to_vec()[..])?;
                    // The same seq may hold another message, because a log restored from a backup assigns its seqs anew.
                    let before = before.and_then(|bytes| Message::decode(bytes.value()).ok());
                    if before.is_none_or(|before| before.server_msg_id != message.server_msg_id) {
                        unshown.insert(key, ())?;
                        fresh.push(message);
                    }
                }
                transaction.open_table(CURSORS)?.insert(epoch, cursor)?;
                fresh
            };
            write(&transaction, position, record)?;
            transaction.commit()?;
            Ok(fresh)
        };
        Ok(land().map_err(Box::new)?)
    }

    fn move_to(
        &mut self,
        position: StorePosition,
        record: &ConversationRecord,
    ) -> Result<(), StoreError> {
        let move_to = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction
                .open_table(CURRENT)?
                .insert(EPOCH, position.epoch)?;
            transaction
                .open_table(CURSORS)?
                .insert(position.epoch, position.cursor)?;
            write(&transaction, position, record)?;
            Ok(transaction.commit()?)
        };
        Ok(move_to().map_err(Box::new)?)
    }

    fn record(&mut self, record: &ConversationRecord) -> Result<(), StoreError> {
        let position = self.position()?;
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            write(&transaction, position, record)?;
            Ok(transaction.commit()?)
        };
        Ok(write().map_err(Box::new)?)
    }
}

/// Records the conversations as they are at `position`.
fn write(
    transaction: &WriteTransaction,
    position: StorePosition,
    record: &ConversationRecord,
) -> Result<(), redb::Error> {
    let mut conversations = transaction.open_table(CONVERSATIONS)?;
    if record.is_anew {
        conversations.retain(|_, _| false)?;
    }
    for row in &record.rows {
        conversations.insert(&*row.conversation_id, &row.encode_to_vec()[..])?;
    }
    let mut knowledge = transaction.open_table(KNOWLEDGE)?;
    match record.knowledge {
        Knowledge::Partial => knowledge.remove(AT)?,
        _ => knowledge.insert(AT, (position.epoch, position.cursor))?,
    };
    match record.knowledge {
        Knowledge::Gap { from_seq, to_seq } => knowledge.insert(GAP, (from_seq, to_seq))?,
        _ => knowledge.remove(GAP)?,
    };
    Ok(())
}

/// Creates the tables, so that every later read finds them.
fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(MESSAGES)?;
    transaction.open_table(CURSORS)?;
    transaction.open_table(UNSHOWN)?;
    transaction.open_table(CURRENT)?;
    transaction.open_table(CONVERSATIONS)?;
    transaction.open_table(KNOWLEDGE)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, id: &str) -> Message {
        Message {
            seq,
            server_msg_id: id.into(),
            ..Message::default()
        }
    }

    fn at(epoch: u64, cursor: u64) -> StorePosition {
        StorePosition { epoch, cursor }
    }

    const PARTIAL: ConversationRecord = ConversationRecord {
        is_anew: false,
        rows: Vec::new(),
        knowledge: Knowledge::Partial,
    };

    fn conversation(id: &str, mark: u64) -> KnownConversation {
        KnownConversation {
            conversation_id: id.into(),
            head: 9,
            mark,
            ..KnownConversation::default()
        }
    }

    #[test]
    fn messages_and_cursor_are_there_after_reopening() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("u1/web.redb");
        let mut store = DiskStore::open(&path).unwrap();
        assert_eq!(store.position().unwrap(), at(0, 0));
        store.move_to(at(7, 0), &PARTIAL).unwrap();
        let fresh = store
            .land(at(7, 2), vec![message(1, "a"), message(2, "b")], &PARTIAL)
            .unwrap();
        assert_eq!(fresh.len(), 2);
        drop(store);

        let store = DiskStore::open(&path).unwrap();
        assert_eq!(store.position().unwrap(), at(7, 2));
        assert_eq!(store.landed().unwrap(), [(7, 1), (7, 2)]);
        assert_eq!(store.message(7, 2).unwrap(), message(2, "b"));
    }

    #[test]
    fn what_landed_stays_unshown_until_marked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("web.redb");
        let mut store = DiskStore::open(&path).unwrap();
        store.move_to(at(7, 0), &PARTIAL).unwrap();
        store
            .land(at(7, 2), vec![message(1, "a"), message(2, "b")], &PARTIAL)
            .unwrap();
        store.mark_shown(7, [1]).unwrap();
        drop(store);
        let store = DiskStore::open(&path).unwrap();
        assert_eq!(store.unshown(10).unwrap(), [(7, message(2, "b"))]);
    }

    #[test]
    fn a_log_that_returns_brings_nothing_twice() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(&temp.path().join("web.redb")).unwrap();
        store.move_to(at(7, 0), &PARTIAL).unwrap();
        store
            .land(at(7, 2), vec![message(1, "a"), message(2, "b")], &PARTIAL)
            .unwrap();
        store.move_to(at(9, 0), &PARTIAL).unwrap();
        store
            .land(at(9, 1), vec![message(1, "x")], &PARTIAL)
            .unwrap();
        store.move_to(at(7, 0), &PARTIAL).unwrap();
        let fresh = store
            .land(
                at(7, 2),
                vec![message(1, "a"), message(2, "other")],
                &PARTIAL,
            )
            .unwrap();
        assert_eq!(fresh, [message(2, "other")]);
        assert_eq!(store.landed().unwrap(), [(7, 1), (7, 2), (9, 1)]);
    }

    #[test]
    fn conversations_are_there_after_reopening_until_another_log_begins() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("web.redb");
        let mut store = DiskStore::open(&path).unwrap();
        store.move_to(at(7, 0), &PARTIAL).unwrap();
        let mut record = ConversationRecord {
            rows: vec![conversation("a", 1), conversation("b", 2)],
            knowledge: Knowledge::Whole,
            ..PARTIAL
        };
        store.land(at(7, 3), Vec::new(), &record).unwrap();
        record.rows = vec![conversation("b", 5)];
        store.record(&record).unwrap();
        drop(store);

        let mut store = DiskStore::open(&path).unwrap();
        assert_eq!(store.position().unwrap(), at(7, 3));
        let rows = vec![conversation("a", 1), conversation("b", 5)];
        let whole = (Knowledge::Whole, rows.clone());
        assert_eq!(store.conversations().unwrap(), whole);
        let gap = Knowledge::Gap {
            from_seq: 4,
            to_seq: 6,
        };
        record = ConversationRecord {
            knowledge: gap,
            ..PARTIAL
        };
        store.move_to(at(7, 6), &record).unwrap();
        assert_eq!(store.conversations().unwrap(), (gap, rows));
        record.is_anew = true;
        record.knowledge = Knowledge::Partial;
        store.move_to(at(9, 0), &record).unwrap();
        assert_eq!(
            store.conversations().unwrap(),
            (Knowledge::Partial, Vec::new())
        );
    }

    /// Up to version 1 of the client a store had four tables, and landing wrote to no other.
    #[test]
    fn a_store_of_an_older_client_opens_and_its_conversations_are_to_be_asked_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("web.redb");
        let old_land = |seq: u64| {
            let database = Database::create(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            let bytes = message(seq, "a").encode_to_vec();
            transaction
                .open_table(MESSAGES)
                .unwrap()
                .insert((7, seq), &bytes[..])
                .unwrap();
            let mut cursors = transaction.open_table(CURSORS).unwrap();
            cursors.insert(7, seq).unwrap();
            drop(cursors);
            transaction.open_table(UNSHOWN).unwrap();
            let mut current = transaction.open_table(CURRENT).unwrap();
            current.insert(EPOCH, 7).unwrap();
            drop(current);
            transaction.commit().unwrap();
        };
        old_land(1);
        let mut store = DiskStore::open(&path).unwrap();
        assert_eq!(store.position().unwrap(), at(7, 1));
        assert_eq!(store.landed().unwrap(), [(7, 1)]);
        assert_eq!(
            store.conversations().unwrap(),
            (Knowledge::Partial, Vec::new())
        );
        let rows = vec![conversation("a", 1)];
        let record = ConversationRecord {
            rows: rows.clone(),
            knowledge: Knowledge::Whole,
            ..PARTIAL
        };
        store.record(&record).unwrap();
        assert_eq!(
            store.conversations().unwrap(),
            (Knowledge::Whole, rows.clone())
        );
        drop(store);

        // The older client comes once more, and moves the cursor without the conversations.
        old_land(2);
        let store = DiskStore::open(&path).unwrap();
        assert_eq!(store.conversations().unwrap(), (Knowledge::Partial, rows));
    }

    #[test]
    fn a_second_opener_is_told_that_the_store_is_in_use() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("web.redb");
        let _first = DiskStore::open(&path).unwrap();
        assert!(matches!(DiskStore::open(&path), Err(StoreError::InUse(_))));
    }
}
