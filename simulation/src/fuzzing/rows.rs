//! Fuzzing of the state store: a row with any bytes.

use std::sync::Arc;

use towncrier::{
    ids::{Platform, Seq, SessionKey},
    log::{Log as _, Lookup, ReadLimit},
};

use super::{Input, log::with_real};
use crate::{model::user_id, process::Life, short_life::Ground};

/// The trees of the store.
const TREES: [&str; 9] = [
    "users",
    "sessions",
    "keys",
    "waypoints",
    "deleted",
    "profiles",
    "revoked",
    "meta",
    "rows",
];

/// The first byte selects a tree, and whether the other bytes are the value of its first row or the key of a further one.
/// The log opens, or says that its store is broken. Each read is answered.
pub fn rows(data: &[u8]) {
    with_real(|real| read(&real.copy(), data));
}

fn read(ground: &Ground, data: &[u8]) {
    let runtime = super::runtime();
    let _entered = runtime.enter();
    let mut input = Input(data);
    let how = input.byte();
    let tree = TREES[usize::from(how) % TREES.len()];
    let spoil = |key: &[u8], value: &[u8]| {
        if how < 0x80 {
            (key.to_vec(), input.0.to_vec())
        } else {
            (input.0.to_vec(), value.to_vec())
        }
    };
    ground.state.change_first(tree, spoil);
    let Ok((log, _workers)) = ground.open(&Arc::<Life>::default()) else {
        return;
    };
    let limit = ReadLimit {
        messages: 10,
        bytes: 1000,
    };
    let _ = log.users().blocking_wait();
    for user in [0, 1].map(user_id) {
        let inbox = log.inbox(&user).blocking_wait();
        let after = inbox.map_or(Seq::ZERO, |inbox| inbox.first.previous());
        let _ = log.read(&user, after, limit).blocking_wait();
        let _ = log.sessions(&user).blocking_wait();
        let _ = log.token_times(&user, Platform::Web).blocking_wait();
        let session = SessionKey {
            user,
            platform: Platform::Web,
            device: "".into(),
        };
        let _ = log.enter(&session).blocking_wait();
    }
    let key = Lookup::Key {
        sender: "oa".into(),
        client_message_id: "message 0".into(),
    };
    let _ = log.find(key).blocking_wait();
}
