//! Waiting for clocks and descriptors.

use std::time::Duration;

use crate::wasi::descriptor::Kind;
use crate::wasi::guest::WAIT_SLICE;
use crate::wasi::memory::field;
use crate::wasi::rights::POLL_FD_READWRITE;
use crate::wasi::{Call, Errno, Fail, Guest, Memory};

/// The most subscriptions of one call: far more than descriptors can be open.
const SUBSCRIPTIONS_MAX: u32 = 4_096;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;
const ABSTIME: u16 = 1;

/// What a guest waits for.
#[derive(Clone, Copy, Debug)]
enum Wish {
    /// A moment of a clock; relative ones are made absolute once.
    Clock {
        id: u32,
        at_ns: u64,
    },
    Read {
        fd: u32,
    },
    Write {
        fd: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    userdata: u64,
    tag: u8,
    wish: Result<Wish, Errno>,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    userdata: u64,
    errno: Errno,
    tag: u8,
    n_bytes: u64,
}

impl Guest {
    pub(crate) fn poll_oneoff(
        &mut self,
        mem: &mut Memory<'_>,
        (subscriptions, events): (u32, u32),
        n: u32,
        n_events: u32,
    ) -> Call {
        if n == 0 || n > SUBSCRIPTIONS_MAX {
            return Err(Errno::INVAL.into());
        }
        let mut wishes = Vec::with_capacity(usize::try_from(n).unwrap_or(0));
        for index in 0..n {
            let at = field(subscriptions, index.saturating_mul(SUBSCRIPTION_BYTES))?;
            wishes.push(self.subscription(mem, at)?);
        }
        let ready = loop {
            let ready = self.ready(&wishes)?;
            if !ready.is_empty() {
                break ready;
            }
            self.wait(&wishes)?;
        };
        for (index, event) in (0_u32..).zip(&ready) {
            write_event(
                mem,
                field(events, index.saturating_mul(EVENT_BYTES))?,
                *event,
            )?;
        }
        mem.write_len(n_events, ready.len())
    }

    fn subscription(&mut self, mem: &Memory<'_>, at: u32) -> Call<Subscription> {
        let userdata = mem.read_u64(at)?;
        let tag = mem.read_u8(field(at, 8)?)?;
        let number = mem.read_u32(field(at, 16)?)?;
        let wish = match tag {
            CLOCK => {
                let timeout = mem.read_u64(field(at, 24)?)?;
                let flags = mem.read_u16(field(at, 40)?)?;
                match self.clock(number) {
                    Ok(_now) if flags & ABSTIME != 0 => Ok(Wish::Clock {
                        id: number,
                        at_ns: timeout,
                    }),
                    Ok(now) => Ok(Wish::Clock {
                        id: number,
                        at_ns: now.saturating_add(timeout),
                    }),
                    Err(Fail::Errno(errno)) => Err(errno),
                    Err(exit) => return Err(exit),
                }
            }
            FD_READ => Ok(Wish::Read { fd: number }),
            FD_WRITE => Ok(Wish::Write { fd: number }),
            _ => return Err(Errno::INVAL.into()),
        };
        Ok(Subscription {
            userdata,
            tag,
            wish,
        })
    }

    /// Collects what has happened.
    fn ready(&mut self, wishes: &[Subscription]) -> Call<Vec<Event>> {
        let mut events = Vec::new();
        for subscription in wishes {
            let n_bytes = match subscription.wish {
                Err(errno) => Err(errno),
                Ok(Wish::Clock { id, at_ns }) if self.clock(id)? >= at_ns => Ok(0),
                Ok(Wish::Clock { .. }) => continue,
                Ok(Wish::Read { fd }) => match self.readable(fd) {
                    Ok(None) => continue,
                    Ok(Some(n_bytes)) => Ok(n_bytes),
                    Err(errno) => Err(errno),
                },
                Ok(Wish::Write { fd }) => self.writable(fd),
            };
            let (errno, n_bytes) = match n_bytes {
                Ok(n_bytes) => (Errno::SUCCESS, n_bytes),
                Err(errno) => (errno, 0),
            };
            let Subscription { userdata, tag, .. } = *subscription;
            events.push(Event {
                userdata,
                errno,
                tag,
                n_bytes,
            });
        }
        Ok(events)
    }

    /// How many bytes can be read without waiting; `None` if reading would wait.
    fn readable(&self, fd: u32) -> Result<Option<u64>, Errno> {
        let descriptor = self.table.get(fd).map_err(|_fail| Errno::BADF)?;
        if descriptor.rights & POLL_FD_READWRITE == 0 {
            return Err(Errno::NOTCAPABLE);
        }
        match &descriptor.kind {
            Kind::Stdin => {
                let n = self.io.stdin_ready(Duration::ZERO);
                Ok(n.map(|n| u64::try_from(n).unwrap_or(u64::MAX)))
            }
            Kind::File { file, at } => {
                let size = file.stat().map_err(Errno::from)?.size;
                Ok(Some(size.saturating_sub(*at)))
            }
            Kind::Output(_) | Kind::Directory { .. } => Err(Errno::BADF),
        }
    }

    fn writable(&self, fd: u32) -> Result<u64, Errno> {
        let descriptor = self.table.get(fd).map_err(|_fail| Errno::BADF)?;
        match &descriptor.kind {
            _ if descriptor.rights & POLL_FD_READWRITE == 0 => Err(Errno::NOTCAPABLE),
            Kind::Output(_) | Kind::File { .. } => Ok(0),
            Kind::Stdin | Kind::Directory { .. } => Err(Errno::BADF),
        }
    }

    /// Waits for a moment, or moves a virtual clock to the next one wished for.
    fn wait(&mut self, wishes: &[Subscription]) -> Call {
        self.interrupt.check()?;
        let mut next_ns: Option<u64> = None;
        let mut reads = false;
        for subscription in wishes {
            match subscription.wish {
                Ok(Wish::Clock { id, at_ns }) => {
                    let left = at_ns.saturating_sub(self.clock(id)?);
                    next_ns = Some(next_ns.map_or(left, |next| next.min(left)));
                }
                Ok(Wish::Read { .. }) => reads = true,
                Ok(Wish::Write { .. }) | Err(_) => {}
            }
        }
        if let (true, Some(left)) = (self.time.is_virtual(), next_ns) {
            self.time.skip(left);
            return Ok(());
        }
        let slice = next_ns
            .map_or(WAIT_SLICE, Duration::from_nanos)
            .min(WAIT_SLICE);
        if reads {
            let _waited = self.io.stdin_ready(slice);
            return Ok(());
        }
        self.pause(slice)
    }
}

fn write_event(mem: &mut Memory<'_>, at: u32, event: Event) -> Call {
    mem.write(at, &[0; 32])?;
    mem.write_u64(at, event.userdata)?;
    mem.write(field(at, 8)?, &event.errno.number().to_le_bytes())?;
    mem.write(field(at, 10)?, &[event.tag])?;
    mem.write_u64(field(at, 16)?, event.n_bytes)
}
