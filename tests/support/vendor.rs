//! A stand-in for a vendor of push services: it keeps what it gets, and answers as a test says. It speaks the generic provider's
//! interface, Standard Webhooks.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};

use super::within;

/// The answer to one push.
#[derive(Clone)]
pub(crate) enum StandAnswer {
    /// This status with this body.
    Status(u16, String),
    /// None, however long the gateway waits.
    Never,
}

/// A running stand-in.
pub(crate) struct VendorStand {
    pub(crate) address: SocketAddr,
    pushes: mpsc::UnboundedReceiver<Value>,
    answers: Arc<Mutex<VecDeque<StandAnswer>>>,
}

impl VendorStand {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, pushes) = mpsc::unbounded_channel();
        let answers: Arc<Mutex<VecDeque<StandAnswer>>> = Arc::default();
        let given = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, given) = (sender.clone(), Arc::clone(&given));
                let service = service_fn(move |request| {
                    let (sender, given) = (sender.clone(), Arc::clone(&given));
                    async move { answer(request, &sender, &given).await }
                });
                let connection = http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            pushes,
            answers,
        }
    }

    /// The settings of a gateway whose generic provider is this one.
    pub(crate) fn settings(&self) -> [String; 2] {
        [
            format!("push.http.url=http://{}/push", self.address),
            "push.http.secret=whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into(),
        ]
    }

    /// The next answers. After them every push is taken.
    pub(crate) fn answer(&self, answer: StandAnswer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    /// The `data` of the next push.
    pub(crate) async fn expect_push(&mut self) -> Value {
        let push = within("a push at the vendor", self.pushes.recv()).await;
        push.expect("the stand-in runs")
    }

    /// True if the vendor got nothing more by now.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.pushes.try_recv().is_err()
    }
}

async fn answer(
    request: Request<Incoming>,
    sender: &mpsc::UnboundedSender<Value>,
    answers: &Mutex<VecDeque<StandAnswer>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert!(request.headers().contains_key(name), "{name}");
    }
    let body = request.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["type"], "push");
    let next = answers.lock().unwrap().pop_front();
    // The test may have ended.
    let _ = sender.send(body["data"].clone());
    let (status, text) = match next {
        Some(StandAnswer::Status(status, text)) => (status, text),
        Some(StandAnswer::Never) => {
            Notify::new().notified().await;
            unreachable!("nobody notifies");
        }
        None => (200, String::new()),
    };
    let response = Response::builder().status(status);
    Ok(response.body(Full::new(text.into())).unwrap())
}
