//! The questions to the rows, each one statement, so that its answer is of one moment.

use std::sync::LazyLock;

use bytes::Bytes;
use tokio_postgres::Row;

use super::{
    super::{
        body::{self, BODY_FRAME_BYTES_MAX},
        engine::{EngineError, EnteredSession, StoredSessions},
    },
    append::{clamp, damaged, numbers_of, user_of},
    erase::{ERASURE_COLUMNS, erasure_of},
    link::ServerLink,
    slot_of,
    writes::kind_of,
};
use crate::{
    ids::{ConversationSeq, Epoch, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Conversation, ConversationPage, ConversationRead, Inbox, InboxRead, ReadLimit, ResumePoint,
        RowTable, SessionRow, TokenTimes,
    },
    message::{Bases, Content, ConversationSettings, Entry, EpochBase, Numbers, ReceiveOption},
};

/// The epoch, the inbox's head and first, the row's transaction.
const INBOX_COLUMNS: &str = "b.epoch, i.head, \
    CASE WHEN i.day < s.floor_day THEN i.head + 1 WHEN i.first_day >= s.floor_day THEN i.first \
      ELSE coalesce((SELECT f.seq FROM place f WHERE f.uid = i.uid AND f.day >= s.floor_day ORDER BY f.seq LIMIT 1), \
        i.head + 1) END, \
    i.xmin::text::bigint";
/// A user who may have no row.
const OF_USER: &str = "FROM store s JOIN slot b ON b.slot = $2 LEFT JOIN inbox i ON i.user_id = $1";
/// A user, but for one who was erased and got nothing since.
pub(super) const IS_KNOWN: &str =
    "(NOT i.is_erased OR EXISTS (SELECT FROM session e WHERE e.uid = i.uid))";
/// A conversation's numbers.
const CONVERSATION_COLUMNS: &str = "c.conversation_id, c.head, \
    CASE WHEN c.day < s.floor_day THEN c.head + 1 WHEN c.first_day >= s.floor_day THEN c.first \
      ELSE coalesce((SELECT f.cseq FROM place f WHERE f.cid = c.cid AND f.day >= s.floor_day ORDER BY f.cseq LIMIT 1), \
        c.head + 1) END, \
    c.mark, c.last_time, c.last_seq, c.bases, c.deleted, c.is_pinned, c.receive_option, c.cleared, b.base";
/// The columns of an entry: its four numbers, whether it is a message, its bytes.
const ENTRY_COLUMNS: &str = "r.seq, r.cseq, r.ahead, r.base, r.cid IS NOT NULL, r.body";

static INBOX: LazyLock<String> = LazyLock::new(|| format!("SELECT {INBOX_COLUMNS} {OF_USER}"));
/// The bytes are bounded by those of the rows before: the first row comes in any case.
static READ: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {INBOX_COLUMNS}, {ENTRY_COLUMNS} {OF_USER} LEFT JOIN LATERAL ( \
           SELECT x.*, coalesce(sum(octet_length(x.body)) \
               OVER (ORDER BY x.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM ( \
             SELECT p.seq, p.cseq, p.ahead, p.base, p.cid, coalesce(p.body, m.body) AS body FROM ( \
               SELECT * FROM place p WHERE p.uid = i.uid AND p.seq > $3 AND p.day >= s.floor_day \
               ORDER BY p.seq LIMIT $4) p \
             LEFT JOIN message m ON m.message_id = p.message_id AND m.day = p.day \
               AND p.body IS NULL AND p.is_removed IS NULL) x) r \
         ON r.before <= $5 ORDER BY r.seq"
    )
});
static CONVERSATIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT b.epoch, i.xmin::text::bigint, {CONVERSATION_COLUMNS} {OF_USER} \
         LEFT JOIN conversation c ON c.uid = i.uid AND c.last_seq < $3 AND c.last_seq > 0 \
         ORDER BY c.last_seq DESC NULLS LAST LIMIT $4"
    )
});
static READ_CONVERSATION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT b.epoch, i.xmin::text::bigint, {CONVERSATION_COLUMNS}, {ENTRY_COLUMNS} {OF_USER} \
         LEFT JOIN conversation c ON c.uid = i.uid AND c.conversation_id = $3 LEFT JOIN LATERAL ( \
           SELECT x.*, coalesce(sum(octet_length(x.body)) \
               OVER (ORDER BY x.cseq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM ( \
             SELECT p.seq, p.cseq, p.ahead, p.base, p.cid, coalesce(p.body, m.body) AS body FROM ( \
               SELECT * FROM place p WHERE p.cid = c.cid AND p.cseq BETWEEN greatest($4, c.cleared + 1) AND $5 \
                 AND p.day >= s.floor_day ORDER BY p.cseq DESC LIMIT $6) p \
             LEFT JOIN message m ON m.message_id = p.message_id AND m.day = p.day \
               AND p.body IS NULL AND p.is_removed IS NULL) x) r \
         ON r.before <= $7 ORDER BY r.cseq DESC"
    )
});
static ENTER: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {INBOX_COLUMNS}, t.before_ms, e.cursor, e.acked_at, e.fence, {ERASURE_COLUMNS} {OF_USER} \
         LEFT JOIN erased x ON x.uid = i.uid LEFT JOIN token t ON t.user_id = $1 AND t.platform = $3 \
         LEFT JOIN session e ON e.uid = i.uid AND e.platform = $3 AND e.device = $4 AND e.epoch = b.epoch"
    )
});

/// An answer, and the transaction that wrote its newest row; `None` where there is none.
pub(super) type Dated<T> = (T, Option<u32>);

pub(super) fn number(row: &Row, at: usize) -> u64 {
    row.get::<_, Option<i64>>(at).unwrap_or_default() as u64
}

pub(super) fn transaction(row: &Row, at: usize) -> Option<u32> {
    row.get::<_, Option<i64>>(at).map(|xid| xid as u32)
}

/// Reads the columns of an inbox, which begin a row.
fn inbox_of(row: &Row) -> Dated<Inbox> {
    let inbox = Inbox {
        epoch: Epoch(number(row, 0)),
        head: Seq(number(row, 1)),
        // A user without a row has an empty inbox.
        first: Seq(row.get::<_, Option<i64>>(2).unwrap_or(1) as u64),
    };
    (inbox, transaction(row, 3))
}

fn one(rows: Vec<Row>) -> Result<Row, EngineError> {
    let missing = || EngineError::Damaged("the slot of a user is missing".into());
    rows.into_iter().next().ok_or_else(missing)
}

pub(super) async fn inbox(link: &ServerLink, user: &UserId) -> Result<Dated<Inbox>, EngineError> {
    let slot = slot_of(user);
    let rows = link.query(&INBOX, &[&user.as_str(), &slot]).await?;
    Ok(inbox_of(&one(rows)?))
}

/// Reads the columns of an entry from this one on; `None` where there is no entry.
fn entry_of(row: &Row, at: usize) -> Result<Option<Entry>, EngineError> {
    if row.get::<_, Option<i64>>(at).is_none() {
        return Ok(None);
    }
    let numbers = numbers_of(row, at);
    let body: Option<Vec<u8>> = row.get(at + 5);
    let content = match body {
        None => Content::Removed,
        Some(bytes) => {
            let (_, body) = body::decode(bytes).ok_or_else(damaged)?;
            match row.get(at + 4) {
                true => Content::Message(body),
                false => Content::Marks(body),
            }
        }
    };
    Ok(Some(Entry { numbers, content }))
}

/// The entries of these rows, as many as the limit allows.
fn entries_within(rows: &[Row], at: usize, limit: ReadLimit) -> Result<Vec<Entry>, EngineError> {
    let (mut entries, mut bytes) = (Vec::new(), 0_usize);
    for row in rows {
        let Some(entry) = entry_of(row, at)? else {
            break;
        };
        bytes = bytes.saturating_add(entry.content.body().map_or(0, Bytes::len));
        if bytes > limit.bytes && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The limit as the statements take it: stored bytes are more than bodies.
fn limits(limit: ReadLimit) -> (i64, i64) {
    let messages = limit.messages.max(1);
    let frames = messages.saturating_mul(BODY_FRAME_BYTES_MAX);
    let bytes = limit.bytes.saturating_add(frames);
    (clamp(messages as u64), clamp(bytes as u64))
}

pub(super) async fn read(
    link: &ServerLink,
    user: &UserId,
    after: Seq,
    limit: ReadLimit,
) -> Result<Dated<InboxRead>, EngineError> {
    let (messages, bytes) = limits(limit);
    let slot = slot_of(user);
    let rows = link
        .query(
            &READ,
            &[&user.as_str(), &slot, &clamp(after.0), &messages, &bytes],
        )
        .await?;
    let entries = entries_within(&rows, 4, limit)?;
    let (inbox, transaction) = inbox_of(&one(rows)?);
    Ok((InboxRead { inbox, entries }, transaction))
}

/// Reads the columns of a conversation from this one on; `None` where there is none.
fn conversation_of(row: &Row, at: usize) -> Option<Conversation> {
    let id: Option<String> = row.get(at);
    let id = id?;
    let seq = |column| ConversationSeq(number(row, at + column));
    let (head, first, mark) = (seq(1), seq(2), seq(3));
    let option = row.get::<_, Option<i16>>(at + 9).unwrap_or_default();
    let settings = ConversationSettings {
        is_pinned: row.get::<_, Option<bool>>(at + 8).unwrap_or_default(),
        receive_option: ReceiveOption::from_number(option as u64).unwrap_or_default(),
        cleared: seq(10),
    };
    let first = first.max(settings.cleared.next());
    let read_up_to = mark.max(first.previous());
    let deleted: Vec<i64> = row.get::<_, Option<_>>(at + 7).unwrap_or_default();
    let is_unread = |deleted: &&i64| **deleted as u64 > read_up_to.0;
    let deleted = deleted.iter().filter(is_unread).count() as u64;
    let mut bases = Bases::default();
    let told: Vec<i64> = row.get::<_, Option<_>>(at + 6).unwrap_or_default();
    for pair in told.chunks_exact(2) {
        bases.add(EpochBase {
            after: ConversationSeq(pair[0] as u64),
            base: pair[1] as u32,
        });
    }
    let base = row.get::<_, i32>(at + 11) as u32;
    Some(Conversation {
        id: id.into(),
        head,
        first,
        mark,
        unread: head.0.saturating_sub(read_up_to.0).saturating_sub(deleted),
        last_time_ms: number(row, at + 4),
        last_seq: Seq(number(row, at + 5)),
        bases: bases.then(EpochBase { after: head, base }),
        settings,
    })
}

pub(super) async fn conversations(
    link: &ServerLink,
    user: &UserId,
    before: Seq,
    limit: usize,
) -> Result<Dated<ConversationPage>, EngineError> {
    let (slot, before) = (slot_of(user), clamp(before.0));
    // One more tells whether this is the end.
    let more = clamp(limit as u64).saturating_add(1);
    let rows = link
        .query(&CONVERSATIONS, &[&user.as_str(), &slot, &before, &more])
        .await?;
    let mut conversations: Vec<_> = rows
        .iter()
        .filter_map(|row| conversation_of(row, 2))
        .collect();
    let is_end = conversations.len() <= limit;
    conversations.truncate(limit);
    let row = one(rows)?;
    let page = ConversationPage {
        epoch: Epoch(number(&row, 0)),
        conversations,
        is_end,
    };
    Ok((page, transaction(&row, 1)))
}

pub(super) async fn read_conversation(
    link: &ServerLink,
    user: &UserId,
    id: &str,
    (from, to): (ConversationSeq, ConversationSeq),
    limit: ReadLimit,
) -> Result<Dated<ConversationRead>, EngineError> {
    let (messages, bytes) = limits(limit);
    let (slot, from, to) = (slot_of(user), clamp(from.0), clamp(to.0));
    let rows = link
        .query(
            &READ_CONVERSATION,
            &[&user.as_str(), &slot, &id, &from, &to, &messages, &bytes],
        )
        .await?;
    let mut entries = entries_within(&rows, 14, limit)?;
    entries.reverse();
    let row = one(rows)?;
    let read = ConversationRead {
        epoch: Epoch(number(&row, 0)),
        conversation: conversation_of(&row, 2),
        entries,
    };
    Ok((read, transaction(&row, 1)))
}

pub(super) async fn enter(
    link: &ServerLink,
    key: &SessionKey,
) -> Result<Dated<EnteredSession>, EngineError> {
    let (slot, platform) = (slot_of(&key.user), key.platform as i16);
    let user = key.user.as_str();
    let rows = link
        .query(&ENTER, &[&user, &slot, &platform, &&*key.device])
        .await?;
    let row = one(rows)?;
    let (inbox, transaction) = inbox_of(&row);
    let cursor: Option<i64> = row.get(5);
    let stored = cursor.map(|cursor| SessionRow {
        cursor: Seq(cursor as u64),
        acked_at_ms: number(&row, 6),
    });
    let point = ResumePoint {
        revoked_before_ms: number(&row, 4),
        stored,
        inbox,
    };
    let entered = EnteredSession {
        point,
        fence: Fence(number(&row, 7)),
        erasure: erasure_of(&row, 8),
    };
    Ok((entered, transaction))
}

static SESSIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT b.epoch, e.platform, e.device, e.cursor, e.acked_at, {ERASURE_COLUMNS} {OF_USER} \
         LEFT JOIN erased x ON x.uid = i.uid LEFT JOIN session e ON e.uid = i.uid AND e.epoch = b.epoch"
    )
});

pub(super) async fn sessions(
    link: &ServerLink,
    user: &UserId,
) -> Result<StoredSessions, EngineError> {
    let rows = link
        .query(&SESSIONS, &[&user.as_str(), &slot_of(user)])
        .await?;
    let session = |row: &Row| {
        let platform: Option<i16> = row.get(1);
        let device: Option<String> = row.get(2);
        let key = SessionKey {
            user: user.clone(),
            platform: Platform::from_number(platform? as u32).ok()?,
            device: device?.into(),
        };
        let stored = SessionRow {
            cursor: Seq(number(row, 3)),
            acked_at_ms: number(row, 4),
        };
        Some((key, stored))
    };
    let sessions = rows.iter().filter_map(session).collect();
    let row = one(rows)?;
    Ok(StoredSessions {
        epoch: Epoch(number(&row, 0)),
        erasure: erasure_of(&row, 5),
        rows: sessions,
    })
}

static USERS: LazyLock<String> =
    LazyLock::new(|| format!("SELECT user_id FROM inbox i WHERE {IS_KNOWN} ORDER BY user_id"));

pub(super) async fn users(link: &ServerLink) -> Result<Vec<UserId>, EngineError> {
    let rows = link.query(&USERS, &[]).await?;
    rows.iter().map(|row| user_of(row, 0)).collect()
}

pub(super) async fn profile(
    link: &ServerLink,
    user: &UserId,
) -> Result<Option<Bytes>, EngineError> {
    let text = "SELECT profile FROM inbox WHERE user_id = $1";
    let rows = link.query(text, &[&user.as_str()]).await?;
    let profile = rows
        .first()
        .and_then(|row| row.get::<_, Option<Vec<u8>>>(0));
    Ok(profile.map(Bytes::from))
}

pub(super) async fn token_times(
    link: &ServerLink,
    user: &UserId,
    platform: Platform,
) -> Result<TokenTimes, EngineError> {
    let text = "SELECT before_ms, newest_ms FROM token WHERE user_id = $1 AND platform = $2";
    let platform = platform as i16;
    let rows = link.query(text, &[&user.as_str(), &platform]).await?;
    let times = |row: &Row| TokenTimes {
        revoked_before_ms: number(row, 0),
        newest_ms: number(row, 1),
    };
    Ok(rows.first().map(times).unwrap_or_default())
}

const ENTRIES: &str = "SELECT i.user_id, p.seq, p.cseq, p.ahead, p.base \
    FROM spread x JOIN place p USING (message_id) JOIN inbox i USING (uid), store s \
    WHERE x.message_id = $1 AND p.day >= greatest(x.day, s.floor_day) ORDER BY p.ord OFFSET $2 LIMIT $3";
const ENTRY_OF: &str = "SELECT p.seq, p.cseq, p.ahead, p.base \
    FROM spread x JOIN place p USING (message_id) JOIN inbox i USING (uid), store s \
    WHERE x.message_id = $1 AND i.user_id = $2 AND p.day >= greatest(x.day, s.floor_day)";

pub(super) async fn entries(
    link: &ServerLink,
    message: MessageId,
    skip: usize,
    limit: usize,
) -> Result<Vec<(UserId, Numbers)>, EngineError> {
    let id = uuid::Uuid::from_bytes(message.0);
    let (skip, limit) = (clamp(skip as u64), clamp(limit as u64));
    let rows = link.query(ENTRIES, &[&id, &skip, &limit]).await?;
    let entry = |row: &Row| Ok((user_of(row, 0)?, numbers_of(row, 1)));
    rows.iter().map(entry).collect()
}

pub(super) async fn entry_of_everyone(
    link: &ServerLink,
    message: MessageId,
    user: &UserId,
) -> Result<Option<Numbers>, EngineError> {
    let id = uuid::Uuid::from_bytes(message.0);
    let rows = link.query(ENTRY_OF, &[&id, &user.as_str()]).await?;
    Ok(rows.first().map(|row| numbers_of(row, 0)))
}

const FACTS: &str = "SELECT key, value, xmin::text::bigint FROM fact \
    WHERE kind = $1 AND key > $2 AND key >= $3 AND ($4::bytea IS NULL OR key < $4) ORDER BY key LIMIT $5";

/// See [`Engine::rows`](super::super::engine::Engine::rows).
pub(super) async fn facts(
    link: &ServerLink,
    table: RowTable,
    prefix: &[u8],
    after: &[u8],
    limit: usize,
) -> Result<Dated<Vec<(Bytes, Bytes)>>, EngineError> {
    let (kind, limit) = (kind_of(table), clamp(limit as u64));
    let end = end_of(prefix);
    let rows = link
        .query(FACTS, &[&kind, &after, &prefix, &end, &limit])
        .await?;
    // Transactions are numbered in a circle: the newest is the one that is ahead of the others.
    let transactions = rows.iter().filter_map(|row| transaction(row, 2));
    let newest = transactions.reduce(|newest, other| {
        let is_ahead = other.wrapping_sub(newest) < u32::MAX / 2;
        if is_ahead { other } else { newest }
    });
    let bytes = |row: &Row, at| Bytes::from(row.get::<_, Vec<u8>>(at));
    let facts = rows.iter().map(|row| (bytes(row, 0), bytes(row, 1)));
    Ok((facts.collect(), newest))
}

/// The first key behind all keys that begin with this prefix; `None`: there is none.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
