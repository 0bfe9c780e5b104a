//! Time passes: the session gives up on a client that takes nothing or says nothing, and waits for it no longer.

use super::{
    super::{
        Action, BadToken, Condition, Manner, Reason, SILENCE_HEARTBEATS_MAX, ToClient, hold::Hold,
        window::Overdue,
    },
    Turn,
};

impl Turn<'_> {
    pub(super) fn tick(&mut self, condition: Condition) {
        if condition.stalled >= self.limits.stall_timeout {
            self.actions.push(Action::DropUnsent);
            return self.close(Reason::SlowConsumer);
        }
        if condition.is_token_over {
            return self.close(Reason::Unauthorized(BadToken::Expired));
        }
        let now = self.scene.now;
        let silence = self.limits.heartbeat.mul_f64(SILENCE_HEARTBEATS_MAX);
        // While the connection takes no frames, the silence is not the client's fault.
        let is_heard = !condition.is_flooded && self.session.is_listening();
        if !is_heard {
            self.session.heard = now;
        }
        if now.since(self.session.heard) > silence {
            return self.close(Reason::HeartbeatStopped);
        }
        let window = &mut self.session.window;
        // Nor is a receipt overdue that may lie behind a question.
        if !is_heard && self.session.manner != Manner::Acks {
            window.wait_anew(now, self.limits);
        }
        match window.tick(now, self.scene.is_flushed, self.limits) {
            Overdue::No => {}
            Overdue::Rewound if self.session.manner == Manner::Acks => {}
            Overdue::Rewound => return self.close(Reason::ReceiptsStopped),
            Overdue::GivenUp => return self.close(Reason::AcksStopped),
        }
        // Some of these clients say nothing by themselves.
        let is_silent = now.since(self.session.heard) >= self.limits.heartbeat;
        if is_silent && self.session.manner != Manner::Acks {
            self.send(ToClient::Ping);
        }
        let (sent, head) = (self.session.window.sent(), self.session.head);
        if let Some(wishes) = &mut self.session.wishes {
            wishes.singly_to = wishes.singly_to.filter(|to| *to > sent);
            if let Some(hold) = wishes.hold
                && hold.is_over(now)
            {
                wishes.hold = None;
                if let Hold::Reached(_) = hold {
                    wishes.needs_newest = true;
                    wishes.singly_to = Some(head);
                }
            }
            if let Some(watch) = &mut wishes.watch
                && watch.is_stale(condition.presence)
            {
                self.actions.push(Action::Look(watch.users()));
            }
        }
    }
}
