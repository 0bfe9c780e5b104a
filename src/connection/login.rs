//! From a good `Connect` to a session that is registered and has its resume point.

use std::time::Duration;

use tracing::warn;

use super::{Context, tally::Owner};
use crate::{
    delivery::{AuthError, LogError},
    door::Arrival,
    ids::{ConnectionId, Seq, SessionKey},
    session::{self, Action, Connect, Reason, Session, Standing, Welcome},
    token::TokenError,
};

/// The retry time for a client whose token is out of its time while the clocks disagree. The client waits this long, up to
/// twice as long. A clock is usually set right within minutes.
const CLOCK_RETRY_AFTER: Duration = Duration::from_secs(30);

/// A client that is logged in.
pub(super) struct Login {
    pub(super) owner: Owner,
    pub(super) session: Session,
    /// The time at which the client's token expires, Unix seconds.
    pub(super) token_ends_s: u64,
    /// The first actions of the opened session.
    pub(super) actions: Vec<Action>,
}

/// Checks the token, registers the session, and opens it at its resume point.
pub(super) fn log_in(
    context: &Context,
    id: ConnectionId,
    arrival: &Arrival,
    connect: Connect,
) -> Result<Login, Reason> {
    let Context {
        delivery, registry, ..
    } = context;
    let claims = delivery
        .authenticate(&connect.token)
        .inspect_err(|error| {
            if is_guess(error) {
                arrival.note_bad_token(&connect.token);
            }
        })
        .map_err(refusal)?;
    let device = if registry.policy().tells_devices_apart() {
        connect.device.into()
    } else {
        context.no_device.clone()
    };
    let key = SessionKey {
        user: claims.user,
        platform: claims.platform,
        device,
    };
    if let Some(wait) = arrival.wait_if_new()
        && connect.resume.cursor.is_none()
        && delivery
            .enter(&key, claims.issued_at_ms)
            .is_ok_and(|point| point.stored.is_none())
    {
        return Err(Reason::Unavailable(wait));
    }
    registry
        .register(&key, id, &context.mailbox, delivery.now_ms())
        .map_err(|_| Reason::TooManySessions)?;
    // The session is registered before its resume point is read, so a message between the two is either in the inbox or
    // comes live. Reading the resume point also checks the revocation a second time: a logout between the first check and
    // the registration found no connection to close.
    let point = delivery
        .enter(&key, claims.issued_at_ms)
        .map_err(refusal)
        .and_then(|point| {
            // A damaged log may show a head that is too low. With such a head, the client must not be treated as one of
            // another log, and must not be told that nothing waits for it.
            let head = point.inbox.head;
            let is_doubtful = head == Seq::ZERO || connect.resume.cursor > Some(head);
            if is_doubtful && delivery.is_damaged() {
                return Err(Reason::Internal("log damaged, the operator knows where"));
            }
            Ok(point)
        })
        .inspect_err(|_| registry.deregister(&key, id))?;
    let standing = Standing {
        epoch: point.epoch,
        head: point.inbox.head,
        first: point.inbox.first,
        stored: point.stored.map(|row| row.cursor),
    };
    let welcome = Welcome {
        connection: id,
        platform: key.platform,
        server_time_ms: delivery.now_ms(),
    };
    let (session, actions) = session::open(
        connect.resume,
        standing,
        welcome,
        &context.session,
        context.now(),
    );
    Ok(Login {
        owner: Owner {
            key,
            client: connect.client.into(),
        },
        session,
        token_ends_s: claims.expires_at_s,
        actions,
    })
}

/// True if the token was never signed by this gateway. An expired or revoked token is not a guess.
fn is_guess(error: &AuthError) -> bool {
    use TokenError::{Algorithm, Malformed, Signature};
    matches!(error, AuthError::Token(Malformed | Algorithm | Signature))
}

fn refusal(error: AuthError) -> Reason {
    match error {
        AuthError::Token(_) => Reason::Unauthorized("the token is missing, invalid or expired"),
        AuthError::Revoked => Reason::Unauthorized("the token was revoked"),
        AuthError::ClockDoubted(_) => {
            Reason::Unavailable(CLOCK_RETRY_AFTER.mul_f64(1.0 + fastrand::f64()))
        }
        AuthError::Read(error) => unreadable(&error),
    }
}

/// The log or its state could not be read. The operator's log gives the reason; the client learns only the fact.
pub(super) fn unreadable(failure: &LogError) -> Reason {
    warn!(error = %failure, "the log cannot be read for a session");
    Reason::Internal("the log cannot be read")
}
