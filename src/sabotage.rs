//! Bugs that a test plants, to prove that the simulation, or shuttle, finds them. In the program each question is a constant `false`.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "one is in a test's store"))]
pub(crate) enum Bug {
    /// A send is answered before its group is synced.
    AckBeforeSync,
    /// A client moves its cursor before it keeps the message.
    CursorBeforeMessage,
    /// What a session that comes back had not acked is sent again, but for the first message.
    ResendSkipsOne,
    /// A replay forgets idempotency keys.
    KeyLostOnRestart,
    /// What expired before a client had it is not announced.
    GapInSilence,
    /// A mailbox that was full does not say so.
    OverflowInSilence,
    /// The end of a replaced connection takes the place away from the one that replaced it.
    ReplacedInWrongOrder,
    /// Damage is cut off like an unfinished end, whatever follows it.
    DamageTakenForEnd,
    /// A replay forgets how far inboxes had come.
    HeadReused,
    /// At a login, the newer session is replaced.
    NewcomerReplaced,
    /// A checkpoint takes as many rows as changed before it began, but of those that changed last.
    CheckpointTakesNewest,
    /// Whether a mailbox was empty, and its reactor is woken, is looked at before it is locked.
    WakeUpLost,
}

#[cfg(test)]
impl Bug {
    /// What the simulation has to find. A wake-up is lost between two threads, and it has one: shuttle finds that.
    pub(crate) const ALL: [Self; 11] = [
        Self::AckBeforeSync,
        Self::CursorBeforeMessage,
        Self::ResendSkipsOne,
        Self::KeyLostOnRestart,
        Self::GapInSilence,
        Self::OverflowInSilence,
        Self::ReplacedInWrongOrder,
        Self::DamageTakenForEnd,
        Self::HeadReused,
        Self::NewcomerReplaced,
        Self::CheckpointTakesNewest,
    ];
}

/// Whether this bug is planted.
#[cfg(not(test))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is planted on this thread.
#[cfg(test)]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread, in place of the one before.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}
