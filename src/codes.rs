//! OpenIM v3's error codes, each with its name: one table for the REST calls, the WebSocket and the admin API.

use crate::token::TokenError;

/// A code with its name, which is the `errMsg` of an answer over HTTP.
pub(crate) type Code = (u16, &'static str);

/// The call cannot be done now, or the outcome is not known.
pub(crate) const INTERNAL: Code = (500, "ServerInternalError");
/// The request breaks a rule.
pub(crate) const ARGS: Code = (1001, "ArgsError");
/// The caller may not do this.
pub(crate) const NO_PERMISSION: Code = (1002, "NoPermissionError");
/// The id or key is used already.
pub(crate) const DUPLICATE_KEY: Code = (1003, "DuplicateKeyError");
/// The thing that was asked for does not exist.
pub(crate) const NOT_FOUND: Code = (1004, "RecordNotFoundError");
/// The user is not registered.
pub(crate) const NO_USER: Code = (1101, "UserIDNotFoundError");
/// The user is registered already.
pub(crate) const REGISTERED: Code = (1102, "RegisteredAlreadyError");
/// The token's time is over. From this one to 1507 an SDK logs its user out.
pub(crate) const TOKEN_EXPIRED: Code = (1501, "TokenExpiredError");
/// The token's signature or claims are not good.
pub(crate) const TOKEN_INVALID: Code = (1502, "TokenInvalidError");
/// The text is no token.
const TOKEN_MALFORMED: Code = (1503, "TokenMalformedError");
/// The token's time has not begun.
const TOKEN_NOT_YET: Code = (1504, "TokenNotValidYetError");
/// The token was revoked.
pub(crate) const TOKEN_KICKED: Code = (1506, "TokenKickedError");
/// There is no room for the connection.
pub(crate) const CONNECTIONS: Code = (1601, "ConnOverMaxNumLimit");

/// The code of a token that is not good.
pub(crate) fn of_token(error: TokenError) -> Code {
    match error {
        TokenError::Expired => TOKEN_EXPIRED,
        TokenError::NotYet => TOKEN_NOT_YET,
        TokenError::Malformed => TOKEN_MALFORMED,
        TokenError::Algorithm
        | TokenError::Signature
        | TokenError::Contradiction
        | TokenError::User(_)
        | TokenError::Platform(_) => TOKEN_INVALID,
    }
}
