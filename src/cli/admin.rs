//! Access to the admin API of the configured gateway, for `send`, `token`, `listen` and `log backup`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use towncrier_client::{AdminClient, Trust};

use crate::{
    config::{self, Config, Role},
    ids::Platform,
    log::cluster::secrets::read_secrets,
};

/// A gateway's admin API with the secret for its tokens.
pub(super) struct AdminApi {
    pub(super) client: AdminClient,
    secret: String,
    admin: config::Admin,
}

impl AdminApi {
    /// The gateway at `url`. Without `url`, the gateway that the configuration describes.
    pub(super) fn new(
        mut config: Config,
        url: Option<&str>,
        trust: &Trust,
    ) -> anyhow::Result<Self> {
        let store = config.log.store.url().map(str::to_owned);
        let read = match store.filter(|_| config.has_secrets_in_store()) {
            Some(url) => read_secrets(&url, &mut config).map_err(anyhow::Error::from),
            None => config.read_secrets().map(drop).map_err(Into::into),
        };
        read.context("there is no secret to ask for tokens with")?;
        let url = admin_url(&config, url);
        Ok(Self {
            client: AdminClient::trusting(&url, trust)?,
            secret: config.auth.secret,
            admin: config.admin,
        })
    }

    /// The first administrator with the role, in whose name a command calls.
    pub(super) fn administrator(&self, role: Role) -> anyhow::Result<&str> {
        let has_role = |user: &&String| {
            let roles = self.admin.roles.get(*user);
            roles.is_none_or(|roles| roles.contains(&role))
        };
        let user = self.admin.user_ids.iter().find(has_role);
        user.map(String::as_str)
            .ok_or_else(|| anyhow!("no user of admin.user_ids has the role {}", role.name()))
    }

    /// A fresh token.
    pub(super) async fn token(&self, user: &str, platform: Platform) -> anyhow::Result<String> {
        Ok(self
            .client
            .user_token(&self.secret, user, platform.number())
            .await?
            .token)
    }
}

/// The address of the admin API: `url`, or without it that of the gateway that the configuration describes.
pub(super) fn admin_url(config: &Config, url: Option<&str>) -> String {
    url.map_or_else(
        || {
            let scheme = secure("http", &config.admin.tls_certificate);
            format!("{scheme}://{}", reachable(config.admin.listen))
        },
        Into::into,
    )
}

/// The certificates that a command trusts over TLS.
#[derive(Debug, Args)]
pub(super) struct TrustArguments {
    /// PEM file: over TLS, trust only certificates that these signed; default: those that this machine trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl TrustArguments {
    pub(super) fn read(&self) -> anyhow::Result<Trust> {
        let ca = self.ca.as_deref();
        Ok(ca.map_or_else(|| Ok(Trust::default()), Trust::only)?)
    }
}

/// `http` or `ws`, with an `s` added if the port has a certificate.
pub(super) fn secure(scheme: &str, certificate: &Path) -> String {
    let is_plain = certificate.as_os_str().is_empty();
    format!("{scheme}{}", if is_plain { "" } else { "s" })
}

/// The address at which this machine reaches a listener on `address`.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_calls_in_the_name_of_the_first_administrator_with_its_role() {
        let mut config = Config::default();
        config.auth.secret = "secret".into();
        config.auth.token_key = "key".into();
        config.admin.user_ids = ["a", "b"].map(String::from).into();
        let a_sends = ("a".to_owned(), vec![Role::Send]);
        config.admin.roles = [a_sends].into();
        let api = AdminApi::new(config, None, &Trust::default()).unwrap();
        assert_eq!(api.administrator(Role::Send).unwrap(), "a");
        assert_eq!(api.administrator(Role::Operate).unwrap(), "b");
        let none = AdminApi {
            admin: config::Admin {
                user_ids: vec!["a".into()],
                ..api.admin.clone()
            },
            ..api
        };
        assert!(none.administrator(Role::Operate).is_err());
    }
}
