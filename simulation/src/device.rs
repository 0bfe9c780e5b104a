//! A device: the real client loop over the simulated network, landing in a store that can crash on demand.
//!
//! The store is as atomic as a database, and keeps everything that ever landed, so that a second landing is detected.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io,
    rc::Rc,
};

use towncrier_client::{
    Client, ClientEvent, ConversationRecord, Ended, Knowledge, KnownConversation, Options,
    ReadState, Status, Store, StoreError, StorePosition,
    proto::{Message, ReadMark, gap::Reason, kicked},
};

use super::{
    model::Model,
    network::{End, Network},
    trace::{note, violated},
};
use towncrier::{ids::Platform, log::Conversation};

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
    /// The landed entries of read marks, by log and seq.
    pub(super) marks: BTreeSet<(u64, u64)>,
    /// The seqs announced as gone.
    pub(super) gone: BTreeMap<(u64, u64), Reason>,
    /// The conversations, by id, and how much is known of them.
    pub(super) conversations: BTreeMap<String, KnownConversation>,
    pub(super) knowledge: Knowledge,
    /// The highest mark of each conversation that the user was told to come from the gateway, by log and conversation.
    told: BTreeMap<(u64, String), u64>,
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
            // The user's own mark may go back, if the gateway does not take it.
            let told = (self.position.epoch, row.conversation_id.clone());
            let told = self.told.get(&told).copied().unwrap_or_default();
            if row.mark < told {
                violated(
                    "marks",
                    format_args!("a device goes back from {told}: {row:?}"),
                );
            }
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
    /// The conversations of the running app.
    pub(super) read_state: RefCell<Option<ReadState<Landing>>>,
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
            read_state: RefCell::default(),
            lies,
        }
    }

    /// Empties the store, as a new installation of the app does.
    pub(super) fn reinstall(&self) {
        self.inbox.take();
    }

    /// The user reads a conversation, up to the message at this distance from the newest one. Returns the conversation and the
    /// mark; `None` if the app does not run, or shows no conversation.
    ///
    /// # Errors
    /// The app crashes.
    pub(super) fn read(
        &self,
        conversation: usize,
        back: u64,
        model: &RefCell<Model>,
    ) -> Result<Option<(String, u64)>, StoreError> {
        let Some(read_state) = self.read_state.borrow().clone() else {
            return Ok(None);
        };
        let rows = read_state.conversations()?;
        let Some(number) = conversation.checked_rem(rows.len()) else {
            return Ok(None);
        };
        let id = rows[number].conversation_id.clone();
        let mark = rows[number].head.saturating_sub(back);
        let reader = (self.inbox.borrow().position.epoch, self.owner.user);
        model.borrow_mut().conversations.asks(reader, &id, mark);
        note(format_args!("device {} reads {id} to {mark}", self.number));
        read_state.mark_read(&id, mark)?;
        Ok(Some((id, mark)))
    }

    /// The difference between this device's conversations and those that the gateway lists, if there is one. The gateway does not tell
    /// a device which unread messages it deletes or lets expire.
    pub(super) fn difference(&self, list: &[Conversation]) -> Option<String> {
        let inbox = self.inbox.borrow();
        let rows = &inbox.conversations;
        if inbox.knowledge != Knowledge::Whole || rows.len() != list.len() {
            return Some(format!("{:?}, {rows:?} and {list:?}", inbox.knowledge));
        }
        list.iter().find_map(|listed| {
            let is_same = rows.get(&*listed.id).is_some_and(|row| {
                let most = row.head.saturating_sub(row.mark);
                (row.head, row.mark) == (listed.head.0, listed.mark.0)
                    && (listed.unread..=most).contains(&row.unread)
            });
            (!is_same).then(|| format!("{:?} and {listed:?}", rows.get(&*listed.id)))
        })
    }

    /// Unread messages, as the app shows them.
    pub(super) fn unread(&self) -> u64 {
        let inbox = self.inbox.borrow();
        inbox.conversations.values().map(|row| row.unread).sum()
    }
}

/// The app of a device while it runs.
struct App(Rc<Device>);

impl Drop for App {
    fn drop(&mut self) {
        self.0.read_state.take();
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
    let mut client = Client::over(dialer, options, store);
    device.read_state.replace(Some(client.read_state()));
    let app = App(device.clone());
    let ended = client
        .run(
            |event| heard(&device, &model, event),
            std::future::pending(),
        )
        .await;
    drop(app);
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
        ClientEvent::Conversations { marks, .. } => {
            let inbox = &mut *device.inbox.borrow_mut();
            let epoch = inbox.position.epoch;
            for ReadMark {
                conversation_id: id,
                conversation_seq: mark,
            } in marks
            {
                note(format_args!("device {number} is told of {id} to {mark}"));
                let told = inbox.told.entry((epoch, id.clone())).or_default();
                if mark <= *told {
                    violated(
                        "marks",
                        format_args!("device {number} is told of {id} to {mark} after {told}"),
                    );
                }
                *told = mark.max(*told);
                let reader = (epoch, device.owner.user);
                model.borrow_mut().conversations.tells(reader, &id, mark);
            }
        }
        ClientEvent::Gap { .. } => {}
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
pub(super) struct Landing {
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

    /// Lands the entries up to `position`. Each one that is no message holds read marks.
    fn commit(&self, before: StorePosition, position: StorePosition, messages: &[Message]) {
        let Device { number, owner, .. } = &*self.device;
        let inbox = &mut *self.device.inbox.borrow_mut();
        let model = &mut *self.model.borrow_mut();
        inbox.position = position;
        let epoch = position.epoch;
        let mut left = messages.iter().peekable();
        for seq in before.cursor + 1..=position.cursor {
            let at = (epoch, seq);
            let is_new = match left.next_if(|message| message.seq == seq) {
                Some(message) => {
                    model.landed(owner, epoch, message);
                    let id = message.server_msg_id.clone();
                    inbox.landed.insert(at, id).is_none()
                }
                None => {
                    model.landed_marks(owner, epoch, seq);
                    inbox.marks.insert(at)
                }
            };
            if !is_new {
                violated("P5", format_args!("device {number} lands {at:?} twice"));
            }
        }
        if left.next().is_some() || before.epoch != epoch {
            violated(
                "P4",
                format_args!("device {number} lands {messages:?} from {before:?} to {position:?}"),
            );
        }
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
        let before = self.device.inbox.borrow().position;
        if self.device.lies {
            self.device.inbox.borrow_mut().position = position;
        }
        self.crash(Crash::BeforeCommit)?;
        self.commit(before, position, &messages);
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
