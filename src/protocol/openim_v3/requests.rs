//! The requests of the SDKs, and what they ask of the session. Pure.

use super::proto::{
    GetConversationsHasReadAndMaxSeqReq, GetLastMessageReq, GetMaxSeqReq, GetSeqMessageReq,
    LogoutReq, PullMessageBySeqsReq, SetAppBackgroundStatusReq, SubUserOnlineStatus,
};
use crate::{
    ids::{UserId, WireSeq},
    session::{Question, RANGES_MAX, Range},
};
use bytes::Bytes;

/// The most bytes of the messages in one answer. A Go core drops a connection whose frame has more than 1 MiB, and asks again.
const ANSWER_BYTES_MAX: usize = 900 * 1024 - 64 * 1024;

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

/// OpenIM's error codes.
pub(super) mod code {
    pub(crate) const ARGUMENTS: i32 = 1001;
    pub(crate) const NO_PERMISSION: i32 = 1002;
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Something of the session, whose answer belongs to the request.
    Question(Question),
    /// The presence of these users, and no longer that of those.
    Presence {
        users: Vec<UserId>,
        unwatch: Vec<UserId>,
    },
    /// Nothing but an empty answer.
    Nothing,
    /// The end of the session, after an empty answer.
    LogOut,
}

/// Why a request gets an error: OpenIM's code, and a text.
pub(super) type Refusal = (i32, &'static str);

/// What the request with this number and data asks for. `user` is the one of the session.
pub(super) fn asked(number: i32, data: Bytes, user: &str) -> Result<Asked, Refusal> {
    Ok(match number {
        number::MAX_SEQ => {
            let request: GetMaxSeqReq = decode(data)?;
            own(&request.user_id, user)?;
            Asked::Question(Question::Reached)
        }
        number::PULL => {
            let request: PullMessageBySeqsReq = decode(data)?;
            own(&request.user_id, user)?;
            let ranges = request.seq_ranges.into_iter().map(|range| Range {
                conversation_id: range.conversation_id,
                from: seq(range.begin.max(1)),
                to: seq(range.end),
            });
            ranges_question(ranges.collect(), ANSWER_BYTES_MAX)?
        }
        number::SEQ_MESSAGES => {
            let request: GetSeqMessageReq = decode(data)?;
            own(&request.user_id, user)?;
            let ranges = request.conversations.into_iter();
            let ranges = ranges.flat_map(|one| runs(&one.conversation_id, one.seqs));
            ranges_question(ranges.collect(), ANSWER_BYTES_MAX)?
        }
        number::READ_AND_MAX_SEQ => {
            let request: GetConversationsHasReadAndMaxSeqReq = decode(data)?;
            own(&request.user_id, user)?;
            few(request.conversation_ids.len())?;
            Asked::Question(Question::Overview(request.conversation_ids))
        }
        number::LAST_MESSAGES => {
            let request: GetLastMessageReq = decode(data)?;
            own(&request.user_id, user)?;
            let ranges = request.conversation_ids.into_iter().map(|id| Range {
                conversation_id: id,
                from: WireSeq(1),
                to: WireSeq(u64::MAX),
            });
            ranges_question(ranges.collect(), ANSWER_BYTES_MAX)?
        }
        number::SEND => {
            return Err((
                code::NO_PERMISSION,
                "messages are sent by the admin API: apps cannot send here",
            ));
        }
        number::LOG_OUT => {
            let request: LogoutReq = decode(data)?;
            own(&request.user_id, user)?;
            Asked::LogOut
        }
        number::BACKGROUND => {
            let request: SetAppBackgroundStatusReq = decode(data)?;
            own(&request.user_id, user)?;
            Asked::Nothing
        }
        number::PRESENCE => {
            let request: SubUserOnlineStatus = decode(data)?;
            let users = |ids: Vec<String>| ids.iter().flat_map(|id| UserId::new(id)).collect();
            Asked::Presence {
                users: users(request.subscribe_user_id),
                unwatch: users(request.unsubscribe_user_id),
            }
        }
        _ => return Err((code::ARGUMENTS, "no such request")),
    })
}

fn decode<T: prost::Message + Default>(data: Bytes) -> Result<T, Refusal> {
    T::decode(data).map_err(|_| (code::ARGUMENTS, "the data of the request is malformed"))
}

/// A request may name its own user alone.
fn own(named: &str, user: &str) -> Result<(), Refusal> {
    if named.is_empty() || named == user {
        Ok(())
    } else {
        Err((code::NO_PERMISSION, "the request names another user"))
    }
}

fn few(count: usize) -> Result<(), Refusal> {
    if count <= RANGES_MAX {
        Ok(())
    } else {
        Err((code::ARGUMENTS, "the request names too many conversations"))
    }
}

fn ranges_question(ranges: Vec<Range>, bytes: usize) -> Result<Asked, Refusal> {
    few(ranges.len())?;
    Ok(Asked::Question(Question::Ranges { ranges, bytes }))
}

fn seq(number: i64) -> WireSeq {
    WireSeq(u64::try_from(number).unwrap_or_default())
}

/// The seqs of a conversation as ranges, ascending.
fn runs(id: &str, seqs: Vec<i64>) -> Vec<Range> {
    let mut seqs: Vec<u64> = seqs
        .into_iter()
        .filter_map(|seq| u64::try_from(seq).ok())
        .collect();
    seqs.sort_unstable();
    let mut runs: Vec<Range> = Vec::new();
    for one in seqs {
        match runs.last_mut() {
            Some(run) if one <= run.to.0.saturating_add(1) => run.to = WireSeq(one),
            _ => runs.push(Range {
                conversation_id: id.to_owned(),
                from: WireSeq(one),
                to: WireSeq(one),
            }),
        }
    }
    runs
}
