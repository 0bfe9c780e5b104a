//! Frames that wait for the socket, and their way into it. Each producer asks [`Outbox::has_room`] before it pushes; this
//! bounds the outbox. Every frame goes through it, also a pong or a close. So a control frame cannot get into the middle of a
//! data frame.
//!
//! The bound decides when an event may begin. The frames of one event (a live push of at most 64 KiB, or one read of the
//! log) are then taken whole, so the true maximum is the bound plus 128 KiB. An empty outbox holds no memory.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;
use towncrier_websocket::Frame;

/// The slices of one vectored write: many frames leave with one system call.
const SLICES_MAX: usize = 64;
/// The bytes of one write. A live push may wait twice for one write to each connection that reads a backlog meanwhile. With
/// 64 KiB a write, 25 such connections delay it by 10 ms.
pub(super) const WRITE_BYTES_MAX: usize = 16 * 1024;

/// The bounds of an outbox.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// The most frames that wait.
    pub frames_max: usize,
    /// The most bytes that wait.
    pub bytes_max: usize,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) frames: VecDeque<Frame>,
    /// The bytes of all frames, including the written part of the first.
    bytes: usize,
    /// The bytes of the first frame that the socket has taken.
    written: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// True if another push may begin.
    pub(super) fn has_room(&self, limits: OutboxLimits) -> bool {
        self.frames.len() < limits.frames_max && self.bytes < limits.bytes_max
    }

    /// The number of times that the waiting bytes would fill an outbox, rounded down.
    pub(super) fn fullness(&self, limits: OutboxLimits) -> u32 {
        let times = self.bytes / limits.bytes_max.max(1);
        u32::try_from(times).unwrap_or(u32::MAX)
    }

    /// True if so much waits that the connection must stop reading from the client. Only answers to the client's own frames
    /// (pongs) can fill the outbox this far, because pushes stop at half of it.
    pub(super) fn is_flooded(&self, limits: OutboxLimits) -> bool {
        self.frames.len() >= 2 * limits.frames_max || self.bytes >= 2 * limits.bytes_max
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Drops the frames of which no byte was written. A half-written frame has to be finished, because the client would
    /// read the next bytes as its rest.
    pub(super) fn discard_unbegun(&mut self) {
        self.frames.truncate(usize::from(self.written > 0));
        self.bytes = self.frames.front().map_or(0, Frame::len);
    }

    /// Writes the waiting frames to the stream, and adds the number of bytes that it took to `taken`. Ready when nothing waits
    /// any more, or when `taken` has reached [`WRITE_BYTES_MAX`], a turn's share.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
        taken: &mut usize,
    ) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(stream);
        while !self.is_empty() && *taken < WRITE_BYTES_MAX {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.slices(&mut slices);
            let written = stream.as_mut().poll_write_vectored(cx, &slices[..count]);
            let bytes = ready!(written)?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(bytes);
            *taken += bytes;
        }
        stream.poll_flush(cx)
    }

    /// Fills `slices` with the next bytes to write, for one vectored write. Returns the number of slices.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut count = 0;
        let mut bytes = 0;
        let mut skip = self.written;
        for part in self.frames.iter().flat_map(|f| [&f.head, &f.body]) {
            let left = &part[skip.min(part.len())..];
            skip -= part.len() - left.len();
            if left.is_empty() {
                continue;
            }
            let left = &left[..left.len().min(WRITE_BYTES_MAX - bytes)];
            if count == SLICES_MAX || left.is_empty() {
                break;
            }
            bytes += left.len();
            slices[count] = IoSlice::new(left);
            count += 1;
        }
        count
    }

    /// The socket took `count` more bytes.
    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(frame) = self.frames.front()
            && self.written >= frame.len()
        {
            self.written -= frame.len();
            self.bytes -= frame.len();
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            debug_assert_eq!((self.written, self.bytes), (0, 0));
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        frames_max: 4,
        bytes_max: 100,
    };

    fn frame(head: &'static str, body: &'static str) -> Frame {
        Frame {
            head: Bytes::from_static(head.as_bytes()),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn waiting(outbox: &Outbox) -> String {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = outbox.slices(&mut slices);
        let parts = slices[..count].iter();
        parts.map(|part| str::from_utf8(part).unwrap()).collect()
    }

    #[test]
    fn short_writes_of_any_size_lose_and_repeat_nothing() {
        for step in 1..=12 {
            let mut outbox = Outbox::default();
            let all = "ab123c45d";
            outbox.push(frame("ab", "123"));
            outbox.push(frame("c", "45"));
            outbox.push(frame("d", ""));
            let mut start = 0;
            while !outbox.is_empty() {
                assert_eq!(waiting(&outbox), all[start..]);
                let count = step.min(all.len() - start);
                outbox.advance(count);
                start += count;
            }
            assert_eq!(outbox.frames.capacity(), 0, "empty, it holds no memory");
        }
    }

    #[test]
    fn room_ends_at_either_bound() {
        let mut outbox = Outbox::default();
        for _ in 0..4 {
            assert!(outbox.has_room(LIMITS));
            outbox.push(frame("h", ""));
        }
        assert!(!outbox.has_room(LIMITS));
        outbox.advance(1);
        assert!(outbox.has_room(LIMITS));
        outbox.push(Frame {
            head: vec![0; 100].into(),
            body: Bytes::new(),
        });
        outbox.advance(1);
        assert!(!outbox.has_room(LIMITS));
    }

    #[test]
    fn a_half_written_frame_survives_the_discarding() {
        let mut outbox = Outbox::default();
        outbox.push(frame("ab", "cd"));
        outbox.push(frame("ef", ""));
        outbox.advance(1);
        outbox.discard_unbegun();
        assert_eq!(waiting(&outbox), "bcd");
        outbox.push(frame("x", ""));
        assert_eq!(waiting(&outbox), "bcdx");
        outbox.advance(4);
        outbox.push(frame("ef", ""));
        outbox.discard_unbegun();
        assert!(outbox.is_empty());
    }
}
