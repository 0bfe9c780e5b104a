//! Encoding and decoding: what a send, each of its receivers and each frame of a client cost before anything is stored or
//! written. Messages of 400 bytes; seeded.
//!
//! `cargo bench --bench frame`

#[path = "support/message.rs"]
mod message;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use fastrand::Rng;
use message::{CONTENT_BYTES, message};
use prost::Message as _;
use towncrier::{
    ids::Seq,
    message::ADDRESS_BYTES_MAX,
    wire::{
        frame::{FRAME_BYTES_MAX, Live, decode, encode, message as unpack, push_replay},
        proto::{Ack, ClientFrame, Connect, Pong, ServerFrame, client_frame, server_frame},
    },
};

const RECEIVER: &str = "user-0001234";
/// Receivers of a batch, who share its body.
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

    group.throughput(Throughput::Elements(1));
    group.bench_function("a live push", |bencher| {
        bencher.iter(|| Live::new(black_box(&body)).push(Seq(7), black_box(RECEIVER)));
    });
    let pong = ServerFrame {
        body: Some(server_frame::Body::Pong(Pong {
            nonce: 7,
            server_time_ms: 1_700_000_000_000,
        })),
    };
    group.bench_function("a pong", |bencher| {
        bencher.iter(|| encode(black_box(&pong)))
    });

    let receivers: Vec<_> = (0..BATCH).map(|user| format!("user-{user:07}")).collect();
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("live pushes of a batch of 100", |bencher| {
        bencher.iter(|| {
            let live = Live::new(black_box(&body));
            for receiver in &receivers {
                black_box(live.push(Seq(7), receiver));
            }
        });
    });

    let count = (FRAME_BYTES_MAX / (body.len() + ADDRESS_BYTES_MAX)) as u64;
    let backlog: Vec<_> = (1..=count).map(|seq| (Seq(seq), body.clone())).collect();
    group.throughput(Throughput::ElementsAndBytes {
        elements: count,
        bytes: count * CONTENT_BYTES as u64,
    });
    group.bench_function("a replayed push, as full as it gets", |bencher| {
        bencher.iter(|| {
            let places = backlog.iter().map(|(seq, body)| (*seq, body));
            push_replay(black_box(RECEIVER), places)
        });
    });
    group.finish();
}

fn decodes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let mut random = Rng::with_seed(2);
    let frame = |body| Bytes::from(ClientFrame { body: Some(body) }.encode_to_vec());

    let ack = frame(client_frame::Body::Ack(Ack { seq: 1_000_000 }));
    let connect = frame(client_frame::Body::Connect(Connect {
        // As long as ours are.
        token: (0..250).map(|_| random.alphanumeric()).collect(),
        epoch: random.u64(..),
        cursor: Some(1_000_000),
        device_id: String::new(),
        client: "web/1.0".into(),
    }));
    for (name, frame) in [("an ack", ack), ("a connect", connect)] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode(black_box(&frame).clone()).expect("it is one"));
        });
    }

    // As the admin API reads an inbox.
    let body = message(&mut random, CONTENT_BYTES).to_bytes();
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("a stored message", |bencher| {
        bencher.iter(|| unpack(Seq(7), black_box(RECEIVER), black_box(&body)));
    });
    group.finish();
}
