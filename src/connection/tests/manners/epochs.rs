//! The numbers that a client is told over a new epoch of the log: each manner's own.

use super::*;

#[test]
fn each_manner_is_told_the_numbers_by_which_it_counts() {
    run(async {
        for (manner, first, told, all) in [
            (Manner::Sifts, "reached", "(sn_a_u:2)", "(1,2,53)"),
            (Manner::Forgets, "overview", "(sn_a_u:52)", "(51,52,53)"),
        ] {
            let mut bench = Bench::new();
            bench.notice("a", "1").await;
            bench.notice("a", "2").await;
            bench.world.log.rows().begin_base(50);
            let token = bench.token("u");
            let mut client = bench.talk(&token, manner).await;
            say(&mut client, first).await;
            assert_eq!(hear(&mut client).await, told, "{manner:?}");
            // The client had both messages before the change.
            say(&mut client, "ranges 9999 sn_a_u 3 52").await;
            assert_eq!(hear(&mut client).await, "()", "{manner:?}");
            if manner == Manner::Forgets {
                // The client asked for so many that it pulls once more, within 10 s.
                pong(&mut client).await;
                bench.let_pass(10).await;
            }
            bench.notice("a", "3").await;
            assert_eq!(hear(&mut client).await, "+3", "{manner:?}");
            say(&mut client, "ranges 9999 sn_a_u 1 53").await;
            assert_eq!(hear(&mut client).await, all, "{manner:?}");
        }
    });
}
