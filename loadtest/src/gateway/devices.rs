//! Devices of users, registered at the generic provider of vendor push.
//!
//! A registration is durable when it is answered. Many connections at once share the syncs of the gateway's disk.

use std::rc::Rc;

use anyhow::{Context, bail};
use tokio::task::spawn_local;

use super::{GatewayAccess, http::Http, token::Signer};
use crate::crowd::Crowd;

/// The connections that register at once: enough to keep the gateway busy.
const REGISTERING: usize = 64;
/// The platform of users without a session, by name and number.
const PLATFORM: (&str, u32) = ("IOS", 1);

impl GatewayAccess {
    /// Registers a device for the user of each session, with the sessions' tokens. Cancel safe: registrations under way end.
    pub(crate) async fn register_devices(
        self: &Rc<Self>,
        crowd: &Rc<Crowd>,
        tokens: Vec<String>,
    ) -> anyhow::Result<()> {
        let token = move |at: u32| tokens[at as usize].clone();
        self.register(crowd, crowd.sessions(), token).await
    }

    /// Registers a device for each user of a crowd without sessions. Cancel safe: registrations under way end.
    pub(crate) async fn register_absent(self: &Rc<Self>, crowd: &Rc<Crowd>) -> anyhow::Result<()> {
        let key = self.token_key.as_ref();
        let signer = Signer::new(key.context("only a gateway of the rig's own has a known key")?)?;
        let users = Rc::clone(crowd);
        let token = move |at: u32| {
            let user_id = users.ledger.borrow().user_id(at);
            signer.token(&user_id, PLATFORM)
        };
        self.register(crowd, crowd.size.users, token).await
    }

    async fn register(
        self: &Rc<Self>,
        crowd: &Rc<Crowd>,
        count: u32,
        token: impl Fn(u32) -> String + 'static,
    ) -> anyhow::Result<()> {
        let token = Rc::new(token);
        let connections = (0..REGISTERING as u32).map(|first| {
            let (access, crowd, token) = (self.clone(), crowd.clone(), Rc::clone(&token));
            spawn_local(async move {
                let mut http =
                    Http::to(&access.gateway(first as usize).ws, access.trust.clone(), "");
                for at in (first..count).step_by(REGISTERING) {
                    let user = crowd.who(at).user;
                    let user_id = crowd.ledger.borrow().user_id(user);
                    http.set_token(token(at));
                    let body =
                        format!(r#"{{"provider":"http","token":"device-of-{user_id}-{at}"}}"#);
                    let answer = http.ask("/devices", &body).await;
                    let answer = answer.context("registering a device")?;
                    if answer != b"{}" {
                        let answer = String::from_utf8_lossy(answer);
                        bail!("the gateway registers no device: {answer}");
                    }
                }
                Ok(())
            })
        });
        for connection in connections.collect::<Vec<_>>() {
            connection.await??;
        }
        Ok(())
    }
}
