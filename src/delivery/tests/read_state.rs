//! Marks of what a user has read, on a log in memory.

use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::{
    clock::Clock,
    config::Config,
    delivery::{Delivery, Receivers, Send, SendError, read_state::LOOKS_IN_A_ROW},
    gateway::Base,
    ids::{Epoch, Seq, UserId},
    log::{
        AppendError, Cause, LogError, ReadLimit,
        tests::memory::{EPOCH, Fault, MemoryLog},
    },
    message::{Content, Conversation, ReadMark, StoredMessage},
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

/// Sends a message of this group to u1, and returns its id.
async fn send(delivery: &Delivery, group: &str) -> String {
    let send = Send {
        message: StoredMessage {
            send_id: "oa".into(),
            group_id: group.into(),
            session_type: 3,
            ..StoredMessage::default()
        },
        fingerprint: [0; 16],
        receivers: Receivers::List(vec![u1()]),
        is_online_only: false,
    };
    delivery.send(send).await.unwrap().message_id.to_string()
}

fn marks(of: &[(&str, u64)]) -> Vec<ReadMark> {
    let marks = of.iter().map(|(group, seq)| ReadMark {
        conversation_id: format!("sg_{group}"),
        conversation_seq: *seq,
        ..ReadMark::default()
    });
    marks.collect()
}

/// The entries of marks in u1's inbox: the id of the newest message, and the marks.
fn entries(base: &Base<MemoryLog>) -> Vec<(String, Vec<ReadMark>)> {
    let limit = ReadLimit {
        messages: 1000,
        bytes: usize::MAX,
    };
    let read = base.delivery.replay(&u1(), Seq::ZERO, limit);
    let entries = read.blocking_wait().unwrap().entries.into_iter();
    let entries = entries.filter_map(|entry| match entry.content {
        Content::Marks(body) => Some(StoredMessage::from_bytes(&body)),
        _ => None,
    });
    let entries = entries.map(|entry| {
        let StoredMessage {
            server_msg_id,
            marks,
            ..
        } = entry.clone();
        let rest = StoredMessage {
            server_msg_id: String::new(),
            marks: Vec::new(),
            ..entry
        };
        assert_eq!(rest, StoredMessage::default(), "nothing else is set");
        (server_msg_id, marks)
    });
    entries.collect()
}

fn conversations(base: &Base<MemoryLog>) -> Vec<Conversation> {
    let page = base.delivery.conversations(&u1(), Seq(u64::MAX), 10);
    page.blocking_wait().unwrap().conversations
}

#[tokio::test]
async fn marks_move_forward_to_the_head_at_most_and_name_the_newest_message_that_they_mark() {
    let base = base();
    let delivery = &base.delivery;
    let mut ids = Vec::new();
    for group in ["a", "b", "a", "b", "b"] {
        ids.push(send(delivery, group).await);
    }
    let mark = async |of: &[(&str, u64)]| delivery.mark_read(&u1(), None, marks(of)).await;
    mark(&[("b", 1), ("a", 9), ("unknown", 1)]).await.unwrap();
    let first = (ids[2].clone(), marks(&[("b", 1), ("a", 2)]));
    assert_eq!(entries(&base), std::slice::from_ref(&first));
    // Neither is higher.
    mark(&[("b", 1), ("a", u64::MAX), ("a", 0)]).await.unwrap();
    assert_eq!(entries(&base).len(), 1);
    mark(&[("a", 1), ("b", 2)]).await.unwrap();
    assert_eq!(
        entries(&base),
        [first, (ids[3].clone(), marks(&[("b", 2)]))]
    );
    let unread: Vec<_> = conversations(&base)
        .into_iter()
        .map(|conversation| (conversation.id.into_string(), conversation.unread))
        .collect();
    assert_eq!(unread, [("sg_b".into(), 1), ("sg_a".into(), 0)]);
}

#[tokio::test]
async fn a_mark_over_any_number_of_deleted_messages_names_the_newest_that_is_left() {
    let base = base();
    let delivery = &base.delivery;
    let first = send(delivery, "a").await;
    for _ in 2..=300 {
        send(delivery, "a").await;
    }
    let delete = async |seqs: std::ops::RangeInclusive<u64>| {
        let seqs = seqs.map(Seq).collect();
        delivery.delete(u1(), seqs).await.unwrap();
    };
    delete(2..=300).await;
    let mark = async |seq| {
        let marks = marks(&[("a", seq)]);
        delivery.mark_read(&u1(), None, marks).await.unwrap();
    };
    mark(299).await;
    assert_eq!(entries(&base), [(first, marks(&[("a", 299)]))]);
    delete(1..=1).await;
    mark(300).await;
    assert_eq!(entries(&base).len(), 1, "there is nothing to read");
}

#[tokio::test]
async fn a_mark_of_messages_that_expired_or_of_another_epoch_is_ignored() {
    let base = base();
    let delivery = &base.delivery;
    send(delivery, "a").await;
    send(delivery, "a").await;
    let user = u1();
    let mark = |epoch, seq| delivery.mark_read(&user, Some(Epoch(epoch)), marks(&[("a", seq)]));
    assert_eq!(mark(EPOCH + 1, 1).await, Ok(()));
    base.log.expire_all();
    assert_eq!(mark(EPOCH, 2).await, Ok(()));
    assert!(
        base.log
            .rows()
            .appends
            .iter()
            .all(|append| !append.is_marks)
    );
}

#[tokio::test]
async fn marks_of_many_conversations_let_others_have_their_turn() {
    let base = base();
    let user = u1();
    let look_at = |conversations: usize| {
        let marks = marks(&vec![("unknown", 1); conversations]);
        base.delivery.mark_read(&user, None, marks).now_or_never()
    };
    assert!(look_at(LOOKS_IN_A_ROW - 1).is_some());
    assert!(look_at(LOOKS_IN_A_ROW).is_none());
}

#[tokio::test]
async fn a_draining_gateway_takes_no_marks() {
    let base = base();
    send(&base.delivery, "a").await;
    base.delivery.start_draining();
    let user = u1();
    let refused = base.delivery.mark_read(&user, None, marks(&[("a", 1)]));
    assert_eq!(refused.await, Err(SendError::Draining));
}

#[tokio::test]
async fn a_log_that_refuses_appends_takes_no_marks_even_of_unknown_conversations() {
    let base = base();
    let refusing = AppendError::Refusing(LogError::new(Cause::Damaged, "a test damaged it"));
    base.log.rows().fault = Some(Fault::Refuse(refusing.clone()));
    let user = u1();
    let refused = base
        .delivery
        .mark_read(&user, None, marks(&[("unknown", 1)]));
    assert_eq!(refused.await, Err(SendError::Append(refusing)));
}
