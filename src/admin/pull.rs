//! `/msg/pull_msg_by_seq`: messages of an inbox by their seqs, or by their seqs in conversations.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    bodies::{self, MsgData, PullRequest, Pulled, PulledOfflinePush, SeqRange},
    call::App,
    error::Refusal,
    inbox::{SEQS_MAX, seqs},
    json,
};
use crate::{
    delivery::ReadLimit,
    ids::{ConversationSeq, Seq, UserId},
    message::{Entry, Numbers, StoredMessage},
};

/// The most bytes of messages in one answer; base64 and JSON add a third. A larger answer is refused and not cut short,
/// because a missing entry means "not retained".
pub(super) const PULLED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// OpenIM's `msgFrom` of messages that the system sends.
const FROM_SYSTEM: i32 = 200;

/// Messages by their seqs, ascending, each once. Entries that are not retained, were deleted or hold read marks are left
/// out.
pub(super) async fn pull_msg_by_seq(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: PullRequest<'_> = call.json()?;
    let req_identifier = json::required(body.req_identifier, "reqIdentifier")?;
    body.operation_id.required("operationID")?;
    let user = body.send_id.required_user("sendID")?;
    app.check_user(&call, &user)?;
    let seqs = seqs(body.seq_list.as_deref().unwrap_or_default())?;
    let ranges = body.seq_ranges.as_deref().unwrap_or_default();
    let ranges = spans(ranges, seqs.len())?;
    if !ranges.is_empty() {
        app.check_conversations()?;
    }
    let data = app.answered(app.pull(&user, &seqs, &ranges)).await?;
    Ok(bodies::json(&Pulled {
        err_code: 0,
        err_msg: "",
        req_identifier,
        data,
    }))
}

/// A range of a conversation, as its newest seqs.
struct Span<'a> {
    conversation: &'a str,
    first: ConversationSeq,
    last: ConversationSeq,
    /// The number of entries wanted, counted from `last`.
    entries: usize,
}

/// The ranges, if they and `beside` seqs ask for no more than one request may.
fn spans<'a>(ranges: &'a [SeqRange<'_>], beside: usize) -> Result<Vec<Span<'a>>, Refusal> {
    let mut wanted = beside as u64;
    let mut spans = Vec::new();
    for range in ranges {
        let conversation = range
            .conversation_id
            .required_conversation("conversationID")?;
        let first = json::required(range.begin, "begin")?;
        let last = json::required(range.end, "end")?;
        if first > last {
            return Err(Refusal::Rule("seqRanges: begin is above end"));
        }
        let width = (last - first).saturating_add(1);
        let entries = range.num.filter(|num| *num != 0);
        let entries = entries.map_or(width, |num| width.min(num));
        wanted = wanted.saturating_add(entries);
        spans.push(Span {
            conversation,
            first: ConversationSeq(first),
            last: ConversationSeq(last),
            entries: entries as usize,
        });
    }
    if wanted > SEQS_MAX as u64 {
        return Err(Refusal::TooMany {
            what: "seqList with seqRanges",
            count: wanted as usize,
            max: SEQS_MAX,
        });
    }
    Ok(spans)
}

/// The messages of one answer.
struct Pull<'a> {
    user: &'a UserId,
    messages: BTreeMap<Seq, MsgData>,
    bytes_left: usize,
}

impl App {
    async fn pull(
        &self,
        user: &UserId,
        seqs: &BTreeSet<Seq>,
        spans: &[Span<'_>],
    ) -> Result<Vec<MsgData>, Refusal> {
        let mut pull = Pull {
            user,
            messages: BTreeMap::new(),
            bytes_left: PULLED_BYTES_MAX,
        };
        self.pull_seqs(&mut pull, seqs).await?;
        for span in spans {
            self.pull_span(&mut pull, span).await?;
        }
        Ok(pull.messages.into_values().collect())
    }

    async fn pull_seqs(&self, pull: &mut Pull<'_>, seqs: &BTreeSet<Seq>) -> Result<(), Refusal> {
        let head = self.delivery.inbox(pull.user).wait().await?.head;
        let mut wanted = seqs.iter().copied().filter(|seq| *seq <= head).peekable();
        while let Some(first) = wanted.next() {
            // One read for each contiguous run, as long as its bytes fit a read.
            let mut last = first;
            while let Some(next) = wanted.next_if_eq(&last.next()) {
                last = next;
            }
            let mut after = first.previous();
            while after < last {
                let limit = pull.limit((last.0 - after.0) as usize);
                let read = self.delivery.replay(pull.user, after, limit);
                let entries = read.wait().await?.entries;
                // The read begins at the first retained entry, so expired entries are skipped.
                let Some(newest) = entries.last() else { break };
                after = newest.numbers.seq;
                let entries = entries.into_iter();
                pull.take(entries.filter(|entry| entry.numbers.seq <= last))?;
            }
        }
        Ok(())
    }

    /// Reads backwards, because a log reads a conversation from its newest end.
    async fn pull_span(&self, pull: &mut Pull<'_>, span: &Span<'_>) -> Result<(), Refusal> {
        let (mut last, mut left) = (span.last, span.entries);
        while left > 0 && last >= span.first {
            let range = (span.first, last);
            let limit = pull.limit(left);
            let read = self
                .delivery
                .read_conversation(pull.user, span.conversation, range, limit);
            let entries = read.wait().await?.entries;
            let Some(oldest) = entries.first() else { break };
            last = oldest.numbers.conversation_seq.previous();
            left = left.saturating_sub(entries.len());
            pull.take(entries.into_iter())?;
        }
        Ok(())
    }
}

impl Pull<'_> {
    fn limit(&self, entries: usize) -> ReadLimit {
        ReadLimit {
            messages: entries,
            bytes: self.bytes_left.max(1),
        }
    }

    /// Takes the messages among the entries, each once.
    fn take(&mut self, entries: impl Iterator<Item = Entry>) -> Result<(), Refusal> {
        for Entry { numbers, content } in entries {
            let Some(body) = content.into_message() else {
                continue;
            };
            if self.messages.contains_key(&numbers.seq) {
                continue;
            }
            let left = self.bytes_left.checked_sub(body.len());
            self.bytes_left = left.ok_or(Refusal::TooLarge {
                what: "the answer",
                max: PULLED_BYTES_MAX,
            })?;
            let message = msg_data(numbers, self.user, StoredMessage::from_bytes(&body));
            self.messages.insert(numbers.seq, message);
        }
        Ok(())
    }
}

fn msg_data(numbers: Numbers, user: &UserId, message: StoredMessage) -> MsgData {
    MsgData {
        send_id: message.send_id,
        recv_id: user.to_string(),
        group_id: message.group_id,
        client_msg_id: message.client_msg_id,
        server_msg_id: message.server_msg_id,
        sender_platform_id: message.sender_platform_id,
        sender_nickname: message.sender_nickname,
        sender_face_url: message.sender_face_url,
        session_type: message.session_type,
        msg_from: FROM_SYSTEM,
        content_type: message.content_type,
        content: BASE64_STANDARD.encode(&message.content),
        seq: numbers.seq.0,
        conversation_seq: numbers.conversation_seq.0,
        send_time: message.send_time,
        create_time: message.create_time,
        offline_push: message.offline_push.map(|push| PulledOfflinePush {
            title: push.title,
            desc: push.desc,
            ex: push.ex,
            ios_push_sound: push.ios_push_sound,
            ios_badge_count: push.ios_badge_count,
        }),
        ex: message.ex,
    }
}
