//! The vendors of a configuration.

use std::{fs, io, path::PathBuf, sync::Arc};

use hyper::{Uri, header::HeaderValue};
use towncrier_client::Trust;

use super::{
    Vendor,
    access::AccessToken,
    apns::Apns,
    fcm::{Fcm, ServiceAccount},
    getui::Getui,
    http::HttpProvider,
    jpush::Jpush,
    jwt::{ClaimsKey, KeyFault},
    webpush::WebPush,
};
use crate::{
    clock::Clock,
    config::{self, WebPushKey},
    outbound::{LONG_IDLE_TIMEOUT, Outbound, Reach, SHORT_IDLE_TIMEOUT, WebhookSecrets},
};

/// Why a vendor cannot be used. No text shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum VendorFault {
    /// A file of the configuration cannot be read.
    #[error("{key}: {}: {error}", path.display())]
    File {
        /// Section and key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// A file of the configuration holds no key.
    #[error("{key}: {} {fault}", path.display())]
    Key {
        /// Section and key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The missing part.
        fault: KeyFault,
    },
    /// The file of the service account has another form.
    #[error(
        "push.fcm.service_account_file: {} is no service account: JSON with project_id, client_email, private_key and token_uri",
        .0.display()
    )]
    Account(PathBuf),
    /// The key of Web Push is none.
    #[error("the key of Web Push {0}")]
    WebPush(KeyFault),
}

/// The vendors whose sections have their keys, each once. `trust`: whose certificates they must have. `webpush_key` is there if
/// `push.webpush` is in use.
pub fn vendors(
    config: &config::Push,
    webpush_key: Option<&WebPushKey>,
    clock: &Arc<Clock>,
    trust: &Trust,
) -> Result<Vec<Arc<dyn Vendor>>, VendorFault> {
    let mut vendors: Vec<Arc<dyn Vendor>> = Vec::new();
    let anywhere = |idle_timeout| Outbound::new(trust, Reach::Anywhere, idle_timeout);
    if !config.getui.app_id.is_empty() {
        vendors.push(Arc::new(Getui {
            outbound: anywhere(SHORT_IDLE_TIMEOUT),
            clock: Arc::clone(clock),
            base: format!("{}/v2/{}", base(&config.getui.url), config.getui.app_id),
            app_key: config.getui.app_key.clone(),
            master_secret: config.getui.master_secret.clone(),
            access: AccessToken::default(),
        }));
    }
    let jpush = &config.jpush;
    if !jpush.app_key.is_empty() {
        let url = uri(&format!("{}/v3/push", base(&jpush.url)));
        let outbound = anywhere(SHORT_IDLE_TIMEOUT);
        let jpush = Jpush::new(outbound, url, &jpush.app_key, &jpush.master_secret);
        vendors.push(Arc::new(jpush));
    }
    if !config.apns.key_file.as_os_str().is_empty() {
        let outbound = anywhere(LONG_IDLE_TIMEOUT);
        vendors.push(Arc::new(apns(&config.apns, outbound, clock)?));
    }
    if !config.fcm.service_account_file.as_os_str().is_empty() {
        let outbound = anywhere(LONG_IDLE_TIMEOUT);
        vendors.push(Arc::new(fcm(&config.fcm, outbound, clock)?));
    }
    if let Some(key) = webpush_key {
        let section = &config.webpush;
        // A relay is the operator's own choice, and may be in a private network.
        let reach = match section.url.is_empty() {
            true => Reach::Public,
            false => Reach::Anywhere,
        };
        vendors.push(Arc::new(WebPush {
            outbound: Outbound::new(trust, reach, LONG_IDLE_TIMEOUT),
            clock: Arc::clone(clock),
            key: ClaimsKey::es256(&key.pkcs8).map_err(VendorFault::WebPush)?,
            subject: section.subject.clone(),
            hosts: section.hosts.clone(),
            relay: base(&section.url).to_owned(),
        }));
    }
    if !config.http.url.is_empty() {
        vendors.push(Arc::new(HttpProvider {
            outbound: anywhere(SHORT_IDLE_TIMEOUT),
            clock: Arc::clone(clock),
            url: uri(&config.http.url),
            secrets: WebhookSecrets::parse(&[&config.http.secret])
                .expect("the configuration's secret was checked"),
        }));
    }
    Ok(vendors)
}

fn apns(
    section: &config::ApnsKeys,
    outbound: Outbound,
    clock: &Arc<Clock>,
) -> Result<Apns, VendorFault> {
    let (key, path) = ("push.apns.key_file", &section.key_file);
    let pem = read(key, path)?;
    let of_file = |fault| VendorFault::Key {
        key,
        path: path.clone(),
        fault,
    };
    Ok(Apns {
        outbound,
        clock: Arc::clone(clock),
        base: base(&section.url).to_owned(),
        key: ClaimsKey::es256_of_pem(&pem).map_err(of_file)?,
        key_id: section.key_id.clone(),
        team_id: section.team_id.clone(),
        topic: HeaderValue::try_from(&section.topic)
            .expect("the configuration's topic was checked"),
        access: AccessToken::default(),
    })
}

fn fcm(
    section: &config::FcmKeys,
    outbound: Outbound,
    clock: &Arc<Clock>,
) -> Result<Fcm, VendorFault> {
    let (key, path) = (
        "push.fcm.service_account_file",
        &section.service_account_file,
    );
    let text = read(key, path)?;
    let no_account = || VendorFault::Account(path.clone());
    let account: ServiceAccount = serde_json::from_str(&text).map_err(|_| no_account())?;
    let send_url = format!(
        "{}/v1/projects/{}/messages:send",
        base(&section.url),
        account.project_id
    );
    let of_file = |fault| VendorFault::Key {
        key,
        path: path.clone(),
        fault,
    };
    Ok(Fcm {
        outbound,
        clock: Arc::clone(clock),
        send_url: send_url.parse().map_err(|_| no_account())?,
        token_url: uri(&section.token_url),
        key: ClaimsKey::rs256_of_pem(&account.private_key).map_err(of_file)?,
        account,
        access: AccessToken::default(),
    })
}

fn read(key: &'static str, path: &PathBuf) -> Result<String, VendorFault> {
    fs::read_to_string(path).map_err(|error| VendorFault::File {
        key,
        path: path.clone(),
        error,
    })
}

/// A URL to which a path is added.
fn base(url: &str) -> &str {
    url.trim_end_matches('/')
}

fn uri(url: &str) -> Uri {
    url.parse().expect("the configuration's URLs were checked")
}
