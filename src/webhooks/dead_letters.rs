//! Events that the receiver refused. The list is durable and bounded; an administrator looks at it and sends letters again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    event::{HookEvent, shortened},
    rows,
};
use crate::{
    log::{AppendError, Log, LogError, RowChange, RowTable},
    metrics::Metrics,
};

/// The letters in the list: enough to find a fault by, and few enough to look through. Beyond it the oldest one ends.
pub(super) const DEAD_LETTERS_MAX: usize = 10_000;
/// The bytes of all letters.
pub(super) const DEAD_LETTERS_BYTES_MAX: usize = 64 << 20;
/// The rows that one look at the list reads: a row has at most 64 KiB.
const ROWS_AT_ONCE: usize = 64;
/// The letters that are sent again with one write.
const AGAIN_AT_ONCE: usize = 16;

/// An event that the receiver refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number in the list.
    #[serde(skip)]
    pub number: u64,
    /// The event's id, which it keeps when it is sent again.
    pub id: String,
    /// The kind of the event.
    pub kind: String,
    /// The receiver's answer.
    pub reason: String,
    /// The time of the last refusal, Unix ms.
    pub refused_ms: u64,
    /// The time of the event, Unix ms.
    pub time_ms: u64,
    /// The whole event.
    pub event: Box<RawValue>,
    /// The bytes of its rows.
    #[serde(skip)]
    bytes: usize,
}

impl DeadLetter {
    /// The changes that remove it from one of the two lists.
    pub(super) fn removal(&self, prefix: &'static [u8]) -> impl Iterator<Item = RowChange> {
        removal(prefix, self.number, self.bytes)
    }

    /// The changes that put this event into its place, or remove it, and the bytes of its rows then.
    pub(super) fn changed(
        self,
        prefix: &'static [u8],
        event: Option<Box<RawValue>>,
    ) -> (Vec<RowChange>, usize) {
        let mut changes: Vec<_> = self.removal(prefix).collect();
        let Some(event) = event else {
            return (changes, 0);
        };
        let number = self.number;
        let text = serde_json::to_vec(&Self { event, ..self }).expect("a letter is JSON");
        let text = Bytes::from(text);
        changes.extend(rows::letter_rows(prefix, number, &text));
        (changes, text.len())
    }

    pub(super) fn into_event(self) -> HookEvent {
        HookEvent {
            id: self.id,
            time_ms: self.time_ms,
            json: self.event,
        }
    }
}

fn removal(prefix: &'static [u8], number: u64, bytes: usize) -> impl Iterator<Item = RowChange> {
    let parts = 0..rows::letter_parts(bytes);
    parts.map(move |part| rows::remove(rows::letter_key(prefix, number, part)))
}

/// Reads letters behind a number's key, at most `limit`, and not many more rows than one look may read.
pub(super) async fn read(
    log: &dyn Log,
    prefix: &'static [u8],
    after: &[u8],
    limit: usize,
) -> Result<Vec<DeadLetter>, LogError> {
    let mut letters = Vec::new();
    let mut after = after.to_vec();
    let mut open: Option<(u64, BytesMut)> = None;
    loop {
        let page = log.rows(RowTable::Consumers, prefix, &after, ROWS_AT_ONCE);
        let page = page.wait().await?;
        let is_last = page.len() < ROWS_AT_ONCE;
        for (key, value) in page {
            after = key.to_vec();
            let Some((number, _)) = rows::read_letter_key(prefix, &key) else {
                continue;
            };
            match &mut open {
                Some((present, text)) if *present == number => text.extend_from_slice(&value),
                _ => {
                    letters.extend(open.take().and_then(whole));
                    if letters.len() >= limit {
                        return Ok(letters);
                    }
                    open = Some((number, BytesMut::from(&value[..])));
                }
            }
        }
        // The last letter of a page may go on in the next one.
        if is_last {
            letters.extend(open.take().and_then(whole));
            return Ok(letters);
        }
    }
}

fn whole((number, text): (u64, BytesMut)) -> Option<DeadLetter> {
    let mut letter: DeadLetter = serde_json::from_slice(&text).ok()?;
    (letter.number, letter.bytes) = (number, text.len());
    Some(letter)
}

/// The list.
pub struct DeadLetters {
    log: Arc<dyn Log>,
    metrics: Arc<Metrics>,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// The bytes of each letter, by its number.
    letters: BTreeMap<u64, usize>,
    bytes: usize,
    next: u64,
}

impl Index {
    async fn read(log: &dyn Log) -> Result<Self, LogError> {
        let mut index = Index {
            next: 1,
            ..Index::default()
        };
        for prefix in [rows::DEAD_PREFIX, rows::AGAIN_PREFIX] {
            let mut after = Vec::new();
            loop {
                let page = log.rows(RowTable::Consumers, prefix, &after, ROWS_AT_ONCE);
                let page = page.wait().await?;
                let Some((last, _)) = page.last() else { break };
                after = last.to_vec();
                for (key, value) in &page {
                    let Some((number, _)) = rows::read_letter_key(prefix, key) else {
                        continue;
                    };
                    index.next = index.next.max(number + 1);
                    if prefix == rows::DEAD_PREFIX {
                        *index.letters.entry(number).or_default() += value.len();
                        index.bytes += value.len();
                    }
                }
            }
        }
        Ok(index)
    }

    fn remove(&mut self, number: u64) -> Option<usize> {
        let bytes = self.letters.remove(&number)?;
        self.bytes -= bytes;
        Some(bytes)
    }
}

/// The reason for which letters are not sent again.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The letters could not be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// The letters could not be moved.
    #[error(transparent)]
    Write(#[from] AppendError),
}

impl DeadLetters {
    /// Reads the list.
    pub(super) async fn open(log: Arc<dyn Log>, metrics: Arc<Metrics>) -> Result<Self, LogError> {
        let index = Index::read(&*log).await?;
        metrics.webhook_dead_letters.set(index.letters.len() as f64);
        Ok(Self {
            log,
            metrics,
            index: Mutex::new(index),
        })
    }

    /// Reads the list again if the gateway that has the turn is another one. Cancel safe: a repeat does no harm.
    pub async fn follow(&self) -> Result<(), LogError> {
        match self.log.turn().now() {
            Some(_) => Ok(()),
            None => self.reload().await,
        }
    }

    /// Reads the list again. No letter is added meanwhile.
    pub(super) async fn reload(&self) -> Result<(), LogError> {
        let read = Index::read(&*self.log).await?;
        let mut index = self.lock();
        *index = read;
        self.measure(&index);
        Ok(())
    }

    /// Another gateway took letters from the list, to be sent again.
    pub(super) fn taken(&self, told: &[RowChange]) {
        let numbers = told.iter();
        let numbers = numbers.filter_map(|row| rows::read_letter_key(rows::AGAIN_PREFIX, &row.key));
        let gone: Vec<_> = numbers.map(|(number, _)| (number, 0)).collect();
        if !gone.is_empty() {
            self.changed(&gone);
        }
    }

    /// Adds refused events. Returns the changes of rows that keep them, and that remove the oldest ones where there are too
    /// many.
    pub(super) fn add(&self, events: Vec<HookEvent>, reason: &str, now_ms: u64) -> Vec<RowChange> {
        let mut index = self.lock();
        let mut changes = Vec::new();
        for event in events {
            let text = serde_json::to_vec(&DeadLetter {
                number: 0,
                kind: kind_of(&event.json),
                id: event.id,
                reason: shortened(reason).into(),
                refused_ms: now_ms,
                time_ms: event.time_ms,
                event: event.json,
                bytes: 0,
            });
            let text = Bytes::from(text.expect("a letter is JSON"));
            let number = index.next;
            index.next += 1;
            index.letters.insert(number, text.len());
            index.bytes += text.len();
            changes.extend(rows::letter_rows(rows::DEAD_PREFIX, number, &text));
        }
        let mut dropped = 0;
        while index.letters.len() > DEAD_LETTERS_MAX || index.bytes > DEAD_LETTERS_BYTES_MAX {
            let Some((&oldest, _)) = index.letters.first_key_value() else {
                break;
            };
            let bytes = index.remove(oldest).unwrap_or_default();
            changes.extend(removal(rows::DEAD_PREFIX, oldest, bytes));
            dropped += 1;
        }
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "the list of dead letters is full: its oldest ones are gone"
            );
        }
        self.measure(&index);
        changes
    }

    /// Letters have so many bytes now; with none they are gone.
    pub(super) fn changed(&self, letters: &[(u64, usize)]) {
        let mut index = self.lock();
        for (number, bytes) in letters {
            if index.remove(*number).is_some() && *bytes > 0 {
                index.letters.insert(*number, *bytes);
                index.bytes += bytes;
            }
        }
        self.measure(&index);
    }

    /// The number of letters.
    pub fn count(&self) -> usize {
        self.lock().letters.len()
    }

    /// Letters with numbers above `after`, ascending, at most `limit`. Cancel safe: it only reads.
    pub async fn list(&self, after: u64, limit: usize) -> Result<Vec<DeadLetter>, LogError> {
        let prefix = rows::DEAD_PREFIX;
        let after = match after {
            0 => Vec::new(),
            // Behind all parts of that letter.
            after => rows::letter_key(prefix, after, u8::MAX),
        };
        read(&*self.log, prefix, &after, limit).await
    }

    /// Sends these letters again, or all. Returns their number. An unknown number is passed over. Not cancel safe: some letters may be
    /// sent again and others not. A repeat sends the others.
    pub async fn send_again(&self, numbers: Option<Vec<u64>>) -> Result<usize, LetterError> {
        self.follow().await?;
        let numbers = numbers.unwrap_or_else(|| self.lock().letters.keys().copied().collect());
        let mut sent = 0;
        for some in numbers.chunks(AGAIN_AT_ONCE) {
            let mut changes = Vec::new();
            let mut moved = Vec::new();
            for number in some {
                if !self.lock().letters.contains_key(number) {
                    continue;
                }
                let prefix = rows::letter_prefix(rows::DEAD_PREFIX, *number);
                let parts = self
                    .log
                    .rows(RowTable::Consumers, &prefix, &[], usize::from(u8::MAX));
                for (key, value) in parts.wait().await? {
                    let Some((number, part)) = rows::read_letter_key(rows::DEAD_PREFIX, &key)
                    else {
                        continue;
                    };
                    changes.push(rows::put(
                        rows::letter_key(rows::AGAIN_PREFIX, number, part),
                        value,
                    ));
                    changes.push(rows::remove(key));
                }
                moved.push(*number);
            }
            if changes.is_empty() {
                continue;
            }
            let pending = self.log.put_rows(changes)?;
            pending.await.unwrap_or(Err(AppendError::OutcomeUnknown))?;
            let mut index = self.lock();
            sent += moved
                .into_iter()
                .filter_map(|number| index.remove(number))
                .count();
            self.measure(&index);
        }
        Ok(sent)
    }

    fn measure(&self, index: &Index) {
        let letters = index.letters.len() as f64;
        self.metrics.webhook_dead_letters.set(letters);
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // A panic of the lock's holder leaves plain values.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind that an event names.
fn kind_of(event: &RawValue) -> String {
    #[derive(Deserialize)]
    struct TypedEvent {
        r#type: String,
    }
    let kind: Result<TypedEvent, _> = serde_json::from_str(event.get());
    kind.map(|kind| kind.r#type).unwrap_or_default()
}
