//! The effects of a schedule's operations on the gateway, the devices and the machine.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{task::spawn_local, time::sleep};

use super::{
    device::{self, Left},
    gateway::Machine,
    letter,
    model::{Model, Outcome, user_id},
    process::Life,
    schedule::{Death, Letter, Operation},
    store::Fate,
    trace::note,
    world::World,
};
use towncrier::{
    delivery::{AppendError, Delivery, Receivers, Send, SendError},
    ids::{Platform, Seq},
    log::{Log as _, Receipt},
    message::{ReadMark, StoredMessage},
};

/// The error of a wrong wall clock, ms: longer than any retention.
const FAR_MS: i64 = 100 * 86_400_000;

impl World {
    pub(super) async fn carry_out(&self, operation: &Operation) {
        let Machine {
            network,
            clock,
            segments,
            ..
        } = &self.machine;
        match operation {
            Operation::Send(letter) => self.send(letter),
            Operation::Burst(letters) => letters.iter().for_each(|letter| self.send(letter)),
            Operation::Open(device) => self.open(*device),
            Operation::LogIn(number) => {
                if let Some(phone) = self.phone(*number) {
                    self.close(*number);
                    phone.token.take();
                    self.open(*number);
                }
            }
            Operation::Calm(phone) => self.expect_calm(*phone).await,
            Operation::Close(device) => self.close(*device),
            Operation::CrashAt(number, crash) => match self.phone(*number) {
                Some(phone) => phone.store.borrow_mut().crash = Some(*crash),
                None => self.devices[*number].inbox.borrow_mut().crash = Some(*crash),
            },
            Operation::Reinstall(number) => {
                self.close(*number);
                match self.phone(*number) {
                    Some(phone) => phone.reinstall(),
                    None => self.devices[*number].reinstall(),
                }
            }
            Operation::Cut(device) => network.cut(*device),
            Operation::HalfOpen(device) => network.half_open(Some(*device)),
            Operation::Stall(device, side, time) => network.stall(*device, *side, *time),
            Operation::Outage(device, time) => network.outage(*device, *time),
            Operation::Crash(death) => self.crash(*death),
            Operation::CrashWithin(operations, death) => {
                if let Some(gateway) = &*self.gateway.borrow() {
                    self.armed.set(Some(*death));
                    gateway.life.end_after(*operations);
                } else {
                    self.arms_next.set(Some((*operations, *death)));
                }
            }
            Operation::Drain(down) => self.drain(*down).await,
            Operation::LogOut(user, platform) => {
                self.outside_logs_out(*user, *platform);
                let (user, platform) = (user_id(*user), *platform);
                self.with_delivery(|delivery| async move {
                    // The outcome does not matter here, because devices get new tokens when they are opened.
                    let _ = delivery.log_out(user, platform).await;
                });
            }
            Operation::Delete(user, from_head) => self.delete(*user, from_head),
            Operation::Register(user) => {
                let user = user_id(*user);
                self.with_delivery(|delivery| async move {
                    let _ = delivery.register(user, "profile".into()).await;
                });
            }
            Operation::Suspend(time) => {
                self.disturb();
                clock.sleep(time.as_millis() as u64);
            }
            // A gateway that starts after a power cut can only take the wall clock's word, so that one is right then.
            Operation::ClockWrong(_) if self.gateway.borrow().is_none() => {}
            Operation::ClockWrong(time) => {
                let is_behind = time.as_millis() % 2 == 1;
                clock.set_wrong(if is_behind { -FAR_MS } else { FAR_MS });
                let (clock, time) = (clock.clone(), *time);
                spawn_local(async move {
                    sleep(time).await;
                    clock.set_wrong(0);
                });
            }
            Operation::DiskFull(time) => {
                self.disturb();
                segments.set_faults(|faults| faults.is_full = true);
                let (segments, time) = (segments.clone(), *time);
                spawn_local(async move {
                    sleep(time).await;
                    segments.set_faults(|faults| faults.is_full = false);
                });
            }
            Operation::SyncFails => {
                self.disturb();
                segments.set_faults(|faults| faults.sync_fails = true);
                self.wait(Duration::from_secs(2)).await;
                self.restart_if_refusing();
            }
            Operation::System(system, service, time) => self.set_system(*system, *service, *time),
            Operation::Away(time) => self.be_away(*time).await,
            Operation::Cold(one_in) => segments.set_faults(|faults| faults.cold_one_in = *one_in),
            Operation::Read {
                device,
                conversation,
                back,
            } => self.read(*device, *conversation, *back),
            Operation::MarkRead {
                user,
                conversation,
                back,
            } => self.mark_read(*user, *conversation, *back),
            Operation::Silence {
                user,
                conversation,
                is_silent,
            } => self.silence(*user, *conversation, *is_silent),
            Operation::LoseLog => {
                self.crash(Death {
                    power: None,
                    state: Fate::Lost,
                    has_flip: false,
                    down: Duration::from_secs(1),
                });
                self.flipped.take();
                self.machine.root.wipe();
                segments.wipe();
                self.epoch.set(self.epoch.get() + 1);
                self.begin_log();
                self.outside_begins();
                self.restart_phones();
            }
        }
    }

    fn with_delivery<F: Future<Output = ()> + 'static>(
        &self,
        task: impl FnOnce(Arc<Delivery>) -> F,
    ) {
        if let Some(gateway) = &*self.gateway.borrow() {
            gateway.spawn(task(gateway.delivery.clone()));
        }
    }

    /// A caller sends. While the gateway is down, the send reaches nothing.
    fn send(&self, letter: &Letter) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else { return };
        let Letter {
            number,
            receivers,
            talk,
            key,
            is_online_only,
            bytes,
        } = letter.clone();
        let content = letter::content(number, bytes);
        let send = Send {
            fingerprint: (u128::from(number) << 64 | bytes as u128).to_le_bytes(),
            message: StoredMessage {
                send_id: talk.send_id().into(),
                group_id: talk.group_id(),
                session_type: talk.session_type(),
                client_msg_id: key.map(|key| format!("k{key}")).unwrap_or_default(),
                content: content.into(),
                no_push: letter::is_unpushed(number),
                ..StoredMessage::default()
            },
            receivers: match &receivers {
                Some(users) => Receivers::List(users.iter().map(|user| user_id(*user)).collect()),
                None => Receivers::Everyone,
            },
            is_online_only,
        };
        let wanted = receivers.map(|users| users.into_iter().collect());
        self.model.borrow_mut().begins(number, || {
            letter::Letter::new(wanted, talk, key, is_online_only)
        });
        let attempt = Attempt {
            number,
            model: self.model.clone(),
            outcome: Cell::new(Outcome::Unknown),
            life: gateway.life.clone(),
        };
        let delivery = gateway.delivery.clone();
        gateway.spawn(async move {
            let outcome = outcome(delivery.send(send).await);
            attempt.outcome.set(outcome);
        });
    }

    fn delete(&self, user: usize, from_head: &[u64]) {
        let mut model = self.model.borrow_mut();
        let head = model.head(user);
        let seqs: Vec<u64> = from_head
            .iter()
            .filter_map(|back| head.checked_sub(*back))
            .filter(|seq| *seq > 0)
            .collect();
        model.deletes(user, &seqs, self.flipped.borrow().is_some());
        self.with_delivery(|delivery| async move {
            // After a refusal or a loss the messages stay, which the model allows.
            let _ = delivery
                .delete(user_id(user), seqs.into_iter().map(Seq).collect())
                .await;
        });
    }

    /// A device's user reads. An app that crashes meanwhile is started again.
    pub(super) fn read(&self, device: usize, conversation: usize, back: u64) {
        let read = self.devices[device].read(conversation, back, &self.model);
        if read.is_err() {
            self.close(device);
            self.open(device);
        }
    }

    /// A user's backend marks a conversation as read.
    fn mark_read(&self, user: usize, conversation: usize, back: u64) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else { return };
        let model = &mut *self.model.borrow_mut();
        let reader = (model.epoch, user);
        let Some((id, head)) = model.conversations.any(reader, conversation) else {
            return;
        };
        let mark = head.saturating_sub(back);
        let asked = if back == 0 { u64::MAX } else { mark };
        model.conversations.asks(reader, &id, asked);
        let (delivery, life, model) = (
            gateway.delivery.clone(),
            gateway.life.clone(),
            self.model.clone(),
        );
        gateway.spawn(async move {
            let marks = vec![ReadMark {
                conversation_id: id.clone(),
                conversation_seq: asked,
                ..ReadMark::default()
            }];
            let marked = delivery.mark_read(&user_id(user), None, marks).await;
            note(format_args!("{id} of user {user} to {mark}: {marked:?}"));
            // An answer that a process gives after its death reaches no caller.
            if marked.is_ok() && !life.is_dead() {
                model.borrow_mut().is_marked(reader, &id, mark);
            }
        });
    }

    /// The app of a device starts with a new token, if it does not run.
    pub(super) fn open(&self, number: usize) {
        if let Some(phone) = self.phone(number) {
            return self.open_phone(phone);
        }
        let apps = &mut *self.apps.borrow_mut();
        if apps[number].as_ref().is_some_and(|app| !app.is_finished()) {
            return;
        }
        let device = self.devices[number].clone();
        device.connected.take();
        let token = self.token(device.owner.user, device.owner.platform);
        let (network, model) = (self.machine.network.clone(), self.model.clone());
        let app = spawn_local(async move {
            // The user starts a crashed app again at once.
            while device::run(
                device.clone(),
                network.clone(),
                token.clone(),
                model.clone(),
            )
            .await
                == Left::Crashed
            {}
        });
        apps[number] = Some(app.abort_handle());
    }

    /// A new token.
    pub(super) fn token(&self, user: usize, platform: Platform) -> String {
        let user = user_id(user);
        let gateway = self.gateway.borrow();
        // As the gateway issues it: a token is not older than the user's last logout.
        let (now_ms, issued_at_ms) = gateway.as_ref().map_or_else(
            || (self.machine.clock.now_ms(), 0),
            |gateway| {
                let times = gateway.log.token_times(&user, platform).blocking_wait();
                let revoked_ms = times.map_or(0, |times| times.revoked_before_ms);
                (gateway.clock.now_ms(), revoked_ms)
            },
        );
        let issued_at_ms = issued_at_ms.max(now_ms);
        let issued = self.tokens.issue_at(&user, platform, now_ms, issued_at_ms);
        issued.token
    }

    pub(super) fn close(&self, number: usize) {
        if let Some(app) = self.apps.borrow_mut()[number].take() {
            app.abort();
        }
        if let Some(device) = self.devices.get(number) {
            device.connected.take();
            device.read_state.take();
        }
        if let Some(phone) = self.phone(number) {
            phone.end();
        }
    }

    pub(super) fn is_open(&self, number: usize) -> bool {
        self.apps.borrow()[number]
            .as_ref()
            .is_some_and(|app| !app.is_finished())
    }
}

/// One attempt to send. Every end is reported to the model; without an answer the outcome is unknown.
struct Attempt {
    number: u64,
    model: Rc<RefCell<Model>>,
    outcome: Cell<Outcome>,
    life: Arc<Life>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // An answer that a process gives after its death reaches no caller.
        let outcome = if self.life.is_dead() {
            Outcome::Unknown
        } else {
            self.outcome.replace(Outcome::Unknown)
        };
        note(format_args!("letter {} {outcome:?}", self.number));
        self.model.borrow_mut().ends(self.number, &outcome);
    }
}

fn outcome(sent: Result<Receipt, SendError>) -> Outcome {
    match sent {
        Ok(receipt) => Outcome::Accepted(receipt),
        Err(SendError::Append(AppendError::OutcomeUnknown)) => Outcome::Unknown,
        Err(SendError::Append(AppendError::KeyReused)) => Outcome::KeyReused,
        Err(_) => Outcome::Failed,
    }
}
