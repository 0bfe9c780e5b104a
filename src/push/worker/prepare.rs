//! Makes the notices of a call: reads the message and the devices of its tasks, and ends the tasks that need no call any more.

use std::{collections::HashMap, time::Duration};

use super::VendorWorker;
use crate::{
    ids::{Seq, UserId},
    log::{LogError, ReadLimit},
    message::{Device, Numbers, OVERVIEW_MAX, Origin, StoredMessage, TOGETHER_BYTES_MAX},
    push::{
        book::{digest_of, has_badge},
        decide::{ClassStanding, Classes, PushCase},
        line::TaskBatch,
        rows::{PushTask, decided_ms},
        seen::SeenState,
        text::PushWords,
        vendor::Notice,
    },
};

/// A push that was decided so long ago, in ms, is checked again for an ack before it is sent: it has failed, or waited for its vendor.
/// No second try comes sooner.
const CHECKED_AGAIN_MS: u64 = 500;
/// The most conversations whose unread messages a badge counts: a phone shows a number, nobody reads beyond it.
const BADGE_CONVERSATIONS_MAX: usize = 10_000;

/// A notice for some tasks of a batch.
pub(super) struct PreparedNotice {
    pub(super) notice: Notice,
    pub(super) devices: Vec<Device>,
    /// The places of their tasks in the batch.
    pub(super) places: Vec<usize>,
}

/// A message of a task, as far as all its receivers share it.
struct TaskMessage {
    /// The receiver who has these numbers.
    user: UserId,
    numbers: Numbers,
    message: StoredMessage,
    origin: Origin,
}

impl VendorWorker {
    /// The notices of a batch, each with its devices and their places in the batch. Ends the tasks whose message or device is no
    /// longer there. `Err(None)`: no task is left.
    pub(super) async fn prepare(
        &mut self,
        batch: &mut TaskBatch,
        now_ms: u64,
    ) -> Result<Vec<PreparedNotice>, Option<LogError>> {
        let mut shared: Option<TaskMessage> = None;
        let mut by_words: HashMap<(PushWords, bool), usize> = HashMap::new();
        let mut notices: Vec<PreparedNotice> = Vec::new();
        let mut place = 0;
        while let Some((number, task)) = batch.tasks.get(place).cloned() {
            if shared.is_none() {
                shared = self.message(&task).await?;
            }
            let Some(message) = &shared else {
                let gone = SeenState::Gone("the message is no longer there".into());
                self.finish(batch, number, &task, gone, now_ms).await;
                continue;
            };
            let Some(device) = self.device(&task).await? else {
                let gone = SeenState::Gone("the device was removed".into());
                self.finish(batch, number, &task, gone, now_ms).await;
                continue;
            };
            let has_waited = now_ms.saturating_sub(decided_ms(number)) >= CHECKED_AGAIN_MS;
            if has_waited && let Some(served) = self.served(&task, message, now_ms).await? {
                self.finish(batch, number, &task, served, now_ms).await;
                continue;
            }
            let words = self.parts.wording.words(&message.message, &device.lang);
            let key = (words, has_badge(&device));
            if let Some(index) = by_words.get(&key) {
                notices[*index].devices.push(device);
                notices[*index].places.push(place);
            } else {
                let notice = self.notice(&task, message, &key.0, key.1, now_ms).await?;
                by_words.insert(key, notices.len());
                notices.push(PreparedNotice {
                    notice,
                    devices: vec![device],
                    places: vec![place],
                });
            }
            place += 1;
        }
        if notices.is_empty() {
            return Err(None);
        }
        Ok(notices)
    }

    /// Ends a task of a call before the call is made.
    async fn finish(
        &mut self,
        batch: &mut TaskBatch,
        number: u64,
        task: &PushTask,
        state: SeenState,
        now_ms: u64,
    ) {
        let outcome = match state {
            SeenState::Served { .. } => &self.outcomes.served,
            _ => &self.outcomes.gone,
        };
        outcome.increment(1);
        self.line.finish(batch, number);
        self.end(number, task, state, now_ms).await;
    }

    /// The state of a task whose class has been served since its decision.
    async fn served(
        &self,
        task: &PushTask,
        shared: &TaskMessage,
        now_ms: u64,
    ) -> Result<Option<SeenState>, LogError> {
        let conversation = shared.origin.conversation_id(task.user.as_str());
        let numbers = if shared.user == task.user {
            Some(shared.numbers)
        } else {
            let own = self.message(task).await?;
            own.map(|own| own.numbers)
        };
        let case = PushCase {
            seq: task.seq,
            conversation_seq: numbers.map(|one| one.conversation_seq).unwrap_or_default(),
            accepted_ms: task.accepted_ms,
        };
        let source = &self.parts.source;
        let (sessions, absent) = source.sessions(&task.user, &conversation, now_ms).await?;
        let wanted = Classes::default().with(task.class);
        let rules = &self.parts.rules;
        let standings = rules.decide(case, wanted, &sessions, absent, now_ms);
        Ok(standings.into_iter().find_map(|(_, standing)| {
            let ClassStanding::Served(index, proof) = standing else {
                return None;
            };
            let session = &sessions[index];
            Some(SeenState::served(session.platform, &session.device, proof))
        }))
    }

    /// The message of a task; `None` if it was deleted, cleared or has expired.
    async fn message(&self, task: &PushTask) -> Result<Option<TaskMessage>, LogError> {
        let limit = ReadLimit {
            messages: 1,
            bytes: TOGETHER_BYTES_MAX,
        };
        let read = self
            .parts
            .source
            .log
            .read(&task.user, task.seq.previous(), limit);
        let entry = read.wait().await?.entries.into_iter().next();
        let entry = entry.filter(|entry| entry.numbers.seq == task.seq);
        Ok(entry.and_then(|entry| {
            let numbers = entry.numbers;
            let body = entry.content.into_message()?;
            let message = StoredMessage::from_bytes(&body);
            let origin = Origin::of(&body);
            let id = task.message_id.to_string();
            // After a new epoch another message may have this seq.
            (message.server_msg_id == id).then(|| TaskMessage {
                user: task.user.clone(),
                numbers,
                message,
                origin,
            })
        }))
    }

    async fn device(&self, task: &PushTask) -> Result<Option<Device>, LogError> {
        let provider = self.lane.provider;
        if provider.is_by_alias() {
            return Ok(Some(Device::of_alias(provider, &task.user)));
        }
        let devices = self.parts.source.delivery.devices(&task.user).await?;
        let mut devices = devices.into_iter();
        Ok(devices.find(|one| one.provider == provider && digest_of(one) == task.device))
    }

    async fn notice(
        &self,
        task: &PushTask,
        message: &TaskMessage,
        words: &PushWords,
        has_badge: bool,
        now_ms: u64,
    ) -> Result<Notice, LogError> {
        let badge = if has_badge {
            Some(self.unread(&task.user).await?)
        } else {
            None
        };
        let age = Duration::from_millis(now_ms.saturating_sub(task.accepted_ms));
        Ok(Notice {
            id: task.message_id,
            user: task.user.clone(),
            conversation_id: message.origin.conversation_id(task.user.as_str()).into(),
            seq: message.numbers.seq,
            title: words.title.as_str().into(),
            body: words.body.as_str().into(),
            ex: words.ex.as_str().into(),
            sound: words.sound.as_str().into(),
            badge,
            text: words.text.as_deref().map(Into::into),
            expires_in: self.parts.expire_after.saturating_sub(age),
        })
    }

    /// The sum of a user's unread messages.
    async fn unread(&self, user: &UserId) -> Result<u32, LogError> {
        let (mut sum, mut looked, mut before) = (0_u64, 0, Seq(u64::MAX));
        loop {
            let page = self
                .parts
                .source
                .log
                .conversations(user, before, OVERVIEW_MAX);
            let page = page.wait().await?;
            let unread = page.conversations.iter().map(|one| one.unread);
            sum = unread.fold(sum, u64::saturating_add);
            looked += page.conversations.len();
            match page.conversations.last() {
                Some(last) if !page.is_end && looked < BADGE_CONVERSATIONS_MAX => {
                    before = last.last_seq;
                }
                _ => return Ok(u32::try_from(sum).unwrap_or(u32::MAX)),
            }
        }
    }
}
