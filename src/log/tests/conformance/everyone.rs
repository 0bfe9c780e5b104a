//! The promises of a message to everyone.

use bytes::Bytes;

use super::fixture::{ALL, Subject, message, numbered, numbers, session, user};
use crate::{
    clock::tests::manual::NOW_MS,
    ids::{Platform, Seq},
    log::{Lookup, SessionRow},
};

pub(super) fn a_message_to_everyone_reaches_each_known_user_once(subject: &Subject) {
    subject.send(&["a", "b"], "first");
    let profile = Bytes::from_static(b"{}");
    let pending = subject.log.register(user("c"), profile).unwrap();
    assert_eq!(pending.blocking_recv().unwrap(), Ok(()));
    let row = SessionRow {
        cursor: Seq::ZERO,
        acked_at_ms: NOW_MS,
    };
    let key = session("d", Platform::Web);
    subject.store_cursor(&key, row);
    let to_everyone = || subject.append_to_everyone(message(NOW_MS, &[], Some("k"), "to all"));
    let receipt = to_everyone();
    assert_eq!(receipt.receivers, 4);
    let mut entries = receipt.entries.to_vec();
    entries.sort_unstable_by(|(user, _), (other, _)| user.cmp(other));
    let expected = [("a", 2), ("b", 2), ("c", 1), ("d", 1)];
    assert_eq!(entries, numbered(expected));
    subject.send(&["later"], "first");
    let again = to_everyone();
    assert_eq!(again, receipt);
    let found = subject.find(Lookup::Id(receipt.message_id));
    assert_eq!(found, Some(receipt.clone()));
    let entry_of = |name| {
        let entry = subject.log.entry_of(receipt.message_id, &user(name));
        entry.blocking_wait()
    };
    for (name, seq) in expected {
        let texts: Vec<_> = subject
            .read(name, 0, ALL)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts.iter().filter(|text| *text == "to all").count(), 1);
        assert_eq!(entry_of(name), Ok(Some(numbers(seq, seq))));
    }
    assert_eq!(entry_of("later"), Ok(None));
    let page = |skip, limit| {
        let entries = subject.log.entries(receipt.message_id, skip, limit);
        entries.blocking_wait().unwrap()
    };
    let pages = [page(0, 1), page(1, 2), page(3, 9), page(4, 9)].concat();
    assert_eq!(pages, *receipt.entries);
}
