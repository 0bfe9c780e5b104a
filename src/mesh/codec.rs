//! The bytes of a frame: `proto/towncrier/mesh/v1/mesh.proto`. Pure.
//!
//! Promises: every frame is read back as it was, and no bytes panic. A frame of a newer gateway with a notice or a platform that this
//! version does not know is an error and not damage: its receiver counts it as lost.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    fleet::FleetFrame,
    ids::{ConnectionId, ConversationSeq, Epoch, Fence, IdError, Platform, Seq, UserId},
    message::Numbers,
};

/// The prost types of `proto/towncrier/mesh/v1/mesh.proto`.
#[expect(unreachable_pub, reason = "generated; only this file uses them")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/towncrier.mesh.v1.rs"));
}

use proto::mesh_frame::Notice;

/// The reason for which bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes are not of the schema.
    #[error("the frame is broken: {0}")]
    Broken(#[from] prost::DecodeError),
    /// The frame has a notice that this version does not know.
    #[error("the frame has no notice that this version knows")]
    Unknown,
    /// A user or a platform of the frame is none.
    #[error("an id of the frame {0}")]
    Id(#[from] IdError),
    /// A hint without an epoch.
    #[error("the hint has no epoch")]
    NoEpoch,
}

/// The bytes of a frame.
pub fn encode(frame: &FleetFrame) -> Vec<u8> {
    let user = |user: &UserId| user.as_str().to_owned();
    let notice = match frame {
        FleetFrame::Hint {
            lane,
            group,
            epoch,
            body,
            entries,
        } => Notice::Hint(proto::Hint {
            lane: *lane,
            group: *group,
            epoch: epoch.0,
            body: body.clone(),
            entries: entries.iter().map(entry_of).collect(),
        }),
        FleetFrame::Replaced {
            user: replaced,
            connection,
            fence,
        } => Notice::Replaced(proto::Replaced {
            user: user(replaced),
            connection: connection.0,
            fence: fence.0,
        }),
        FleetFrame::LoggedOut {
            user: logged_out,
            platform,
            before_ms,
        } => Notice::LoggedOut(proto::LoggedOut {
            user: user(logged_out),
            platform: platform.number(),
            before_ms: *before_ms,
        }),
        FleetFrame::OnlineOnly { body, users } => Notice::OnlineOnly(proto::OnlineOnly {
            body: body.clone(),
            users: users.iter().map(user).collect(),
        }),
    };
    let notice = Some(notice);
    proto::MeshFrame { notice }.encode_to_vec()
}

/// The frame of these bytes. Its body shares them.
pub fn decode(bytes: Bytes) -> Result<FleetFrame, FrameError> {
    let frame = proto::MeshFrame::decode(bytes)?;
    Ok(match frame.notice.ok_or(FrameError::Unknown)? {
        Notice::Hint(hint) => FleetFrame::Hint {
            lane: hint.lane,
            group: hint.group,
            epoch: Some(Epoch(hint.epoch))
                .filter(|epoch| epoch.0 != 0)
                .ok_or(FrameError::NoEpoch)?,
            body: hint.body,
            entries: hint
                .entries
                .iter()
                .map(numbers_of)
                .collect::<Result<_, _>>()?,
        },
        Notice::Replaced(replaced) => FleetFrame::Replaced {
            user: UserId::new(&replaced.user)?,
            connection: ConnectionId(replaced.connection),
            fence: Fence(replaced.fence),
        },
        Notice::LoggedOut(logged_out) => FleetFrame::LoggedOut {
            user: UserId::new(&logged_out.user)?,
            platform: Platform::from_number(logged_out.platform)?,
            before_ms: logged_out.before_ms,
        },
        Notice::OnlineOnly(online) => FleetFrame::OnlineOnly {
            body: online.body,
            users: online
                .users
                .iter()
                .map(|user| UserId::new(user))
                .collect::<Result<_, _>>()?,
        },
    })
}

/// The bytes that a frame takes in a queue, about.
pub(super) fn bytes_of(frame: &FleetFrame) -> usize {
    /// The most bytes of a frame or of an entry besides its body and its users.
    const FIXED: usize = 48;
    let users = match frame {
        FleetFrame::Hint { entries, .. } => {
            let entries = entries.iter();
            entries.map(|(user, _)| user.as_str().len() + FIXED).sum()
        }
        FleetFrame::OnlineOnly { users, .. } => {
            let users = users.iter();
            users.map(|user| user.as_str().len() + FIXED).sum()
        }
        FleetFrame::Replaced { user, .. } | FleetFrame::LoggedOut { user, .. } => {
            user.as_str().len()
        }
    };
    let body = match frame {
        FleetFrame::Hint { body, .. } | FleetFrame::OnlineOnly { body, .. } => body.len(),
        FleetFrame::Replaced { .. } | FleetFrame::LoggedOut { .. } => 0,
    };
    users + body + FIXED
}

fn entry_of((user, numbers): &(UserId, Numbers)) -> proto::HintEntry {
    proto::HintEntry {
        user: user.as_str().to_owned(),
        seq: numbers.seq.0,
        conversation_seq: numbers.conversation_seq.0,
        base: numbers.base,
        time_ahead_ms: numbers.time_ahead_ms,
    }
}

fn numbers_of(entry: &proto::HintEntry) -> Result<(UserId, Numbers), FrameError> {
    let numbers = Numbers {
        seq: Seq(entry.seq),
        conversation_seq: ConversationSeq(entry.conversation_seq),
        base: entry.base,
        time_ahead_ms: entry.time_ahead_ms,
    };
    Ok((UserId::new(&entry.user)?, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    fn frames() -> Vec<FleetFrame> {
        let numbers = Numbers {
            seq: Seq(7),
            conversation_seq: ConversationSeq(3),
            base: 2,
            time_ahead_ms: 1,
        };
        vec![
            FleetFrame::Hint {
                lane: 1,
                group: u64::MAX,
                epoch: Epoch(9),
                body: Bytes::from_static(b"body"),
                entries: vec![(user("a"), numbers), (user("ü"), Numbers::default())],
            },
            FleetFrame::Replaced {
                user: user("a"),
                connection: ConnectionId(u64::MAX),
                fence: Fence(5),
            },
            FleetFrame::LoggedOut {
                user: user("a"),
                platform: Platform::Web,
                before_ms: 1_700_000_000_000,
            },
            FleetFrame::OnlineOnly {
                body: Bytes::new(),
                users: vec![user("a"), user("b")],
            },
        ]
    }

    #[test]
    fn each_frame_is_read_back_as_it_was_and_fits_its_estimate() {
        for frame in frames() {
            let bytes = encode(&frame);
            assert!(bytes.len() <= bytes_of(&frame), "{frame:?}");
            assert_eq!(decode(bytes.into()), Ok(frame));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_with_its_reason() {
        assert_eq!(decode(Bytes::new()), Err(FrameError::Unknown));
        // A notice of a newer version: field 15, with no bytes.
        assert_eq!(
            decode(Bytes::from_static(&[0x7a, 0])),
            Err(FrameError::Unknown)
        );
        let broken = decode(Bytes::from_static(&[0x0a, 9, 1]));
        assert!(matches!(broken, Err(FrameError::Broken(_))), "{broken:?}");
        let logged_out = |user: &str, platform| {
            let notice = Notice::LoggedOut(proto::LoggedOut {
                user: user.to_owned(),
                platform,
                before_ms: 1,
            });
            let notice = Some(notice);
            decode(proto::MeshFrame { notice }.encode_to_vec().into())
        };
        assert_eq!(logged_out("", 5), Err(FrameError::Id(IdError::Empty)));
        assert_eq!(logged_out("a", 99), Err(FrameError::Id(IdError::Platform)));
        let notice = Some(Notice::Hint(proto::Hint::default()));
        let hint = proto::MeshFrame { notice }.encode_to_vec();
        assert_eq!(decode(hint.into()), Err(FrameError::NoEpoch));
    }
}
