//! A `Fetch` reads a bounded part of the inbox.

use super::{
    super::{question::FETCH_MAX, *},
    closing::actions,
};
use crate::ids::Seq;

#[test]
fn a_fetch_reads_no_more_messages_than_its_bound() {
    for (limit, messages) in [(1, 1), (FETCH_MAX, FETCH_MAX), (FETCH_MAX + 1, FETCH_MAX)] {
        let fetch = Fetch {
            request_id: 1,
            after: Seq::ZERO,
            limit,
        };
        let expected = format!("[Read(ReadOrder {{ after: Seq(0), messages: {messages} }})]");
        let read = actions(Event::Said(FromClient::Fetch(fetch)), 1);
        assert_eq!(read, expected);
    }
}
