//! Encoding and decoding: the cost of a send, of each of its receivers and of each frame of a client, without storing and
//! writing. Messages of 400 bytes; seeded.
//!
//! `cargo bench --bench frame`

#[path = "support/message.rs"]
mod message;

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use fastrand::Rng;
use message::{CONTENT_BYTES, message};
use prost::Message as _;
use towncrier::{
    ids::{ConversationSeq, Seq, UserId},
    message::{ADDRESS_BYTES_MAX, Live, Message, Numbers, StoredMessage, TOGETHER_BYTES_MAX},
    protocol::{
        Codec as _,
        towncrier_v1::{
            TowncrierV1,
            proto::{Ack, ClientFrame, Connect, client_frame},
        },
    },
    session::ToClient,
};

const RECEIVER: &str = "user-0001234";
/// The receivers of a batch, which share its body.
const BATCH: u64 = 100;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encodes(&mut criterion);
    decodes(&mut criterion);
    criterion.final_summary();
}

fn encodes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let message = message(&mut Rng::with_seed(1), CONTENT_BYTES);
    let body = message.to_bytes();

    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("a body", |bencher| {
        bencher.iter(|| black_box(&message).to_bytes());
    });

    let user = |id: &str| UserId::new(id).expect("an id");
    let receiver = user(RECEIVER);
    group.throughput(Throughput::Elements(1));
    group.bench_function("a live push", |bencher| {
        bencher.iter(|| {
            let message = Arc::new(Message::new(black_box(&body).clone()));
            live(black_box(&receiver), &message);
        });
    });
    group.bench_function("a pong", |bencher| {
        bencher.iter(|| {
            let pong = ToClient::Pong {
                nonce: 7,
                server_time_ms: 1_700_000_000_000,
            };
            say(black_box(&receiver), pong);
        });
    });

    let receivers: Vec<_> = (0..BATCH).map(|n| user(&format!("user-{n:07}"))).collect();
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("live pushes of a batch of 100", |bencher| {
        bencher.iter(|| {
            let message = Arc::new(Message::new(black_box(&body).clone()));
            for receiver in &receivers {
                live(receiver, &message);
            }
        });
    });

    let count = (TOGETHER_BYTES_MAX / (body.len() + ADDRESS_BYTES_MAX)) as u64;
    let backlog: Vec<_> = (1..=count)
        .map(|seq| (numbers(seq), body.clone()))
        .collect();
    group.throughput(Throughput::ElementsAndBytes {
        elements: count,
        bytes: count * CONTENT_BYTES as u64,
    });
    group.bench_function("a replayed push, as full as it gets", |bencher| {
        bencher.iter_batched(
            || backlog.clone(),
            |messages| {
                let resent = 0;
                say(black_box(&receiver), ToClient::Push { messages, resent });
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// The places of a message in an inbox with one conversation.
fn numbers(seq: u64) -> Numbers {
    Numbers {
        seq: Seq(seq),
        conversation_seq: ConversationSeq(seq),
        ..Numbers::default()
    }
}

/// A message to one of its receivers.
fn live(user: &UserId, message: &Arc<Message>) {
    let message = Arc::clone(message);
    say(
        user,
        ToClient::Live(Live {
            numbers: numbers(7),
            message,
        }),
    );
}

fn say(user: &UserId, what: ToClient) {
    TowncrierV1.encode(user, what, &mut |frame| drop(black_box(frame)));
}

fn decodes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let mut random = Rng::with_seed(2);
    let frame = |body| Bytes::from(ClientFrame { body: Some(body) }.encode_to_vec());

    let ack = frame(client_frame::Body::Ack(Ack { seq: 1_000_000 }));
    let connect = frame(client_frame::Body::Connect(Connect {
        // As long as our own tokens.
        token: (0..250).map(|_| random.alphanumeric()).collect(),
        epoch: random.u64(..),
        cursor: Some(1_000_000),
        device_id: String::new(),
        client: "web/1.0".into(),
    }));
    for (name, frame) in [("an ack", ack), ("a connect", connect)] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let payload = black_box(&frame).clone();
                TowncrierV1.decode(payload, false).expect("it is one")
            });
        });
    }

    // As the admin API reads an inbox.
    let body = message(&mut random, CONTENT_BYTES).to_bytes();
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("a stored message", |bencher| {
        bencher.iter(|| StoredMessage::from_bytes(black_box(&body)));
    });
    group.finish();
}
