//! The admin API of the configured gateway, as `send`, `token` and `listen` call it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use towncrier_client::{AdminClient, Trust};

use crate::{config::Config, ids::Platform};

/// A gateway's admin API with the secret for its tokens.
pub(super) struct Admin {
    pub(super) client: AdminClient,
    secret: String,
    /// In whose name sends are made unless the caller says otherwise.
    pub(super) user: String,
}

impl Admin {
    /// The gateway at `url`, or the one that the configuration describes.
    pub(super) fn new(
        mut config: Config,
        url: Option<&str>,
        trust: &Trust,
    ) -> anyhow::Result<Self> {
        config
            .read_secrets()
            .context("there is no secret to ask for tokens with")?;
        let user = config
            .admin
            .user_ids
            .first()
            .ok_or_else(|| anyhow!("admin.user_ids names nobody"))?;
        let url = url.map_or_else(
            || {
                let scheme = secure("http", &config.admin.tls_certificate);
                format!("{scheme}://{}", reachable(config.admin.listen))
            },
            Into::into,
        );
        Ok(Self {
            client: AdminClient::trusting(&url, trust)?,
            secret: config.auth.secret,
            user: user.clone(),
        })
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

/// Whom a command believes over TLS.
#[derive(Debug, Args)]
pub(super) struct TrustArguments {
    /// A PEM file: over TLS, believe only what these certificates signed; default: what this machine trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl TrustArguments {
    pub(super) fn read(&self) -> anyhow::Result<Trust> {
        let ca = self.ca.as_deref();
        Ok(ca.map_or_else(|| Ok(Trust::default()), Trust::only)?)
    }
}

/// `http` or `ws`, with an `s` where the port has a certificate.
pub(super) fn secure(scheme: &str, certificate: &Path) -> String {
    let is_plain = certificate.as_os_str().is_empty();
    format!("{scheme}{}", if is_plain { "" } else { "s" })
}

/// Where a listener on `address` is reached from this machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    }
    address
}
