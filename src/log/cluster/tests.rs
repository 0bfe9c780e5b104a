//! The promises of the log of a fleet when its store fails: on a store in memory whose transactions hang, lose their request or
//! their answer, come late, or are visible and not replicated. The clock of these tests stands still while a task can run.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{runtime::Handle, task::yield_now, time::sleep};

use super::{ClusterLog, ClusterPace, ClusterTasks, engine::Horizon};
use crate::{
    ids::{Epoch, Fence, Platform, Seq, SessionKey},
    log::{
        Append, AppendError, Cause, Commit, Consumer, Log, Pending, ReadLimit, Receipt, SessionRow,
        tests::{
            conformance::{message, user},
            memory::{SimEngine, StoreFault},
        },
    },
};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ALL: ReadLimit = ReadLimit {
    messages: 1000,
    bytes: usize::MAX,
};

/// Remembers the bodies that were handed on.
#[derive(Default)]
struct HandedOn(Mutex<Vec<String>>);

impl Consumer for HandedOn {
    fn take(&self, commits: &[Commit]) {
        let text = |commit: &Commit| String::from_utf8(commit.body.to_vec()).unwrap();
        let mut bodies = self.0.lock().unwrap();
        bodies.extend(commits.iter().map(text));
    }
}

/// A gateway on a store.
struct Member {
    log: ClusterLog,
    handed_on: Arc<HandedOn>,
    tasks: ClusterTasks,
}

impl Member {
    /// Another gateway on the same store.
    async fn of_another(engine: &Arc<SimEngine>) -> Self {
        Self::of(&Arc::new(engine.of_another_gateway())).await
    }

    async fn of(engine: &Arc<SimEngine>) -> Self {
        let opening = ClusterLog::open(
            engine.clone(),
            ClusterPace::new(ANSWER_WITHIN),
            Handle::current(),
        );
        let (log, tasks) = opening.await.unwrap();
        let handed_on = Arc::new(HandedOn::default());
        log.commits(handed_on.clone());
        Self {
            log,
            handed_on,
            tasks,
        }
    }

    fn send(&self, append: Append) -> Pending<Receipt> {
        self.log.append(append).unwrap()
    }

    /// Sends to one user, and returns the seq.
    async fn seq_of(&self, append: Append) -> Result<u64, AppendError> {
        let receipt = self.send(append).await.unwrap()?;
        Ok(receipt.entries[0].1.seq.0)
    }

    /// The epoch of a user and the bodies of the inbox, once the store answers.
    async fn inbox(&self) -> (Epoch, Vec<String>) {
        loop {
            let read = self.log.read(&user("u1"), Seq::ZERO, ALL).wait().await;
            let Ok(read) = read else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let bodies = read.entries.iter().map(|entry| {
                let body = entry.content.body().unwrap();
                String::from_utf8(body.to_vec()).unwrap()
            });
            return (read.inbox.epoch, bodies.collect());
        }
    }

    fn handed_on(&self) -> Vec<String> {
        self.handed_on.0.lock().unwrap().clone()
    }
}

fn to_u1(body: &str) -> Append {
    message(1, &["u1"], None, body)
}

fn stored(engine: &SimEngine) -> Vec<String> {
    let bodies = engine.bodies(&user("u1")).into_iter();
    bodies
        .map(|body| String::from_utf8(body.into()).unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_of_an_append_it_is_placed_once_and_answered() {
    let every = [
        StoreFault::LoseRequest,
        StoreFault::LoseAnswer,
        StoreFault::Late,
        StoreFault::Warn,
    ];
    for first in every {
        for second in every {
            let engine = Arc::new(SimEngine::default());
            let member = Member::of(&engine).await;
            engine.fail(first);
            engine.fail(second);
            assert_eq!(member.seq_of(to_u1("a")).await, Ok(1));
            assert_eq!(member.seq_of(to_u1("b")).await, Ok(2));
            engine.let_late_go();
            assert_eq!(stored(&engine), ["a", "b"], "{first:?} {second:?}");
            assert_eq!(member.handed_on(), ["a", "b"], "{first:?} {second:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_answer_was_lost_answers_each_of_its_callers() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    let keyed = |body| message(1, &["u1"], Some("key"), body);
    assert_eq!(member.seq_of(keyed("body")).await, Ok(1));
    engine.fail(StoreFault::LoseAnswer);
    let appends = [to_u1("a"), keyed("body"), keyed("other"), to_u1("b")];
    let pending = appends.map(|append| member.send(append));
    let mut seqs = Vec::new();
    for pending in pending {
        let answer = pending.await.unwrap();
        seqs.push(answer.map(|receipt| receipt.entries[0].1.seq.0));
    }
    let reused = Err(AppendError::KeyReused);
    // The second use of the key in the group waits for the first, and has another digest.
    assert_eq!(seqs, [Ok(2), Ok(1), reused, Ok(3)]);
    assert_eq!(member.handed_on(), ["body", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_the_store_refuses_takes_no_other_along() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    // The group twice, then its first message alone, twice.
    (0..4).for_each(|_| engine.fail(StoreFault::Refuse));
    let pending = ["a", "b"].map(|body| member.send(to_u1(body)));
    let [first, second] = pending;
    let refused = first.await.unwrap().unwrap_err();
    assert!(matches!(refused, AppendError::Refusing(_)), "{refused}");
    assert_eq!(second.await.unwrap().unwrap().entries[0].1.seq, Seq(1));
    assert_eq!(stored(&engine), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_promotion_may_take_back_is_answered_or_read() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    assert_eq!(member.seq_of(to_u1("a")).await, Ok(1));
    engine.cut();
    engine.fail(StoreFault::Warn);
    let mut pending = member.send(to_u1("b"));
    yield_now().await;
    while stored(&engine).len() < 2 {
        yield_now().await;
    }
    // The message is visible, and another gateway reads it meanwhile.
    let reader = tokio::spawn(member.log.read(&user("u1"), Seq::ZERO, ALL).wait());
    sleep(Duration::from_secs(1)).await;
    assert!(!reader.is_finished());
    assert!(pending.try_recv().is_err());
    assert_eq!(member.handed_on(), ["a"]);
    engine.promote();
    // The group was lost with the old primary, and went again.
    assert_eq!(pending.await.unwrap().unwrap().entries[0].1.seq, Seq(2));
    assert_eq!(stored(&engine), ["a", "b"]);
    // The read would have shown what was lost: it fails, and the next one shows what there is.
    let read = reader.await.unwrap();
    assert!(read.is_err(), "{read:?}");
    let read = member.log.read(&user("u1"), Seq::ZERO, ALL).wait().await;
    assert_eq!(read.unwrap().entries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_commit_is_unknown_in_time_and_is_handed_on_once_it_is_confirmed() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    engine.cut();
    let pending = member.send(to_u1("a"));
    // The second one waits behind the first in its lane, or hangs in the other lane.
    assert_eq!(pending.await.unwrap(), Err(AppendError::OutcomeUnknown));
    let away = member.log.check_writable().unwrap_err();
    assert_eq!(away.cause, Cause::Away);
    let refused = member.log.append(to_u1("b")).unwrap_err();
    assert_eq!(refused, AppendError::Refusing(away));
    assert_eq!(member.handed_on(), [""; 0]);
    engine.join();
    while member.log.check_writable().is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(member.handed_on(), ["a"]);
    assert_eq!(member.seq_of(to_u1("c")).await, Ok(2));
    assert_eq!(stored(&engine), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_stores_nothing_and_is_noticed_when_it_is_back() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    engine.set_away(true);
    let pending = ["a", "b"].map(|body| member.send(to_u1(body)));
    for pending in pending {
        let refused = pending.await.unwrap().unwrap_err();
        let AppendError::Refusing(error) = refused else {
            panic!("{refused}")
        };
        assert_eq!(error.cause, Cause::Away);
    }
    engine.set_away(false);
    while member.log.check_writable().is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(member.seq_of(to_u1("c")).await, Ok(1));
    assert_eq!(stored(&engine), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn two_gateways_with_one_user_and_one_key_agree() {
    let engine = Arc::new(SimEngine::default());
    let members = [Member::of(&engine).await, Member::of(&engine).await];
    let mut seqs = Vec::new();
    for number in 0..10 {
        for member in &members {
            let key = format!("{number}");
            let append = message(1, &["u1"], Some(&key), "same");
            seqs.push(member.seq_of(append).await.unwrap());
        }
    }
    let expected: Vec<_> = (1..=10).flat_map(|seq| [seq, seq]).collect();
    assert_eq!(seqs, expected);
    assert_eq!(stored(&engine).len(), 10);
    let handed_on = members.map(|member| member.handed_on().len());
    assert_eq!(handed_on, [10, 0], "each is handed on where it was placed");
}

/// A session that has acked the first message.
fn acked_session() -> (SessionKey, SessionRow) {
    let key = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "".into(),
    };
    let row = SessionRow {
        cursor: Seq(1),
        acked_at_ms: 5,
    };
    (key, row)
}

#[tokio::test(start_paused = true)]
async fn cursors_reach_the_store_and_the_next_gateway() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    assert_eq!(member.seq_of(to_u1("a")).await, Ok(1));
    let (key, row) = acked_session();
    let epoch = member.log.enter(&key).wait().await.unwrap().inbox.epoch;
    member
        .log
        .store_cursor(&key, epoch, Fence::NONE, row)
        .unwrap();
    let Member { log, mut tasks, .. } = member;
    drop(log);
    assert!(tasks.ended().await);
    let next = Member::of(&engine).await;
    let point = next.log.enter(&key).wait().await.unwrap();
    assert_eq!(point.stored, Some(row));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_reaches_the_store_during_a_login_is_not_missed() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    assert_eq!(member.seq_of(to_u1("a")).await, Ok(1));
    let (key, row) = acked_session();
    let epoch = member.log.inbox(&user("u1")).wait().await.unwrap().epoch;
    assert_eq!(member.seq_of(to_u1("b")).await, Ok(2));
    member
        .log
        .store_cursor(&key, epoch, Fence::NONE, row)
        .unwrap();
    // The login reads the store. Its answer waits for the standby, and the cursor is stored meanwhile.
    engine.cut();
    let login = tokio::spawn(member.log.enter(&key).wait());
    sleep(Duration::from_secs(3)).await;
    assert!(!login.is_finished() && member.log.core.cursors.changes().is_empty());
    engine.join();
    assert_eq!(login.await.unwrap().unwrap().stored, Some(row));
}

#[tokio::test(start_paused = true)]
async fn a_primary_without_a_confirmed_message_gets_one_new_epoch_and_takes_no_seq_twice_in_one() {
    let engine = Arc::new(SimEngine::default());
    let sender = Member::of(&engine).await;
    let reader = Member::of_another(&engine).await;
    assert_eq!(sender.seq_of(to_u1("a")).await, Ok(1));
    let (before, _) = sender.inbox().await;
    let kept = engine.transactions();
    assert_eq!(sender.seq_of(to_u1("b")).await, Ok(2));
    assert_eq!(reader.inbox().await, (before, vec!["a".into(), "b".into()]));
    engine.promote_wrong(kept);
    // The gateway that comes second finds the epoch that has begun.
    let (of_reader, bodies) = reader.inbox().await;
    assert_eq!((of_reader, bodies), (Epoch(before.0 + 1), vec!["a".into()]));
    assert_eq!(sender.seq_of(to_u1("c")).await, Ok(2));
    let bodies = vec!["a".to_owned(), "c".to_owned()];
    assert_eq!(sender.inbox().await, (of_reader, bodies.clone()));
    assert_eq!(reader.inbox().await, (of_reader, bodies));
    // The numbers that were lost prove no second loss.
    engine.promote();
    assert_eq!(sender.seq_of(to_u1("d")).await, Ok(3));
    assert_eq!(sender.inbox().await.0, of_reader);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_only_read_proves_the_loss_of_a_gateway_that_is_gone() {
    let engine = Arc::new(SimEngine::default());
    let sender = Member::of(&engine).await;
    let reader = Member::of_another(&engine).await;
    let (before, _) = reader.inbox().await;
    let kept = engine.transactions();
    assert_eq!(sender.seq_of(to_u1("a")).await, Ok(1));
    drop(sender);
    assert_eq!(reader.inbox().await, (before, vec!["a".into()]));
    engine.promote_wrong(kept);
    assert_eq!(reader.inbox().await, (Epoch(before.0 + 1), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_primary_without_the_lanes_of_a_gateway_gets_them_again() {
    let engine = Arc::new(SimEngine::default());
    let kept = engine.transactions();
    let member = Member::of(&engine).await;
    assert_eq!(member.seq_of(to_u1("a")).await, Ok(1));
    let (before, _) = member.inbox().await;
    engine.promote_wrong(kept);
    assert_eq!(member.seq_of(to_u1("b")).await, Ok(1));
    let after = (Epoch(before.0 + 1), vec!["b".to_owned()]);
    assert_eq!(member.inbox().await, after);
}

#[tokio::test(start_paused = true)]
async fn a_primary_with_all_that_was_confirmed_keeps_the_epoch() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    assert_eq!(member.seq_of(to_u1("a")).await, Ok(1));
    let (before, _) = member.inbox().await;
    for seq in 2..5 {
        engine.promote();
        assert_eq!(member.seq_of(to_u1("b")).await, Ok(seq));
    }
    assert_eq!(member.inbox().await.0, before);
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_that_is_not_confirmed_yet_lets_nothing_through() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    let kept = engine.transactions();
    assert_eq!(member.seq_of(to_u1("a")).await, Ok(1));
    let (before, _) = member.inbox().await;
    engine.promote_wrong(kept);
    engine.cut();
    let pending = member.send(to_u1("b"));
    let refused = pending.await.unwrap().unwrap_err();
    assert!(matches!(refused, AppendError::Refusing(_)), "{refused}");
    let read = member.log.read(&user("u1"), Seq::ZERO, ALL).wait().await;
    assert!(read.is_err(), "{read:?}");
    engine.join();
    assert_eq!(member.inbox().await, (Epoch(before.0 + 1), vec![]));
    while member.log.check_writable().is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(member.seq_of(to_u1("c")).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_dropped_answers_what_it_took() {
    let engine = Arc::new(SimEngine::default());
    let Member { log, mut tasks, .. } = Member::of(&engine).await;
    engine.fail(StoreFault::LoseAnswer);
    let pending = log.append(to_u1("a")).unwrap();
    drop(log);
    assert!(tasks.ended().await);
    assert!(pending.await.unwrap().is_ok());
    assert_eq!(stored(&engine), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_horizon_rises_with_each_barrier() {
    let engine = Arc::new(SimEngine::default());
    let member = Member::of(&engine).await;
    let barrier = &member.log.core.barrier;
    let mut before = Horizon::default();
    for _ in 0..3 {
        barrier.pass().await.unwrap();
        assert!(barrier.horizon() > before);
        before = barrier.horizon();
    }
}
