//! Which events come, in which order, and again after a crash.

use serde_json::{Value, json};

use super::{
    super::{
        backlog::PUSH_EVENTS_MAX,
        event::{EVENT_RECEIVERS_MAX, EVENT_TEXT_BYTES_MAX},
        gather::EVENT_BATCH_BYTES_MAX,
        presence::PRESENCE_NOTES_MAX,
        rows,
    },
    fixture::{Bench, session, user},
};
use crate::{
    config::EventKind,
    ids::{MessageId, Platform, Seq},
    log::{Expiry, FeedPosition, SessionBegin, TurnNumber},
    registry::PresenceWatch as _,
};

fn seqs(events: &[Value]) -> Vec<u64> {
    let entry = |event: &Value| event["data"]["receivers"][0]["seq"].as_u64().unwrap();
    events.iter().map(entry).collect()
}

fn ids(events: &[Value]) -> Vec<String> {
    let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
    events.iter().map(id).collect()
}

#[tokio::test]
async fn messages_before_the_first_start_are_not_told_and_all_others_once_and_in_order() {
    let bench = Bench::new();
    bench.send(&["alice"]);
    let mut run = bench.start().await;
    for _ in 0..20 {
        bench.send(&["alice"]);
    }
    let told = run.of_kind("message.accepted").await;
    assert_eq!(seqs(&told), (2..=21).collect::<Vec<_>>());
    assert_eq!(run.all().await, Vec::<Value>::new());
    let data = &told[0]["data"];
    assert_eq!(data["send_id"], "office");
    assert_eq!(data["content_type"], 101);
    assert!(told[0]["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_batch_that_was_not_told_comes_again_with_the_same_ids_after_a_crash() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    run.all().await;
    for _ in 0..12 {
        bench.send(&["alice"]);
        bench.ack(&session("alice", ""), 1);
    }
    let mut seen = Vec::new();
    // Each start gathers, crashes before the answer, and is started again.
    for _ in 0..3 {
        let mut run = bench.start().await;
        let state = run.next().await.unwrap();
        let events: Vec<_> = state.events.iter().map(|event| event.id.clone()).collect();
        seen.push(events[1..].to_vec());
    }
    // Shares of the sources differ from turn to turn, and the events do not.
    let run_again = bench.start().await.all().await;
    let told = ids(&run_again);
    for events in seen {
        assert!(events.iter().all(|id| told.contains(id)), "{events:?}");
    }
    let mut unique = told.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), told.len());
    let accepted: Vec<_> = run_again
        .into_iter()
        .filter(|event| event["type"] == "message.accepted")
        .collect();
    assert_eq!(seqs(&accepted), (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn acks_are_told_as_ranges_from_where_the_receiver_was_told() {
    let bench = Bench::new();
    let (web, phone) = (session("alice", ""), session("alice", "\u{1}v3"));
    let mut run = bench.start().await;
    bench.ack(&web, 3);
    bench.ack(&web, 5);
    bench.ack(&phone, 4);
    let ranges = |events: &[Value]| -> Vec<_> {
        let range = |event: &Value| {
            let data = &event["data"];
            (
                data["device_id"] == "",
                data["from_seq"].as_u64().unwrap(),
                data["to_seq"].as_u64().unwrap(),
            )
        };
        events.iter().map(range).collect()
    };
    let told = run.of_kind("message.acked").await;
    assert_eq!(ranges(&told), [(true, 1, 3), (true, 4, 5), (false, 1, 4)]);
    // A cursor that comes again, or goes back, tells nothing. Another start knows how far the receiver was told.
    bench.ack(&web, 5);
    bench.ack(&web, 2);
    let mut run = bench.start().await;
    bench.ack(&web, 9);
    assert_eq!(ranges(&run.of_kind("message.acked").await), [(true, 6, 9)]);
}

#[tokio::test]
async fn a_session_that_began_at_the_head_acked_nothing_below() {
    let bench = Bench::new();
    let web = session("alice", "");
    let mut run = bench.start().await;
    let begun = SessionBegin {
        epoch: bench.log.rows().epoch(),
        cursor: Seq(40),
        time_ms: 1,
    };
    bench.put(vec![rows::put(SessionBegin::key(&web), begun.value())]);
    bench.ack(&web, 40);
    assert_eq!(run.of_kind("message.acked").await, Vec::<Value>::new());
    bench.ack(&web, 42);
    let told = run.of_kind("message.acked").await;
    assert_eq!(told[0]["data"]["from_seq"], 41);
    assert_eq!(bench.kept(SessionBegin::PREFIX).await, []);
}

#[tokio::test]
async fn what_retention_removed_before_it_was_told_is_announced() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    bench.send(&["alice"]);
    assert_eq!(run.of_kind("message.accepted").await.len(), 1);
    bench.send(&["alice"]);
    bench.send(&["alice"]);
    bench.log.expire_all();
    bench.send(&["alice"]);
    let told = run.all().await;
    assert_eq!(told[0]["type"], "events.lost");
    assert_eq!(told[0]["data"]["type"], "message.accepted");
    let times = ["from_time", "to_time"].map(|key| told[0]["data"][key].as_u64().unwrap());
    assert!(0 < times[0] && times[0] <= times[1], "{times:?}");
    assert_eq!(seqs(&told[1..]), [4]);
}

#[tokio::test]
async fn in_a_new_epoch_the_messages_of_the_old_one_are_announced_as_lost() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    bench.send(&["alice"]);
    run.all().await;
    bench.ack(&session("alice", ""), 1);
    run.all().await;
    bench.log.lose_everything();
    bench.ack(&session("alice", ""), 1);
    let mut told = run.all().await;
    bench.send(&["alice"]);
    told.extend(run.all().await);
    let kinds: Vec<_> = told.iter().map(|event| event["type"].as_str()).collect();
    let count = |kind| kinds.iter().filter(|found| **found == Some(kind)).count();
    assert_eq!(count("events.lost"), 1, "{kinds:?}");
    assert_eq!(count("message.accepted"), 1, "{kinds:?}");
    assert_eq!(count("message.acked"), 1, "{kinds:?}");
}

#[tokio::test]
async fn an_event_names_up_to_a_number_of_receivers_and_a_batch_ends_at_its_bytes() {
    let mut bench = Bench::new();
    bench.settings.batch_max = 1000;
    let names: Vec<_> = (0..=EVENT_RECEIVERS_MAX)
        .map(|number| format!("{number:060}"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut run = bench.start().await;
    run.all().await;
    bench.send(&names);
    for _ in 0..40 {
        bench.send(&names[..EVENT_RECEIVERS_MAX]);
    }
    let mut batches = 0;
    let mut events = Vec::new();
    while let Some(batch) = run.next().await {
        let largest = 2 * EVENT_RECEIVERS_MAX * 100;
        assert!(batch.body.len() < EVENT_BATCH_BYTES_MAX + largest);
        events.extend(run.told(batch));
        batches += 1;
    }
    assert!(batches > 2, "{batches}");
    assert_eq!(events.len(), 41);
    let data = &events[0]["data"];
    assert_eq!(data["receiver_count"], EVENT_RECEIVERS_MAX + 1);
    assert!(data.get("receivers").is_none());
    let listed = events[1]["data"]["receivers"].as_array().unwrap();
    assert_eq!(listed.len(), EVENT_RECEIVERS_MAX);
}

#[tokio::test]
async fn a_flood_of_one_kind_does_not_hold_up_the_others_even_one_by_one() {
    for batch_max in [1, 8] {
        let mut bench = Bench::new();
        bench.settings.batch_max = batch_max;
        let mut run = bench.start().await;
        for _ in 0..200 {
            bench.send(&["alice"]);
        }
        let (alice, device) = (user("alice"), "".into());
        let state = run.next().await.unwrap();
        run.told(state);
        bench.ack(&session("alice", ""), 1);
        run.presence.changed(&alice, Platform::Web, &device, true);
        let sent = run.pushes.sent(MessageId::new(1), &alice, "http", "7");
        bench.put(vec![sent.unwrap().row()]);
        let mut missing = vec!["message.acked", "user.online", "push.sent"];
        for _ in 0..16 {
            let batch = run.next().await.unwrap();
            assert!(batch.events.len() <= batch_max.max(2));
            for event in run.told(batch) {
                missing.retain(|kind| event["type"] != *kind);
            }
        }
        assert_eq!(missing, Vec::<&str>::new(), "{batch_max}");
    }
}

#[tokio::test]
async fn presence_that_finds_no_room_is_announced_as_lost() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    let first = run.all().await;
    assert_eq!(first[0]["type"], "user.state");
    assert_eq!(first[0]["data"], json!({"users": []}));
    let (alice, device) = (user("alice"), "".into());
    for number in 0..PRESENCE_NOTES_MAX + 3 {
        let is_online = number % 2 == 0;
        run.presence
            .changed(&alice, Platform::Web, &device, is_online);
    }
    let told = run.all().await;
    let (lost, notes) = {
        let is_lost = |event: &&Value| event["type"] == "events.lost";
        (
            told.iter().filter(is_lost).count(),
            told.iter().filter(|event| !is_lost(event)).count(),
        )
    };
    assert_eq!((lost, notes), (2, PRESENCE_NOTES_MAX));
    run.presence.changed(&alice, Platform::Web, &device, true);
    assert_eq!(run.of_kind("user.online").await.len(), 1);
    // Another start tells the state once more, under another id.
    bench.machine.advance(1000);
    let second = bench.start().await.all().await;
    assert_eq!(second[0]["type"], "user.state");
    assert_ne!(second[0]["id"], first[0]["id"]);
}

#[tokio::test]
async fn ends_of_pushes_are_told_once_and_too_many_of_them_are_announced_as_lost() {
    let mut bench = Bench::new();
    // A gateway has the bound PUSH_EVENTS_MAX.
    bench.pushes_max = PUSH_EVENTS_MAX / 100_000;
    let mut run = bench.start().await;
    let alice = user("alice");
    let message = MessageId::new(1);
    let long = "x".repeat(2 * EVENT_TEXT_BYTES_MAX);
    let end = |run: &super::fixture::Run| {
        let sent = run.pushes.sent(message, &alice, "http", "7");
        let failed = run.pushes.failed(message, &alice, "http", &long);
        bench.put(vec![sent.unwrap().row(), failed.unwrap().row()]);
    };
    end(&run);
    let told = run.of_kind("push.sent").await;
    let data = json!({"server_msg_id": message.to_string(), "user_id": "alice", "provider": "http", "id": "7"});
    assert_eq!(told[0]["data"], data);
    assert_eq!(bench.kept(rows::PUSH_PREFIX).await, []);
    end(&run);
    let failed = run.of_kind("push.failed").await;
    let reason = failed[0]["data"]["reason"].as_str().unwrap();
    assert_eq!(reason.len(), EVENT_TEXT_BYTES_MAX);
    for _ in 0..6 {
        end(&run);
    }
    let mut run = bench.start().await;
    let trimmed = run.gatherer.pushes.trim(&*bench.log, TurnNumber::ALWAYS);
    trimmed.await.unwrap();
    let told = run.all().await;
    let lost: Vec<_> = told
        .iter()
        .filter(|event| event["type"] == "events.lost")
        .map(|event| event["data"]["type"].as_str().unwrap())
        .collect();
    assert_eq!(lost, ["push.sent", "push.failed"]);
    assert_eq!(bench.kept(rows::PUSH_LOSS_PREFIX).await, []);
}

#[tokio::test]
async fn expired_messages_are_told_for_a_user_or_as_a_loss_for_all() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    let expiry = |position, user| Expiry {
        position: FeedPosition(position),
        user,
        range: (4, 9),
        time_ms: 77,
    };
    let rows: Vec<_> = [expiry(1, Some(user("alice"))), expiry(2, None)]
        .iter()
        .map(Expiry::row)
        .map(|(key, value)| rows::put(key, value))
        .collect();
    bench.put(rows);
    let told = run.all().await;
    let data = json!({"user_id": "alice", "from_seq": 4, "to_seq": 9});
    assert_eq!(told[1]["data"], data);
    let data = json!({"type": "message.expired", "from_time": 4, "to_time": 9});
    assert_eq!(told[2]["data"], data);
    assert_eq!(bench.kept(crate::log::EXPIRY_PREFIX).await, []);
}

#[tokio::test]
async fn kinds_that_are_not_chosen_are_passed_over() {
    let mut bench = Bench::new();
    bench.settings.events = vec![EventKind::MessageAcked];
    let mut run = bench.start().await;
    bench.send(&["alice"]);
    bench.ack(&session("alice", ""), 1);
    let told = run.all().await;
    let kinds: Vec<_> = told.iter().map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, [Some("user.state"), Some("message.acked")]);
    assert!(
        run.pushes
            .sent(MessageId::new(1), &user("alice"), "http", "7")
            .is_none()
    );
}

#[tokio::test]
async fn ends_of_pushes_are_told_in_the_order_in_which_their_rows_were_written() {
    let bench = Bench::new();
    let alice = user("alice");
    let end = |run: &super::fixture::Run, id: &str| {
        let sent = run.pushes.sent(MessageId::new(1), &alice, "http", id);
        sent.unwrap()
    };
    let run = bench.start().await;
    let early = end(&run, "0");
    for id in ["1", "2"] {
        bench.put(vec![end(&run, id).row()]);
    }
    bench.put(vec![early.row()]);
    // A start within the same millisecond.
    let mut run = bench.start().await;
    bench.put(vec![end(&run, "3").row()]);
    let told = run.of_kind("push.sent").await;
    let ids: Vec<_> = told.iter().map(|event| &event["data"]["id"]).collect();
    assert_eq!(ids, ["1", "2", "0", "3"]);
}

#[tokio::test]
async fn read_marks_are_passed_over() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    bench.send_marks("alice");
    assert_eq!(run.of_kind("message.accepted").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_read_that_fails_once_loses_no_event_and_repeats_none() {
    // The first composition after a start tells the state, which stands for all earlier changes of presence.
    for (batch_max, is_first) in [(2, false), (8, false), (8, true), (100, true)] {
        let mut bench = Bench::new();
        bench.settings.batch_max = batch_max;
        for reads in 0.. {
            bench.log = std::sync::Arc::default();
            let mut run = bench.start().await;
            if !is_first {
                run.all().await;
            }
            for _ in 0..20 {
                bench.send(&["alice"]);
            }
            bench.ack(&session("alice", ""), 3);
            bench.ack(&session("bob", ""), 4);
            let (alice, device) = (user("alice"), "".into());
            run.presence.changed(&alice, Platform::Web, &device, true);
            let expiry = Expiry {
                position: FeedPosition(1),
                user: Some(user("alice")),
                range: (4, 9),
                time_ms: 77,
            };
            let (key, value) = expiry.row();
            let sent = run.pushes.sent(MessageId::new(1), &alice, "http", "7");
            let lost = rows::push_loss((1, 2));
            bench.put(vec![rows::put(key, value), lost, sent.unwrap().row()]);
            bench.log.fail_read_after(reads);
            let mut told = Vec::new();
            loop {
                match run.gatherer.gather(bench.clock.now_ms()).await {
                    Ok((Some(batch), _)) => told.extend(run.told(batch)),
                    Ok((None, false)) => break,
                    Ok((None, true)) | Err(_) => {}
                }
            }
            let mut kinds: Vec<_> = told
                .iter()
                .filter_map(|event| event["type"].as_str())
                .collect();
            kinds.retain(|kind| *kind != "message.accepted");
            kinds.sort_unstable();
            let expected = [
                "events.lost",
                "events.lost",
                "message.acked",
                "message.acked",
                "message.expired",
                "push.sent",
                if is_first {
                    "user.state"
                } else {
                    "user.online"
                },
            ];
            assert_eq!(kinds, expected, "batches of {batch_max}, read {reads}");
            told.retain(|event| event["type"] == "message.accepted");
            let all: Vec<_> = (1..=20).collect();
            assert_eq!(seqs(&told), all, "batches of {batch_max}, read {reads}");
            if bench.log.rows().reads_before_failure.is_some() {
                break;
            }
        }
    }
}
