//! The promises P1–P6 and P8 of the design, as an executable model of the messages sent to each user.
//!
//! The model knows if each letter may exist, and which letter is in each entry of an inbox. It learns this from the first
//! source that shows it: the caller's answer, a device, or a read of the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use towncrier_client::{StorePosition, proto::Message};

use super::{
    clock::SimClock,
    conversations::{Conversations, Reader},
    device::Owner,
    letter::{Known, Letter, number_in},
    told::ToldToPhones,
    trace::violated,
};
use towncrier::{
    clock::Clock,
    ids::{ConversationSeq, Platform, Seq, UserId},
    log::{Conversation, Log, LogAnswer, LogError, Receipt, embedded::EmbeddedLog},
    message::Numbers,
    registry::Registry,
};

/// The gateway's parts read the clocks one after the other, so retention and expiry may differ by this much.
pub(super) const SLACK_MS: u64 = 10_000;

/// The outcome of one attempt to send.
#[derive(Debug)]
pub(super) enum Outcome {
    Accepted(Receipt),
    /// The answer says that nothing was stored.
    Failed,
    /// The key belongs to another body.
    KeyReused,
    /// There was no answer.
    Unknown,
}

/// One user's inbox in one log.
#[derive(Default)]
pub(super) struct Places {
    pub(super) letters: BTreeMap<u64, (u64, String)>,
    /// The entries of read marks.
    marks: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    /// Deletions while the log was damaged. The log may count such a message as unread, if it could not read to which
    /// conversation it belongs.
    pub(super) deleted_in_damage: u64,
}

/// All known facts.
pub(super) struct Model {
    /// The epoch of the present log. With another epoch, everything in the log before is lost, and this was announced.
    pub(super) epoch: u64,
    pub(super) policy: u8,
    pub(super) retention_ms: u64,
    keys_ms: u64,
    pub(super) clock: Arc<SimClock>,
    pub(super) registry: Option<Arc<Registry>>,
    /// The trusted clock of the running gateway.
    pub(super) gateway_clock: Option<Arc<Clock>>,
    pub(super) letters: BTreeMap<u64, Letter>,
    /// By log and user.
    pub(super) inboxes: BTreeMap<Reader, Places>,
    pub(super) conversations: Conversations,
    pub(super) told: ToldToPhones,
    /// The highest seq that a session had landed, by log.
    pub(super) landed: BTreeMap<(u64, Session), u64>,
    /// The number of checked messages, for the summary.
    pub(super) accepted: u64,
    pub(super) landings: u64,
    /// The number of landed entries of read marks.
    pub(super) marks: u64,
}

/// A session as the login policy sees it. Its device counts only if the policy tells devices apart.
pub(super) type Session = (usize, Platform, String);

/// A user's id.
pub(super) fn user_id(number: usize) -> UserId {
    UserId::new(&format!("u{number}")).expect("it is an id")
}

fn user_number(id: &str) -> Option<usize> {
    id.strip_prefix('u')?.parse().ok()
}

/// The answer to a question that is asked beside the process.
pub(super) fn at_once<T>(answer: LogAnswer<T>) -> Result<T, LogError> {
    match answer {
        LogAnswer::Now(answer) => answer,
        LogAnswer::Later(mut answer) => answer.try_recv().expect("such work is done at once"),
    }
}

/// All conversations of a user, as the gateway lists them to a look beside the process.
pub(super) fn listed(log: &EmbeddedLog, user: usize) -> Vec<Conversation> {
    let page = log.conversations(&user_id(user), Seq(u64::MAX), usize::MAX);
    let list = at_once(page).map(|page| page.conversations);
    list.unwrap_or_else(|error| {
        violated("P1", format_args!("user {user} has no list: {error}"));
        Vec::new()
    })
}

impl Model {
    pub(super) fn new(policy: u8, log: &towncrier::config::Log, clock: Arc<SimClock>) -> Self {
        Self {
            epoch: 0,
            policy,
            retention_ms: log.retention.as_millis() as u64,
            keys_ms: log.idempotency_retention.as_millis() as u64,
            clock,
            registry: None,
            gateway_clock: None,
            letters: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            conversations: Conversations::default(),
            told: ToldToPhones::new(),
            landed: BTreeMap::new(),
            accepted: 0,
            landings: 0,
            marks: 0,
        }
    }

    /// An attempt to send a letter begins.
    pub(super) fn begins(&mut self, number: u64, letter: impl FnOnce() -> Letter) {
        let epoch = self.epoch;
        let letter = self.letters.entry(number).or_insert_with(letter);
        letter.reaches.entry(epoch).or_insert_with(|| {
            let here = self.inboxes.iter().filter(|((of, _), _)| *of == epoch);
            let with_message = here.filter(|(_, inbox)| !inbox.letters.is_empty());
            with_message.map(|((_, user), _)| *user).collect()
        });
        letter.open += 1;
        letter.tried_ms = self.clock.now_ms();
    }

    /// An attempt ends.
    pub(super) fn ends(&mut self, number: u64, outcome: &Outcome) {
        let epoch = self.epoch;
        if let Outcome::Accepted(receipt) = outcome
            && !self.letters[&number].is_online_only
        {
            self.is_message(
                number,
                &receipt.message_id.to_string(),
                epoch,
                receipt.send_time_ms,
            );
        }
        let letter = self.letters.get_mut(&number).expect("it began");
        letter.open -= 1;
        match outcome {
            Outcome::Unknown => letter.unknown += 1,
            Outcome::Failed => self.must_not_have_been_seen(number),
            Outcome::KeyReused => {
                let key = letter.key;
                let mut others = self.letters.iter().filter(|(other, _)| **other != number);
                if !others.any(|(_, other)| other.key == key && other.may_exist()) {
                    violated(
                        "P3",
                        format_args!("letter {number} is refused as a reuse of a fresh key"),
                    );
                }
                self.must_not_have_been_seen(number);
            }
            Outcome::Accepted(_) if letter.is_online_only => {}
            Outcome::Accepted(receipt) => {
                self.accepted += 1;
                let id = receipt.message_id.to_string();
                if let Some(known) = letter.messages.get_mut(&id) {
                    known.is_answered = true;
                }
                let users: Vec<_> = receipt
                    .entries
                    .iter()
                    .map(|(user, numbers)| (user_number(user.as_str()), *numbers))
                    .collect();
                for (user, numbers) in &users {
                    let Some(user) = user else { continue };
                    self.has_entry((epoch, *user), *numbers, number, &id);
                }
                let entered: BTreeSet<usize> = users.iter().filter_map(|(user, _)| *user).collect();
                let wanted = &self.letters[&number].receivers;
                // The answer to a repeat of an expired message names no seqs.
                if !entered.is_empty() && wanted.as_ref().is_some_and(|wanted| *wanted != entered) {
                    violated(
                        "P1",
                        format_args!(
                            "letter {number} has entries for {entered:?} instead of {wanted:?}"
                        ),
                    );
                }
            }
        }
    }

    fn must_not_have_been_seen(&self, number: u64) {
        let letter = &self.letters[&number];
        let is_decided = letter.open == 0 && letter.unknown == 0;
        if is_decided && letter.messages.values().any(|known| !known.is_answered) {
            violated("P2", format_args!("letter {number} failed and was seen"));
        }
    }

    /// A letter became the message `id`.
    pub(super) fn is_message(&mut self, number: u64, id: &str, epoch: u64, at_ms: u64) {
        let now_ms = self.clock.now_ms();
        let Some(letter) = self.letters.get(&number) else {
            return violated("P8", format_args!("letter {number} was never sent"));
        };
        if letter.messages.contains_key(id) {
            return;
        }
        if letter.open == 0 && letter.unknown == 0 {
            violated(
                "P2",
                format_args!("letter {number} failed and is there as {id}"),
            );
        }
        if letter.key.is_none() && !letter.messages.is_empty() {
            violated(
                "P5",
                format_args!("letter {number} was sent once and is there twice"),
            );
        }
        let key = letter.key;
        let of_key = self
            .letters
            .iter()
            .filter(|(_, letter)| key.is_some() && letter.key == key);
        for (other, letter) in of_key {
            for (earlier, known) in &letter.messages {
                let is_alive =
                    known.epoch == epoch && known.at_ms + self.keys_ms > now_ms + SLACK_MS;
                if is_alive {
                    violated(
                        "P3",
                        format_args!(
                            "letter {number} is {id}, although {other} with the same key is {earlier}"
                        ),
                    );
                }
            }
        }
        let letter = self.letters.get_mut(&number).expect("looked up above");
        let known = Known {
            epoch,
            // A gateway whose clock was ahead dated it later.
            at_ms: at_ms.min(now_ms),
            is_answered: false,
        };
        letter.messages.insert(id.to_owned(), known);
    }

    /// An entry of a user holds this letter.
    fn has_entry(&mut self, reader: Reader, numbers: Numbers, number: u64, id: &str) {
        let (user, seq) = (reader.1, numbers.seq.0);
        if let Some(letter) = self.letters.get(&number) {
            let conversation = letter.talk.conversation_id(user);
            let number = numbers.conversation_seq.0;
            self.conversations
                .has_number(reader, &conversation, number, seq);
        }
        let inbox = self.inboxes.entry(reader).or_default();
        if inbox.marks.contains(&seq) {
            violated(
                "P4",
                format_args!("entry {seq} of user {user} holds letter {number}, and read marks"),
            );
        }
        match inbox.letters.get(&seq) {
            None => {
                let elsewhere = inbox.letters.iter().find(|(_, (_, other))| other == id);
                if let Some((other, _)) = elsewhere {
                    violated(
                        "P5",
                        format_args!("{id} is at {seq} and at {other} of user {user}"),
                    );
                }
                inbox.letters.insert(seq, (number, id.to_owned()));
            }
            Some((_, there)) if there == id => {}
            Some((other, there)) => violated(
                "P4",
                format_args!(
                    "entry {seq} of user {user} holds letter {other} as {there} and letter {number} as {id}"
                ),
            ),
        }
    }

    /// A message was read, from any source.
    pub(super) fn is_read(&mut self, user: usize, epoch: u64, message: &Message) {
        let Some(number) = number_in(&message.content) else {
            return violated(
                "P8",
                format_args!(
                    "entry {} of user {user} holds other bytes than were sent",
                    message.seq
                ),
            );
        };
        self.is_message(
            number,
            &message.server_msg_id,
            epoch,
            message.send_time as u64,
        );
        let numbers = Numbers {
            seq: Seq(message.seq),
            conversation_seq: ConversationSeq(message.conversation_seq),
            ..Numbers::default()
        };
        self.has_entry((epoch, user), numbers, number, &message.server_msg_id);
        let receivers = self
            .letters
            .get(&number)
            .and_then(|letter| letter.receivers.as_ref());
        if receivers.is_some_and(|receivers| !receivers.contains(&user)) {
            violated(
                "P2",
                format_args!("letter {number} came to user {user}, whom it is not for"),
            );
        }
    }

    /// A device stores a message.
    pub(super) fn landed(&mut self, owner: &Owner, epoch: u64, message: &Message) {
        self.landings += 1;
        self.is_read(owner.user, epoch, message);
        self.has_landed(owner, epoch, message.seq);
        let letter = number_in(&message.content).and_then(|number| self.letters.get(&number));
        let conversation = letter.map(|letter| letter.talk.conversation_id(owner.user));
        if conversation.is_some_and(|conversation| conversation != message.conversation_id) {
            violated("P2", format_args!("in another conversation: {message:?}"));
        }
    }

    /// A device takes over read marks.
    pub(super) fn landed_marks(&mut self, owner: &Owner, epoch: u64, seq: u64) {
        self.marks += 1;
        self.has_marks((epoch, owner.user), seq);
        self.has_landed(owner, epoch, seq);
    }

    fn has_landed(&mut self, owner: &Owner, epoch: u64, seq: u64) {
        let session = self.session(owner);
        let highest = self.landed.entry((epoch, session)).or_default();
        *highest = seq.max(*highest);
    }

    /// An entry of a user holds read marks.
    pub(super) fn has_marks(&mut self, reader: Reader, seq: u64) {
        let inbox = self.inboxes.entry(reader).or_default();
        inbox.marks.insert(seq);
        if let Some((number, _)) = inbox.letters.get(&seq) {
            violated(
                "P4",
                format_args!("entry {seq} of {reader:?} holds read marks, and letter {number}"),
            );
        }
    }

    /// A mark was taken: the answer says so. A mark on a message that is gone may be ignored.
    pub(super) fn is_marked(&mut self, reader: Reader, id: &str, mark: u64) {
        let seq = self.conversations.seq_of(reader, id, mark);
        if seq.is_some_and(|seq| !self.may_be_gone(reader.1, reader.0, seq)) {
            self.conversations.tells(reader, id, mark);
        }
    }

    /// A device shows an online-only message.
    pub(super) fn shown(&self, user: usize, message: &Message) {
        self.shown_letter(user, number_in(&message.content));
    }

    pub(super) fn shown_letter(&self, user: usize, number: Option<u64>) {
        let letter = number.and_then(|number| self.letters.get(&number));
        let is_good = letter.is_some_and(|letter| {
            letter.is_online_only
                && letter
                    .receivers
                    .as_ref()
                    .is_none_or(|receivers| receivers.contains(&user))
        });
        if !is_good {
            violated("P2", format_args!("user {user} is shown what nobody sent"));
        }
    }

    /// A device is told that an entry will not come.
    pub(super) fn gone(&self, owner: &Owner, epoch: u64, seq: u64) {
        if !self.may_be_gone(owner.user, epoch, seq) {
            violated(
                "P6",
                format_args!("entry {seq} of user {} is announced as gone", owner.user),
            );
        }
    }

    /// A device's store begins after `position`.
    pub(super) fn began(&self, owner: &Owner, before: u64, position: StorePosition) {
        let landed = self.landed.get(&(position.epoch, self.session(owner)));
        let landed = landed.copied().filter(|_| before == 0).unwrap_or_default();
        for seq in landed + 1..=position.cursor {
            if !self.may_be_gone(owner.user, position.epoch, seq) {
                violated(
                    "P5",
                    format_args!(
                        "a store of user {} begins behind {seq}, which nobody had",
                        owner.user
                    ),
                );
            }
        }
    }

    pub(super) fn may_be_gone(&self, user: usize, epoch: u64, seq: u64) -> bool {
        let Some(inbox) = self.inboxes.get(&(epoch, user)) else {
            return true;
        };
        // Read marks have no time. They are younger than the letter before them, and are not deleted.
        let is_marks = inbox.marks.contains(&seq);
        let Some((at, (number, id))) = inbox.letters.range(..=seq).next_back() else {
            return true;
        };
        if *at != seq && !is_marks {
            return true;
        }
        let at_ms = self.letters[number].messages[id].at_ms;
        let is_deleted = !is_marks && inbox.deleted.contains(&seq);
        is_deleted || at_ms + self.retention_ms <= self.clock.now_ms() + SLACK_MS
    }

    /// True if the content of an entry is, or was, known.
    pub(super) fn is_known(&self, reader: Reader, seq: u64) -> bool {
        let inbox = self.inboxes.get(&reader);
        inbox.is_some_and(|inbox| inbox.letters.contains_key(&seq) || inbox.marks.contains(&seq))
    }

    /// A caller deletes these entries.
    pub(super) fn deletes(&mut self, user: usize, seqs: &[u64], is_damaged: bool) {
        let inbox = self.inboxes.entry((self.epoch, user)).or_default();
        inbox.deleted.extend(seqs);
        if is_damaged {
            inbox.deleted_in_damage += seqs.len() as u64;
        }
    }

    /// The highest known seq of a user.
    pub(super) fn head(&self, user: usize) -> u64 {
        let inbox = self.inboxes.get(&(self.epoch, user));
        inbox.map_or(0, |inbox| {
            let letters = inbox.letters.keys().next_back().copied();
            letters.max(inbox.marks.last().copied()).unwrap_or_default()
        })
    }

    /// Rules that hold at any moment: no two sessions hold one place, no inbox has lost its end, and no mark goes back. It is
    /// called beside the process.
    pub(super) fn check(&mut self, users: usize, log: Option<&EmbeddedLog>) {
        for user in 0..users {
            let id = user_id(user);
            self.check_presence(user);
            if let Some(Ok(inbox)) = log.map(|log| log.inbox(&id).blocking_wait())
                && inbox.head.0 < self.head(user)
            {
                violated(
                    "P1",
                    format_args!(
                        "the head of user {user} is {}, not {}",
                        inbox.head,
                        self.head(user)
                    ),
                );
            }
            if let Some(log) = log {
                self.conversations
                    .lists((self.epoch, user), &listed(log, user));
            }
        }
    }

    fn session(&self, owner: &Owner) -> Session {
        let device = if self.policy == 0 {
            owner.id.clone()
        } else {
            String::new()
        };
        (owner.user, owner.platform, device)
    }
}
