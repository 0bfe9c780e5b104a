//! The ledger: it compares every accepted or refused message with the landings at each session.
//!
//! A message has a [`MessageKey`], which travels as its `clientMsgID` and names its receivers and the time at which it was
//! due. So the ledger keeps no text: 12 bytes a message, one bit a delivery (a message at one session), a few counters a
//! session. Messages that have landed everywhere are forgotten in the order of issue, except the last 65,536. So a run may
//! last as long as its clock.
//!
//! Order is checked without sender or lane: a message that was answered before another one was due comes before it at every
//! session. The gateway promises no other order. The rule is checked exactly at each landing: a message that lands before
//! its answer has come was answered after everything that had landed until then was due.
//!
//! Times are µs since the run began, below 19 hours.
//!
//! - `key.rs`: the identity of a message
//! - `tally.rs`: the closed books

mod key;
mod tally;

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    ops::Range,
};

pub use self::{
    key::{MessageKey, NoKey},
    tally::LedgerTally,
};

/// The unit in which times are compared, so that a time fits four bytes.
const TICK_US: u64 = 16;
/// `Entry::answered` of a message with an unknown outcome, and of a refused message.
const OPEN: u32 = 0;
const REFUSED: u32 = u32::MAX;

/// Messages that are kept although nothing more should come of them. A second landing, or a landing after a refusal, can
/// then be checked in full. About older messages the ledger only knows that they may not come.
const KEPT: usize = 1 << 16;

/// The fields of a landed message that the ledger checks.
#[derive(Debug, Clone, Copy)]
pub struct LandedMessage<'a> {
    /// Its seq in the inbox.
    pub seq: u64,
    /// The [`MessageKey`]'s text.
    pub client_msg_id: &'a str,
    /// The serverMsgID in the answer to the send.
    pub server_msg_id: &'a str,
    /// The user.
    pub recv_id: &'a str,
    /// The content from [`Ledger::content`].
    pub content: &'a [u8],
}

/// The state of a session when the books are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStanding {
    /// The session has everything in its inbox. A missing message is lost.
    CaughtUp,
    /// The session may still get the missing messages.
    Behind,
    /// There is no such session, so nothing is expected at it.
    Absent,
}

#[derive(Debug, Clone, Copy)]
struct SentMessage {
    /// The tick after its answer, or `OPEN`, or `REFUSED`.
    answered: u32,
    /// A hash of its serverMsgID, from the answer or from its first landing; 0: neither has come.
    stamp: u32,
    /// The bit of its first delivery, counted from the run's first. Deliveries go user by user, and within a user session
    /// by session.
    bits_at: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct SessionBook {
    /// The seq of the last landing.
    seq: u64,
    /// Accepted deliveries, and the number of them that landed.
    accepted: u32,
    landed: u32,
    /// The latest due tick of all landed messages.
    due: u32,
}

/// All answers and landings of one run.
#[derive(Debug)]
pub struct Ledger {
    run: u32,
    users: u32,
    /// The sessions of each user.
    sessions_each: u32,
    content_bytes: (usize, usize),
    /// All messages but the first `forgotten`.
    messages: VecDeque<SentMessage>,
    forgotten: u32,
    /// One bit a delivery: it landed. All but the first `words_forgotten`.
    bits: VecDeque<u64>,
    words_forgotten: usize,
    bits_used: u32,
    sessions: Vec<SessionBook>,
    open: u64,
    /// The sums over all sessions.
    tally: LedgerTally,
    scratch: String,
}

impl Ledger {
    /// A ledger for `users` with this many sessions each. The contents have a random size, from the first to the second
    /// number of bytes.
    pub fn new(users: u32, sessions_each: u32, content_bytes: (usize, usize)) -> Self {
        assert!(users > 0 && sessions_each > 0 && content_bytes.0 <= content_bytes.1);
        Self {
            // The number does not come from the seed, so that a run's users exist nowhere yet.
            run: RandomState::new().hash_one(0) as u32,
            users,
            sessions_each,
            content_bytes,
            messages: VecDeque::new(),
            forgotten: 0,
            bits: VecDeque::new(),
            words_forgotten: 0,
            bits_used: 0,
            sessions: vec![SessionBook::default(); users as usize * sessions_each as usize],
            open: 0,
            tally: LedgerTally::default(),
            scratch: String::new(),
        }
    }

    /// The userID of a user.
    pub fn user_id(&self, user: u32) -> String {
        format!("u{:08x}-{user}", self.run)
    }

    /// The user with this userID, if it is one of this run.
    pub(crate) fn user_of(&self, user_id: &str) -> Option<u32> {
        let user = user_id.rsplit_once('-')?.1.parse().ok()?;
        (user < self.users && is_user(user_id, self.run, user)).then_some(user)
    }

    /// Enters a message for `count` users from `first` on, before it is sent.
    ///
    /// # Panics
    /// After 2^32 deliveries.
    pub fn issue(&mut self, due_us: u64, first: u32, count: u32) -> MessageKey {
        assert!(first < self.users && (1..=self.users).contains(&count));
        self.forget();
        let number = self.forgotten + self.messages.len() as u32;
        self.messages.push_back(SentMessage {
            answered: OPEN,
            stamp: 0,
            bits_at: self.bits_used,
        });
        let deliveries = count.checked_mul(self.sessions_each);
        let used = deliveries.and_then(|deliveries| self.bits_used.checked_add(deliveries));
        self.bits_used = used.expect("a run has fewer than 2^32 deliveries");
        let words = self.bits_used.div_ceil(64) as usize - self.words_forgotten;
        self.bits.resize(words, 0);
        self.open += 1;
        MessageKey {
            run: self.run,
            number,
            first,
            due_us,
        }
    }

    /// The content for a key: the JSON object of a text message.
    pub fn content(&self, key: MessageKey) -> String {
        let mut content = String::new();
        self.write_content(key, &mut content);
        content
    }

    fn write_content(&self, key: MessageKey, content: &mut String) {
        use std::fmt::Write as _;
        let (least, most) = self.content_bytes;
        let bytes = fastrand::Rng::with_seed(key.number.into()).usize(least..=most);
        content.clear();
        write!(content, r#"{{"text":"{key}"#).expect("a String takes all");
        while content.len() + 2 < bytes {
            content.push('.');
        }
        content.push_str(r#""}"#);
    }

    /// The [`MessageKey`]'s text in a content, for servers that carry only the content; empty if there is none.
    pub fn key_text(content: &[u8]) -> &str {
        let text = content.strip_prefix(br#"{"text":""#).unwrap_or_default();
        let bytes = text
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit() || **byte == b'-');
        std::str::from_utf8(&text[..bytes.count()]).unwrap_or_default()
    }

    /// The send was answered with errCode 0.
    pub fn accepted(&mut self, key: MessageKey, at_us: u64, server_msg_id: &str) {
        let at = self.place(key.number).expect("what is open is kept");
        let sent = &mut self.messages[at];
        assert_eq!(sent.answered, OPEN, "{key} was answered before");
        sent.answered = tick(at_us) + 2;
        let stamp = stamp(server_msg_id);
        if sent.stamp != 0 && sent.stamp != stamp {
            self.tally.ghost += 1;
        }
        sent.stamp = stamp;
        self.open -= 1;
        for bit in self.deliveries(at) {
            let session = self.session_of(key, at, bit);
            let is_landed = self.is_landed(bit);
            self.sessions[session].accepted += 1;
            self.sessions[session].landed += u32::from(is_landed);
            self.tally.accepted += 1;
            self.tally.landed += u64::from(is_landed);
        }
    }

    /// The send was answered with an error which says that nothing was stored.
    pub fn refused(&mut self, key: MessageKey) {
        let at = self.place(key.number).expect("what is open is kept");
        let sent = &mut self.messages[at];
        assert_eq!(sent.answered, OPEN, "{key} was answered before");
        sent.answered = REFUSED;
        self.open -= 1;
        self.tally.refused += 1;
        self.tally.ghost += self
            .deliveries(at)
            .filter(|bit| self.is_landed(*bit))
            .count() as u64;
    }

    /// A message landed at a session; `session` is its number among the user's sessions. Returns its key if the landing is
    /// right and the first. Everything else is entered as a fault.
    pub fn landed(
        &mut self,
        user: u32,
        session: u32,
        landed: &LandedMessage<'_>,
    ) -> Option<MessageKey> {
        let key: Option<MessageKey> = landed.client_msg_id.parse().ok();
        let Some(key) = key.filter(|key| key.run == self.run) else {
            self.tally.ghost += 1;
            return None;
        };
        if key.number < self.forgotten {
            self.tally.duplicated += 1;
            return None;
        }
        let Some(at) = self.recognise(key, user, landed) else {
            self.tally.ghost += 1;
            return None;
        };
        let sent = &mut self.messages[at];
        if sent.stamp == 0 {
            sent.stamp = stamp(landed.server_msg_id);
        }
        let sent = *sent;
        let offset = (user + self.users - key.first) % self.users;
        let bit = sent.bits_at + offset * self.sessions_each + session;
        if self.is_landed(bit) {
            self.tally.duplicated += 1;
            return None;
        }
        self.bits[bit as usize / 64 - self.words_forgotten] |= 1 << (bit % 64);
        let session = &mut self.sessions[(user * self.sessions_each + session) as usize];
        let is_answered = sent.answered != OPEN;
        if landed.seq <= session.seq || is_answered && sent.answered < session.due {
            self.tally.reordered += 1;
        }
        session.seq = session.seq.max(landed.seq);
        session.due = session.due.max(tick(key.due_us));
        session.landed += u32::from(is_answered);
        self.tally.landed += u64::from(is_answered);
        Some(key)
    }

    /// The index of the message. `None`: no message with this key was sent to this user.
    fn recognise(
        &mut self,
        key: MessageKey,
        user: u32,
        landed: &LandedMessage<'_>,
    ) -> Option<usize> {
        let at = self.place(key.number)?;
        let sent = *self.messages.get(at)?;
        let offset = (user + self.users).checked_sub(key.first)? % self.users;
        let is_for_user = offset < self.deliveries(at).len() as u32 / self.sessions_each;
        let is_same = sent.stamp == 0 || sent.stamp == stamp(landed.server_msg_id);
        let mut scratch = std::mem::take(&mut self.scratch);
        self.write_content(key, &mut scratch);
        let is_whole = scratch.as_bytes() == landed.content;
        self.scratch = scratch;
        let is_sent = sent.answered != REFUSED;
        let is_here = is_for_user && is_user(landed.recv_id, self.run, user);
        (is_sent && is_here && is_same && is_whole).then_some(at)
    }

    /// Forgets the oldest messages that are done.
    fn forget(&mut self) {
        while self.messages.len() > KEPT && self.is_done(0) {
            self.messages.pop_front();
            self.forgotten += 1;
        }
        let first = self
            .messages
            .front()
            .map_or(self.bits_used, |sent| sent.bits_at);
        while self.words_forgotten < first as usize / 64 {
            self.bits.pop_front();
            self.words_forgotten += 1;
        }
    }

    /// True if it was refused, or has landed everywhere.
    fn is_done(&self, at: usize) -> bool {
        match self.messages[at].answered {
            OPEN => false,
            REFUSED => true,
            _ => self.deliveries(at).all(|bit| self.is_landed(bit)),
        }
    }

    /// Sends without an answer.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Accepted deliveries that have not landed at this session.
    pub fn missing(&self, user: u32, session: u32) -> u64 {
        let session = &self.sessions[(user * self.sessions_each + session) as usize];
        u64::from(session.accepted - session.landed)
    }

    /// Accepted deliveries so far, at all sessions.
    pub fn accepted_everywhere(&self) -> u64 {
        self.tally.accepted
    }

    /// [`Self::missing`] at all sessions.
    pub fn missing_everywhere(&self) -> u64 {
        self.tally.accepted - self.tally.landed
    }

    /// Closes the books. `standing` gives the state of each session of each user.
    pub fn tally(&self, standing: impl Fn(u32, u32) -> SessionStanding) -> LedgerTally {
        let mut tally = LedgerTally {
            accepted: 0,
            landed: 0,
            unknown: self.open,
            ..self.tally
        };
        for (at, session) in (0..).zip(&self.sessions) {
            let missing = u64::from(session.accepted - session.landed);
            match standing(at / self.sessions_each, at % self.sessions_each) {
                SessionStanding::CaughtUp => tally.lost += missing,
                SessionStanding::Behind => tally.pending += missing,
                SessionStanding::Absent => continue,
            }
            tally.accepted += u64::from(session.accepted);
            tally.landed += u64::from(session.landed);
        }
        tally
    }

    /// The index of a message, present or future.
    fn place(&self, number: u32) -> Option<usize> {
        number.checked_sub(self.forgotten).map(|at| at as usize)
    }

    /// The bits of a message.
    fn deliveries(&self, at: usize) -> Range<u32> {
        let next = self.messages.get(at + 1);
        self.messages[at].bits_at..next.map_or(self.bits_used, |next| next.bits_at)
    }

    fn session_of(&self, key: MessageKey, at: usize, bit: u32) -> usize {
        let offset = bit - self.messages[at].bits_at;
        let user = (key.first + offset / self.sessions_each) % self.users;
        (user * self.sessions_each + offset % self.sessions_each) as usize
    }

    fn is_landed(&self, bit: u32) -> bool {
        self.bits[bit as usize / 64 - self.words_forgotten] >> (bit % 64) & 1 == 1
    }
}

fn tick(us: u64) -> u32 {
    u32::try_from(us / TICK_US).unwrap_or(u32::MAX - 3)
}

/// FNV-1a, never 0.
fn stamp(text: &str) -> u32 {
    let hash = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    text.as_bytes().iter().fold(0x811c_9dc5, hash).max(1)
}

/// Compares with [`Ledger::user_id`] without building it.
fn is_user(text: &str, run: u32, user: u32) -> bool {
    let number = text.strip_prefix('u').and_then(|text| text.split_once('-'));
    number.is_some_and(|(of, number)| {
        u32::from_str_radix(of, 16) == Ok(run) && number.parse() == Ok(user)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: u32 = 3;
    const EACH: u32 = 2;

    struct Books {
        ledger: Ledger,
        seq: u64,
    }

    /// A message as the gateway would push it.
    #[derive(Clone)]
    struct Landing {
        user: u32,
        seq: u64,
        client_msg_id: String,
        server_msg_id: String,
        recv_id: String,
        content: String,
    }

    impl Books {
        fn open() -> Self {
            Self {
                ledger: Ledger::new(USERS, EACH, (60, 90)),
                seq: 0,
            }
        }

        /// Enters a message that was answered a millisecond after it was due.
        fn accept(&mut self, due_us: u64, first: u32, count: u32) -> MessageKey {
            let key = self.ledger.issue(due_us, first, count);
            self.ledger.accepted(key, due_us + 1000, &server_id(key));
            key
        }

        fn landing(&mut self, key: MessageKey, user: u32) -> Landing {
            self.seq += 1;
            Landing {
                user,
                seq: self.seq,
                client_msg_id: key.to_string(),
                server_msg_id: server_id(key),
                recv_id: self.ledger.user_id(user),
                content: self.ledger.content(key),
            }
        }

        fn land(&mut self, session: u32, landing: &Landing) -> Option<MessageKey> {
            let landed = LandedMessage {
                seq: landing.seq,
                client_msg_id: &landing.client_msg_id,
                server_msg_id: &landing.server_msg_id,
                recv_id: &landing.recv_id,
                content: landing.content.as_bytes(),
            };
            self.ledger.landed(landing.user, session, &landed)
        }

        fn tally(&self) -> LedgerTally {
            self.ledger.tally(|_, _| SessionStanding::CaughtUp)
        }
    }

    fn server_id(key: MessageKey) -> String {
        format!("id of {key}")
    }

    #[test]
    fn what_lands_once_at_every_session_is_exactly_once() {
        let mut books = Books::open();
        let one = books.accept(0, 1, 1);
        // The receivers wrap around the end: users 2 and 0.
        let two = books.accept(10_000, 2, 2);
        for (key, user) in [(one, 1), (two, 2), (two, 0)] {
            let landing = books.landing(key, user);
            for session in 0..EACH {
                assert_eq!(books.ledger.missing(user, session), 1);
                assert_eq!(books.land(session, &landing), Some(key));
                assert_eq!(books.ledger.missing(user, session), 0);
            }
        }
        let whole = LedgerTally {
            accepted: 6,
            landed: 6,
            ..LedgerTally::default()
        };
        assert_eq!(books.tally(), whole);
        assert!(whole.is_exactly_once());
    }

    #[test]
    fn a_landing_may_come_before_the_answer() {
        let mut books = Books::open();
        let key = books.ledger.issue(0, 0, 1);
        let landing = books.landing(key, 0);
        for session in 0..EACH {
            assert_eq!(books.land(session, &landing), Some(key));
        }
        assert_eq!((books.tally().unknown, books.tally().accepted), (1, 0));
        books.ledger.accepted(key, 5, &server_id(key));
        assert!(books.tally().is_exactly_once());
        assert_eq!((books.tally().landed, books.ledger.open()), (2, 0));
    }

    #[test]
    fn what_is_missing_is_lost_or_pending_by_how_far_the_session_has_come() {
        let mut books = Books::open();
        books.accept(0, 0, 1);
        assert_eq!(books.tally().lost, 2);
        let standing = |_, session| match session {
            0 => SessionStanding::Behind,
            _ => SessionStanding::Absent,
        };
        let tally = books.ledger.tally(standing);
        assert_eq!((tally.accepted, tally.lost, tally.pending), (1, 0, 1));
        assert!(tally.is_faultless() && !tally.is_exactly_once());
    }

    #[test]
    fn the_same_message_twice_is_a_duplicate_under_any_seq() {
        let mut books = Books::open();
        let key = books.accept(0, 0, 1);
        let mut landing = books.landing(key, 0);
        books.land(0, &landing);
        landing.seq += 1;
        assert_eq!(books.land(0, &landing), None);
        assert_eq!(books.tally().duplicated, 1);
    }

    #[test]
    fn what_has_landed_everywhere_is_forgotten_and_must_not_come_again() {
        let mut books = Books::open();
        let mut first = None;
        for _ in 0..KEPT + KEPT / 4 {
            let key = books.accept(0, 1, 1);
            let landing = books.landing(key, 1);
            for session in 0..EACH {
                books.land(session, &landing);
            }
            first.get_or_insert(landing);
        }
        let (messages, words) = (books.ledger.messages.len(), books.ledger.bits.len());
        assert!(messages <= KEPT + 1 && words <= (KEPT + 1) * EACH as usize / 64 + 1);
        assert!(books.tally().is_exactly_once());
        assert_eq!(books.tally().landed, 5 * KEPT as u64 / 2);
        books.land(0, &first.unwrap());
        assert_eq!(books.tally().duplicated, 1);

        // A message that has still to land is kept for as long as it takes, and so are all later ones.
        let waiting = books.accept(0, 0, 1);
        for _ in 0..KEPT + KEPT / 4 {
            let key = books.accept(0, 1, 1);
            let landing = books.landing(key, 1);
            for session in 0..EACH {
                books.land(session, &landing);
            }
        }
        let landing = books.landing(waiting, 0);
        for session in 0..EACH {
            assert_eq!(books.land(session, &landing), Some(waiting));
        }
        assert_eq!(books.ledger.missing_everywhere(), 0);
    }

    #[test]
    fn what_was_answered_before_another_was_due_stands_before_it() {
        let mut books = Books::open();
        let early = books.accept(0, 0, 1);
        let late = books.accept(2000, 0, 1);
        for key in [late, early] {
            let landing = books.landing(key, 0);
            books.land(0, &landing);
        }
        assert_eq!(books.tally().reordered, 1);

        // Both were under way at once, so either may be first.
        let mut books = Books::open();
        let one = books.accept(0, 0, 1);
        let other = books.accept(900, 0, 1);
        for (session, keys) in [(0, [one, other]), (1, [other, one])] {
            for key in keys {
                let landing = books.landing(key, 0);
                books.land(session, &landing);
            }
        }
        assert!(books.tally().is_exactly_once());

        // A seq that does not ascend.
        let mut books = Books::open();
        let (one, other) = (books.accept(0, 0, 1), books.accept(900, 0, 1));
        let (first, second) = (books.landing(one, 0), books.landing(other, 0));
        books.land(0, &second);
        books.land(0, &first);
        assert_eq!(books.tally().reordered, 1);
    }

    #[test]
    fn what_was_refused_altered_or_misled_is_a_ghost() {
        let ghosts = |spoil: &dyn Fn(&mut Landing)| {
            let mut books = Books::open();
            let key = books.accept(0, 0, 2);
            let mut landing = books.landing(key, 0);
            spoil(&mut landing);
            assert_eq!(books.land(0, &landing), None);
            books.tally().ghost
        };
        assert_eq!(ghosts(&|landing| landing.content.push(' ')), 1);
        assert_eq!(ghosts(&|landing| landing.server_msg_id.push('x')), 1);
        assert_eq!(ghosts(&|landing| landing.recv_id = "other".into()), 1);
        assert_eq!(ghosts(&|landing| landing.client_msg_id.clear()), 1);
        // The session does not belong to a receiver, although the text says so.
        let misled = |landing: &mut Landing| {
            landing.recv_id = landing.recv_id.replace("-0", "-2");
            landing.user = 2;
        };
        assert_eq!(ghosts(&misled), 1);

        let mut books = Books::open();
        let key = books.ledger.issue(0, 0, 1);
        let landing = books.landing(key, 0);
        books.land(0, &landing);
        books.ledger.refused(key);
        books.land(1, &landing);
        assert_eq!((books.tally().ghost, books.tally().refused), (2, 1));

        // Landed under another serverMsgID than the answer's.
        let mut books = Books::open();
        let key = books.ledger.issue(0, 0, 1);
        let landing = books.landing(key, 0);
        books.land(0, &landing);
        books.ledger.accepted(key, 1, "other");
        assert_eq!(books.tally().ghost, 1);
    }

    #[test]
    fn a_key_survives_its_text_and_other_texts_are_none() {
        let key = MessageKey {
            run: 7,
            number: u32::MAX,
            first: u32::MAX,
            due_us: u64::from(u32::MAX) * TICK_US,
        };
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!(key.to_string().len() <= 45);
        for bytes in [0, 400] {
            let key = Ledger::new(1, 1, (bytes, bytes)).issue(7, 0, 1);
            let content = Ledger::new(1, 1, (bytes, bytes)).content(key);
            assert_eq!(Ledger::key_text(content.as_bytes()), key.to_string());
        }
        assert_eq!(Ledger::key_text(b"mark 1 2"), "");
        for text in ["", "1-2-3", "1-2-3-4-5", "x-2-3-4", "1--3-4"] {
            assert_eq!(text.parse::<MessageKey>(), Err(NoKey), "{text}");
        }
    }
}
