//! From a good `Connect` to a session that is registered and has its resume point. The log may answer at once or later;
//! until then the login is a state of its connection. A logout ends what the login began.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_local;
use tracing::{debug, warn};

use super::{
    Context,
    life::{LoggingIn, Login, Open, Registered},
};
use crate::{
    delivery::{AuthError, LogError},
    door::{Arrival, Suspect},
    ids::{ConnectionId, SessionKey},
    protocol::Codec,
    session::{self, Action, BadToken, Connect, Footing, Manner, SessionFault, Welcome},
    token::{Claims, TokenError},
};

/// The facts about an arrival that its login needs.
struct LoginOrigin {
    /// The client's address, if it is known.
    ip: Option<IpAddr>,
    /// A session that was never seen has to return after this delay.
    wait_if_new: Option<Duration>,
}

/// Checks the token. The future does the rest, which may wait for the log, or first for the key of the token.
pub(super) fn log_in(
    context: &Rc<Context>,
    id: ConnectionId,
    arrival: &Arrival,
    connect: Connect,
) -> Result<LoggingIn, SessionFault> {
    let verified = context.delivery.verify(&connect.token);
    let is_new = connect.resume.cursor.is_none();
    let wait_if_new = is_new.then(|| arrival.wait_if_new()).flatten();
    let origin = LoginOrigin {
        ip: arrival.ip(),
        wait_if_new,
    };
    let (context, suspect) = (Rc::clone(context), arrival.suspect());
    if verified.as_ref().is_err_and(AuthError::is_of_unknown_key) {
        return Ok(Box::pin(async move {
            let verified = context.delivery.verify_with_new_keys(&connect.token).await;
            let claims = judge(verified, &suspect, &connect)?;
            enter(context, id, claims, connect, origin).await
        }));
    }
    let claims = judge(verified, &suspect, &connect)?;
    Ok(Box::pin(enter(context, id, claims, connect, origin)))
}

/// The body of the answer that refuses the token of a client that has to know before its upgrade; `None`: the token is good, or
/// is checked later. Cancel safe: it only reads.
pub async fn refusal(context: &Context, codec: &dyn Codec, arrival: &Arrival) -> Option<Bytes> {
    let connect = codec.asks_first()?;
    let verified = context.delivery.verify_with_new_keys(&connect.token).await;
    let checked = match judge(verified, &arrival.suspect(), connect) {
        Ok(claims) => {
            let checked = context.delivery.check_revocation(&claims).await;
            checked.map_err(fault)
        }
        Err(fault) => Err(fault),
    };
    let fault = checked.err()?;
    Some(codec.refuse_upgrade(fault.reason(fastrand::f64)))
}

/// The claims of the token, if it is good and names the user and platform that its client gives.
fn judge(
    verified: Result<Claims, AuthError>,
    suspect: &Suspect,
    connect: &Connect,
) -> Result<Claims, SessionFault> {
    let claims = verified
        .inspect_err(|error| {
            if is_guess(error) {
                suspect.note_bad_token(&connect.token);
            }
        })
        .map_err(fault)?;
    match &connect.named {
        Some((user, platform)) if (user, platform) != (&claims.user, &claims.platform) => {
            Err(SessionFault::Token(BadToken::OfAnother))
        }
        _ => Ok(claims),
    }
}

/// The device of a session. Clients of OpenIM's v3 protocol send none. A new login there has a new token, so that it inherits no cursor
/// of an older device.
fn device(context: &Context, connect: &Connect) -> Arc<str> {
    if connect.manner != Manner::Acks {
        return SessionKey::openim_device(&Sha256::digest(&connect.token).into());
    }
    if context.registry.policy().tells_devices_apart() {
        connect.device.as_str().into()
    } else {
        context.no_device.clone()
    }
}

/// Registers the session and opens it at its resume point.
async fn enter(
    context: Rc<Context>,
    id: ConnectionId,
    claims: Claims,
    connect: Connect,
    origin: LoginOrigin,
) -> Result<Login, SessionFault> {
    let delivery = &context.delivery;
    delivery.check_revocation(&claims).await.map_err(fault)?;
    let device = device(&context, &connect);
    let key = SessionKey {
        user: claims.user,
        platform: claims.platform,
        device,
    };
    if let Some(wait) = origin.wait_if_new {
        let point = delivery.enter(&key, claims.issued_at_ms).await;
        if point.is_ok_and(|point| point.stored.is_none()) {
            return Err(SessionFault::NewcomersWait(wait));
        }
    }
    let registered = Registered::new(&context, id, key, origin.ip)?;
    if connect.is_background {
        registered.set_background(true);
    }
    let taken = delivery.take_place(&registered.key, id).await;
    taken.map_err(|error| unreadable(&error))?;
    // The session is registered before its resume point is read, so a message between the two is either in the inbox or
    // comes live. Reading the resume point also checks the revocation a second time: a logout between the first check and
    // the registration found no connection to close.
    let point = delivery
        .enter(&registered.key, claims.issued_at_ms)
        .await
        .map_err(fault)?;
    let is_damaged = delivery.is_damaged();
    let footing = Footing {
        epoch: point.inbox.epoch,
        head: point.inbox.head,
        first: point.inbox.first,
        stored: point.stored.map(|row| row.cursor),
        is_damaged,
        // Damage may hide messages and marks. A client keeps the counts that it is told, also when the damage is repaired.
        has_conversations: delivery.has_conversations() && !is_damaged,
    };
    let welcome = Welcome {
        connection: id,
        platform: claims.platform,
        server_time_ms: delivery.now_ms(),
    };
    let (session, actions) = session::open(
        connect.resume,
        connect.manner,
        footing,
        welcome,
        &context.session,
        context.now(),
    )?;
    let begins = actions.iter().find_map(|action| match action {
        Action::Begin(cursor) => Some(*cursor),
        _ => None,
    });
    if let (None, Some(cursor)) = (point.stored, begins) {
        // A client with a store of its own goes on where it was, e.g. after a crash lost its row.
        let is_blank = connect.resume.cursor != Some(cursor);
        delivery.note_begin(&registered.key, session.epoch(), cursor, is_blank);
    }
    if let (Manner::Sifts, None, Some(cursor)) = (connect.manner, point.stored, begins) {
        // A client that is let in counts as told of its place. So its place must survive a crash. The login goes on where the log
        // takes no writes: then nothing new comes that could be missed.
        let fence = registered.fence().unwrap_or_default();
        let begun = delivery.begin_durably(&registered.key, session.epoch(), fence, cursor);
        if let Err(error) = begun.await {
            debug!(user = %registered.key.user, %error, "a session begins, and a crash would lose that");
        }
    }
    Ok(Login {
        open: Open {
            session,
            registered,
            client: connect.client.into(),
            token_ends_s: context.seconds_until(claims.expires_at_s),
        },
        actions,
    })
}

/// Removes the devices for push that were registered in the login of this session, beside the connection's task.
pub(super) fn log_out(context: &Rc<Context>, key: &SessionKey) {
    let (context, key) = (Rc::clone(context), key.clone());
    spawn_local(async move {
        let removed = context.delivery.remove_devices_of_login(&key).await;
        if let Err(error) = removed {
            warn!(user = %key.user, %error, "a logout could not remove the devices for push");
        }
    });
}

/// True if the token was never signed by this gateway. An expired or revoked token is not a guess.
fn is_guess(error: &AuthError) -> bool {
    use TokenError::{Algorithm, Malformed, Signature, UnknownKey};
    matches!(
        error,
        AuthError::Token(Malformed | Algorithm | Signature | UnknownKey)
    )
}

fn fault(error: AuthError) -> SessionFault {
    match error {
        AuthError::Token(TokenError::Expired) => SessionFault::Token(BadToken::Expired),
        AuthError::Token(_) => SessionFault::Token(BadToken::Invalid),
        AuthError::Revoked => SessionFault::Token(BadToken::Revoked),
        AuthError::ClockDoubted(_) => SessionFault::ClockDoubted,
        AuthError::Keys(_) => SessionFault::KeysUnread,
        AuthError::Read(error) => unreadable(&error),
    }
}

/// The log or its state could not be read. The stderr log gives the cause.
pub(super) fn unreadable(failure: &LogError) -> SessionFault {
    warn!(error = %failure, "the log cannot be read for a session");
    SessionFault::LogUnreadable
}
