//! How far a session has received each conversation, by a search that looks at few messages; on a log in memory.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::Config,
    delivery::{
        AskError, Delivery, Passage, Receivers, Send,
        ask::{NEWEST_BYTES_MAX, NEWEST_MAX},
    },
    gateway::Base,
    ids::{ConversationSeq, Epoch, Seq, UserId, WireSeq},
    log::ReadLimit,
    log::{
        Log as _,
        tests::memory::{EPOCH, MemoryLog},
    },
    message::{Content, Counting, Origin, ReadMark, StoredMessage, TOGETHER_BYTES_MAX},
};

fn base() -> Base<MemoryLog> {
    let clock = Arc::new(Clock::system());
    Base::build(
        &Config::default(),
        Arc::default(),
        clock,
        MemoryLog::default(),
    )
}

fn u1() -> UserId {
    UserId::new("u1").unwrap()
}

async fn send(delivery: &Delivery, group: &str) {
    send_large(delivery, group, 0).await;
}

async fn send_large(delivery: &Delivery, group: &str, bytes: usize) {
    let send = Send {
        message: StoredMessage {
            send_id: "oa".into(),
            group_id: group.into(),
            session_type: 3,
            content: vec![b'x'; bytes].into(),
            ..StoredMessage::default()
        },
        fingerprint: [0; 16],
        receivers: Receivers::List(vec![u1()]),
        is_online_only: false,
    };
    delivery.send(send).await.unwrap();
}

/// The reached message of each group, by its id.
async fn reached(delivery: &Delivery, sent: u64) -> Vec<(String, u64)> {
    let reached = delivery
        .reached((&u1(), Epoch(EPOCH)), Seq(sent))
        .await
        .unwrap();
    let mut reached: Vec<_> = reached
        .into_iter()
        .map(|(conversation, seq)| (conversation.id.into(), seq.0))
        .collect();
    reached.sort();
    reached
}

fn both(a: u64, b: u64) -> Vec<(String, u64)> {
    vec![("sg_a".into(), a), ("sg_b".into(), b)]
}

#[tokio::test]
async fn each_cursor_splits_each_conversation_where_the_inbox_says_it() {
    let base = base();
    // Two of three messages are in one conversation. A mark and a deletion are among them.
    for n in 0..60 {
        send(&base.delivery, if n % 3 == 0 { "b" } else { "a" }).await;
    }
    let mark = ReadMark {
        conversation_id: "sg_a".into(),
        conversation_seq: 7,
        ..ReadMark::default()
    };
    base.delivery
        .mark_read(&u1(), None, vec![mark])
        .await
        .unwrap();
    for n in 0..60 {
        send(&base.delivery, if n % 3 == 0 { "b" } else { "a" }).await;
    }
    for seq in [5, 60, 62, 121] {
        base.log.delete(u1(), vec![Seq(seq)]).unwrap();
    }
    for cursor in 0..=121_u64 {
        let messages = if cursor > 60 { cursor - 1 } else { cursor };
        let of_b = messages.div_ceil(3);
        let expected = both(messages - of_b, of_b);
        assert_eq!(reached(&base.delivery, cursor).await, expected, "{cursor}");
    }
}

#[tokio::test]
async fn what_retention_removed_counts_as_received() {
    let base = base();
    for _ in 0..5 {
        send(&base.delivery, "a").await;
        send(&base.delivery, "b").await;
    }
    base.log.expire_all();
    assert_eq!(reached(&base.delivery, 3).await, both(5, 5));
    send(&base.delivery, "a").await;
    assert_eq!(reached(&base.delivery, 3).await, both(5, 5));
    assert_eq!(reached(&base.delivery, 11).await, both(6, 5));
}

#[tokio::test]
async fn an_overview_shows_all_up_to_its_newest_message_and_other_epochs_are_refused() {
    let base = base();
    send(&base.delivery, "a").await;
    send(&base.delivery, "b").await;
    let user = u1();
    let inbox = (&user, Epoch(EPOCH));
    let (conversations, shown) = base.delivery.overview(inbox).await.unwrap();
    assert_eq!((conversations.len(), shown), (2, Seq(2)));
    let named = ["sg_b".to_owned(), "unknown".to_owned()];
    let described = base.delivery.describe(inbox, &named).await.unwrap();
    assert_eq!(described.len(), 1);
    let other = (&user, Epoch(EPOCH + 1));
    let over = base.delivery.overview(other).await;
    assert!(matches!(over, Err(AskError::EpochOver)));
    let over = base.delivery.reached(other, Seq(1)).await;
    assert!(matches!(over, Err(AskError::EpochOver)));
}

#[tokio::test]
async fn a_passage_leaves_out_what_was_deleted_and_ends_at_the_head() {
    let base = base();
    for _ in 0..300 {
        send(&base.delivery, "a").await;
    }
    base.log.delete(u1(), vec![Seq(300), Seq(2)]).unwrap();
    let passage = Passage {
        conversation_id: "sg_a",
        from: WireSeq(1),
        to: WireSeq(u64::MAX),
        is_pull: true,
    };
    let user = u1();
    let passages = [passage].into_iter();
    let read = base
        .delivery
        .passages((&user, Epoch(EPOCH)), passages, Counting::Kept, usize::MAX)
        .await
        .unwrap();
    let seqs: Vec<_> = read[0].1.iter().map(|(n, _)| n.conversation_seq).collect();
    let expected = [1].into_iter().chain(3..300).map(ConversationSeq);
    assert_eq!(seqs, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_erased_conversation_is_in_no_overview_and_a_pull_is_told_where_it_goes_on() {
    let base = base();
    for _ in 0..3 {
        send(&base.delivery, "a").await;
    }
    base.delivery.erase(&u1()).await.unwrap();
    let (user, delivery) = (u1(), &base.delivery);
    let inbox = (&user, Epoch(EPOCH));
    assert_eq!(delivery.overview(inbox).await.unwrap(), (vec![], Seq::ZERO));
    assert_eq!(delivery.reached(inbox, Seq(3)).await.unwrap(), []);
    let passage = Passage {
        conversation_id: "sg_a",
        from: WireSeq(1),
        to: WireSeq(3),
        is_pull: true,
    };
    let passages = [passage].into_iter();
    let read = delivery.passages(inbox, passages, Counting::Kept, usize::MAX);
    let (conversation, messages) = read.await.unwrap().remove(0);
    let conversation = conversation.unwrap();
    assert_eq!(conversation.first_after_others(), Some(WireSeq(4)));
    assert_eq!((messages, conversation.unread), (vec![], 0));
}

/// 40 messages of the first epoch, and 5 of the second.
async fn two_epochs() -> Base<MemoryLog> {
    let base = base();
    for n in 0..45 {
        if n == 40 {
            base.log.rows().begin_base(1000);
        }
        send(&base.delivery, "a").await;
    }
    base
}

#[tokio::test]
async fn the_newest_messages_of_the_newest_conversations_are_read_within_their_bounds() {
    let newest = async |base: &Base<MemoryLog>, sent| {
        let inbox = (&u1(), Epoch(EPOCH));
        let newest = base.delivery.newest_messages(inbox, Seq(sent)).await;
        let newest = newest.unwrap().into_iter();
        newest.map(|(numbers, _)| numbers.seq.0).collect::<Vec<_>>()
    };
    let base = base_with_groups(NEWEST_MAX + 1, 0).await;
    let last = NEWEST_MAX as u64 + 1;
    assert_eq!(newest(&base, last).await, (2..=last).collect::<Vec<_>>());
    // A conversation that goes on has its rest pushed.
    send(&base.delivery, "7").await;
    let others: Vec<_> = (1..=last).filter(|seq| *seq != 8).collect();
    assert_eq!(newest(&base, last).await, others);

    let large = TOGETHER_BYTES_MAX / 2;
    let base = base_with_groups(100, large).await;
    let seqs = newest(&base, 100).await;
    let bytes = seqs.len() * large;
    assert!(bytes <= NEWEST_BYTES_MAX && bytes > NEWEST_BYTES_MAX - 2 * large);
    assert_eq!(seqs.last(), Some(&100));
}

/// A log with so many conversations of one message of u1.
async fn base_with_groups(groups: usize, bytes: usize) -> Base<MemoryLog> {
    let base = base();
    for group in 0..groups {
        send_large(&base.delivery, &group.to_string(), bytes).await;
    }
    base
}

/// The numbers of the messages of this range, as a client that counts so is told them.
async fn told(
    delivery: &Delivery,
    counting: Counting,
    (from, to): (u64, u64),
    is_pull: bool,
) -> Vec<u64> {
    let passage = Passage {
        conversation_id: "sg_a",
        from: WireSeq(from),
        to: WireSeq(to),
        is_pull,
    };
    let (user, passages) = (u1(), [passage].into_iter());
    let inbox = (&user, Epoch(EPOCH));
    let read = delivery.passages(inbox, passages, counting, usize::MAX);
    let read = read.await.unwrap().remove(0);
    let numbers = read.1.iter().map(|(numbers, _)| numbers.wire_seq().0);
    numbers.collect()
}

fn all(ranges: &[std::ops::RangeInclusive<u64>]) -> Vec<u64> {
    ranges.iter().cloned().flatten().collect()
}

#[tokio::test]
async fn who_has_a_store_is_told_the_numbers_of_each_messages_epoch() {
    let base = two_epochs().await;
    for (range, expected) in [
        ((1, 1045), all(&[1..=40, 1041..=1045])),
        ((51, 1045), all(&[1041..=1045])),
        ((31, 1045), all(&[31..=40, 1041..=1045])),
        ((991, 1040), vec![]),
        ((1036, 1045), all(&[1041..=1045])),
    ] {
        for is_pull in [false, true] {
            let told = told(&base.delivery, Counting::Kept, range, is_pull).await;
            assert_eq!(told, expected, "{range:?}");
        }
    }
}

#[tokio::test]
async fn who_has_no_store_is_told_dense_numbers_and_no_message_twice() {
    let base = two_epochs().await;
    for (range, is_pull, expected) in [
        // History, which counts down beyond the first message.
        ((1, 1045), false, all(&[1001..=1045])),
        ((991, 1040), false, all(&[1001..=1040])),
        ((941, 990), false, vec![]),
        // A page that was online at the change had 30, 40 or 50 messages, of which 40 are left.
        ((31, 1045), true, all(&[1031..=1045])),
        ((41, 1045), true, all(&[1041..=1045])),
        ((51, 1045), true, all(&[1041..=1045])),
        ((1, 1045), true, all(&[1001..=1045])),
        ((1001, 1045), true, all(&[1001..=1045])),
        ((1044, 1045), true, all(&[1044..=1045])),
    ] {
        let told = told(&base.delivery, Counting::Dense, range, is_pull).await;
        assert_eq!(told, expected, "{range:?}");
    }
    // The next change finds the page with a number of this epoch.
    base.log.rows().begin_base(3000);
    for (range, expected) in [
        ((1043, 3045), all(&[3043..=3045])),
        ((1060, 3045), vec![]),
        ((41, 3045), all(&[3041..=3045])),
    ] {
        let told = told(&base.delivery, Counting::Dense, range, true).await;
        assert_eq!(told, expected, "{range:?}");
    }
}

#[tokio::test]
async fn a_conversation_without_a_message_of_the_epoch_has_the_base_all_the_same() {
    let base = base();
    send(&base.delivery, "a").await;
    base.log.rows().begin_base(1000);
    let user = u1();
    let overview = base.delivery.overview((&user, Epoch(EPOCH))).await;
    let conversation = overview.unwrap().0.remove(0);
    let head = conversation.head;
    assert_eq!(conversation.wire_of(head), WireSeq(1));
    assert_eq!(conversation.dense().wire_of(head), WireSeq(1001));
}

#[tokio::test]
async fn a_mark_has_the_base_of_the_message_that_it_marks() {
    let base = two_epochs().await;
    for (to, wire) in [(40, 40), (41, 1041), (99, 1045)] {
        let mark = ReadMark {
            conversation_id: "sg_a".into(),
            conversation_seq: to,
            ..ReadMark::default()
        };
        let marked = base.delivery.mark_read(&u1(), None, vec![mark]).await;
        marked.unwrap();
        let inbox = base.log.inbox(&u1()).wait().await.unwrap();
        let limit = ReadLimit {
            messages: 1,
            bytes: usize::MAX,
        };
        let read = base.log.read(&u1(), inbox.head.previous(), limit);
        let entry = read.wait().await.unwrap().entries.remove(0);
        let Content::Marks(body) = entry.content else {
            panic!("no mark")
        };
        assert_eq!(Origin::of(&body).marks[0].wire_seq(), WireSeq(wire));
    }
}

#[tokio::test]
async fn a_mark_is_whole_if_no_message_before_it_is_left_unread() {
    let base = base();
    for _ in 0..4 {
        send(&base.delivery, "a").await;
    }
    let mark = async |conversation_seq| {
        let mark = ReadMark {
            conversation_id: "sg_a".into(),
            conversation_seq,
            base: 0,
        };
        let user = u1();
        let marked = base.delivery.mark_read(&user, None, vec![mark]);
        marked.await.unwrap();
    };
    let whole = async || {
        let read = base.log.read(
            &u1(),
            Seq(4),
            crate::log::ReadLimit {
                messages: 9,
                bytes: usize::MAX,
            },
        );
        let entries = read.wait().await.unwrap().entries;
        let inbox = (&u1(), Epoch(EPOCH));
        let entries = base.delivery.whole_marks(inbox, entries).await.unwrap();
        let is_whole = |content| match content {
            Content::Marks(body) => StoredMessage::from_bytes(&body).marks.len(),
            _ => 0,
        };
        let entries = entries.into_iter();
        entries
            .map(|entry| is_whole(entry.content))
            .collect::<Vec<_>>()
    };
    for seq in [1, 2, 4] {
        mark(seq).await;
    }
    assert_eq!(whole().await, [0, 0, 1]);
    // Deleted messages are not unread, and later ones were not before the mark.
    base.log.delete(u1(), vec![Seq(3), Seq(4)]).unwrap();
    send(&base.delivery, "a").await;
    assert_eq!(whole().await, [0, 1, 1, 0]);
}
