//! The requests of the SDKs, and what they ask of the session. Pure.

use bytes::Bytes;

use super::proto::{
    GetConversationsHasReadAndMaxSeqReq, GetLastMessageReq, GetMaxSeqReq, GetSeqMessageReq,
    LogoutReq, PullMessageBySeqsReq, SetAppBackgroundStatusReq, SubUserOnlineStatus,
};
use crate::{
    codes::{ARGS, NO_PERMISSION},
    ids::{UserId, WireSeq},
    message::{ADDRESS_BYTES_MAX, CONVERSATION_ID_BYTES_MAX, TOGETHER_BYTES_MAX},
    session::{Question, RANGES_BYTES_MAX, RANGES_MAX, Range},
};

/// The most bytes of the messages of one answer, as they are stored.
const ANSWER_BYTES_MAX: usize = 800 * 1024;
const _: () = assert!(ANSWER_BYTES_MAX <= RANGES_BYTES_MAX);
/// The most bytes of one message.
const MESSAGE_BYTES_MAX: usize = TOGETHER_BYTES_MAX + ADDRESS_BYTES_MAX;

/// OpenIM's numbers of requests and messages.
pub(super) mod number {
    pub(crate) const MAX_SEQ: i32 = 1001;
    pub(crate) const PULL: i32 = 1002;
    pub(crate) const SEND: i32 = 1003;
    pub(crate) const SEQ_MESSAGES: i32 = 1005;
    pub(crate) const READ_AND_MAX_SEQ: i32 = 1006;
    pub(crate) const LAST_MESSAGES: i32 = 1007;
    pub(crate) const PUSH: i32 = 2001;
    pub(crate) const KICK: i32 = 2002;
    pub(crate) const LOG_OUT: i32 = 2003;
    pub(crate) const BACKGROUND: i32 = 2004;
    pub(crate) const PRESENCE: i32 = 2005;
}

/// The errand of a request.
#[derive(Debug)]
pub(super) enum Errand {
    /// Something of the session, whose answer belongs to the request.
    Question(Question),
    /// The presence of these users, and no longer that of those.
    Presence {
        users: Vec<UserId>,
        unwatch: Vec<UserId>,
    },
    /// The app went to the background, or came back. The answer is empty.
    Background(bool),
    /// The end of the session, after an empty answer.
    LogOut,
}

/// Why a request gets an error: OpenIM's code, and a text in place of its name.
pub(super) type RequestError = (u16, &'static str);

/// The errand of the request with this number and data. `user` is the one of the session.
pub(super) fn asked(number: i32, data: Bytes, user: &str) -> Result<Errand, RequestError> {
    Ok(match number {
        number::MAX_SEQ => {
            let request: GetMaxSeqReq = decode(data)?;
            own(&request.user_id, user)?;
            Errand::Question(Question::Reached)
        }
        number::PULL => {
            let request: PullMessageBySeqsReq = decode(data)?;
            own(&request.user_id, user)?;
            let ranges = request.seq_ranges.into_iter().map(|range| Range {
                conversation_id: range.conversation_id,
                from: seq(range.begin.max(1)),
                to: seq(range.end),
            });
            ranges_question(ranges, ANSWER_BYTES_MAX, true)?
        }
        number::SEQ_MESSAGES => {
            let request: GetSeqMessageReq = decode(data)?;
            own(&request.user_id, user)?;
            let mut asked = request.conversations.iter();
            // Each run of seqs has a copy of its id.
            asked.try_for_each(|one| conversation(&one.conversation_id))?;
            let ranges = request.conversations.into_iter();
            let ranges = ranges.flat_map(|one| runs(one.conversation_id, one.seqs));
            ranges_question(ranges, ANSWER_BYTES_MAX, false)?
        }
        number::READ_AND_MAX_SEQ => {
            let request: GetConversationsHasReadAndMaxSeqReq = decode(data)?;
            own(&request.user_id, user)?;
            let ids = request.conversation_ids;
            few(ids.len())?;
            ids.iter().try_for_each(|id| conversation(id))?;
            Errand::Question(Question::Overview(ids))
        }
        number::LAST_MESSAGES => {
            let request: GetLastMessageReq = decode(data)?;
            own(&request.user_id, user)?;
            let ids = request.conversation_ids;
            // Only the newest one of each conversation is asked for.
            let bytes = ANSWER_BYTES_MAX.min(ids.len().saturating_mul(MESSAGE_BYTES_MAX));
            let ranges = ids.into_iter().map(|id| Range {
                conversation_id: id,
                from: WireSeq(1),
                to: WireSeq(u64::MAX),
            });
            ranges_question(ranges, bytes, false)?
        }
        number::SEND => {
            return Err((
                NO_PERMISSION.0,
                "messages are sent by the admin API: apps cannot send here",
            ));
        }
        number::LOG_OUT => {
            let request: LogoutReq = decode(data)?;
            own(&request.user_id, user)?;
            Errand::LogOut
        }
        number::BACKGROUND => {
            let request: SetAppBackgroundStatusReq = decode(data)?;
            own(&request.user_id, user)?;
            Errand::Background(request.is_background)
        }
        number::PRESENCE => {
            let request: SubUserOnlineStatus = decode(data)?;
            let users = |ids: Vec<String>| ids.iter().flat_map(|id| UserId::new(id)).collect();
            Errand::Presence {
                users: users(request.subscribe_user_id),
                unwatch: users(request.unsubscribe_user_id),
            }
        }
        _ => return Err((ARGS.0, "no such request")),
    })
}

fn decode<T: prost::Message + Default>(data: Bytes) -> Result<T, RequestError> {
    T::decode(data).map_err(|_| (ARGS.0, "the data of the request is malformed"))
}

/// A request may name its own user alone.
fn own(named: &str, user: &str) -> Result<(), RequestError> {
    if named.is_empty() || named == user {
        Ok(())
    } else {
        Err((NO_PERMISSION.0, "the request names another user"))
    }
}

fn few(count: usize) -> Result<(), RequestError> {
    if count <= RANGES_MAX {
        Ok(())
    } else {
        Err((ARGS.0, "the request names too many conversations"))
    }
}

fn conversation(id: &str) -> Result<(), RequestError> {
    if id.len() <= CONVERSATION_ID_BYTES_MAX {
        Ok(())
    } else {
        Err((ARGS.0, "the request names a conversation by too long an id"))
    }
}

fn ranges_question(
    ranges: impl Iterator<Item = Range>,
    bytes: usize,
    is_pull: bool,
) -> Result<Errand, RequestError> {
    let ranges: Vec<_> = ranges.take(RANGES_MAX + 1).collect();
    few(ranges.len())?;
    let mut ids = ranges.iter().map(|range| &range.conversation_id);
    ids.try_for_each(|id| conversation(id))?;
    Ok(Errand::Question(Question::Ranges {
        ranges,
        bytes,
        is_pull,
    }))
}

fn seq(number: i64) -> WireSeq {
    WireSeq(u64::try_from(number).unwrap_or_default())
}

/// The seqs of a conversation as ranges, ascending; without any seq an empty range, because the answer has to name each conversation
/// that was asked for.
fn runs(id: String, mut seqs: Vec<i64>) -> impl Iterator<Item = Range> {
    seqs.sort_unstable();
    let mut seqs = seqs.into_iter().filter(|seq| *seq > 0).peekable();
    let mut empty = seqs.peek().is_none().then_some((1, 0));
    std::iter::from_fn(move || {
        let run = empty.take().or_else(|| {
            let from = seqs.next()?;
            let mut to = from;
            while let Some(next) = seqs.next_if(|seq| *seq <= to.saturating_add(1)) {
                to = next;
            }
            Some((from, to))
        });
        let (from, to) = run?;
        Some(Range {
            conversation_id: id.clone(),
            from: seq(from),
            to: seq(to),
        })
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::{super::proto::*, *};

    fn range(id: &str, from: u64, to: u64) -> Range {
        Range {
            conversation_id: id.into(),
            from: WireSeq(from),
            to: WireSeq(to),
        }
    }

    /// The question of a request by u1, or the refusal's code.
    fn question(number: i32, data: &impl prost::Message) -> Result<Question, i32> {
        match asked(number, data.encode_to_vec().into(), "u1") {
            Ok(Errand::Question(question)) => Ok(question),
            Ok(other) => panic!("{other:?}"),
            Err((code, _)) => Err(code.into()),
        }
    }

    fn pull(seq_ranges: Vec<SeqRange>) -> PullMessageBySeqsReq {
        PullMessageBySeqsReq {
            user_id: "u1".into(),
            seq_ranges,
        }
    }

    fn seq_range(id: &str, begin: i64, end: i64) -> SeqRange {
        SeqRange {
            conversation_id: id.into(),
            begin,
            end,
        }
    }

    #[test]
    fn a_pull_asks_for_its_ranges() {
        let ranges = vec![
            seq_range("a", 0, 9),
            seq_range("b", 5, 5),
            seq_range("c", -3, -1),
        ];
        let asked = Question::Ranges {
            ranges: vec![range("a", 1, 9), range("b", 5, 5), range("c", 1, 0)],
            bytes: ANSWER_BYTES_MAX,
            is_pull: true,
        };
        assert_eq!(question(1002, &pull(ranges)), Ok(asked));
        let none = Question::Ranges {
            ranges: Vec::new(),
            bytes: ANSWER_BYTES_MAX,
            is_pull: true,
        };
        assert_eq!(question(1002, &pull(Vec::new())), Ok(none));
    }

    #[test]
    fn listed_seqs_become_ranges_and_none_of_them_an_empty_one() {
        let conversations = vec![
            ConversationSeqs {
                conversation_id: "a".into(),
                seqs: vec![9, 8, 7, 3, 3, 0, -1, i64::MAX],
            },
            ConversationSeqs {
                conversation_id: "b".into(),
                seqs: Vec::new(),
            },
            ConversationSeqs {
                conversation_id: "c".into(),
                seqs: vec![0],
            },
        ];
        let request = GetSeqMessageReq {
            user_id: "u1".into(),
            conversations,
        };
        let last = i64::MAX as u64;
        let asked = Question::Ranges {
            ranges: vec![
                range("a", 3, 3),
                range("a", 7, 9),
                range("a", last, last),
                range("b", 1, 0),
                range("c", 1, 0),
            ],
            bytes: ANSWER_BYTES_MAX,
            is_pull: false,
        };
        assert_eq!(question(1005, &request), Ok(asked));
    }

    #[test]
    fn conversations_are_asked_for_by_name_or_all() {
        let request = |ids: &[&str]| GetConversationsHasReadAndMaxSeqReq {
            user_id: "u1".into(),
            conversation_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        assert_eq!(
            question(1006, &request(&[])),
            Ok(Question::Overview(Vec::new()))
        );
        assert_eq!(
            question(1006, &request(&["a"])),
            Ok(Question::Overview(vec!["a".into()]))
        );
        let last = GetLastMessageReq {
            user_id: "u1".into(),
            conversation_ids: vec!["a".into()],
        };
        let Ok(Question::Ranges { ranges, bytes, .. }) = question(1007, &last) else {
            panic!()
        };
        assert_eq!(ranges, [range("a", 1, u64::MAX)]);
        assert_eq!(bytes, MESSAGE_BYTES_MAX);
        let reached = GetMaxSeqReq {
            user_id: "u1".into(),
        };
        assert_eq!(question(1001, &reached), Ok(Question::Reached));
    }

    #[test]
    fn a_request_for_too_much_or_of_another_user_is_refused() {
        let many = vec![seq_range("a", 1, 1); RANGES_MAX];
        assert!(question(1002, &pull(many.clone())).is_ok());
        let more = [many, vec![seq_range("a", 1, 1)]].concat();
        assert_eq!(question(1002, &pull(more)), Err(1001));
        let id = "x".repeat(CONVERSATION_ID_BYTES_MAX + 1);
        assert_eq!(question(1002, &pull(vec![seq_range(&id, 1, 1)])), Err(1001));
        let runs = GetSeqMessageReq {
            user_id: "u1".into(),
            conversations: vec![ConversationSeqs {
                conversation_id: id.clone(),
                seqs: (1..9).step_by(2).collect(),
            }],
        };
        assert_eq!(question(1005, &runs), Err(1001));
        let request = GetConversationsHasReadAndMaxSeqReq {
            user_id: "u1".into(),
            conversation_ids: vec![id],
        };
        assert_eq!(question(1006, &request), Err(1001));
        let other = GetMaxSeqReq {
            user_id: "u2".into(),
        };
        for number in [1001, 1002, 1005, 1006, 1007, 2003, 2004] {
            assert_eq!(question(number, &other), Err(1002), "{number}");
            let broken = asked(number, Bytes::from_static(&[0xff]), "u1");
            assert!(matches!(broken, Err((1001, _))), "{number}");
        }
    }

    #[test]
    fn an_app_says_that_it_goes_to_the_background_and_comes_back() {
        for is_background in [true, false] {
            let request = SetAppBackgroundStatusReq {
                user_id: "u1".into(),
                is_background,
            };
            match asked(2004, request.encode_to_vec().into(), "u1") {
                Ok(Errand::Background(said)) => assert_eq!(said, is_background),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn sending_and_unknown_requests_get_an_error() {
        let code = |number| match asked(number, Bytes::new(), "u1") {
            Err((code, _)) => code,
            Ok(other) => panic!("{other:?}"),
        };
        assert_eq!(code(1003), 1002);
        for unknown in [0, -1, 1000, 1004, 2001, 2002, 2100, 3001, i32::MAX] {
            assert_eq!(code(unknown), 1001, "{unknown}");
        }
    }

    #[test]
    fn presence_is_asked_of_users_whose_ids_are_ids() {
        let request = SubUserOnlineStatus {
            subscribe_user_id: vec!["a".into(), String::new(), "x".repeat(65)],
            unsubscribe_user_id: vec!["b".into()],
        };
        match asked(2005, request.encode_to_vec().into(), "u1") {
            Ok(Errand::Presence { users, unwatch }) => {
                assert_eq!(users, [UserId::new("a").unwrap()]);
                assert_eq!(unwatch, [UserId::new("b").unwrap()]);
            }
            other => panic!("{other:?}"),
        }
    }
}
