//! No damage goes unnoticed. A damaged log serves its whole messages and accepts nothing.

use super::*;

#[test]
fn no_flipped_bit_in_a_synced_log_goes_unnoticed() {
    let bench = Bench::with(|limits| limits.segment_bytes = 512);
    for number in 0..6 {
        bench.send(&["u1", "u2"], &format!("message {number}"));
    }
    bench.log.close();
    let disk = bench.disk.after_kill();
    let whole = inspect_segments(&*disk, &mut None).unwrap();
    assert!(
        whole.damages.is_empty() && whole.unfinished.is_none() && whole.segments > 1,
        "{whole:?}"
    );
    for name in disk.segments() {
        let bytes = disk.get(&name);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.put(&name, flipped);
            let report = inspect_segments(&*disk, &mut None).unwrap();
            assert!(
                report.damages.iter().any(|damage| damage.segment == name),
                "bit {bit} of {name}: {report:?}"
            );
        }
        disk.put(&name, bytes);
    }
}

#[test]
fn a_damaged_log_starts_serves_what_is_whole_and_accepts_nothing() {
    let bench = Bench::with(|limits| limits.segment_bytes = 2048);
    let bodies: Vec<String> = (0..40)
        .map(|number| format!("message {number}{}", "z".repeat(100)))
        .collect();
    bodies
        .iter()
        .for_each(|body| drop(bench.send(&["u1"], body)));
    bench.log.close();
    let disk = bench.disk.after_kill();
    let seed = std::env::var("TOWNCRIER_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("TOWNCRIER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench {
        disk: disk.clone(),
        ..bench
    };
    for _ in 0..20 {
        let names = disk.segments();
        let name = &names[random.usize(..names.len())];
        let mut bytes = disk.get(name);
        bytes[random.usize(..) % disk.get(name).len()] ^= 1 << random.u8(..8);
        let damaged = disk.after_kill();
        damaged.put(name, bytes);
        bench = bench.reopen(|_| damaged, false);
        assert!(
            matches!(
                bench.log.check_writable(),
                Err(LogError {
                    cause: Cause::Damaged,
                    ..
                })
            ),
            "TOWNCRIER_SEED={seed}"
        );
        assert!(
            bench
                .log
                .damages()
                .iter()
                .any(|damage| damage.segment == *name),
            "TOWNCRIER_SEED={seed}"
        );
        assert!(matches!(
            bench.try_send(&["u1"], None, "x"),
            Err(AppendError::Refusing(LogError {
                cause: Cause::Damaged,
                ..
            }))
        ));
        let limit = ReadLimit {
            messages: 1,
            bytes: usize::MAX,
        };
        for (number, body) in bodies.iter().enumerate() {
            // Every message that can be read is right. The others are an error or missing.
            if let Ok(read) = bench
                .log
                .read_blocking(&user("u1"), Seq(number as u64), limit)
                && let Some(entry) = read
                    .entries
                    .into_iter()
                    .find(|entry| entry.numbers.seq.0 == number as u64 + 1)
            {
                let read = entry.content.into_message().map(text);
                assert_eq!(read.as_ref(), Some(body), "TOWNCRIER_SEED={seed}");
            }
        }
    }
}

#[test]
fn a_log_that_lost_its_synced_end_is_damaged_whatever_the_state_store_says() {
    for keeps_state in [true, false] {
        let bench = Bench::with(|limits| limits.segment_bytes = 2048);
        for number in 0..40 {
            bench.send(&["u1"], &format!("{number}{}", "l".repeat(200)));
        }
        bench.log.close();
        let disk = bench.disk.after_kill();
        let last = disk.last_segment();
        let mut bytes = disk.get(&last);
        bytes.truncate(bytes.len() / 2);
        disk.put(&last, bytes);
        let bench = bench.reopen(|_| disk, keeps_state);
        let refusing = bench.log.check_writable();
        assert!(
            matches!(
                refusing,
                Err(LogError {
                    cause: Cause::Damaged,
                    ..
                })
            ),
            "{refusing:?}"
        );
    }
}

#[test]
fn a_first_segment_that_retention_did_not_remove_is_missed() {
    for keeps_state in [true, false] {
        let bench = Bench::with(|limits| {
            limits.segment_bytes = 1024;
            limits.retention = Duration::from_secs(3600);
        });
        for number in 0..20 {
            bench.send(&["u1"], &format!("{number}{}", "l".repeat(200)));
        }
        bench.machine.advance(7_200_000);
        bench.send(&["u1"], "new");
        let begin = bench.disk.segments().remove(0);
        eventually("retention", || bench.disk.segments()[0] != begin);
        for number in 0..20 {
            bench.send(&["u1"], &format!("{number}{}", "n".repeat(200)));
        }
        let bench = bench.reopen(TestDisk::after_kill, keeps_state);
        assert_eq!(bench.log.check_writable(), Ok(()));
        bench.log.close();

        let disk = bench.disk.after_kill();
        let first = disk.segments().remove(0);
        disk.remove(&first).unwrap();
        let report = inspect_segments(&*disk, &mut None).unwrap();
        assert_eq!(report.damages[0].segment, first, "{report:?}");
        let bench = bench.reopen(|_| disk, keeps_state);
        let refusing = bench.log.check_writable();
        assert!(
            matches!(&refusing, Err(error) if error.text.contains(&*first)),
            "{refusing:?}"
        );
    }
}
