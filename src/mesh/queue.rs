//! The frames that wait for the link to one gateway.
//!
//! Every frame gets the next number, also one that is dropped. So the receiver sees a jump, and looks into the store. A frame without a
//! link is dropped as well: the receiver looks into the store when the next link begins, and a queue would only grow meanwhile.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::codec::bytes_of;
use crate::fleet::FleetFrame;

/// The bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub struct MeshLimits {
    /// The most frames that wait for one link.
    pub frames_max: usize,
    /// The most bytes of these frames. One frame may come above.
    pub frame_bytes_max: usize,
}

/// The most frames that wait for one link: half a second of hints of a busy gateway.
const LINK_FRAMES_MAX: usize = 16_384;
/// The most bytes of frames that wait for one link: some seconds of hints. A link that hangs holds them for `WRITE_TIMEOUT` at most.
const LINK_BYTES_MAX: usize = 16 << 20;

impl Default for MeshLimits {
    fn default() -> Self {
        Self {
            frames_max: LINK_FRAMES_MAX,
            frame_bytes_max: LINK_BYTES_MAX,
        }
    }
}

/// The queue of one link.
pub(super) struct LinkQueue {
    limits: MeshLimits,
    waiting: Mutex<WaitingFrames>,
    filled: Notify,
}

#[derive(Default)]
struct WaitingFrames {
    frames: VecDeque<(u64, FleetFrame)>,
    bytes: usize,
    /// The number of the next frame.
    next: u64,
    has_link: bool,
}

impl LinkQueue {
    pub(super) fn new(limits: MeshLimits) -> Self {
        Self {
            limits,
            waiting: Mutex::default(),
            filled: Notify::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingFrames> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame. False: the frame was dropped.
    pub(super) fn put(&self, frame: FleetFrame) -> bool {
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        let is_full = waiting.frames.len() >= self.limits.frames_max
            || waiting.bytes >= self.limits.frame_bytes_max;
        if !waiting.has_link || is_full {
            return false;
        }
        waiting.bytes += bytes_of(&frame);
        waiting.frames.push_back((number, frame));
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Jumps over a number, so that the receiver looks into the store.
    pub(super) fn skip(&self) {
        self.waiting().next += 1;
    }

    /// True while there is a link.
    pub(super) fn has_link(&self) -> bool {
        self.waiting().has_link
    }

    /// A link begins, or has ended. Returns the number of frames that are dropped with it.
    pub(super) fn set_link(&self, has_link: bool) -> usize {
        let mut waiting = self.waiting();
        waiting.has_link = has_link;
        waiting.bytes = 0;
        std::mem::take(&mut waiting.frames).len()
    }

    /// The number of the next frame that comes out of the queue.
    pub(super) fn next_number(&self) -> u64 {
        let waiting = self.waiting();
        let first = waiting.frames.front().map(|(number, _)| *number);
        first.unwrap_or(waiting.next)
    }

    /// Takes the next frame, if one waits.
    pub(super) fn take_now(&self) -> Option<(u64, FleetFrame)> {
        let mut waiting = self.waiting();
        let (number, frame) = waiting.frames.pop_front()?;
        waiting.bytes = waiting.bytes.saturating_sub(bytes_of(&frame));
        Some((number, frame))
    }

    /// Waits for a frame. Cancel safe.
    pub(super) async fn take(&self) -> (u64, FleetFrame) {
        loop {
            if let Some(taken) = self.take_now() {
                return taken;
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(bytes: usize) -> FleetFrame {
        FleetFrame::OnlineOnly {
            body: Bytes::from(vec![0; bytes]),
            users: Vec::new(),
        }
    }

    fn queue(frames_max: usize, frame_bytes_max: usize) -> LinkQueue {
        let queue = LinkQueue::new(MeshLimits {
            frames_max,
            frame_bytes_max,
        });
        queue.set_link(true);
        queue
    }

    fn numbers(queue: &LinkQueue) -> Vec<u64> {
        let taken = std::iter::from_fn(|| queue.take_now());
        taken.map(|(number, _)| number).collect()
    }

    #[test]
    fn a_full_queue_drops_frames_and_their_numbers_are_missing() {
        let queue = queue(2, usize::MAX);
        let put: Vec<_> = (0..4).map(|_| queue.put(frame(1))).collect();
        assert_eq!(put, [true, true, false, false]);
        assert_eq!(numbers(&queue), [0, 1]);
        assert_eq!(
            queue.next_number(),
            4,
            "a heartbeat shows that two are missing"
        );
        assert!(queue.put(frame(1)));
        assert_eq!(numbers(&queue), [4]);
        queue.skip();
        assert_eq!(queue.next_number(), 6);
    }

    #[test]
    fn a_queue_has_a_bound_in_bytes_and_gives_them_back() {
        let queue = queue(usize::MAX, 1000);
        assert!(queue.put(frame(2000)), "one frame comes above");
        assert!(!queue.put(frame(1)));
        assert_eq!(numbers(&queue), [0]);
        assert!(queue.put(frame(1)));
    }

    #[test]
    fn a_queue_without_a_link_takes_nothing_and_counts_on() {
        let queue = queue(10, 1000);
        assert!(queue.put(frame(1)));
        assert_eq!(queue.set_link(false), 1);
        assert!(!queue.put(frame(1)));
        assert_eq!(queue.set_link(true), 0);
        assert_eq!(queue.next_number(), 2);
    }
}
