//! Phones in a run: their apps start, and in the end each has every message.

use std::{rc::Rc, time::Duration};

use prost::Message as _;
use tokio::{task::spawn_local, time::Instant};
use towncrier_client::proto::Message;

use super::{Phone, app};
use crate::{
    device::Left,
    gateway::Gateway,
    model::{SLACK_MS, at_once, listed, user_id},
    settle::ALL,
    trace::violated,
    world::{World, base_of},
};
use towncrier::{
    ids::ConversationSeq,
    log::{Log as _, LogError},
    message::Content,
};

/// The longest time until a running phone has everything: the silence after which it gives up a link, the longest wait before it
/// connects again, and the time that a gateway waits for receipts.
const CALM: Duration = Duration::from_secs(120);

impl World {
    /// The phone with this number among all devices; `None` for a device of the gateway's own protocol.
    pub(in super::super) fn phone(&self, number: usize) -> Option<&Rc<Phone>> {
        self.phones.get(number.checked_sub(self.devices.len())?)
    }

    /// The app of a phone starts, if it does not run; with a new token, if it has none.
    pub(in super::super) fn open_phone(&self, phone: &Rc<Phone>) {
        let apps = &mut *self.apps.borrow_mut();
        let running = &mut apps[phone.number];
        if running.as_ref().is_some_and(|app| !app.is_finished()) {
            return;
        }
        let (user, platform) = (phone.owner.user, phone.owner.platform);
        let token = phone.token.borrow_mut();
        let token = { token }
            .get_or_insert_with(|| self.token(user, platform))
            .clone();
        let (phone, network, model) = (
            phone.clone(),
            self.machine.network.clone(),
            self.model.clone(),
        );
        let app = spawn_local(async move {
            // The user starts a crashed app again at once.
            while app::run(phone.clone(), network.clone(), token.clone(), model.clone()).await
                == Left::Crashed
            {}
        });
        *running = Some(app.abort_handle());
    }

    /// Every app starts again, with its store, because another log has begun: nothing on its way comes from the lost one.
    pub(in super::super) fn restart_phones(&self) {
        for phone in &self.phones {
            let was_open = self.is_open(phone.number);
            self.close(phone.number);
            if was_open {
                self.open_phone(phone);
            }
        }
    }

    /// Expects that a phone has everything after some time, if its app runs and the gateway is well all the time. Meanwhile nothing else
    /// happens.
    pub(in super::super) async fn expect_calm(&self, number: usize) {
        self.machine.network.heal();
        let Some(phone) = self.phone(number) else {
            return;
        };
        let deadline = Instant::now() + CALM;
        while self.is_open(number)
            && self.is_well()
            && let Some(lacks) = self.phone_lacks(phone)
        {
            if Instant::now() > deadline {
                return violated("P5", format_args!("phone {number} lacks {lacks}"));
            }
            self.wait(Duration::from_secs(1)).await;
        }
    }

    /// True if the gateway is there, its log is whole and takes writes, and its clock is right: otherwise it may refuse a token until
    /// it knows better.
    fn is_well(&self) -> bool {
        let now_ms = self.machine.clock.now_ms();
        self.gateway.borrow().as_ref().is_some_and(|gateway| {
            gateway.clock.now_ms().abs_diff(now_ms) < SLACK_MS
                && gateway.log.check_writable().is_ok()
                && gateway.log.damages().is_empty()
        })
    }

    /// A phone that connects after all marks is told how many messages are unread: it counts none twice, and none that is read.
    pub(in super::super) async fn expect_count(&self, phone: &Phone) {
        let deadline = Instant::now() + CALM;
        while !phone.is_counted() {
            if Instant::now() > deadline {
                let number = phone.number;
                return violated("unread", format_args!("phone {number} is told of none"));
            }
            self.wait(Duration::from_secs(1)).await;
        }
        for listed in self.listed(phone.owner.user) {
            let most = listed.head.0 - listed.mark.0;
            if let Some(unread) = phone.unread(&listed.id).filter(|unread| *unread > most) {
                let number = phone.number;
                violated(
                    "unread",
                    format_args!("phone {number} shows {unread} of {listed:?}"),
                );
            }
        }
    }

    /// A phone that has just started shows its user the newest history of each conversation, without a hole.
    pub(in super::super) async fn expect_history(&self, phone: &Phone) {
        let deadline = Instant::now() + CALM;
        while let Some(hidden) = self.phone_hides(phone) {
            if Instant::now() > deadline {
                let number = phone.number;
                return violated(
                    "history",
                    format_args!("phone {number} does not show {hidden}"),
                );
            }
            self.wait(Duration::from_secs(1)).await;
        }
    }

    /// The first message of the log that a phone does not show.
    fn phone_hides(&self, phone: &Phone) -> Option<String> {
        let gateway = self.gateway.borrow();
        let gateway = gateway.as_ref()?;
        let base = base_of(self.epoch.get());
        gateway.life.beside(|| {
            let user = phone.owner.user;
            listed(&gateway.log, user).into_iter().find_map(|listed| {
                let messages = messages(gateway, base, user, &listed.id).ok()?;
                let seq = phone.hides(&listed.id, &messages)?;
                Some(format!("{}/{seq} of {listed:?}", listed.id))
            })
        })
    }

    /// The first thing that a phone lacks at rest: a message, the count of one that is unread, or a session whose cursor is at the
    /// head.
    pub(in super::super) fn phone_lacks(&self, phone: &Phone) -> Option<String> {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else {
            return Some("a gateway".into());
        };
        let base = base_of(self.epoch.get());
        gateway.life.beside(|| lacks(phone, gateway, base))
    }
}

fn lacks(phone: &Phone, gateway: &Gateway, base: u32) -> Option<String> {
    let log = &gateway.log;
    let user = user_id(phone.owner.user);
    if phone.is_blank() {
        return Some("its begin".into());
    }
    for listed in listed(log, phone.owner.user) {
        let messages = match messages(gateway, base, phone.owner.user, &listed.id) {
            Ok(messages) => messages,
            Err(error) => return Some(format!("a log that reads: {error:?}")),
        };
        if let Some(seq) = phone.lacks(&listed.id, &messages) {
            return Some(format!("{}/{seq} of {listed:?}", listed.id));
        }
        let unread = phone.unread(&listed.id);
        if unread.is_some_and(|unread| unread < listed.unread) {
            return Some(format!("unread messages, {unread:?} of {listed:?}"));
        }
    }
    let head = at_once(log.inbox(&user)).ok()?.head;
    let rows = at_once(log.sessions(&user)).ok()?;
    let mut own = rows.iter().filter_map(|(key, row)| {
        let is_own = key.platform == phone.owner.platform && key.is_openim();
        is_own.then_some(row.cursor)
    });
    // The row of a session that received nothing for as long as messages are kept is forgotten.
    let is_received = own.clone().next().is_none() || own.any(|cursor| cursor == head);
    (!is_received).then(|| format!("a session at {head}: {rows:?}"))
}

/// The messages of a conversation, with the numbers under which phones know them.
fn messages(
    gateway: &Gateway,
    base: u32,
    user: usize,
    id: &str,
) -> Result<Vec<(u64, String)>, LogError> {
    let range = (ConversationSeq(1), ConversationSeq(u64::MAX));
    let read = gateway
        .log
        .read_conversation(&user_id(user), id, range, ALL);
    let messages = at_once(read)?.entries.into_iter().filter_map(|entry| {
        let Content::Message(body) = entry.content else {
            return None;
        };
        let id = Message::decode(body).unwrap_or_default().server_msg_id;
        Some((entry.numbers.conversation_seq.0 + u64::from(base), id))
    });
    Ok(messages.collect())
}
