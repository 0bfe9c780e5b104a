//! Read marks reach all sessions of their user, and a client can ask for its conversations.

use super::*;
use crate::{
    delivery::{Receivers, Send},
    message::StoredMessage,
    protocol::towncrier_v1::proto::{Conversations, Message as Pushed, Read, ReadMark},
};

/// The conversation of the messages from `oa`.
const CONVERSATION: &str = "sn_oa_u";

fn read(marks: &[(&str, u64)]) -> client_frame::Body {
    let marks = marks.iter().map(|(id, seq)| ReadMark {
        conversation_id: (*id).into(),
        conversation_seq: *seq,
    });
    client_frame::Body::Read(Read {
        marks: marks.collect(),
    })
}

fn conversations(request_id: u32) -> client_frame::Body {
    client_frame::Body::Conversations(Conversations {
        request_id,
        ..Conversations::default()
    })
}

impl Bench {
    /// Sends a notice from `oa` to "u", and returns its id.
    async fn notify(&self) -> String {
        let send = Send {
            message: StoredMessage {
                send_id: "oa".into(),
                session_type: 4,
                ..StoredMessage::default()
            },
            fingerprint: [0; 16],
            receivers: Receivers::List(vec![UserId::new("u").unwrap()]),
            is_online_only: false,
        };
        let receipt = self.world.delivery.send(send).await.unwrap();
        self.hand_out();
        receipt.message_id.to_string()
    }

    /// The entries of marks that the log took.
    fn marked(&self) -> usize {
        let rows = self.world.log.rows();
        rows.appends.iter().filter(|append| append.is_marks).count()
    }
}

async fn hear_message(client: &mut Client<DuplexStream>) -> Pushed {
    match client.hear_frame().await {
        Body::Push(push) => {
            let [message] = <[Pushed; 1]>::try_from(push.messages).unwrap();
            message
        }
        body => panic!("{body:?} instead of a push"),
    }
}

#[test]
fn a_mark_reaches_each_session_of_the_user_and_one_that_comes_later() {
    run(async {
        let mut bench = Bench::new();
        let mut reader = bench.log_in_live().await;
        let connect = bench.world.connect("u", Platform::Ios);
        let mut other = bench.log_in_with(connect, 1 << 20).await;
        assert!(matches!(other.hear_frame().await, Body::CaughtUp(_)));
        bench.notify().await;
        let server_msg_id = bench.notify().await;
        let marked = Pushed {
            seq: 3,
            server_msg_id,
            marks: vec![ReadMark {
                conversation_id: CONVERSATION.into(),
                conversation_seq: 2,
            }],
            ..Pushed::default()
        };
        for client in [&mut reader, &mut other] {
            for seq in [1, 2] {
                let message = hear_message(client).await;
                assert_eq!((message.seq, message.conversation_seq), (seq, seq));
            }
        }
        // Above the head is the head, and what is unknown is left out.
        reader.say(read(&[("unknown", 1), (CONVERSATION, 9)])).await;
        rest().await;
        bench.hand_out();
        for client in [&mut reader, &mut other] {
            assert_eq!(hear_message(client).await, marked);
            client.say(ack(3)).await;
        }
        rest().await;
        assert_eq!(bench.world.log.cursor(&web("u")), Some(Seq(3)));
        let connect = bench.world.connect("u", Platform::Android);
        let mut later = bench.log_in_with(connect, 1 << 20).await;
        let Body::Push(push) = later.hear_frame().await else {
            panic!("no backlog")
        };
        assert_eq!(push.messages[2], marked);
    });
}

#[test]
fn marks_that_move_nothing_make_no_entry() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.notify().await;
        bench.notify().await;
        let marks = [
            &[(CONVERSATION, 1)][..],
            &[(CONVERSATION, 1), ("unknown", 3)],
            &[(CONVERSATION, 0)],
            &[(CONVERSATION, 2)],
        ];
        for (marks, entries) in marks.into_iter().zip([1, 1, 1, 2]) {
            client.say(read(marks)).await;
            rest().await;
            bench.let_pass(1).await;
            rest().await;
            assert_eq!(bench.marked(), entries, "{marks:?}");
        }
    });
}

#[test]
fn a_log_that_does_not_take_marks_hinders_no_frame() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.notify().await;
        bench.world.log.rows().answering = Answering::Held;
        client.say(read(&[(CONVERSATION, 1)])).await;
        client
            .say(client_frame::Body::Ping(Ping { nonce: 7 }))
            .await;
        hear_message(&mut client).await;
        assert!(matches!(client.hear_frame().await, Body::Pong(_)));
        bench.let_pass(61).await;
        rest().await;
        bench.world.log.rows().answering = Answering::Later;
        client.say(read(&[(CONVERSATION, 1)])).await;
        bench.let_pass(2).await;
        rest().await;
        assert_eq!(bench.marked(), 1);
    });
}

#[test]
fn conversations_are_listed_whenever_the_log_answers() {
    run(async {
        for answering in [Answering::Now, Answering::Later] {
            let mut bench = Bench::new();
            bench.notify().await;
            bench.notify().await;
            let mut client = bench.log_in().await;
            assert_eq!(client.hear_messages(2).await.len(), 2);
            bench.world.log.rows().answering = answering;
            for request_id in [1, 2] {
                client.say(conversations(request_id)).await;
            }
            assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
            for request_id in [1, 2] {
                let Body::ConversationList(listed) = client.hear_frame().await else {
                    panic!("not listed")
                };
                assert!(listed.end && listed.request_id == request_id);
                let [conversation] = &listed.list[..] else {
                    panic!("{listed:?}")
                };
                assert_eq!(conversation.conversation_id, CONVERSATION);
                assert_eq!((conversation.head, conversation.unread), (2, 2));
                assert_eq!((conversation.mark, conversation.last_seq), (0, 2));
            }
        }
    });
}

#[test]
fn a_list_that_the_log_does_not_answer_ends_the_session_in_time() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.world.log.rows().answering = Answering::Held;
        client.say(conversations(1)).await;
        rest().await;
        bench.let_pass(61).await;
        assert_eq!(client.hear_close().await, 4503);
    });
}

#[test]
fn a_list_of_another_epoch_is_not_given_and_a_mark_counts_nothing_there() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.notify().await;
        hear_message(&mut client).await;
        bench.world.log.lose_everything();
        bench.world.append("u", b"of the newer epoch");
        client.say(read(&[("si__u", 1)])).await;
        client.say(conversations(1)).await;
        assert_eq!(client.hear_close().await, 4503);
        assert_eq!(bench.marked(), 0);
    });
}

#[test]
fn a_replaced_connection_marks_nothing_and_is_told_nothing() {
    run(async {
        let mut bench = Bench::new();
        let mut older = bench.log_in_live().await;
        bench.notify().await;
        hear_message(&mut older).await;
        let _newer = bench.log_in().await;
        // The older connection does not know yet.
        older.say(read(&[(CONVERSATION, 1)])).await;
        older.say(conversations(1)).await;
        rest().await;
        assert_eq!(bench.marked(), 0);
        bench.hand_out();
        assert!(matches!(older.hear_frame().await, Body::Kicked(_)));
        assert_eq!(older.hear_close().await, 4409);
    });
}

#[test]
fn a_log_without_conversations_takes_neither_frame() {
    run(async {
        for frame in [read(&[(CONVERSATION, 1)]), conversations(1)] {
            let mut bench = Bench::new();
            bench.world.log.rows().lacks_conversations = true;
            let (mut client, _) = bench.open(1 << 20).await;
            let connect = bench.world.connect("u", Platform::Web);
            client.say(client_frame::Body::Connect(connect)).await;
            let Body::Connected(connected) = client.hear_frame().await else {
                panic!("not Connected")
            };
            assert_eq!(connected.features, 0);
            client.say(frame).await;
            assert_eq!(client.hear_close().await, 4400);
        }
    });
}

#[test]
fn a_damaged_log_does_not_offer_its_conversations() {
    run(async {
        let mut bench = Bench::new();
        bench.notify().await;
        let damaged = AppendError::Refusing(LogError::new(Cause::Damaged, "a test damaged it"));
        bench.world.log.fail(Fault::Refuse(damaged));
        let (mut client, _) = bench.open(1 << 20).await;
        let connect = bench.world.connect("u", Platform::Web);
        client.say(client_frame::Body::Connect(connect)).await;
        let Body::Connected(connected) = client.hear_frame().await else {
            panic!("not Connected")
        };
        assert_eq!(connected.features, 0);
    });
}
