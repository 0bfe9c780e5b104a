//! The facts that a short life of the log must leave behind, whatever ended it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{task::LocalSet, time::sleep};

use super::{
    model::user_id,
    process::Life,
    short_life::{Ground, Known, USERS, append},
    store::Fate,
};
use towncrier::{
    ids::{ConversationSeq, Seq},
    log::{Log, Lookup, ReadLimit, embedded::EmbeddedLog},
    message::{Content, Entry, Numbers},
};

/// The inboxes as users read them: for each seq the body, if there is one.
pub(super) type Inboxes = Vec<BTreeMap<u64, Option<Bytes>>>;

const ALL: ReadLimit = ReadLimit {
    messages: usize::MAX,
    bytes: usize::MAX,
};

impl Known {
    /// Checks that the messages of each user are numbered without holes in their one conversation, and that its mark and its
    /// unread messages are right. Returns its head and its mark.
    async fn check_conversations(&self, log: &EmbeddedLog) -> Result<Vec<(u64, u64)>, String> {
        let mut checked = Vec::new();
        for user in 0..USERS {
            let page = log.conversations(&user_id(user), Seq(u64::MAX), 2).wait();
            let mut list = page.await.map_err(|error| error.to_string())?.conversations;
            let there = list.pop().map_or([0, 1, 0, 0], |of| {
                [of.head.0, of.first.0, of.mark.0, of.unread]
            });
            let [head, first, mark, unread] = there;
            let id = format!("si__u{user}");
            let range = (ConversationSeq(1), ConversationSeq(u64::MAX));
            let chain = log.read_conversation(&user_id(user), &id, range, ALL);
            let chain = chain.wait().await.map_err(|error| error.to_string())?;
            let numbers: Vec<_> = chain.entries.iter().map(|entry| entry.numbers).collect();
            let count = chain
                .entries
                .iter()
                .filter(|entry| entry.content != Content::Removed)
                .filter(|entry| entry.numbers.conversation_seq.0 > mark)
                .count() as u64;
            // A crash within retention may leave the inbox and the conversation with different beginnings for a moment.
            let inbox = entries(log, user)?.into_iter();
            let inbox = inbox
                .filter(|entry| !matches!(entry.content, Content::Marks(_)))
                .map(|entry| entry.numbers)
                .collect::<Vec<_>>();
            let is_dense = numbers
                .iter()
                .map(|numbers| numbers.conversation_seq.0)
                .eq(first..=head)
                && (numbers.ends_with(&inbox) || inbox.ends_with(&numbers));
            let tried = if user == 0 { self.mark_tried } else { 0 };
            let answered = if user == 0 { self.mark_answered } else { 0 };
            let is_marked = (answered..=tried).contains(&mark);
            if !is_dense || !is_marked || count != unread || !list.is_empty() {
                return Err(format!(
                    "user {user} has {numbers:?}, {count} of them unread, the conversation {there:?}; marked up to {answered} or {tried}"
                ));
            }
            checked.push((head, mark));
        }
        Ok(checked)
    }

    /// Checks that a message to everyone is nowhere, or once in the inbox of each user who was known before it.
    fn check_everyone(&self, inboxes: &Inboxes) -> Result<(), String> {
        for (body, known) in &self.to_everyone {
            let count = |user: usize| {
                let bodies = inboxes[user].values().flatten();
                bodies.filter(|there| *there == body.as_bytes()).count()
            };
            let counts: Vec<_> = (0..USERS).map(count).collect();
            let is_seen = counts.iter().any(|count| *count > 0);
            let is_incomplete = known.iter().any(|user| counts[*user] == 0);
            let may_miss = self.may_expire || self.is_delete_tried;
            if counts.iter().any(|count| *count > 1) || is_seen && is_incomplete && !may_miss {
                return Err(format!("{body} is {counts:?} times in the inboxes"));
            }
        }
        Ok(())
    }

    /// Checks a recovered log, and returns its content.
    pub(super) fn check(&self, log: &EmbeddedLog) -> Result<Inboxes, String> {
        log.check_writable()
            .map_err(|refusing| format!("it refuses: {refusing}"))?;
        let mut inboxes = Inboxes::new();
        for user in 0..USERS {
            let read = read(log, user)?;
            for (seq, body) in &read {
                let Some(body) = body else {
                    if self.is_delete_tried && *seq == 1 {
                        continue;
                    }
                    return Err(format!("entry {seq} is empty"));
                };
                let text = String::from_utf8_lossy(body);
                if !self.tried.contains(&*text) {
                    return Err(format!("{text:?} was never sent"));
                }
            }
            inboxes.push(read);
        }
        for (receipt, body) in &self.answered {
            for (user, numbers) in &*receipt.entries {
                let seq = &numbers.seq;
                let inbox = log
                    .inbox(user)
                    .blocking_wait()
                    .map_err(|error| error.to_string())?;
                if inbox.head < *seq {
                    return Err(format!(
                        "{body} at {seq} is lost: the head is {}",
                        inbox.head
                    ));
                }
                if *seq < inbox.first && self.may_expire {
                    continue;
                }
                let number = (0..USERS)
                    .find(|number| user_id(*number) == *user)
                    .ok_or("an unknown user")?;
                match inboxes[number].get(&seq.0) {
                    Some(Some(there)) if there == body.as_bytes() => {}
                    Some(None) if self.is_delete_tried && seq.0 == 1 => {}
                    other => return Err(format!("{body} at {seq} is {other:?}")),
                }
            }
            let key = Lookup::Key {
                sender: "oa".into(),
                client_message_id: receipt.client_message_id.clone(),
            };
            let found = log.find_blocking(&key).map_err(|error| error.to_string())?;
            let is_keyed = receipt.client_message_id.starts_with("message");
            if is_keyed && found.is_none_or(|found| found.message_id != receipt.message_id) {
                return Err(format!("the key of {body} is forgotten"));
            }
        }
        if self.is_delete_answered && inboxes[0].get(&1).is_some_and(Option::is_some) {
            return Err("what was deleted is there again".into());
        }
        Ok(inboxes)
    }
}

/// Reads a whole inbox: the messages, and the entries whose messages were deleted.
pub(super) fn read(log: &EmbeddedLog, user: usize) -> Result<BTreeMap<u64, Option<Bytes>>, String> {
    let entries = entries(log, user)?.into_iter();
    let messages = entries.filter(|entry| !matches!(entry.content, Content::Marks(_)));
    Ok(messages
        .map(|entry| (entry.numbers.seq.0, entry.content.into_message()))
        .collect())
}

fn entries(log: &EmbeddedLog, user: usize) -> Result<Vec<Entry>, String> {
    let read = log.read_blocking(&user_id(user), Seq::ZERO, ALL);
    let read = read.map_err(|error| format!("the inbox of user {user}: {error}"))?;
    Ok(read.entries)
}

/// A log in this state opens, holds what it must, takes a message for all users, and holds that message after one more
/// power cut that loses everything unsynced.
pub(super) async fn recovers(ground: &Ground, known: &Known) -> Result<(), String> {
    let life = Arc::new(Life::exact());
    let tasks = LocalSet::new();
    let (before, conversations) = tasks
        .run_until(async {
            let (log, workers) = ground.open(&life).map_err(|error| error.to_string())?;
            known.check(&log)?;
            let (writer, _keeper) = workers.into_futures();
            tokio::task::spawn_local(writer.ok_or("nothing to append to")?);
            // The log spreads a message to everyone to its end by itself.
            sleep(Duration::from_millis(100)).await;
            let before = known.check(&log)?;
            known.check_everyone(&before)?;
            let conversations = known.check_conversations(&log).await?;
            let heads: Vec<_> = (0..USERS)
                .map(|user| {
                    log.inbox(&user_id(user))
                        .blocking_wait()
                        .map_or(Seq::ZERO, |inbox| inbox.head)
                })
                .collect();
            let pending = log.append(append(ground.clock.now_ms(), None, "one more", USERS));
            let answer = pending.map_err(|error| error.to_string())?.await;
            let receipt = answer
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            let ends = heads.into_iter().zip(&conversations);
            for ((_, numbers), (head, (number, _))) in receipt.entries.iter().zip(ends) {
                let next = Numbers {
                    seq: head.next(),
                    conversation_seq: ConversationSeq(number + 1),
                    ..*numbers
                };
                if *numbers != next {
                    return Err(format!("{numbers:?} comes instead of {next:?}"));
                }
            }
            Ok((before, conversations))
        })
        .await?;
    drop(tasks);
    ground.root.cut_power(&mut |_| 0, false);
    ground.segments.cut_power(&mut |_| 0, false);
    ground.state.crash(Fate::Kept, &mut |_| 0);
    let (log, _) = ground
        .open(&life)
        .map_err(|error| format!("again: {error}"))?;
    for (user, mut expected) in before.into_iter().enumerate() {
        let inbox = log
            .inbox(&user_id(user))
            .blocking_wait()
            .map_err(|error| error.to_string())?;
        expected.insert(inbox.head.0, Some("one more".into()));
        let found = read(&log, user)?;
        if found != expected {
            return Err(format!("user {user} read {expected:?} and then {found:?}"));
        }
    }
    let found = known.check_conversations(&log).await?;
    let conversations = conversations.into_iter();
    let expected: Vec<_> = conversations.map(|(head, mark)| (head + 1, mark)).collect();
    if found != expected {
        return Err(format!("{expected:?} is expected, and {found:?} is there"));
    }
    Ok(())
}
