//! Sends to a gateway, one after the other over one HTTP connection: a message to one user is `send_msg`, one to several
//! is `batch_send_msg`.

use std::rc::Rc;

use serde::Deserialize;
use towncrier_client::admin::OUTCOME_UNKNOWN;

use super::{ADMIN, GatewayAccess, http::Http};
use crate::{
    crowd::Crowd,
    parcel::{Parcel, ParcelOutcome, To},
};

/// A lane. It connects when needed.
#[derive(Debug)]
pub(crate) struct GatewayLane {
    access: Rc<GatewayAccess>,
    /// The number of the present gateway.
    number: usize,
    http: Http,
}

impl GatewayLane {
    /// A lane that begins at the gateway of this number.
    pub(crate) fn new(access: Rc<GatewayAccess>, number: usize) -> Self {
        Self {
            http: Http::new(&access, number),
            access,
            number,
        }
    }

    /// Sends a parcel. The same parcel again is the same message. After an unknown outcome the next gateway has its turn.
    pub(crate) async fn send(&mut self, crowd: &Crowd, parcel: Parcel) -> ParcelOutcome {
        let outcome = self.try_send(crowd, parcel).await;
        if matches!(outcome, ParcelOutcome::Unknown(_)) && self.access.gateways.len() > 1 {
            self.number += 1;
            self.http = Http::new(&self.access, self.number);
        }
        outcome
    }

    async fn try_send(&mut self, crowd: &Crowd, parcel: Parcel) -> ParcelOutcome {
        let (path, body) = request(crowd, parcel);
        match self.http.post(path, &body).await {
            Ok(answer) if answer.code == 0 => {
                let id = answer.data.and_then(|data| server_msg_id(data.get()));
                ParcelOutcome::Accepted(id.unwrap_or_default().to_owned())
            }
            Ok(answer) if answer.code != OUTCOME_UNKNOWN => {
                ParcelOutcome::Refused(format!("{} {}", answer.code, answer.text))
            }
            Ok(answer) => ParcelOutcome::Unknown(answer.text),
            Err(error) => ParcelOutcome::Unknown(error.to_string()),
        }
    }
}

fn request(crowd: &Crowd, parcel: Parcel) -> (&'static str, String) {
    let ledger = crowd.ledger.borrow();
    let key = parcel.key;
    let content = ledger.content(key);
    let notice = if parcel.has_notice {
        format!(r#""offlinePushInfo":{{"title":"loadtest","desc":"a message","ex":"{key}"}},"#)
    } else {
        String::new()
    };
    let (path, to) = match parcel.to {
        To::One | To::InTurn(1) => (
            "/manager/send_msg",
            format!(r#""recvID":"{}""#, ledger.user_id(key.first)),
        ),
        To::Everyone => ("/manager/batch_send_msg", r#""isSendAll":true"#.to_owned()),
        To::Batch(_) | To::InTurn(_) => {
            let users = (0..parcel.count).map(|at| parcel.user(at, crowd.size.users));
            let list: Vec<_> = users
                .map(|user| format!(r#""{}""#, ledger.user_id(user)))
                .collect();
            (
                "/manager/batch_send_msg",
                format!(r#""recvIDList":[{}]"#, list.join(",")),
            )
        }
    };
    let body = format!(
        r#"{{"operationID":"loadtest","sendID":"{ADMIN}",{to},{notice}"clientMsgID":"{key}","senderPlatformID":10,"contentType":101,"sessionType":1,"content":{content}}}"#
    );
    (path, body)
}

/// The serverMsgID in the `data` of either kind of answer; a batch has one for all its receivers.
fn server_msg_id(data: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct One<'a> {
        #[serde(rename = "serverMsgID", borrow)]
        server_msg_id: &'a str,
    }
    #[derive(Deserialize)]
    struct Many<'a> {
        #[serde(rename = "resultList", borrow)]
        results: Vec<One<'a>>,
    }
    if let Ok(one) = serde_json::from_str::<One<'_>>(data) {
        return Some(one.server_msg_id);
    }
    let many: Many<'_> = serde_json::from_str(data).ok()?;
    Some(many.results.first()?.server_msg_id)
}
