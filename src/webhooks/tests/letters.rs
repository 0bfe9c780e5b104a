//! The list of dead letters.

use std::sync::Arc;

use super::{
    super::{
        dead_letters::{DEAD_LETTERS_BYTES_MAX, DEAD_LETTERS_MAX, DeadLetters},
        event::HookEvent,
        rows,
    },
    fixture::Bench,
};
use crate::{config::EventKind, ids::Epoch, log::ROW_VALUE_BYTES_MAX};

fn event(number: usize, data: &str) -> HookEvent {
    let position = number.to_be_bytes();
    HookEvent::new(Epoch(1), EventKind::MessageAccepted, &[&position], 5, data)
}

async fn open(bench: &Bench) -> DeadLetters {
    let opened = DeadLetters::open(bench.log.clone(), Arc::default()).await;
    opened.unwrap()
}

#[tokio::test]
async fn letters_of_any_size_are_kept_over_a_start_and_sent_again_with_their_ids() {
    let bench = Bench::new();
    let letters = open(&bench).await;
    let long = "x".repeat(2 * ROW_VALUE_BYTES_MAX);
    let events = vec![event(1, "short"), event(2, &long), event(3, "last")];
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    bench.put(letters.add(events, "HTTP 404", 7));
    let letters = open(&bench).await;
    assert_eq!(letters.count(), 3);
    let list = letters.list(0, 10).await.unwrap();
    let listed: Vec<_> = list.iter().map(|letter| letter.id.clone()).collect();
    assert_eq!(listed, ids);
    assert_eq!((&*list[1].reason, list[1].refused_ms), ("HTTP 404", 7));
    assert_eq!(list[1].kind, "message.accepted");
    assert!(list[1].event.get().contains(&long));
    // Page by page.
    assert_eq!(letters.list(0, 2).await.unwrap().len(), 2);
    let next = letters.list(list[1].number, 2).await.unwrap();
    assert_eq!(next[0].id, ids[2]);

    let mut run = bench.start().await;
    run.all().await;
    let two = vec![list[1].number, list[1].number + 100];
    assert_eq!(letters.send_again(Some(two)).await.unwrap(), 1);
    assert_eq!(letters.count(), 2);
    let told = run.all().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["id"], ids[1].as_str());
    assert_eq!(letters.send_again(None).await.unwrap(), 2);
    let told = run.all().await;
    let told: Vec<_> = told
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(told, [&*ids[0], &*ids[2]]);
    for prefix in [rows::DEAD_PREFIX, rows::AGAIN_PREFIX] {
        assert_eq!(bench.kept(prefix).await, []);
    }
}

#[tokio::test]
async fn the_oldest_letters_go_where_there_are_too_many_or_too_many_bytes() {
    let bench = Bench::new();
    let letters = open(&bench).await;
    for hundred in 0..=DEAD_LETTERS_MAX / 100 {
        let events = (0..100).map(|number| event(100 * hundred + number, ""));
        bench.put(letters.add(events.collect(), "HTTP 404", 7));
    }
    assert_eq!(letters.count(), DEAD_LETTERS_MAX);
    assert_eq!(open(&bench).await.count(), DEAD_LETTERS_MAX);
    let oldest = letters.list(0, 1).await.unwrap();
    assert_eq!(oldest[0].id, event(100, "").id);

    let bench = Bench::new();
    let letters = open(&bench).await;
    let large = "x".repeat(DEAD_LETTERS_BYTES_MAX / 100);
    for number in 0..110 {
        bench.put(letters.add(vec![event(number, &large)], "HTTP 404", 7));
    }
    assert!((90..100).contains(&letters.count()), "{}", letters.count());
}
