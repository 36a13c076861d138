//! The standard streams between a guest's thread, which blocks, and the host's tasks, which wait.
//!
//! Output needs no back-pressure: a stream's limit bounds everything the guest can write, so a
//! reader that is slow or gone never stalls the guest. Input has a window.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use crate::error::{Error, Result};
use crate::exec::Stdin;
use crate::limits::{Limits, Overflow};
use crate::outcome::{Exit, Outcome, Stream};

/// The bytes that wait between a writer of standard input and the guest: one pipe buffer of Linux.
const STDIN_WINDOW_BYTES: usize = 65_536;

#[derive(Debug, Default)]
struct Buffer {
    bytes: VecDeque<u8>,
    /// Bytes offered since the start, kept or not.
    total: u64,
    truncated: bool,
    writer_gone: bool,
    reader_gone: bool,
}

/// A byte queue with a waiting side in async code and a blocking side in a guest's thread.
#[derive(Debug, Default)]
struct Pipe {
    buffer: Mutex<Buffer>,
    /// Wakes the host's task.
    host: Notify,
    /// Wakes the guest's thread.
    guest: Condvar,
}

impl Pipe {
    fn close_writer(&self) {
        self.buffer.lock().writer_gone = true;
        self.host.notify_waiters();
        self.guest.notify_all();
    }

    fn close_reader(&self) {
        self.buffer.lock().reader_gone = true;
        self.host.notify_waiters();
    }
}

/// One of the guest's output streams, read while the guest runs.
#[derive(Debug)]
pub struct OutputStream(Arc<Pipe>);

#[expect(clippy::needless_pass_by_ref_mut, reason = "a stream has one reader")]
impl OutputStream {
    /// Returns what the guest wrote since the last call, waiting for it; `None` at the end.
    ///
    /// # Cancel safety
    /// Cancel safe: bytes are taken only when they are returned.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut changed = std::pin::pin!(self.0.host.notified());
            // Registered before looking, so that a write in between is not missed.
            changed.as_mut().enable();
            {
                let mut buffer = self.0.buffer.lock();
                if !buffer.bytes.is_empty() {
                    return Some(std::mem::take(&mut buffer.bytes).into());
                }
                if buffer.writer_gone {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Returns what is there without waiting.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.buffer.lock().bytes).into()
    }
}

/// The writing end of a guest's standard input. Dropping it is the end of the input.
#[derive(Debug)]
pub struct StdinPipe(Arc<Pipe>);

#[expect(clippy::needless_pass_by_ref_mut, reason = "a stream has one writer")]
impl StdinPipe {
    /// Writes all bytes, waiting while 64 KiB wait for the guest.
    ///
    /// # Errors
    /// `Unavailable` if the guest ended.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part of the bytes may have been written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        loop {
            let mut changed = std::pin::pin!(self.0.host.notified());
            changed.as_mut().enable();
            {
                let mut buffer = self.0.buffer.lock();
                if buffer.reader_gone {
                    return Err(Error::closed("guest's standard input"));
                }
                let room = STDIN_WINDOW_BYTES.saturating_sub(buffer.bytes.len());
                let (now, later) = rest.split_at(room.min(rest.len()));
                buffer.bytes.extend(now);
                rest = later;
            }
            self.0.guest.notify_all();
            if rest.is_empty() {
                return Ok(());
            }
            changed.await;
        }
    }
}

impl Drop for StdinPipe {
    fn drop(&mut self) {
        self.0.close_writer();
    }
}

/// What came of a guest's attempt to read standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StdinRead {
    /// This many bytes were read.
    Bytes(usize),
    /// The input is at its end.
    End,
    /// Nothing came in the given time.
    Pending,
}

#[derive(Debug)]
enum Input {
    Bytes { bytes: Arc<[u8]>, at: usize },
    Pipe(Arc<Pipe>),
}

/// The guest's side of an [`Execution`](crate::Execution), for implementors. Its calls may block,
/// so it belongs on a thread of its own. Dropping it without [`GuestIo::finish`] tells the host
/// that the guest was lost.
#[derive(Debug)]
pub struct GuestIo {
    input: Input,
    stdout: Arc<Pipe>,
    stderr: Arc<Pipe>,
    stdout_bytes_max: u64,
    stderr_bytes_max: u64,
    overflow: Overflow,
    finish: Option<oneshot::Sender<Result<Outcome>>>,
}

impl GuestIo {
    pub(super) fn new(
        stdin: &Stdin,
        limits: &Limits,
        finish: oneshot::Sender<Result<Outcome>>,
    ) -> Self {
        let input = match stdin {
            Stdin::Empty => Input::Bytes {
                bytes: Arc::from([]),
                at: 0,
            },
            Stdin::Bytes(bytes) => Input::Bytes {
                bytes: Arc::clone(bytes),
                at: 0,
            },
            Stdin::Pipe => Input::Pipe(Arc::default()),
        };
        Self {
            input,
            stdout: Arc::default(),
            stderr: Arc::default(),
            stdout_bytes_max: limits.stdout_bytes_max,
            stderr_bytes_max: limits.stderr_bytes_max,
            overflow: limits.overflow,
            finish: Some(finish),
        }
    }

    pub(super) fn stdin_pipe(&self) -> Option<StdinPipe> {
        match &self.input {
            Input::Pipe(pipe) => Some(StdinPipe(Arc::clone(pipe))),
            Input::Bytes { .. } => None,
        }
    }

    pub(super) fn stdout(&self) -> OutputStream {
        OutputStream(Arc::clone(&self.stdout))
    }

    pub(super) fn stderr(&self) -> OutputStream {
        OutputStream(Arc::clone(&self.stderr))
    }

    /// Writes to an output stream; all of the bytes are taken or thrown away.
    ///
    /// # Errors
    /// [`Exit::OutputLimit`] if the guest must end here because the stream is over its limit.
    pub fn write(&self, stream: Stream, bytes: &[u8]) -> Result<(), Exit> {
        let (pipe, bytes_max) = match stream {
            Stream::Stdout => (&self.stdout, self.stdout_bytes_max),
            Stream::Stderr => (&self.stderr, self.stderr_bytes_max),
        };
        let fits = {
            let mut buffer = pipe.buffer.lock();
            let room =
                usize::try_from(bytes_max.saturating_sub(buffer.total)).unwrap_or(usize::MAX);
            let kept = room.min(bytes.len());
            buffer.bytes.extend(bytes.iter().take(kept));
            buffer.total = buffer
                .total
                .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            buffer.truncated |= kept < bytes.len();
            kept == bytes.len()
        };
        pipe.host.notify_waiters();
        if fits || self.overflow == Overflow::Truncate {
            return Ok(());
        }
        Err(Exit::output_limit(stream, bytes_max))
    }

    /// Reads standard input, waiting at most `wait` for something to come.
    pub fn read_stdin(&mut self, into: &mut [u8], wait: Duration) -> StdinRead {
        match &mut self.input {
            Input::Bytes { bytes, at } => {
                let rest = bytes.get(*at..).unwrap_or_default();
                let n = rest.len().min(into.len());
                for (to, from) in into.iter_mut().zip(rest) {
                    *to = *from;
                }
                *at = at.saturating_add(n);
                if rest.is_empty() {
                    StdinRead::End
                } else {
                    StdinRead::Bytes(n)
                }
            }
            Input::Pipe(pipe) => {
                let mut buffer = pipe.buffer.lock();
                if buffer.bytes.is_empty() && !buffer.writer_gone {
                    pipe.guest.wait_for(&mut buffer, wait);
                }
                let n = buffer.bytes.len().min(into.len());
                for (to, from) in into.iter_mut().zip(buffer.bytes.drain(..n)) {
                    *to = from;
                }
                let ended = n == 0 && buffer.bytes.is_empty() && buffer.writer_gone;
                let pending = n == 0 && buffer.bytes.is_empty() && !ended;
                drop(buffer);
                pipe.host.notify_waiters();
                match (ended, pending) {
                    (true, _) => StdinRead::End,
                    (_, true) => StdinRead::Pending,
                    _ => StdinRead::Bytes(n),
                }
            }
        }
    }

    /// Waits at most `wait` until reading standard input would not wait; returns how many bytes
    /// are there, zero at the end, `None` if nothing came.
    #[must_use]
    pub fn stdin_ready(&self, wait: Duration) -> Option<usize> {
        match &self.input {
            Input::Bytes { bytes, at } => Some(bytes.len().saturating_sub(*at)),
            Input::Pipe(pipe) => {
                let mut buffer = pipe.buffer.lock();
                if buffer.bytes.is_empty() && !buffer.writer_gone {
                    pipe.guest.wait_for(&mut buffer, wait);
                }
                let ready = !buffer.bytes.is_empty() || buffer.writer_gone;
                ready.then_some(buffer.bytes.len())
            }
        }
    }

    /// Fills in the byte counts of an outcome.
    #[must_use]
    pub fn complete(&self, mut outcome: Outcome) -> Outcome {
        let (stdout, stderr) = (self.stdout.buffer.lock(), self.stderr.buffer.lock());
        outcome.stdout_bytes = stdout.total;
        outcome.stderr_bytes = stderr.total;
        outcome.truncated = stdout.truncated || stderr.truncated;
        outcome
    }

    /// Ends the execution; the byte counts of the outcome are filled in.
    pub fn finish(mut self, ended: Result<Outcome>) {
        let ended = ended.map(|outcome| self.complete(outcome));
        self.close();
        if let Some(finish) = self.finish.take() {
            // Nobody waits for the outcome if the execution was dropped.
            let _unwanted = finish.send(ended);
        }
    }

    fn close(&self) {
        self.stdout.close_writer();
        self.stderr.close_writer();
        if let Input::Pipe(pipe) = &self.input {
            pipe.close_reader();
        }
    }
}

impl Drop for GuestIo {
    fn drop(&mut self) {
        self.close();
    }
}
