//! The presence of watched users is answered at once, and told again when it has changed.

use super::{
    super::*,
    manner::{NOTHING, handle, opened},
};
use crate::ids::{Platform, UserId};

#[test]
fn presence_is_answered_at_once_and_told_again_at_each_change() {
    let (mut session, _) = opened(Manner::Sifts, 0, None);
    let user = UserId::new("a").unwrap();
    let on = |platforms: &[Platform]| Event::Looked(vec![(user.clone(), platforms.to_vec())]);
    let watch = |users: &[&UserId], unwatch: &[&UserId]| {
        Event::Said(FromClient::Watch {
            users: users.iter().map(|user| (*user).clone()).collect(),
            unwatch: unwatch.iter().map(|user| (*user).clone()).collect(),
        })
    };
    let look = r#"Look(["a"])"#;
    let tick = |presence| {
        Event::Tick(Condition {
            presence,
            ..Condition::default()
        })
    };
    assert_eq!(handle(&mut session, watch(&[&user], &[]), 0), [look]);
    let told = r#"Send(Presence([("a", [])]))"#;
    assert_eq!(handle(&mut session, on(&[]), 0), [told]);
    assert_eq!(handle(&mut session, tick(1), 500), [look]);
    assert_eq!(handle(&mut session, on(&[]), 500), NOTHING);
    assert_eq!(
        handle(&mut session, tick(1), 600),
        NOTHING,
        "nobody came or went"
    );
    assert_eq!(handle(&mut session, tick(2), 900), [look]);
    let told = r#"Send(Presence([("a", [Web])]))"#;
    assert_eq!(handle(&mut session, on(&[Platform::Web]), 900), [told]);
    let ended = handle(&mut session, watch(&[], &[&user]), 1000);
    assert_eq!(ended, ["Send(Presence([]))"]);
    assert_eq!(handle(&mut session, tick(3), 2000), NOTHING);
}
