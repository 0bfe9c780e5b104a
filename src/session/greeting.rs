//! A connection before its session: it waits for `Connect`, and then for the answers of the log to its login. Nothing is sent
//! to the client meanwhile.

use super::{Connect, Event, FromClient, Moment, Reason, Scene, SessionFault, reason::LOGIN_MAX};

/// A connection that has no session yet.
#[derive(Debug)]
pub struct Greeting {
    /// The time for `Connect` to come, or for the log to answer.
    deadline: Moment,
    is_logging_in: bool,
    has_missed: bool,
}

/// One thing that a connection without a session has to do.
#[derive(Debug)]
pub enum GreetingStep {
    /// Nothing.
    Wait,
    /// Log the client in: check its token, register the session, and read its resume point. A failure is an
    /// [`Event::Failed`]; after a success, [`open`](super::open) makes the session.
    LogIn(Connect),
    /// Close the connection. Every later event is ignored.
    Close(Reason),
}

impl Greeting {
    /// A client has just come. It has to send `Connect` by `deadline`.
    pub fn new(deadline: Moment) -> Self {
        Self {
            deadline,
            is_logging_in: false,
            has_missed: false,
        }
    }

    /// True if the client's next frame is taken. None is taken while the log's answer is awaited.
    pub fn is_listening(&self) -> bool {
        !self.is_logging_in
    }

    /// True if something came for the session, which is registered during its login already: the session looks up the head
    /// once it is open.
    pub fn has_missed(&self) -> bool {
        self.has_missed
    }

    /// Something came that nobody has at hand any more.
    pub fn miss(&mut self) {
        self.has_missed = self.is_logging_in;
    }

    /// Handles one event.
    pub fn handle(&mut self, event: Event, scene: Scene) -> GreetingStep {
        let reason = match event {
            Event::Said(FromClient::Connect(connect)) if !self.is_logging_in => {
                self.is_logging_in = true;
                self.deadline = scene.now.plus(LOGIN_MAX);
                return GreetingStep::LogIn(connect);
            }
            Event::Said(_) => Reason::Protocol("the first frame must be Connect"),
            Event::Tick(_) if scene.now >= self.deadline => {
                if self.is_logging_in {
                    SessionFault::LogSilent.reason(scene.random)
                } else {
                    Reason::ConnectTimeout
                }
            }
            Event::Live(_) => {
                self.miss();
                return GreetingStep::Wait;
            }
            // The client gets no frame before `Connected`, so only the close tells it.
            Event::Replaced => Reason::Replaced,
            Event::LoggedOut => Reason::LoggedOut,
            Event::Drain(after) => Reason::Unavailable(after),
            Event::Failed(fault) => fault.reason(scene.random),
            Event::Tick(_)
            | Event::Heard
            | Event::Room
            | Event::Head(..)
            | Event::Read(_)
            | Event::ReadNothing(_)
            | Event::Listed { .. }
            | Event::Answered { .. }
            | Event::Newest(_)
            | Event::Looked(_)
            | Event::Marked => return GreetingStep::Wait,
        };
        GreetingStep::Close(reason)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;

    use super::*;
    use crate::{
        message::{Live, Message, Numbers},
        session::{Condition, Manner, Resume},
    };

    fn connect() -> Event {
        Event::Said(FromClient::Connect(Connect {
            token: "t".into(),
            device: String::new(),
            client: String::new(),
            resume: Resume {
                epoch: 0,
                cursor: None,
            },
            manner: Manner::Acks,
            named: None,
            is_background: false,
        }))
    }

    fn tick() -> Event {
        Event::Tick(Condition::default())
    }

    /// The step at this second. The random number is always 0.5.
    fn step(greeting: &mut Greeting, event: Event, second: u64) -> GreetingStep {
        let scene = Scene {
            now: Moment(second * 1000),
            has_room: true,
            is_flushed: true,
            random: || 0.5,
        };
        greeting.handle(event, scene)
    }

    fn close(greeting: &mut Greeting, event: Event, second: u64) -> Reason {
        match step(greeting, event, second) {
            GreetingStep::Close(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// A client whose `Connect` came in second 8 of 10.
    fn logging_in() -> Greeting {
        let mut greeting = Greeting::new(Moment(10_000));
        let begun = step(&mut greeting, connect(), 8);
        assert!(matches!(begun, GreetingStep::LogIn(_)), "{begun:?}");
        greeting
    }

    #[test]
    fn only_connect_may_come_first() {
        let mut greeting = Greeting::new(Moment(10_000));
        let ping = Event::Said(FromClient::Ping(1));
        let refused = Reason::Protocol("the first frame must be Connect");
        assert_eq!(close(&mut greeting, ping, 1), refused);
    }

    #[test]
    fn connect_has_its_time_and_then_the_log_has_its_own() {
        let mut greeting = Greeting::new(Moment(10_000));
        let early = step(&mut greeting, tick(), 9);
        assert!(matches!(early, GreetingStep::Wait));
        assert_eq!(close(&mut greeting, tick(), 10), Reason::ConnectTimeout);
        let mut greeting = logging_in();
        let early = step(&mut greeting, tick(), 12);
        assert!(matches!(early, GreetingStep::Wait));
        let later = Reason::Unavailable(Duration::from_millis(7500));
        assert_eq!(close(&mut greeting, tick(), 13), later);
    }

    #[test]
    fn a_login_takes_no_frame_and_remembers_that_something_came() {
        let live = Live {
            numbers: Numbers::default(),
            message: Arc::new(Message::new(Bytes::new())),
        };
        let mut greeting = logging_in();
        assert!(!greeting.is_listening() && !greeting.has_missed());
        let came = step(&mut greeting, Event::Live(live), 9);
        assert!(matches!(came, GreetingStep::Wait) && greeting.has_missed());
    }

    #[test]
    fn a_login_that_is_overtaken_or_fails_closes_with_its_reason() {
        let after = Duration::from_secs(3);
        for (event, reason) in [
            (Event::Replaced, Reason::Replaced),
            (Event::LoggedOut, Reason::LoggedOut),
            (Event::Drain(after), Reason::Unavailable(after)),
            (
                Event::Failed(SessionFault::TooManySessions),
                Reason::TooManySessions,
            ),
        ] {
            assert_eq!(close(&mut logging_in(), event, 9), reason);
        }
    }
}
