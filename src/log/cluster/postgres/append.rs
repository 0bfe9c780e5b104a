//! The append of a group as one statement, and what is stored of earlier appends.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    super::{
        body,
        engine::{EngineError, First, Placement},
    },
    link::{Parameters, ServerLink, StoreSession},
    slot_of,
};
use crate::{
    ids::{ConversationSeq, Epoch, MessageId, Seq, UserId},
    log::{Append, LISTED_MAX, Receipt},
    message::{Numbers, Origin},
};

/// The statement without its gate.
const TEMPLATE: &str = include_str!("append.sql");
/// The gate of a lane: a group passes once, and none passes a fence.
const LANE_GATE: &str = "UPDATE lane SET last_group = $2 \
    WHERE lane = $1 AND last_group < $2 AND fenced < $2 RETURNING lane";
/// The gate of a piece of a message to everyone, which another row guards.
const PIECE_GATE: &str = "SELECT $1::bigint, $2::bigint";
/// From this many messages or entries on, the plan for many is the cheaper one. The planner knows no number of a parameter's elements
/// and takes it for 10. It would then compare each row of a group with each other one.
const MANY_SINCE: usize = 16;
/// A join with one row. The planner takes it for a thousand.
const MANY: &str = " CROSS JOIN generate_series(1, sign(1 + abs($2))::int)";
/// The part of the statement that moves read marks. A group without marks leaves it out.
const MARKS: &str = include_str!("marks.sql");
/// The parameters of the marks. The statement without marks has them too.
const NO_MARKS: &str = "k_none AS (SELECT $14::bigint[], $15::text[], $16::text[], $17::bigint[]),";

/// The statements of a gate: for few rows and for many, without marks and with them.
struct Statements([LazyLock<String>; 4]);

static OF_LANE: Statements = Statements([
    LazyLock::new(|| statement(LANE_GATE, "", NO_MARKS)),
    LazyLock::new(|| statement(LANE_GATE, MANY, NO_MARKS)),
    LazyLock::new(|| statement(LANE_GATE, "", MARKS)),
    LazyLock::new(|| statement(LANE_GATE, MANY, MARKS)),
]);
static OF_PIECE: Statements = Statements([
    LazyLock::new(|| statement(PIECE_GATE, "", NO_MARKS)),
    LazyLock::new(|| statement(PIECE_GATE, MANY, NO_MARKS)),
    LazyLock::new(|| statement(PIECE_GATE, "", MARKS)),
    LazyLock::new(|| statement(PIECE_GATE, MANY, MARKS)),
]);

fn statement(gate: &str, many: &str, marks: &str) -> String {
    let gated = TEMPLATE.replace("/*GATE*/", gate);
    gated.replace("/*MANY*/", many).replace("/*MARKS*/", marks)
}

/// The parameters of the statement.
#[derive(Default)]
pub(super) struct GroupArrays {
    ids: Vec<Uuid>,
    digests: Vec<Option<Uuid>>,
    prints: Vec<Uuid>,
    bodies: Vec<Vec<u8>>,
    send_times: Vec<i64>,
    are_shared: Vec<bool>,
    messages: Vec<i64>,
    ords: Vec<i32>,
    users: Vec<String>,
    slots: Vec<i16>,
    conversations: Vec<Option<String>>,
    mark_messages: Vec<i64>,
    mark_users: Vec<String>,
    mark_conversations: Vec<String>,
    marks: Vec<i64>,
}

impl GroupArrays {
    /// Adds an append. `first_ord`: the place of its first receiver among all receivers of the message.
    pub(super) fn add(
        &mut self,
        append: &Append,
        bytes: Vec<u8>,
        first_ord: usize,
        is_shared: bool,
    ) {
        let origin = Origin::of(&append.body);
        self.ids.push(Uuid::from_bytes(append.message_id.0));
        self.digests
            .push(append.is_keyed.then(|| digest_of(append)));
        self.prints.push(Uuid::from_bytes(append.fingerprint));
        self.bodies.push(bytes);
        self.send_times.push(append.send_time_ms as i64);
        self.are_shared.push(is_shared);
        let message = self.ids.len() as i64;
        for (ord, user) in (first_ord..).zip(&append.receivers) {
            let conversation = origin.conversation_id(user.as_str());
            self.messages.push(message);
            self.ords.push(ord as i32);
            self.users.push(user.as_str().to_owned());
            self.slots.push(slot_of(user));
            self.conversations
                .push((!append.is_marks).then_some(conversation));
        }
        if !append.is_marks {
            return;
        }
        // The statement moves each row once.
        let mut newest = BTreeMap::new();
        for mark in &origin.marks {
            let seq: &mut u64 = newest.entry(&*mark.conversation_id).or_default();
            *seq = mark.conversation_seq.max(*seq);
        }
        for user in &append.receivers {
            for (conversation, seq) in &newest {
                self.mark_messages.push(message);
                self.mark_users.push(user.as_str().to_owned());
                self.mark_conversations.push((*conversation).to_owned());
                self.marks.push(clamp(*seq));
            }
        }
    }

    /// Appends the group on a lane.
    pub(super) async fn append(
        &self,
        session: &StoreSession,
        lane: u64,
        number: u64,
    ) -> Result<Vec<Row>, EngineError> {
        self.run(session, &OF_LANE, lane, number).await
    }

    /// Appends a piece of a message to everyone within a transaction.
    pub(super) async fn append_piece(
        &self,
        session: &StoreSession,
    ) -> Result<Vec<Row>, EngineError> {
        self.run(session, &OF_PIECE, 0, 0).await
    }

    async fn run(
        &self,
        session: &StoreSession,
        statements: &'static Statements,
        lane: u64,
        number: u64,
    ) -> Result<Vec<Row>, EngineError> {
        let (lane, number) = (lane as i64, number as i64);
        let are_many = self.ids.len().max(self.users.len()) >= MANY_SINCE;
        let have_marks = !self.marks.is_empty();
        let which = usize::from(are_many) + 2 * usize::from(have_marks);
        session
            .query(
                &statements.0[which],
                &[
                    &lane,
                    &number,
                    &self.ids,
                    &self.digests,
                    &self.prints,
                    &self.bodies,
                    &self.send_times,
                    &self.are_shared,
                    &self.messages,
                    &self.ords,
                    &self.users,
                    &self.slots,
                    &self.conversations,
                    &self.mark_messages,
                    &self.mark_users,
                    &self.mark_conversations,
                    &self.marks,
                ],
            )
            .await
    }
}

/// A group as the statement takes it.
pub(super) fn arrays_of(group: &[Append]) -> GroupArrays {
    let mut arrays = GroupArrays::default();
    for append in group {
        let is_shared = append.receivers.len() > 1;
        arrays.add(append, body::encode(append), 0, is_shared);
    }
    arrays
}

/// The epoch of a message's entries, and the entries that its rows have told so far.
type PlacedRows = (Epoch, Vec<Option<Numbers>>);

/// The placements of a group by the rows of its statement; `None` if the group did not pass its gate.
pub(super) fn placements_of(group: &[Append], rows: &[Row]) -> Option<Vec<Placement>> {
    let mut passed = false;
    let mut placed: Vec<Option<PlacedRows>> = vec![None; group.len()];
    // Rows that say that a message is placed come in any order among those of its entries.
    for row in rows {
        let message: i64 = row.get(0);
        let Some(index) = (message as usize).checked_sub(1) else {
            passed = true;
            continue;
        };
        let none = || (Epoch(0), vec![None; group[index].receivers.len()]);
        let (epoch, entries) = placed[index].get_or_insert_with(none);
        let ord: i32 = row.get(1);
        if let Ok(ord) = usize::try_from(ord) {
            *epoch = Epoch(row.get::<_, i64>(6) as u64);
            entries[ord] = Some(numbers_of(row, 2));
        }
    }
    let placement = |(append, placed): (&Append, Option<PlacedRows>)| {
        let Some((epoch, numbers)) = placed else {
            return Placement::Repeated;
        };
        let entries = append.receivers.iter().cloned().zip(numbers);
        let entries = entries.map(|(user, numbers)| (user, numbers.unwrap_or_default()));
        Placement::Placed {
            epoch,
            entries: entries.collect(),
        }
    };
    passed.then(|| group.iter().zip(placed).map(placement).collect())
}

/// Reads the columns seq, cseq, ahead and base from this one on.
pub(super) fn numbers_of(row: &Row, at: usize) -> Numbers {
    let number = |at| row.get::<_, Option<i64>>(at).unwrap_or_default() as u64;
    let small = |at| row.get::<_, Option<i32>>(at).unwrap_or_default() as u32;
    Numbers {
        seq: Seq(number(at)),
        conversation_seq: ConversationSeq(number(at + 1)),
        time_ahead_ms: small(at + 2),
        base: small(at + 3),
    }
}

/// A number that the store can hold.
pub(super) fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The digest of an idempotency key.
pub(super) fn digest_of_key(sender: &str, client_message_id: &str) -> Uuid {
    // Ids contain no control characters.
    let digest = Sha256::digest([sender, "\0", client_message_id].concat());
    Uuid::from_bytes(*digest.first_chunk().expect("32 bytes hold 16"))
}

fn digest_of(append: &Append) -> Uuid {
    digest_of_key(&append.sender, &append.client_message_id)
}

const KEYS: &str = "SELECT i.digest, i.print, i.message_id FROM idem i, store s \
    WHERE i.digest = ANY($1) AND i.period >= s.day / s.period_days - 1 ORDER BY i.period DESC";

/// The first use of each of these keys: its digest of the request, and its message.
pub(super) async fn keys(
    link: &ServerLink,
    digests: &[Uuid],
) -> Result<HashMap<Uuid, ([u8; 16], Uuid)>, EngineError> {
    let rows = link.query(KEYS, &[&digests]).await?;
    let key = |row: &Row| {
        let (digest, print, id): (Uuid, Uuid, Uuid) = (row.get(0), row.get(1), row.get(2));
        (digest, (print.into_bytes(), id))
    };
    Ok(rows.iter().map(key).collect())
}

/// The stored part of a message.
pub(super) struct StoredAppend {
    /// `None` if no receiver has the message any more.
    pub(super) header: Option<body::BodyHeader>,
    epoch: Epoch,
    entries: Vec<(UserId, Numbers)>,
    receivers: u64,
    is_complete: bool,
    is_to_everyone: bool,
}

impl StoredAppend {
    /// True if all its receivers were erased.
    pub(super) fn is_nobodys(&self) -> bool {
        self.receivers == 0 && !self.is_to_everyone
    }
}

const PLACES: &str = "SELECT p.message_id, i.user_id, b.epoch, p.seq, p.cseq, p.ahead, p.base \
    FROM place p JOIN inbox i USING (uid) JOIN slot b USING (slot), store s \
    WHERE p.message_id = ANY($1) AND p.day >= greatest(s.floor_day, $2) AND p.ord <= $3 \
    ORDER BY p.message_id, p.ord";
const BODIES: &str = "SELECT DISTINCT ON (x.message_id) x.message_id, x.body FROM ( \
      SELECT p.message_id, p.body FROM place p, store s WHERE p.message_id = ANY($1) \
        AND p.day >= greatest(s.floor_day, $2) AND p.body IS NOT NULL \
      UNION ALL SELECT m.message_id, m.body FROM message m, store s \
        WHERE m.message_id = ANY($1) AND m.day >= s.floor_day) x";
const SPREADS: &str = "SELECT message_id, placed, is_done FROM spread WHERE message_id = ANY($1)";

/// The stored part of these messages, by their ids.
pub(super) async fn stored(
    link: &ServerLink,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, StoredAppend>, EngineError> {
    // No entry is a day older than its message's id.
    let days = ids
        .iter()
        .map(|id| MessageId(*id.as_bytes()).time_ms() / 86_400_000);
    let since = days.min().unwrap_or_default().saturating_sub(1) as i32;
    let listed = LISTED_MAX as i32;
    let of_places: Parameters<'_> = &[&ids, &since, &listed];
    let of_bodies: Parameters<'_> = &[&ids, &since];
    let of_spreads: Parameters<'_> = &[&ids];
    let (places, bodies, spreads) = tokio::try_join!(
        link.query(PLACES, of_places),
        link.query(BODIES, of_bodies),
        link.query(SPREADS, of_spreads),
    )?;
    let mut found: HashMap<Uuid, StoredAppend> = HashMap::new();
    let none = || StoredAppend {
        header: None,
        epoch: Epoch(0),
        entries: Vec::new(),
        receivers: 0,
        is_complete: true,
        is_to_everyone: false,
    };
    for row in &places {
        let stored = found.entry(row.get(0)).or_insert_with(none);
        stored.epoch = Epoch(row.get::<_, i64>(2) as u64);
        stored.entries.push((user_of(row, 1)?, numbers_of(row, 3)));
        stored.receivers += 1;
    }
    for row in &bodies {
        let decoded = body::decode(row.get(1)).ok_or_else(damaged)?;
        let stored = found.entry(row.get(0)).or_insert_with(none);
        stored.header = Some(decoded.0);
    }
    for row in &spreads {
        let stored = found.entry(row.get(0)).or_insert_with(none);
        stored.is_complete = row.get(2);
        stored.is_to_everyone = true;
        if stored.entries.len() > LISTED_MAX {
            stored.entries.clear();
            stored.receivers = row.get::<_, i32>(1) as u64;
        }
    }
    Ok(found)
}

/// Stored bytes that are not those that were written.
pub(super) fn damaged() -> EngineError {
    EngineError::Damaged("a stored message does not have its checksum".into())
}

/// The user in this column.
pub(super) fn user_of(row: &Row, at: usize) -> Result<UserId, EngineError> {
    UserId::new(row.get(at)).map_err(|_| EngineError::Damaged("a stored user id is none".into()))
}

/// The receipt of a message whose sender and key are known.
pub(super) fn receipt_of(
    id: Uuid,
    (sender, client_message_id): (&str, &str),
    stored: Option<StoredAppend>,
) -> (Receipt, Epoch, bool) {
    let message_id = MessageId(id.into_bytes());
    let header = stored.as_ref().and_then(|stored| stored.header.clone());
    let send_time_ms = header.map_or(message_id.time_ms(), |header| header.send_time_ms);
    let (epoch, is_complete) = stored.as_ref().map_or((Epoch(0), true), |stored| {
        (stored.epoch, stored.is_complete)
    });
    let (entries, receivers) = stored.map_or_else(Default::default, |stored| {
        (stored.entries, stored.receivers)
    });
    let receipt = Receipt {
        message_id,
        sender: sender.into(),
        client_message_id: client_message_id.into(),
        send_time_ms,
        receivers,
        entries: entries.into(),
    };
    (receipt, epoch, is_complete)
}

/// See [`Engine::firsts`](super::super::engine::Engine::firsts).
pub(super) async fn firsts(
    link: &ServerLink,
    appends: Arc<[Append]>,
) -> Result<Vec<Option<First>>, EngineError> {
    let keyed = appends.iter().filter(|append| append.is_keyed);
    let digests: Vec<_> = keyed.map(digest_of).collect();
    let keys = keys(link, &digests).await?;
    let first_of = |append: &Append| match append.is_keyed {
        true => keys.get(&digest_of(append)).copied(),
        false => Some((append.fingerprint, Uuid::from_bytes(append.message_id.0))),
    };
    let ids: Vec<_> = appends
        .iter()
        .filter_map(first_of)
        .map(|(_, id)| id)
        .collect();
    let mut found = stored(link, &ids).await?;
    let first = |append: &Append| {
        let (fingerprint, id) = first_of(append)?;
        let stored = found.remove(&id);
        if stored.is_none() && !append.is_keyed {
            return None;
        }
        let key = (&*append.sender, &*append.client_message_id);
        let (receipt, epoch, is_complete) = receipt_of(id, key, stored);
        Some(First {
            fingerprint,
            epoch,
            receipt,
            is_complete,
        })
    };
    Ok(appends.iter().map(first).collect())
}
