//! The decision table: who gets a push, and when.

use super::*;
use crate::{
    ids::ConversationSeq,
    log::{RowChange, SessionBegin},
    message::{OfflinePush, ReadMark, ReceiveOption, SettingsChange},
};

#[tokio::test]
async fn a_phone_that_is_offline_gets_a_push_at_once() {
    let mut bench = Bench::with_phone().await;
    let offline_push = OfflinePush {
        title: "Task".into(),
        desc: "Due".into(),
        ex: "{}".into(),
        ios_push_sound: "bell".into(),
        ios_badge_count: true,
    };
    let with_texts = |send: &mut Send| send.message.offline_push = Some(offline_push);
    let (message, seq) = bench.send_with(with_texts).await;
    bench.pass(499);
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), NONE, "an ack may come");
    bench.pass(1);
    bench.decide_and_call().await;
    let seen = bench.notices();
    let [(notice, tokens)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(tokens, &["phone"]);
    let expected = Notice {
        id: message,
        user: user(),
        conversation_id: "si_oa_u".into(),
        seq,
        title: "Task".into(),
        body: "Due".into(),
        ex: "{}".into(),
        sound: "bell".into(),
        badge: Some(1),
        text: None,
        expires_in: Duration::from_secs(24 * 3600) - Duration::from_millis(500),
    };
    assert_eq!(*notice, expected);
    assert_eq!(bench.states(message), [(MOBILE, "sent")]);
    assert_eq!(bench.rows(), 0);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE, "it is pushed once");
}

#[tokio::test]
async fn a_phone_that_is_online_and_acks_gets_none() {
    let mut bench = Bench::with_phone().await;
    bench.connect(&key(Platform::Ios));
    let (message, seq) = bench.send().await;
    bench.ack(&key(Platform::Ios), seq);
    bench.soon().await;
    assert_eq!(bench.rows(), 0, "nothing waits");
    assert_eq!(bench.states(message), [(MOBILE, "served")]);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE);
}

#[tokio::test]
async fn a_decision_about_a_phone_that_acks_reads_nothing_but_the_feed() {
    let mut bench = Bench::with_phone().await;
    bench.connect(&key(Platform::Ios));
    for reads in [None, Some(1)] {
        let (message, seq) = bench.send().await;
        bench.ack(&key(Platform::Ios), seq);
        bench.pass(500);
        if let Some(reads) = reads {
            bench.base.log.fail_read_after(reads);
        }
        let now_ms = bench.now_ms();
        bench.work.decider.take_feed(now_ms).await.unwrap();
        assert_eq!(bench.states(message), [(MOBILE, "served")]);
    }
}

#[tokio::test]
async fn a_session_that_began_behind_a_message_does_not_serve_it() {
    for crashes in [false, true] {
        let mut bench = Bench::with_phone().await;
        let (message, seq) = bench.send().await;
        bench.begin_at(&key(Platform::Ios), seq);
        if crashes {
            bench.crash().await;
        }
        bench.soon().await;
        assert_eq!(bench.states(message), [(MOBILE, "waiting")]);
        bench.later().await;
        assert_eq!(bench.pushed(message), ["phone"]);
        let (message, seq) = bench.send().await;
        bench.ack(&key(Platform::Ios), seq);
        bench.later().await;
        assert_eq!(bench.states(message), [(MOBILE, "served")]);
        assert_eq!(bench.pushed(message), NONE);
    }
}

#[tokio::test]
async fn a_phone_that_is_online_and_does_not_ack_gets_a_push_at_the_deadline() {
    let mut bench = Bench::with_phone().await;
    bench.connect(&key(Platform::Ios));
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "waiting")]);
    bench.pass(AFTER_MS - 501);
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), NONE);
    bench.pass(1);
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), ["phone"]);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn an_ack_before_the_deadline_serves() {
    let mut bench = Bench::with_phone().await;
    bench.connect(&key(Platform::Ios));
    let (message, seq) = bench.send().await;
    bench.soon().await;
    bench.ack(&key(Platform::Ios), seq);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE);
    assert_eq!(bench.states(message), [(MOBILE, "served")]);
}

#[tokio::test]
async fn a_phone_in_a_tunnel_has_its_time_to_come_back() {
    let mut bench = Bench::with_phone().await;
    let connection = bench.connect(&key(Platform::Ios));
    bench.registry.deregister(&key(Platform::Ios), connection);
    let (message, seq) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "waiting")]);
    bench.connect(&key(Platform::Ios));
    bench.ack(&key(Platform::Ios), seq);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE);
}

#[tokio::test]
async fn an_ack_of_another_class_serves_its_own_class_only() {
    let mut bench = Bench::with_phone().await;
    bench.register(Platform::Osx, "desk", "").await;
    bench.connect(&key(Platform::Osx));
    let (message, seq) = bench.send().await;
    bench.ack(&key(Platform::Osx), seq);
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["phone"]);
    let states = [(MOBILE, "sent"), (DeviceClass::Pc, "served")];
    assert_eq!(bench.states(message), states);
}

#[tokio::test]
async fn an_ack_of_a_class_that_serves_all_serves_all() {
    let unless = |config: &mut config::Push| config.unless_acked_on = vec![DeviceClass::Pc];
    let mut bench = Bench::with(Provider::Http, unless).await;
    bench.register(Platform::Ios, "phone", "").await;
    bench.connect(&key(Platform::Osx));
    let (message, seq) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.pushed(message), NONE, "the desk may ack");
    bench.ack(&key(Platform::Osx), seq);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE);
    assert_eq!(bench.states(message), [(MOBILE, "served")]);
    let (message, _) = bench.send().await;
    bench.later().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}

#[tokio::test]
async fn an_openim_phone_is_served_by_its_pong_while_it_is_connected_and_in_foreground() {
    let mut bench = Bench::with_phone().await;
    let phone = openim_key(Platform::Ios);
    let connection = bench.connect(&phone);
    let (message, seq) = bench.send().await;
    bench.ack(&phone, seq);
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "waiting")]);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE);
    assert_eq!(bench.states(message), [(MOBILE, "served")]);

    bench.registry.set_background(&phone, connection, true);
    let (message, seq) = bench.send().await;
    bench.ack(&phone, seq);
    bench.later().await;
    assert_eq!(bench.pushed(message), ["phone"], "it is in background");

    bench.registry.set_background(&phone, connection, false);
    let (message, seq) = bench.send().await;
    bench.ack(&phone, seq);
    bench.registry.deregister(&phone, connection);
    bench.later().await;
    assert_eq!(bench.pushed(message), ["phone"], "it left after its pong");
}

#[tokio::test]
async fn a_pull_or_a_mark_of_an_openim_client_serves_at_once() {
    let mut bench = Bench::with_phone().await;
    let phone = openim_key(Platform::Ios);
    bench.connect(&phone);
    let (message, seq) = bench.send().await;
    bench.ack(&phone, seq);
    let delivery = &bench.base.delivery;
    delivery.prove(&phone, "si_oa_u", ConversationSeq(1));
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "served")]);
    assert_eq!(bench.rows(), 0);
    assert_eq!(bench.pushed(message), NONE);
}

#[tokio::test]
async fn a_browsers_pong_never_serves() {
    let mut bench = Bench::new().await;
    bench.register(Platform::Web, "browser", "").await;
    let browser = openim_key(Platform::Web);
    bench.connect(&browser);
    let (message, seq) = bench.send().await;
    bench.ack(&browser, seq);
    bench.later().await;
    assert_eq!(bench.pushed(message), ["browser"]);
}

#[tokio::test]
async fn marks_and_messages_that_say_so_and_online_only_ones_are_not_pushed() {
    let mut bench = Bench::with_phone().await;
    bench.send_with(|send| send.message.no_push = true).await;
    bench
        .send_with(|send| send.message.content_type = 111)
        .await;
    bench.send_with(|send| send.is_online_only = true).await;
    let mark = ReadMark {
        conversation_id: "si_oa_u".into(),
        conversation_seq: 1,
        ..ReadMark::default()
    };
    let delivery = Arc::clone(&bench.base.delivery);
    delivery.mark_read(&user(), None, vec![mark]).await.unwrap();
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}

#[tokio::test]
async fn a_conversation_set_to_do_not_disturb_is_not_pushed() {
    let mut bench = Bench::with_phone().await;
    let (first, _) = bench.send().await;
    bench.soon().await;
    bench.pushed(first);
    for option in [ReceiveOption::Unwanted, ReceiveOption::Silent] {
        let change = SettingsChange {
            conversation_id: "si_oa_u".into(),
            receive_option: Some(option),
            ..SettingsChange::default()
        };
        let (delivery, user) = (&bench.base.delivery, user());
        let changed = delivery.change_settings(&user, vec![change]);
        changed.await.unwrap();
        let (message, _) = bench.send().await;
        bench.soon().await;
        bench.later().await;
        assert_eq!(bench.pushed(message), NONE);
        assert_eq!(bench.states(message), [(MOBILE, "do-not-disturb")]);
    }
}

#[tokio::test]
async fn a_message_to_many_is_decided_for_each_and_speaks_the_language_of_each_device() {
    let mut bench = Bench::with_phone().await;
    bench.register(Platform::Android, "pad", "zh-CN").await;
    let others = (0..1000).map(|number| UserId::new(&format!("other{number}")).unwrap());
    let receivers = Receivers::List([user()].into_iter().chain(others).collect());
    let to_many = |send: &mut Send| {
        send.message.session_type = 4;
        send.message.content_type = 1400;
        send.receivers = receivers;
    };
    let (message, _) = bench.send_with(to_many).await;
    bench.soon().await;
    let seen = bench.notices().into_iter();
    let mut seen: Vec<_> = seen
        .map(|(notice, tokens)| {
            assert_eq!((notice.id, notice.user), (message, user()));
            (notice.title.to_string(), tokens.concat())
        })
        .collect();
    seen.sort();
    let expected = [("[Notice]", "phone"), ("[通知]", "pad")];
    assert_eq!(
        seen,
        expected.map(|(title, token)| (title.into(), token.into()))
    );
}

#[tokio::test]
async fn a_message_to_everyone_is_pushed() {
    let mut bench = Bench::with_phone().await;
    let (first, _) = bench.send().await;
    bench.soon().await;
    bench.pushed(first);
    let to_everyone = |send: &mut Send| send.receivers = Receivers::Everyone;
    let (message, _) = bench.send_with(to_everyone).await;
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}

#[tokio::test]
async fn a_vendor_by_alias_has_one_phone_of_every_user() {
    let mut bench = Bench::with(Provider::JPush, |_| {}).await;
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["u"]);
}

#[tokio::test]
async fn users_without_a_device_cost_no_row() {
    let mut bench = Bench::new().await;
    for _ in 0..10 {
        bench.send().await;
    }
    bench.later().await;
    assert_eq!(bench.rows(), 0);
    assert_eq!(bench.notices(), []);
}

#[tokio::test]
async fn a_device_counts_as_soon_as_it_is_registered() {
    let mut bench = Bench::new().await;
    bench.send().await;
    bench.soon().await;
    bench.register(Platform::Ios, "phone", "").await;
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}

#[tokio::test]
async fn a_session_that_began_behind_a_message_at_another_gateway_does_not_serve() {
    let mut bench = Bench::with_phone().await;
    bench.room.source.is_shared = true;
    bench.work = bench.room.work(TurnNumber::ALWAYS);
    bench.start().await;
    bench.pass(AFTER_MS);
    let (message, seq) = bench.send().await;
    let begun = SessionBegin {
        epoch: bench.base.log.rows().epoch(),
        cursor: seq,
        time_ms: bench.now_ms(),
    };
    let row = RowChange {
        table: RowTable::Consumers,
        key: SessionBegin::key_for_push(&key(Platform::Ios)).into(),
        value: Some(begun.value()),
    };
    bench.base.log.put_rows(vec![row]).unwrap();
    bench.ack(&key(Platform::Ios), seq);
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["phone"]);
    let (_, seq) = bench.send().await;
    bench.ack(&key(Platform::Ios), seq);
    bench.soon().await;
    assert_eq!(bench.notices().len(), 0);
}

#[tokio::test]
async fn a_device_that_another_gateway_registered_before_a_message_gets_its_push() {
    let mut bench = Bench::new().await;
    bench.room.source.is_shared = true;
    bench.work = bench.room.work(TurnNumber::ALWAYS);
    bench.start().await;
    bench.pass(AFTER_MS);
    bench.send().await;
    bench.soon().await;
    assert_eq!(bench.notices().len(), 0, "there is no device yet");
    let own = Arc::clone(&bench.base.delivery);
    bench.base.delivery = bench.another_delivery();
    bench.register(Platform::Ios, "phone", "en").await;
    bench.base.delivery = own;
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}
