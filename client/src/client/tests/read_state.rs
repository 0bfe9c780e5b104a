//! Read marks between a client and a gateway, newer or older.

use super::*;
use crate::proto::Read;

const CONVERSATION: &str = "sn_office_alice";

fn in_conversation(seq: u64, conversation_seq: u64) -> Message {
    Message {
        seq,
        conversation_id: CONVERSATION.into(),
        conversation_seq,
        ..Message::default()
    }
}

fn read_mark(conversation_seq: u64) -> ReadMark {
    ReadMark {
        conversation_id: CONVERSATION.into(),
        conversation_seq,
    }
}

fn marks_entry(seq: u64, conversation_seq: u64) -> Message {
    Message {
        seq,
        marks: vec![read_mark(conversation_seq)],
        ..Message::default()
    }
}

fn read(conversation_seq: u64) -> client_frame::Body {
    client_frame::Body::Read(Read {
        marks: vec![read_mark(conversation_seq)],
    })
}

#[tokio::test]
async fn a_mark_lands_as_a_message_does_and_is_none() {
    let (listener, options) = listen().await;
    let mut client = Client::new(options, MemoryStore::default());
    let read_state = client.read_state();
    let script = async {
        let mut server = Script::accept(&listener).await;
        server.greet_with(0, 3, 1).await;
        server.tell_no_conversations().await;
        let messages = [in_conversation(1, 1), in_conversation(2, 2)];
        server
            .say(server_frame::Body::Push(Push {
                messages: [&messages[..], &[marks_entry(3, 1)]].concat(),
            }))
            .await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 3 })
        );
        assert_eq!(read_state.unread().unwrap(), 1);
        server.push_whole(marks_entry(4, 2)).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 4 })
        );
        assert_eq!(read_state.unread().unwrap(), 0);
        drop(server);
        let mut server = Script::accept(&listener).await;
        assert_eq!(server.greet_with(4, 4, 1).await.cursor, Some(4));
    };
    let (mut landed, mut marks) = (Vec::new(), Vec::new());
    let on_event = |event| match event {
        ClientEvent::Landed { messages, .. } => {
            landed.extend(messages.iter().map(|message| message.seq));
        }
        ClientEvent::Conversations {
            marks: told,
            changed,
        } => {
            assert_eq!(changed.len(), 1);
            marks.extend(told.iter().map(|mark| mark.conversation_seq));
        }
        _ => {}
    };
    let ended = client.run(on_event, script).await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
    assert_eq!((landed, marks), (vec![1, 2], vec![1, 2]));
}

/// The paused clock jumps to the next timer while nothing is said.
#[tokio::test]
async fn a_mark_is_sent_again_until_it_comes_back() {
    let (listener, options) = listen().await;
    let mut client = Client::new(options, MemoryStore::default());
    let read_state = client.read_state();
    let script = async {
        let mut server = Script::accept(&listener).await;
        server.greet_with(0, 1, 1).await;
        server.tell_no_conversations().await;
        server.push_whole(in_conversation(1, 1)).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 1 })
        );
        read_state.mark_read(CONVERSATION, 1).unwrap();
        assert_eq!(read_state.unread().unwrap(), 0);
        assert_eq!(server.expect().await, read(1));
        tokio::time::pause();
        assert_eq!(server.expect().await, read(1));
        tokio::time::resume();
        drop(server);
        // The mark was not told, so it goes to the next connection as well.
        let mut server = Script::accept(&listener).await;
        server.greet_with(1, 1, 1).await;
        assert_eq!(server.expect().await, read(1));
        server.push_whole(marks_entry(2, 1)).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 2 })
        );
        drop(server);
        let mut server = Script::accept(&listener).await;
        server.greet_with(2, 2, 1).await;
        server.push_whole(in_conversation(3, 2)).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 3 })
        );
    };
    let ended = client.run(|_| {}, script).await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
}

#[tokio::test]
async fn an_older_gateway_gets_no_frame_that_it_does_not_know() {
    let (listener, options) = listen().await;
    let mut client = Client::new(options, MemoryStore::default());
    let read_state = client.read_state();
    let script = async {
        let mut older = Script::accept(&listener).await;
        older.greet(0, 1).await;
        older.push_whole(in_conversation(1, 1)).await;
        assert_eq!(
            older.expect().await,
            client_frame::Body::Ack(Ack { seq: 1 })
        );
        read_state.mark_read(CONVERSATION, 1).unwrap();
        let gap = Gap {
            from_seq: 2,
            to_seq: 2,
            reason: gap::Reason::Expired.into(),
        };
        older.say(server_frame::Body::Gap(gap)).await;
        // Everything that the client had to say was said before this ack.
        assert_eq!(
            older.expect().await,
            client_frame::Body::Ack(Ack { seq: 2 })
        );
        older.push([3]).await;
        assert_eq!(
            older.expect().await,
            client_frame::Body::Ack(Ack { seq: 3 })
        );
        assert_eq!(read_state.unread().unwrap(), 0, "the mark holds here");
        drop(older);
        let mut newer = Script::accept(&listener).await;
        newer.greet_with(3, 3, 1).await;
        assert_eq!(newer.expect().await, read(1));
        newer.tell_no_conversations().await;
    };
    let ended = client.run(|_| {}, script).await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
}
