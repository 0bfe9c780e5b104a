//! Bugs that a test plants, to prove that the simulation or shuttle finds them. In the program, each check is a constant
//! `false`.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "one is in a test's store"))]
pub(crate) enum Bug {
    /// A send is answered before its group is synced.
    AckBeforeSync,
    /// A client moves its cursor before it keeps the message.
    CursorBeforeMessage,
    /// A resend after a reconnect omits the first unacked message.
    ResendSkipsOne,
    /// A replay forgets idempotency keys.
    KeyLostOnRestart,
    /// A session does not announce messages that expired before the client had them.
    GapInSilence,
    /// A mailbox that overflowed does not report it.
    OverflowInSilence,
    /// The end of a replaced connection deregisters the connection that replaced it.
    ReplacedInWrongOrder,
    /// Recovery cuts off damage as if it were an unfinished end, even when records follow it.
    DamageTakenForEnd,
    /// A replay forgets the heads of inboxes.
    HeadReused,
    /// At a login, the newer session is replaced.
    NewcomerReplaced,
    /// A checkpoint takes as many rows as changed before it began, but takes those that changed last.
    CheckpointTakesNewest,
    /// A mailbox decides to wake its reactor before it takes the lock.
    WakeUpLost,
}

#[cfg(test)]
impl Bug {
    /// The bugs that the simulation has to find. It cannot find `WakeUpLost`, because that bug needs two threads and the
    /// simulation has one; shuttle finds it.
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

/// Always false: the program has no planted bugs.
#[cfg(not(test))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// True if this bug is planted on this thread.
#[cfg(test)]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread, and removes the one before.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}
