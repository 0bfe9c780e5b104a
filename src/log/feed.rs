//! Durable rows beside the messages, and the feed: the commits of the log in order, read again from any position.
//!
//! A reader of the feed keeps its position in a row, and writes it together with all that it decided. So after a crash it
//! decides each commit once.

use std::sync::Arc;

use bytes::Bytes;

use super::{AppendError, Log, LogError, SessionRow};
use crate::{
    ids::{Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    message::Numbers,
};

/// The longest key of a row in bytes: some ids. The log looks rows up by their keys, and holds the keys of many in memory.
pub const ROW_KEY_BYTES_MAX: usize = 1024;
/// The largest value of a row in bytes: a push message's text with all its settings. A group of the writer holds it besides
/// messages.
pub const ROW_VALUE_BYTES_MAX: usize = 64 * 1024;

/// A table of rows that means nothing to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowTable {
    /// The registered devices for push.
    Devices,
    /// Pushes that are due or to be sent.
    PushTasks,
    /// The positions of the feed's readers.
    Consumers,
}

/// A change of a row. The rows of one [`put_rows`](super::Log::put_rows) become durable together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The table of the row.
    pub table: RowTable,
    /// The key, at least one byte and at most [`ROW_KEY_BYTES_MAX`].
    pub key: Bytes,
    /// The new value, at most [`ROW_VALUE_BYTES_MAX`]; `None`: the row is removed.
    pub value: Option<Bytes>,
}

impl RowChange {
    /// True if key and value have a length that a row may have.
    pub fn fits(&self) -> bool {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        (1..=ROW_KEY_BYTES_MAX).contains(&self.key.len()) && value <= ROW_VALUE_BYTES_MAX
    }
}

/// A position in the feed. Positions ascend. A reader gets one from a page and keeps it; it means nothing in another epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPosition(pub u64);

impl FeedPosition {
    /// The oldest retained commit.
    pub const OLDEST: Self = Self(0);
    /// The end of the log at the time of the read. The page is empty, and its `next` is this end.
    pub const NEWEST: Self = Self(u64::MAX);
}

/// The bounds of one page. A page has at least one commit, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct FeedLimit {
    /// The most commits.
    pub commits: usize,
    /// The page ends with the commit that reaches this many bytes: bodies, and the memory of the entries.
    pub bytes: usize,
}

/// A part of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPage {
    /// The log's epoch.
    pub epoch: Epoch,
    /// The commits, in log order. A page may be empty before the end, where the log holds other records for a while.
    pub commits: Vec<FeedCommit>,
    /// The position from which the next page goes on.
    pub next: FeedPosition,
    /// True if the page ends at the end of the log.
    pub is_end: bool,
    /// Commits that are missing between `from` and `next`, because retention removed them or because they are damaged.
    pub lost: Option<FeedLoss>,
}

/// The time in which commits of a feed are missing, Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedLoss {
    /// The time of the last commit before them, as far as the page knows; 0: not known, so the reader's last commit counts.
    pub from_time_ms: u64,
    /// The time of the next commit that is there, to within a group; the time of the read, if there is none.
    pub to_time_ms: u64,
}

/// A commit as the feed tells it. A message to everyone comes in several commits with the same message. An append without
/// receivers is none, and so is one whose receivers were all erased since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedCommit {
    /// The position of this commit and of no other.
    pub position: FeedPosition,
    /// The server's id of the message.
    pub message_id: MessageId,
    /// The time at which the message was accepted, Unix ms.
    pub send_time_ms: u64,
    /// The sender of the message.
    pub sender: Box<str>,
    /// The sender's id for the message.
    pub client_message_id: Box<str>,
    /// The bytes of [`Append::body`](super::Append::body), also if the message was deleted since.
    pub body: Bytes,
    /// True if the body holds read marks of its one receiver.
    pub is_marks: bool,
    /// The message's numbers at each receiver, as they were written, but for receivers who were erased since.
    pub entries: Arc<[(UserId, Numbers)]>,
}

impl FeedCommit {
    /// The memory of the commit in bytes, about.
    pub fn bytes(&self) -> usize {
        let ids = self.entries.iter().map(|(user, _)| user.as_str().len());
        size_of::<Self>() + self.body.len() + size_of_val(&*self.entries) + ids.sum::<usize>()
    }
}

/// The moves of sessions' cursors in a part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorPage {
    /// The log's epoch.
    pub epoch: Epoch,
    /// The moves, in log order. Several acks of one session are one move. A page may be empty before the end.
    pub cursors: Vec<CursorMove>,
    /// The position from which the next page goes on.
    pub next: FeedPosition,
    /// True if the page ends at the end of the log.
    pub is_end: bool,
}

/// A cursor as the log wrote it down. Retention writes cursors again, so a cursor may come again unmoved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorMove {
    /// The position of this move and of no other.
    pub position: FeedPosition,
    /// The session.
    pub session: SessionKey,
    /// Its cursor and the time of the last move.
    pub row: SessionRow,
}

/// The row of [`RowTable::Consumers`] that makes retention tell of expired messages. While it is there, retention writes an
/// [`Expiry`] for each user whose unacked messages it removes.
pub const EXPIRIES_WANTED: &[u8] = b"expiries";
/// The begin of the keys of rows that hold an [`Expiry`]. Their reader removes them.
pub const EXPIRY_PREFIX: &[u8] = b"expiry/";
/// The removed segments whose expiries wait for their reader: with 64 MiB in each, some million rows. Beyond it one row stands for
/// all users of a segment.
pub const EXPIRY_SEGMENTS_MAX: usize = 16;

/// Messages of a user that retention removed before any session acked them; without a user, of all users at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The position of the removed segment. With the user it names the expiry.
    pub position: FeedPosition,
    /// The user; `None` if the expiries of a whole segment are counted together.
    pub user: Option<UserId>,
    /// The first and the last seq that expired. For a whole segment: the times of its begin and its end, Unix ms.
    pub range: (u64, u64),
    /// The time of the removal, Unix ms.
    pub time_ms: u64,
}

impl Expiry {
    /// The key and the value of the row that tells it.
    pub fn row(&self) -> (Bytes, Bytes) {
        let user = self.user.as_ref().map_or("", UserId::as_str);
        let position = self.position.0.to_be_bytes();
        let key = [EXPIRY_PREFIX, &position, user.as_bytes()].concat();
        let numbers = [self.range.0, self.range.1, self.time_ms];
        let value = numbers.map(u64::to_be_bytes).concat();
        (key.into(), value.into())
    }

    /// Reads a row; `None` if it is none of these.
    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (position, user) = key.strip_prefix(EXPIRY_PREFIX)?.split_first_chunk()?;
        let user = match user {
            [] => None,
            user => Some(UserId::new(std::str::from_utf8(user).ok()?).ok()?),
        };
        Some(Self {
            position: FeedPosition(u64::from_be_bytes(*position)),
            user,
            range: (number_at(value, 0)?, number_at(value, 1)?),
            time_ms: number_at(value, 2)?,
        })
    }
}

/// The point at which a session began that was never seen before, where that is not the begin of the inbox. Rows of
/// [`RowTable::Consumers`] keep it, one for each reader that wants to know: the session received nothing up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionBegin {
    /// The log's epoch.
    pub epoch: Epoch,
    /// The session's first cursor.
    pub cursor: Seq,
    /// The time of the begin, Unix ms.
    pub time_ms: u64,
}

impl SessionBegin {
    /// The begin of the keys of the rows for webhooks.
    pub const PREFIX: &[u8] = b"begun/";
    /// The begin of the keys of the rows for vendor push.
    pub const PUSH_PREFIX: &[u8] = b"begun-push/";

    /// The key of a session's row for vendor push.
    pub fn key_for_push(session: &SessionKey) -> Vec<u8> {
        session_row_key(Self::PUSH_PREFIX, session)
    }

    /// The key of a session's row for webhooks.
    pub fn key(session: &SessionKey) -> Vec<u8> {
        session_row_key(Self::PREFIX, session)
    }

    /// The row's value.
    pub fn value(&self) -> Bytes {
        let numbers = [self.epoch.0, self.cursor.0, self.time_ms];
        numbers.map(u64::to_be_bytes).concat().into()
    }

    /// Reads a row's value.
    pub fn read(value: &[u8]) -> Option<Self> {
        Some(Self {
            epoch: Epoch(number_at(value, 0)?),
            cursor: Seq(number_at(value, 1)?),
            time_ms: number_at(value, 2)?,
        })
    }
}

/// The key of a row of a session: a prefix, the length of the user id as u8, the id, the platform as u8, the device.
pub fn session_row_key(prefix: &[u8], session: &SessionKey) -> Vec<u8> {
    let of_user = session_rows_of(prefix, &session.user);
    [
        &*of_user,
        &[session.platform as u8],
        session.device.as_bytes(),
    ]
    .concat()
}

/// The begin of the keys of the rows of all sessions of a user.
pub fn session_rows_of(prefix: &[u8], user: &UserId) -> Vec<u8> {
    let user = user.as_str().as_bytes();
    let length = u8::try_from(user.len()).expect("an id has at most 64 bytes");
    [prefix, &[length], user].concat()
}

/// Removes the rows of a table whose keys begin with `prefix` and for which `is_removed` is true, durably, up to `at_once` together.
/// Returns their number. Not cancel safe: after a drop some may be there. A repeat removes them.
pub async fn remove_rows<E: From<LogError> + From<AppendError>>(
    log: &dyn Log,
    (table, prefix): (RowTable, &[u8]),
    at_once: usize,
    is_removed: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<usize, E> {
    let (mut after, mut count) = (Bytes::new(), 0);
    loop {
        let page = log.rows(table, prefix, &after, at_once).wait().await?;
        let Some((last, _)) = page.last() else {
            return Ok(count);
        };
        after = last.clone();
        let rows = page
            .into_iter()
            .filter(|(key, value)| is_removed(key, value));
        let removed = rows.map(|(key, _)| RowChange {
            table,
            key,
            value: None,
        });
        let removed: Vec<_> = removed.collect();
        if removed.is_empty() {
            continue;
        }
        count += removed.len();
        let durable = log.put_rows(removed)?.await;
        durable.unwrap_or(Err(AppendError::OutcomeUnknown))?;
    }
}

/// Reads such a key; `None` if it has another form.
pub fn read_session_row_key(prefix: &[u8], key: &[u8]) -> Option<SessionKey> {
    let (length, rest) = key.strip_prefix(prefix)?.split_first()?;
    let (user, rest) = rest.split_at_checked(usize::from(*length))?;
    let (platform, device) = rest.split_first()?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some(SessionKey {
        user: UserId::new(text(user)?).ok()?,
        platform: Platform::from_number(u32::from(*platform)).ok()?,
        device: text(device)?.into(),
    })
}

fn number_at(bytes: &[u8], index: usize) -> Option<u64> {
    let bytes = bytes.get(8 * index..8 * index + 8)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
