//! Towncrier as a server under load: its address, its sessions, and its sends.
//!
//! - `session.rs`: one session by the rules of `towncrier.v1`; `openim/`: one by those of OpenIM's SDKs
//! - `lane.rs`, `http.rs`: sends, one request after the other, and their kept HTTP connection
//! - `devices.rs`: devices of users, for vendor push
//! - `lean.rs`: very many sessions in one loop; `token.rs`: their tokens
//! - `program.rs`: a process of the rig's own

mod devices;
mod http;
mod lane;
mod lean;
pub(crate) mod openim;
mod program;
mod session;
mod token;

use std::{collections::BTreeMap, path::PathBuf, rc::Rc, str::FromStr};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_local};
use towncrier_client::{AdminClient, Trust};

use self::{http::Http, lean::Lean};
pub(crate) use self::{lane::GatewayLane, program::GatewayProgram};
use crate::crowd::{Crowd, Who};

/// The default administrator, in whose name everything is sent.
pub(crate) const ADMIN: &str = "openIM123456";
pub(crate) const ADMIN_PLATFORM: u32 = 10;
/// The name of the gateway's metric, up to the reason.
const REFUSED: &str = "towncrier_connections_refused_total{reason=\"";
/// The number of connections that ask for tokens at once: enough to keep the gateway busy.
const TOKEN_CONNECTIONS: usize = 32;

/// The protocol of a gateway's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Speech {
    /// `towncrier.v1`.
    Towncrier,
    OpenIm(openim::SdkForm),
}

impl FromStr for Speech {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = match text {
            "towncrier" => return Ok(Self::Towncrier),
            "openim" => Ok(openim::SdkForm::default()),
            other => match other.strip_prefix("openim:") {
                Some(form) => form
                    .parse()
                    .map_err(|error: openim::NoSdkForm| error.to_string()),
                None => Err("expected towncrier, openim or openim:FORM".to_owned()),
            },
        };
        form.map(Self::OpenIm)
    }
}

/// The ports of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GatewayPorts {
    /// ws://HOST:PORT/ws, or wss.
    pub(crate) ws: String,
    /// http://HOST:PORT, or https.
    pub(crate) admin: String,
}

/// The addresses and secrets of a gateway, or of the gateways of a fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GatewayAddress {
    /// Not empty. The gateways are told apart by their places here.
    pub(crate) gateways: Vec<GatewayPorts>,
    pub(crate) secret: String,
    /// The file of trusted certificates over TLS; `None`: those that this machine trusts.
    pub(crate) ca: Option<PathBuf>,
    /// Its `auth.token_key`, if the rig has set it.
    pub(crate) token_key: Option<String>,
    pub(crate) speech: Speech,
}

/// One gateway or several, with everything that is needed to speak to them.
#[derive(Debug)]
pub(crate) struct GatewayAccess {
    gateways: Vec<GatewayPorts>,
    secret: String,
    trust: Trust,
    token_key: Option<String>,
    speech: Speech,
    /// The administrator's token; empty until there is one.
    admin_token: String,
}

impl GatewayAddress {
    pub(crate) async fn enter(&self) -> anyhow::Result<Rc<GatewayAccess>> {
        let mut access = GatewayAccess {
            gateways: self.gateways.clone(),
            secret: self.secret.clone(),
            trust: self.trust()?,
            token_key: self.token_key.clone(),
            speech: self.speech,
            admin_token: String::new(),
        };
        let mut http = Http::new(&access, 0);
        access.admin_token = token(&mut http, &access.secret, ADMIN, ADMIN_PLATFORM).await?;
        Ok(Rc::new(access))
    }

    /// The connections refused since their start, by reason, from their metrics.
    pub(crate) async fn refusals(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let metrics = self.metrics().await?.into_iter();
        let refused = metrics.filter_map(|(name, times)| {
            let reason = name.strip_prefix(REFUSED)?.strip_suffix("\"}")?;
            Some((reason.to_owned(), times))
        });
        Ok(refused.filter(|(_, times)| *times > 0.0).collect())
    }

    /// The metrics of all gateways that answer, each by its name and labels as they are written, summed up.
    pub(crate) async fn metrics(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let mut sums = BTreeMap::new();
        for gateway in &self.gateways {
            let admin = AdminClient::trusting(&gateway.admin, &self.trust()?)?;
            let text = match admin.get("/metrics").await {
                Ok((_, text)) => text,
                // A gateway of a fleet may have been killed.
                Err(_) if self.gateways.len() > 1 => continue,
                Err(error) => return Err(error.into()),
            };
            for (name, value) in text.lines().filter_map(|line| line.rsplit_once(' ')) {
                if let Ok(value) = value.parse::<f64>() {
                    *sums.entry(name.to_owned()).or_default() += value;
                }
            }
        }
        Ok(sums)
    }

    fn trust(&self) -> anyhow::Result<Trust> {
        let only = self.ca.as_deref().map(Trust::only).transpose()?;
        Ok(only.unwrap_or_default())
    }
}

impl GatewayAccess {
    /// The gateway of this number, counted round.
    fn gateway(&self, number: usize) -> &GatewayPorts {
        &self.gateways[number % self.gateways.len()]
    }

    /// Starts a session. It runs until it is aborted, or may not reconnect.
    pub(crate) fn start(
        self: &Rc<Self>,
        crowd: &Rc<Crowd>,
        who: Who,
        token: String,
    ) -> JoinHandle<()> {
        let (crowd, access) = (crowd.clone(), self.clone());
        match self.speech {
            Speech::Towncrier => spawn_local(session::run(crowd, who, access, token)),
            Speech::OpenIm(form) => spawn_local(openim::run(crowd, who, access, form, token)),
        }
    }

    /// Starts the sessions of a crowd of users with one session each, all in one loop.
    pub(crate) fn start_lean(&self, crowd: &Rc<Crowd>) -> anyhow::Result<JoinHandle<()>> {
        if self.speech != Speech::Towncrier {
            bail!("only sessions of towncrier.v1 can be lean: leave out --protocol");
        }
        Ok(spawn_local(Lean::new(crowd.clone(), self)?.run()))
    }

    /// A token for each session of a crowd, in its order.
    pub(crate) async fn tokens(self: &Rc<Self>, crowd: &Rc<Crowd>) -> anyhow::Result<Vec<String>> {
        let connections = (0..TOKEN_CONNECTIONS as u32).map(|first| {
            let (access, crowd) = (self.clone(), crowd.clone());
            spawn_local(async move {
                let mut http = Http::new(&access, first as usize);
                let mut tokens = Vec::new();
                for at in (first..crowd.sessions()).step_by(TOKEN_CONNECTIONS) {
                    let who = crowd.who(at);
                    let user_id = crowd.ledger.borrow().user_id(who.user);
                    let platform = who.session + 1;
                    let token = token(&mut http, &access.secret, &user_id, platform).await?;
                    tokens.push((at, token));
                }
                anyhow::Ok(tokens)
            })
        });
        let mut tokens = vec![String::new(); crowd.sessions() as usize];
        for connection in connections.collect::<Vec<_>>() {
            for (at, token) in connection.await?? {
                tokens[at as usize] = token;
            }
        }
        Ok(tokens)
    }
}

async fn token(
    http: &mut Http,
    secret: &str,
    user_id: &str,
    platform: u32,
) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct IssuedToken {
        token: String,
    }
    let body = serde_json::json!({
        "operationID": "loadtest", "secret": secret, "userID": user_id, "platform": platform,
    });
    let answer = http.post("/auth/user_token", &body.to_string()).await;
    let answer = answer.context("asking the gateway for a token")?;
    if answer.code != 0 {
        bail!(
            "the gateway gives no token: {} {}",
            answer.code,
            answer.text
        );
    }
    let data = answer.data.context("an answer without a token")?;
    Ok(serde_json::from_str::<IssuedToken>(data.get())?.token)
}
