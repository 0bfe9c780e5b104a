//! The limits of secrets and tokens, each with the reason for its bounds. Pure.

use std::{net::IpAddr, ops::RangeInclusive};

use hyper::Uri;

use super::{
    Auth, Invalid,
    check::{HOUR, SECOND, YEAR, lasts},
};

/// RFC 7518 asks for an HS256 key of 32 bytes, but OpenIM's deployments have shorter ones. A key below this length can be
/// guessed.
const TOKEN_KEY_BYTES_MIN: usize = 16;
/// The secret can only be guessed over the network, where each guess costs a request.
const SECRET_BYTES_MIN: usize = 8;
/// OpenIM's callers may send no longer secret.
const SECRET_BYTES_MAX: usize = 32;

pub(super) fn check_auth(auth: &Auth) -> Result<(), Invalid> {
    let length = |key, secret: &str, range: RangeInclusive<usize>| match secret.len() {
        0 => Ok(()),
        length if range.contains(&length) => Ok(()),
        length => Err(Invalid {
            key,
            rule: format!(
                "is {length} bytes long: it must have {} to {} bytes",
                range.start(),
                range.end()
            ),
        }),
    };
    length(
        "auth.secret",
        &auth.secret,
        SECRET_BYTES_MIN..=SECRET_BYTES_MAX,
    )?;
    length(
        "auth.token_key",
        &auth.token_key,
        TOKEN_KEY_BYTES_MIN..=1024,
    )?;
    length(
        "auth.token_key_previous",
        &auth.token_key_previous,
        TOKEN_KEY_BYTES_MIN..=1024,
    )?;
    lasts(
        "auth.token_lifetime",
        auth.token_lifetime,
        SECOND..=100 * YEAR,
    )?;
    check_login(auth)
}

/// The keys of a company's own login.
fn check_login(auth: &Auth) -> Result<(), Invalid> {
    let invalid = |key, rule: &str| {
        Err(Invalid {
            key,
            rule: rule.into(),
        })
    };
    // A look more often than this is a load, and one more seldom keeps a key for long that the company has removed.
    lasts("auth.jwks_interval", auth.jwks_interval, SECOND..=24 * HOUR)?;
    if !auth.has_login_keys() {
        let unused = [
            ("auth.issuer", &auth.issuer),
            ("auth.audience", &auth.audience),
            ("auth.claims.user", &auth.claims.user),
            ("auth.claims.platform", &auth.claims.platform),
        ];
        let unused = unused.into_iter().find(|(_, value)| !value.is_empty());
        return unused.map_or(Ok(()), |(key, _)| {
            invalid(key, "needs auth.jwks_file or auth.jwks_url")
        });
    }
    if auth.jwks_url.is_empty() {
        return Ok(());
    }
    if !auth.jwks_file.as_os_str().is_empty() {
        return invalid(
            "auth.jwks_url",
            "and auth.jwks_file exclude each other: give one",
        );
    }
    let uri = auth.jwks_url.parse::<Uri>().unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_this_machine =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if is_this_machine => Ok(()),
        _ => invalid(
            "auth.jwks_url",
            "must begin with https://: whoever can change the answer on its way can sign in as anybody",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_login_come_from_one_place_that_nobody_can_forge() {
        let refused = |auth: Auth| check_auth(&auth).err().map(|invalid| invalid.key);
        let at = |url: &str| Auth {
            jwks_url: url.into(),
            ..Auth::default()
        };
        for good in [
            "https://login.example/keys",
            "http://127.0.0.1:8080/keys",
            "http://localhost/keys",
            "http://[::1]/keys",
        ] {
            assert_eq!(refused(at(good)), None, "{good}");
        }
        for bad in [
            "http://login.example/keys",
            "login.example",
            "ftp://a/b",
            "https:///keys",
        ] {
            assert_eq!(refused(at(bad)), Some("auth.jwks_url"), "{bad}");
        }
        let both = Auth {
            jwks_file: "keys.json".into(),
            ..at("https://login.example/keys")
        };
        assert_eq!(refused(both), Some("auth.jwks_url"));
        let alone = Auth {
            audience: "towncrier".into(),
            ..Auth::default()
        };
        assert_eq!(refused(alone), Some("auth.audience"));
    }
}
