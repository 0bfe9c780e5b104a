//! Certain knowledge of a client that does not ack. Vendor push decides by it.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::ids::ConversationSeq;

/// The session of "u" with this token.
fn session(token: &str) -> SessionKey {
    SessionKey {
        user: UserId::new("u").unwrap(),
        platform: Platform::Web,
        device: SessionKey::openim_device(&Sha256::digest(token).into()),
    }
}

#[test]
fn a_client_that_pulls_behind_a_message_has_it() {
    run(async {
        for (manner, first) in [(Manner::Sifts, "reached"), (Manner::Forgets, "overview")] {
            let mut bench = Bench::new();
            for content in ["1", "2", "3"] {
                bench.notice("a", content).await;
            }
            let token = bench.token("u");
            let mut client = bench.talk(&token, manner).await;
            say(&mut client, first).await;
            hear(&mut client).await;
            let delivery = Arc::clone(&bench.world.delivery);
            let proven = || delivery.proven(&session(&token), "sn_a_u");
            assert_eq!(proven(), ConversationSeq(0), "{manner:?}");
            say(&mut client, "ranges 9999 sn_a_u 3 3").await;
            hear(&mut client).await;
            assert_eq!(proven(), ConversationSeq(2), "{manner:?}");
            say(&mut client, "ranges 9999 sn_a_u 1 3").await;
            hear(&mut client).await;
            assert_eq!(
                proven(),
                ConversationSeq(2),
                "{manner:?}: it does not go back"
            );
        }
    });
}

#[test]
fn an_app_in_background_is_known_until_it_is_back() {
    run(async {
        let mut bench = Bench::new();
        let token = bench.token("u");
        let mut client = bench.talk(&token, Manner::Sifts).await;
        let registry = Arc::clone(&bench.world.registry);
        let is_background = || registry.presence("u")[0].is_background;
        assert!(!is_background());
        for expected in [true, false] {
            say(&mut client, &format!("background {expected}")).await;
            assert_eq!(hear(&mut client).await, "ok");
            assert_eq!(is_background(), expected);
        }
    });
}
