//! Clients that ask where they stand before they take pushes, over the protocol of `words.rs`.
//!
//! - `epochs.rs`: the numbers that each is told in a new epoch
//! - `certain.rs`: what is known for certain of a client that does not ack

mod certain;
mod epochs;

use super::{words::Words, *};
use crate::{
    connection::refusal,
    delivery::{Receivers, Send},
    ids::SessionKey,
    message::StoredMessage,
    session::Manner,
};

type Talker = WebSocketStream<DuplexStream>;

async fn say(client: &mut Talker, text: &str) {
    client.send(WsMessage::Text(text.into())).await.unwrap();
}

/// The next word. Pings are answered, because the stream answers them as it reads on.
async fn hear(client: &mut Talker) -> String {
    loop {
        match client.next().await.expect("goes on").expect("well formed") {
            WsMessage::Text(text) => return text.to_string(),
            WsMessage::Ping(_) => client.flush().await.unwrap(),
            WsMessage::Close(close) => {
                let close = close.expect("a code");
                return format!("{} {}", u16::from(close.code), close.reason);
            }
            message => panic!("{message:?}"),
        }
    }
}

/// Answers the ping that comes next.
async fn pong(client: &mut Talker) {
    let ping = client.next().await.expect("goes on").expect("well formed");
    assert!(matches!(ping, WsMessage::Ping(_)), "{ping:?}");
    client.flush().await.unwrap();
    rest().await;
}

impl Bench {
    /// A session of "u" with this token, up to its first word.
    async fn talk(&mut self, token: &str, manner: Manner) -> Talker {
        let mut client = self.knock(Words::new(token, manner, None)).await;
        assert_eq!(hear(&mut client).await, "hello");
        if manner == Manner::Sifts {
            pong(&mut client).await;
        }
        client
    }

    async fn knock(&mut self, codec: Words) -> Talker {
        self.open_with(Box::new(codec), 1 << 20).await.0
    }

    fn token(&self, user: &str) -> String {
        self.world.connect(user, Platform::Web).token
    }

    /// Sends a notice to "u", and hands it out.
    async fn notice(&self, sender: &str, content: &str) {
        let send = Send {
            message: StoredMessage {
                send_id: sender.into(),
                session_type: 4,
                content: Bytes::copy_from_slice(content.as_bytes()),
                ..StoredMessage::default()
            },
            fingerprint: [0; 16],
            receivers: Receivers::List(vec![UserId::new("u").unwrap()]),
            is_online_only: false,
        };
        self.world.delivery.send(send).await.unwrap();
        self.hand_out();
    }
}

#[test]
fn who_sifts_is_told_how_far_it_came_and_gets_the_rest_then() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        bench.notice("a", "1").await;
        let mut client = bench.talk(&token, Manner::Sifts).await;
        say(&mut client, "reached").await;
        assert_eq!(hear(&mut client).await, "(sn_a_u:1)");
        bench.notice("a", "2").await;
        assert_eq!(hear(&mut client).await, "+2");
        // The pong to the ping behind it is the receipt.
        say(&mut client, "?").await;
        assert_eq!(hear(&mut client).await, "what?");
        drop(client);
        rest().await;
        for (sender, content) in [("b", "3"), ("a", "4"), ("a", "5"), ("b", "6"), ("a", "7")] {
            bench.notice(sender, content).await;
        }
        bench.world.delete("u", 4);
        let mut client = bench.talk(&token, Manner::Sifts).await;
        bench.notice("a", "8").await;
        say(&mut client, "reached").await;
        assert_eq!(hear(&mut client).await, "(sn_a_u:2 sn_b_u:0)");
        assert_eq!(hear(&mut client).await, "+3");
        assert_eq!(hear(&mut client).await, "+5 +6 +7 +8");
    });
}

#[test]
fn who_sifts_and_does_not_ask_gets_the_backlog_after_a_second() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        drop(bench.talk(&token, Manner::Sifts).await);
        rest().await;
        bench.notice("a", "1").await;
        let mut client = bench.talk(&token, Manner::Sifts).await;
        bench.let_pass(1).await;
        assert_eq!(hear(&mut client).await, "+1");
        say(&mut client, "reached").await;
        assert_eq!(hear(&mut client).await, "(sn_a_u:1)");
    });
}

/// A client that lost a connection before it had pulled what its place covers finds that by the newest message of each conversation.
#[test]
fn who_sifts_and_does_not_ask_is_shown_the_newest_message_of_each_conversation() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        for (sender, content) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("c", "5")] {
            bench.notice(sender, content).await;
        }
        // Newest of their conversations, and deleted: one before it is shown, or none.
        bench.world.delete("u", 4);
        bench.world.delete("u", 5);
        drop(bench.talk(&token, Manner::Sifts).await);
        rest().await;
        bench.notice("b", "6").await;
        let mut client = bench.talk(&token, Manner::Sifts).await;
        bench.let_pass(1).await;
        // The newest message of b was not sent, and comes as a push.
        assert_eq!(hear(&mut client).await, "=2");
        assert_eq!(hear(&mut client).await, "+6");
    });
}

#[test]
fn a_first_login_of_who_sifts_waits_until_its_place_is_durable() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        bench.world.log.fail(Fault::Hang);
        let words = Words::new(&token, Manner::Sifts, None);
        let mut client = bench.knock(words).await;
        rest().await;
        assert!(client.next().now_or_never().is_none(), "not let in yet");
        // The login goes on where the log takes no write.
        bench.world.log.rows().hanging.clear();
        assert_eq!(hear(&mut client).await, "hello");
        drop(client);
        rest().await;
        // A later login writes nothing.
        bench.talk(&token, Manner::Sifts).await;
        assert_eq!(bench.world.log.rows().sessions.len(), 1);
    });
}

/// A Go core takes each mark for all of its conversation.
#[test]
fn a_mark_that_leaves_something_unread_is_not_told_to_who_sifts() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        let mut client = bench.talk(&token, Manner::Sifts).await;
        say(&mut client, "reached").await;
        assert_eq!(hear(&mut client).await, "()");
        for content in ["1", "2", "3"] {
            bench.notice("a", content).await;
            hear(&mut client).await;
        }
        bench.notice("b", "4").await;
        assert_eq!(hear(&mut client).await, "+4");
        let mark = async |marks: &[(&str, u64)]| {
            let marks = marks.iter().map(|(id, seq)| crate::message::ReadMark {
                conversation_id: (*id).into(),
                conversation_seq: *seq,
                base: 0,
            });
            let user = UserId::new("u").unwrap();
            let marked = bench.world.delivery.mark_read(&user, None, marks.collect());
            marked.await.unwrap();
            bench.hand_out();
            rest().await;
        };
        mark(&[("sn_a_u", 2)]).await;
        mark(&[("sn_a_u", 3)]).await;
        // The mark at 5 was left out.
        assert_eq!(hear(&mut client).await, "+6");
        pong(&mut client).await;
        drop(client);
        rest().await;
        bench.notice("a", "7").await;
        bench.notice("a", "8").await;
        mark(&[("sn_a_u", 4), ("sn_b_u", 1)]).await;
        mark(&[("sn_a_u", 5)]).await;
        bench.notice("a", "11").await;
        let mut client = bench.talk(&token, Manner::Sifts).await;
        say(&mut client, "reached").await;
        assert_eq!(hear(&mut client).await, "(sn_a_u:3 sn_b_u:1)");
        // Entry 9 keeps one mark. Messages that came after a mark leave it whole.
        assert_eq!(hear(&mut client).await, "+7 +8 +9 +10 +11");
    });
}

#[test]
fn who_forgets_begins_at_its_overview() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        let mut client = bench.talk(&token, Manner::Forgets).await;
        bench.notice("a", "1").await;
        bench.let_pass(5).await;
        say(&mut client, "overview").await;
        assert_eq!(hear(&mut client).await, "(sn_a_u:1)");
        bench.notice("b", "2").await;
        say(&mut client, "ranges 1000 sn_a_u 1 1 sn_x_u 1 9").await;
        assert_eq!(hear(&mut client).await, "(1 unknown)");
        pong(&mut client).await;
        bench.let_pass(1).await;
        assert_eq!(hear(&mut client).await, "+2");
        bench.notice("a", "3").await;
        assert_eq!(hear(&mut client).await, "+3");
    });
}

#[test]
fn ranges_share_their_bytes_and_keep_the_newest() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        for n in 0..300 {
            bench.notice("a", &n.to_string()).await;
        }
        bench.notice("b", &"x".repeat(10_000)).await;
        bench.notice("b", "y").await;
        let mut client = bench.talk(&token, Manner::Sifts).await;
        say(&mut client, "ranges 1000000 sn_a_u 0 999 sn_b_u 1 1").await;
        let all = hear(&mut client).await;
        assert_eq!(all.split(',').count(), 300, "{all}");
        assert!(all.ends_with(",300 1)"), "{all}");
        // A message takes some 350 bytes here. The large one has no room, and what it leaves goes to the others.
        say(&mut client, "ranges 3000 sn_a_u 0 999 sn_b_u 1 2").await;
        let few = hear(&mut client).await;
        assert!(few.starts_with("(29") && few.ends_with(",300 2)"), "{few}");
        say(&mut client, "ranges 3000 sn_a_u 7 6 sn_a_u 301 400").await;
        assert_eq!(hear(&mut client).await, "( )");
    });
}

#[test]
fn presence_is_told_at_once_and_at_each_change() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        let mut client = bench.talk(&token, Manner::Sifts).await;
        say(&mut client, "watch v").await;
        assert_eq!(hear(&mut client).await, r#"[("v", [])]"#);
        let connect = bench.world.connect("v", Platform::Ios);
        let other = bench.log_in_with(connect, 1 << 20).await;
        bench.let_pass(1).await;
        assert_eq!(hear(&mut client).await, r#"[("v", [Ios])]"#);
        bench.let_pass(1).await;
        drop(other);
        rest().await;
        bench.let_pass(1).await;
        assert_eq!(hear(&mut client).await, r#"[("v", [])]"#);
    });
}

#[test]
fn a_client_that_logs_out_has_its_answer_before_the_close() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        let mut client = bench.talk(&token, Manner::Sifts).await;
        say(&mut client, "bye").await;
        assert_eq!(hear(&mut client).await, "bye!");
        assert_eq!(hear(&mut client).await, "1000 Left");
    });
}

#[test]
fn the_same_token_again_and_a_newer_login_are_told_before_the_close() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        let mut older = bench.talk(&token, Manner::Sifts).await;
        let mut newer = bench.talk(&token, Manner::Sifts).await;
        bench.hand_out();
        assert_eq!(hear(&mut older).await, "Kicked(Replaced)");
        assert_eq!(hear(&mut older).await, "3000 Replaced");
        // Under this policy a session of another protocol takes the same place, and has a cursor of its own.
        bench.log_in_live().await;
        bench.hand_out();
        assert_eq!(hear(&mut newer).await, "Kicked(Replaced)");
        let rows = bench.world.log.rows();
        let are_openim: Vec<_> = rows.sessions.keys().map(SessionKey::is_openim).collect();
        drop(rows);
        assert_eq!(are_openim, [false, true]);
    });
}

#[test]
fn a_token_of_another_user_or_platform_is_refused_before_and_after_the_upgrade() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        let user = |name| UserId::new(name).unwrap();
        for named in [(user("v"), Platform::Web), (user("u"), Platform::Ios)] {
            let codec = Words::new(&token, Manner::Sifts, Some(named.clone()));
            let arrival = bench.world.arrival();
            let refused = refusal(&bench.context, &codec, &arrival).await;
            assert_eq!(refused.unwrap(), "Unauthorized(OfAnother)", "{named:?}");
            let mut client = bench.knock(codec).await;
            assert_eq!(hear(&mut client).await, "no: Unauthorized(OfAnother)");
            assert_eq!(hear(&mut client).await, "3000 Unauthorized(OfAnother)");
        }
        let named = Some((user("u"), Platform::Web));
        let codec = Words::new(&token, Manner::Sifts, named);
        let arrival = bench.world.arrival();
        assert_eq!(refusal(&bench.context, &codec, &arrival).await, None);
        let platform = Platform::Web;
        bench
            .world
            .delivery
            .log_out(user("u"), platform)
            .await
            .unwrap();
        let refused = refusal(&bench.context, &codec, &arrival).await;
        assert_eq!(refused.unwrap(), "Unauthorized(Revoked)");
    });
}

#[test]
fn a_message_that_comes_while_a_question_is_answered_is_neither_lost_nor_doubled() {
    run(async {
        for (manner, question) in [(Manner::Sifts, "reached"), (Manner::Forgets, "overview")] {
            let mut bench = Bench::new();
            let token = bench.token("u");
            let mut client = bench.talk(&token, manner).await;
            bench.notice("a", "1").await;
            bench.world.log.rows().answering = Answering::Held;
            say(&mut client, question).await;
            rest().await;
            // Between two of the reads behind the answer.
            let mut sent = 1;
            for _ in 0..20 {
                bench.world.log.release();
                rest().await;
                if sent < 3 {
                    bench.world.log.rows().answering = Answering::Now;
                    bench.notice("a", "x").await;
                    bench.world.log.rows().answering = Answering::Held;
                    sent += 1;
                }
            }
            bench.world.log.rows().answering = Answering::Now;
            let answer = hear(&mut client).await;
            if manner == Manner::Forgets {
                pong(&mut client).await;
            }
            let reached = answer.strip_prefix("(sn_a_u:").expect("one conversation");
            let reached: u64 = reached.strip_suffix(')').unwrap().parse().unwrap();
            bench.let_pass(1).await;
            bench.notice("a", "last").await;
            let mut next = reached + 1;
            while next <= 4 {
                for seq in hear(&mut client).await.split(' ') {
                    assert_eq!(seq, format!("+{next}"), "{manner:?} after {answer}");
                    next += 1;
                }
            }
            assert_eq!(next, 5, "{manner:?}");
        }
    });
}
