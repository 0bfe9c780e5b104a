//! A device: the real client loop over the simulated network, landing in a store that can crash on demand.
//!
//! The store is as atomic as a database, and keeps everything that ever landed, so that a second landing is detected.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use towncrier_client::{
    Client, ClientEvent, ConversationRecord, Ended, Knowledge, KnownConversation, Options, Status,
    Store, StoreError, StorePosition,
    proto::{Message, gap::Reason, kicked},
};

use super::{
    model::Model,
    network::{End, Network},
    trace::{note, violated},
};
use towncrier::ids::Platform;

/// The point at which a device's process dies next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// Before its landing is durable.
    BeforeCommit,
    /// Between the durable landing and the ack.
    AfterCommit,
}

/// The session of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: usize,
    pub(super) platform: Platform,
    /// The device's id, if the policy tells devices apart.
    pub(super) id: String,
}

/// A device's disk.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) position: StorePosition,
    /// The landed messages: the message's id by log and seq.
    pub(super) landed: BTreeMap<(u64, u64), String>,
    /// The seqs announced as gone.
    pub(super) gone: BTreeMap<(u64, u64), Reason>,
    /// The conversations, by id, and how much is known of them.
    conversations: BTreeMap<String, KnownConversation>,
    knowledge: Knowledge,
    /// The position at which the store began in each log.
    pub(super) began: BTreeMap<u64, u64>,
    pub(super) crash: Option<Crash>,
}

impl Inbox {
    fn record(&mut self, record: &ConversationRecord) {
        if record.is_anew {
            self.conversations.clear();
        }
        for row in &record.rows {
            self.conversations
                .insert(row.conversation_id.clone(), row.clone());
        }
        self.knowledge = record.knowledge;
    }
}

/// The facts about the connection that the device believes it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connected {
    pub(super) id: String,
    /// The gateway's time when it answered.
    pub(super) since_ms: u64,
    /// True time when the device read the answer.
    pub(super) read_at_ms: u64,
}

/// A device as the other parts of the run see it.
pub(super) struct Device {
    pub(super) number: usize,
    pub(super) owner: Owner,
    pub(super) inbox: RefCell<Inbox>,
    pub(super) connected: RefCell<Option<Connected>>,
    pub(super) caught_up: RefCell<bool>,
    /// True if its store lies: it moves its cursor before it keeps the messages.
    lies: bool,
}

impl Device {
    pub(super) fn new(number: usize, owner: Owner, lies: bool) -> Self {
        Self {
            number,
            owner,
            inbox: RefCell::default(),
            connected: RefCell::default(),
            caught_up: RefCell::default(),
            lies,
        }
    }

    /// Empties the store, as a new installation of the app does.
    pub(super) fn reinstall(&self) {
        self.inbox.take();
    }
}

/// Why a device's app ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Another session has the place now.
    Replaced,
    /// It needs a new token.
    LoggedOut,
    /// Its store crashed it.
    Crashed,
}

/// Runs the device's app until it ends by itself; dropping this kills it.
pub(super) async fn run(
    device: Rc<Device>,
    network: Network,
    token: String,
    model: Rc<RefCell<Model>>,
) -> Left {
    let store = Landing {
        device: device.clone(),
        model: model.clone(),
    };
    let options = Options {
        url: "ws://gateway/ws".into(),
        token,
        device_id: device.owner.id.clone(),
        name: "simulated/1".into(),
    };
    let dialer = Dialer {
        network,
        device: device.number,
    };
    let ended = Client::over(dialer, options, store)
        .run(
            |event| heard(&device, &model, event),
            std::future::pending(),
        )
        .await;
    let connected = device.connected.take();
    note(format_args!("device {} ends: {ended}", device.number));
    match ended {
        Ended::Kicked {
            reason: kicked::Reason::Replaced,
            ..
        } => {
            if let Some(connected) = connected {
                model.borrow().replaced(&device.owner, &connected);
            }
            Left::Replaced
        }
        Ended::Kicked { .. } | Ended::Refused(_) => Left::LoggedOut,
        Ended::Store(_) => Left::Crashed,
        Ended::Stopped => unreachable!("nobody stops it"),
    }
}

fn heard(device: &Device, model: &RefCell<Model>, event: ClientEvent) {
    let number = device.number;
    match event {
        ClientEvent::Landed { epoch, messages } => {
            for message in messages {
                note(format_args!(
                    "device {number} landed {epoch:x}/{}",
                    message.seq
                ));
            }
        }
        ClientEvent::OnlineOnly(message) => {
            note(format_args!("device {number} online-only"));
            model.borrow_mut().shown(device.owner.user, &message);
        }
        ClientEvent::Conversations { .. } | ClientEvent::Gap { .. } => {}
        ClientEvent::Status(Status::Connected(connected)) => {
            note(format_args!(
                "device {number} connected {} cursor {} head {}",
                connected.connection_id, connected.cursor, connected.head
            ));
            *device.caught_up.borrow_mut() = false;
            *device.connected.borrow_mut() = Some(Connected {
                id: connected.connection_id,
                since_ms: connected.server_time_ms as u64,
                read_at_ms: model.borrow().clock.now_ms(),
            });
        }
        ClientEvent::Status(Status::CaughtUp { seq }) => {
            note(format_args!("device {number} caught up {seq}"));
            *device.caught_up.borrow_mut() = true;
        }
        ClientEvent::Status(Status::Reconnecting { after, lost }) => {
            note(format_args!(
                "device {number} reconnects after {after:?}: {lost}"
            ));
            device.connected.take();
            if let towncrier_client::Lost::Misled(misled) = lost {
                violated("protocol", format_args!("device {number}: {misled}"));
            }
        }
    }
}

struct Dialer {
    network: Network,
    device: usize,
}

impl towncrier_client::Network for Dialer {
    type Stream = End;

    async fn connect(&self, _: &str, _: u16) -> io::Result<End> {
        self.network.connect(self.device).await
    }
}

/// The store of one run of the app.
struct Landing {
    device: Rc<Device>,
    model: Rc<RefCell<Model>>,
}

impl Landing {
    /// The process dies here if the run ordered it.
    fn crash(&self, at: Crash) -> Result<(), StoreError> {
        let crash = &mut self.device.inbox.borrow_mut().crash;
        if *crash != Some(at) {
            return Ok(());
        }
        *crash = None;
        note(format_args!("device {} crashes {at:?}", self.device.number));
        Err(StoreError::InUse("it crashed".into()))
    }
}

impl Store for Landing {
    fn position(&self) -> Result<StorePosition, StoreError> {
        Ok(self.device.inbox.borrow().position)
    }

    fn conversations(&self) -> Result<(Knowledge, Vec<KnownConversation>), StoreError> {
        let inbox = self.device.inbox.borrow();
        let rows = inbox.conversations.values().cloned().collect();
        Ok((inbox.knowledge, rows))
    }

    fn land(
        &mut self,
        position: StorePosition,
        messages: Vec<Message>,
        record: &ConversationRecord,
    ) -> Result<Vec<Message>, StoreError> {
        if self.device.lies
            && let Some(last) = messages.last()
        {
            self.device.inbox.borrow_mut().position.cursor = last.seq;
        }
        self.crash(Crash::BeforeCommit)?;
        let epoch = position.epoch;
        for message in &messages {
            let inbox = &mut *self.device.inbox.borrow_mut();
            let number = self.device.number;
            let at = (epoch, message.seq);
            let is_next =
                self.device.lies || (inbox.position.epoch, inbox.position.cursor + 1) == at;
            if !is_next {
                violated(
                    "P4",
                    format_args!("device {number} lands {at:?} at {:?}", inbox.position),
                );
            }
            inbox.position = StorePosition {
                epoch,
                cursor: message.seq,
            };
            let id = message.server_msg_id.clone();
            if inbox.landed.insert(at, id).is_some() {
                violated("P5", format_args!("device {number} lands {at:?} twice"));
            }
            self.model
                .borrow_mut()
                .landed(&self.device.owner, epoch, message);
        }
        self.device.inbox.borrow_mut().record(record);
        self.crash(Crash::AfterCommit)?;
        Ok(messages)
    }

    fn move_to(
        &mut self,
        position: StorePosition,
        record: &ConversationRecord,
    ) -> Result<(), StoreError> {
        self.crash(Crash::BeforeCommit)?;
        let inbox = &mut *self.device.inbox.borrow_mut();
        inbox.record(record);
        let before = std::mem::replace(&mut inbox.position, position);
        let number = self.device.number;
        note(format_args!(
            "device {number} moves from {before:?} to {position:?}"
        ));
        let model = self.model.borrow();
        if before.epoch == position.epoch {
            if position.cursor < before.cursor {
                violated(
                    "P6",
                    format_args!("device {number} is sent back in the log it was at"),
                );
            }
            for seq in before.cursor + 1..=position.cursor {
                inbox.gone.insert((position.epoch, seq), Reason::Expired);
                model.gone(&self.device.owner, position.epoch, seq);
            }
        } else {
            inbox.began.insert(position.epoch, position.cursor);
            model.began(&self.device.owner, before.epoch, position);
        }
        Ok(())
    }

    fn record(&mut self, record: &ConversationRecord) -> Result<(), StoreError> {
        self.crash(Crash::BeforeCommit)?;
        self.device.inbox.borrow_mut().record(record);
        Ok(())
    }
}
