//! Wakes idle agents, as many as there is work for, so that none of them polls.
//!
//! An agent reads how often the bell has rung, looks for work, and only then waits for the next
//! ring. A ring in between is seen by comparing the number, so no wake-up is lost; agents that
//! wait are woken one for each piece of work, in the order they came, so no ring wakes them all.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The bell of one pool or lane.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    n_rings: u64,
    n_looking: u64,
    next_ticket: u64,
    waiting: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// How often the bell had rung when the agent last looked for work.
    looked_at: u64,
    wake: oneshot::Sender<()>,
}

impl State {
    /// Wakes the agent with this ticket, which counts as looking from then on.
    fn wake(&mut self, ticket: u64) {
        if let Some(waiter) = self.waiting.remove(&ticket) {
            self.n_looking = self.n_looking.saturating_add(1);
            // If it is gone, its place rings for the next when it is dropped.
            let _gone = waiter.wake.send(());
        }
    }

    fn wake_first(&mut self) {
        if let Some((&ticket, _)) = self.waiting.first_key_value() {
            self.wake(ticket);
        }
    }
}

impl Bell {
    /// Begins to look for work.
    pub(crate) fn look(&self) -> Look<'_> {
        let mut state = self.state.lock();
        state.n_looking = state.n_looking.saturating_add(1);
        Look {
            bell: self,
            n_rings: state.n_rings,
        }
    }

    /// Returns how many agents wait or look for work.
    pub(crate) fn n_free(&self) -> u64 {
        let state = self.state.lock();
        let n_waiting = u64::try_from(state.waiting.len()).unwrap_or(u64::MAX);
        state.n_looking.saturating_add(n_waiting)
    }

    /// Returns how many agents wait.
    pub(crate) fn n_waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Announces `n` pieces of work.
    pub(crate) fn ring(&self, n: u64) {
        let mut state = self.state.lock();
        state.n_rings = state.n_rings.wrapping_add(1);
        let n_waiting = u64::try_from(state.waiting.len()).unwrap_or(u64::MAX);
        for _ in 0..n.min(n_waiting) {
            state.wake_first();
        }
    }

    /// Wakes one agent that has not looked since the latest ring, for work the caller may not have:
    /// nobody verifies their own.
    pub(crate) fn pass_on(&self) {
        let mut state = self.state.lock();
        let n_rings = state.n_rings;
        let mut waiting = state.waiting.iter();
        let next = waiting.find(|(_, waiter)| waiter.looked_at != n_rings);
        if let Some(ticket) = next.map(|(ticket, _)| *ticket) {
            state.wake(ticket);
        }
    }
}

/// An agent that looks for work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    bell: &'a Bell,
    /// How often the bell had rung when it began.
    n_rings: u64,
}

impl<'a> Look<'a> {
    /// Waits until the bell rings for this agent, and looks again; at once if the bell has rung
    /// since it began to look.
    ///
    /// # Cancel safety
    /// Cancel safe: a wake-up that is not used goes to the next agent.
    pub(crate) async fn again(self) -> Look<'a> {
        let bell = self.bell;
        let (mut place, woken) = {
            let mut state = bell.state.lock();
            if state.n_rings != self.n_rings {
                drop(state);
                return bell.look();
            }
            let ticket = state.next_ticket;
            state.next_ticket = ticket.wrapping_add(1);
            let (wake, woken) = oneshot::channel();
            let looked_at = self.n_rings;
            state.waiting.insert(ticket, Waiter { looked_at, wake });
            let place = Place {
                bell,
                ticket,
                is_left: false,
            };
            (place, woken)
        };
        drop(self);
        // The other end is dropped unused only together with the bell.
        let _woken = woken.await;
        place.is_left = true;
        let n_rings = bell.state.lock().n_rings;
        Look { bell, n_rings }
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut state = self.bell.state.lock();
        state.n_looking = state.n_looking.saturating_sub(1);
    }
}

/// A place among those that wait, given up when dropped.
#[derive(Debug)]
struct Place<'a> {
    bell: &'a Bell,
    ticket: u64,
    /// Whether the agent was woken and looks.
    is_left: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let mut state = self.bell.state.lock();
        if state.waiting.remove(&self.ticket).is_none() {
            // It was woken and goes away without having looked.
            state.n_looking = state.n_looking.saturating_sub(1);
            state.wake_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_ring_while_an_agent_looks_is_not_lost() {
        let bell = Bell::default();
        let look = bell.look();
        bell.ring(1);
        let again = look.again().now_or_never();
        assert!(again.unwrap().again().now_or_never().is_none());
    }

    #[test]
    fn two_tasks_wake_two_agents_and_no_more() {
        let bell = Bell::default();
        let mut agents: Vec<_> = (0..4).map(|_| Box::pin(bell.look().again())).collect();
        for agent in &mut agents {
            assert!(agent.as_mut().now_or_never().is_none());
        }
        assert_eq!(bell.n_free(), 4);
        bell.ring(2);
        let looks: Vec<_> = agents
            .iter_mut()
            .map(|agent| agent.as_mut().now_or_never())
            .collect();
        let awake: Vec<bool> = looks.iter().map(Option::is_some).collect();
        assert_eq!(awake, [true, true, false, false]);
        assert_eq!(bell.n_free(), 4);
        drop(looks);
        assert_eq!(bell.n_free(), 2, "those that found work are not free");
    }

    #[test]
    fn a_wake_up_that_is_not_used_goes_to_the_next() {
        let bell = Bell::default();
        let mut first = Box::pin(bell.look().again());
        let mut second = Box::pin(bell.look().again());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        bell.ring(1);
        drop(first);
        assert!(second.as_mut().now_or_never().is_some());
        assert_eq!(bell.n_free(), 0);
    }

    #[test]
    fn work_an_agent_may_not_have_is_passed_on_once_to_each() {
        let bell = Bell::default();
        let mut author = Box::pin(bell.look().again());
        let mut other = Box::pin(bell.look().again());
        assert!(author.as_mut().now_or_never().is_none());
        assert!(other.as_mut().now_or_never().is_none());
        bell.ring(1);
        let look = author.as_mut().now_or_never().unwrap();
        bell.pass_on();
        let mut author = Box::pin(look.again());
        assert!(author.as_mut().now_or_never().is_none());
        let look = other.as_mut().now_or_never().unwrap();
        bell.pass_on();
        assert!(author.as_mut().now_or_never().is_none(), "who looked rests");
        drop(look);
    }
}
