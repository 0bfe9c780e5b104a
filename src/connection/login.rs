//! From a good `Connect` to a session that is registered and has its resume point. The log may answer at once or later;
//! until then the login is a state of its connection.

use std::{rc::Rc, time::Duration};

use tracing::warn;

use super::{
    Context,
    life::{LoggingIn, Login, Open, Registered},
};
use crate::{
    delivery::{AuthError, LogError},
    door::Arrival,
    ids::{ConnectionId, Seq, SessionKey},
    session::{self, Connect, Reason, Standing, Welcome},
    token::{Claims, TokenError},
};

/// The retry time for a client whose token is out of its time while the clocks disagree. The client waits this long, up to
/// twice as long. A clock is usually set right within minutes.
const CLOCK_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The time that the log has for the answers of a login. Most come at once. Then the client has to return later.
pub(super) const LOGIN_MAX: Duration = Duration::from_secs(5);

/// Clients of an older epoch return within this time.
const EPOCH_RETRY_MAX: Duration = Duration::from_secs(10);

/// Checks the token. The future does the rest, which may wait for the log.
pub(super) fn log_in(
    context: &Rc<Context>,
    id: ConnectionId,
    arrival: &Arrival,
    connect: Connect,
) -> Result<LoggingIn, Reason> {
    let claims = context
        .delivery
        .verify(&connect.token)
        .inspect_err(|error| {
            if is_guess(error) {
                arrival.note_bad_token(&connect.token);
            }
        })
        .map_err(refusal)?;
    let is_new = connect.resume.cursor.is_none();
    let wait_if_new = is_new.then(|| arrival.wait_if_new()).flatten();
    let context = Rc::clone(context);
    Ok(Box::pin(enter(context, id, claims, connect, wait_if_new)))
}

/// Registers the session and opens it at its resume point. With `wait_if_new`, a session that was never seen has to return
/// after this delay.
async fn enter(
    context: Rc<Context>,
    id: ConnectionId,
    claims: Claims,
    connect: Connect,
    wait_if_new: Option<Duration>,
) -> Result<Login, Reason> {
    let delivery = &context.delivery;
    delivery.check_revocation(&claims).await.map_err(refusal)?;
    let device = if context.registry.policy().tells_devices_apart() {
        connect.device.into()
    } else {
        context.no_device.clone()
    };
    let key = SessionKey {
        user: claims.user,
        platform: claims.platform,
        device,
    };
    if let Some(wait) = wait_if_new {
        let point = delivery.enter(&key, claims.issued_at_ms).await;
        if point.is_ok_and(|point| point.stored.is_none()) {
            return Err(Reason::Unavailable(wait));
        }
    }
    let registered = Registered::new(&context, id, key)?;
    // The session is registered before its resume point is read, so a message between the two is either in the inbox or
    // comes live. Reading the resume point also checks the revocation a second time: a logout between the first check and
    // the registration found no connection to close.
    let point = delivery
        .enter(&registered.key, claims.issued_at_ms)
        .await
        .map_err(refusal)?;
    // A damaged log may show a head that is too low. With such a head, the client must not be treated as one of another log,
    // and must not be told that nothing waits for it.
    let head = point.inbox.head;
    let is_doubtful = head == Seq::ZERO || connect.resume.cursor > Some(head);
    if is_doubtful && delivery.is_damaged() {
        return Err(Reason::Internal("log damaged, the operator knows where"));
    }
    let standing = Standing {
        epoch: point.inbox.epoch,
        head,
        first: point.inbox.first,
        stored: point.stored.map(|row| row.cursor),
    };
    let welcome = Welcome {
        connection: id,
        platform: claims.platform,
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
        open: Open {
            session,
            registered,
            epoch: point.inbox.epoch,
            client: connect.client.into(),
            token_ends_s: u32::try_from(claims.expires_at_s).unwrap_or(u32::MAX),
        },
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

/// The log did not answer in time. The client returns after a random delay, so that clients that waited together do not
/// return together.
pub(super) fn unanswered() -> Reason {
    Reason::Unavailable(LOGIN_MAX.mul_f64(1.0 + fastrand::f64()))
}

/// The log has begun another epoch: the session's seqs and cursor mean nothing there. The client returns after a random delay,
/// because all clients of the log have to return.
pub(super) fn other_epoch() -> Reason {
    Reason::Unavailable(EPOCH_RETRY_MAX.mul_f64(fastrand::f64()))
}

/// The log or its state could not be read. The operator's log gives the reason; the client learns only the fact.
pub(super) fn unreadable(failure: &LogError) -> Reason {
    warn!(error = %failure, "the log cannot be read for a session");
    Reason::Internal("the log cannot be read")
}
