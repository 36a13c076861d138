//! Hedging: a pure effect whose answer is late is tried a second time beside the first.

use std::pin::pin;
use std::time::Duration;

use agent_core::{Clock, ClockExt, EffectClass, Scope};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Acted, Ctx, Step};
use crate::error::{Error, Result};

impl Ctx {
    /// As [`Ctx::step`], for pure effects: a second try starts if the first has not ended `after` a
    /// time, the first answer wins, and the other try is canceled through its scope. What both
    /// consumed counts: a try that does not say so when it is canceled counts like the one that
    /// answered. Twice the effect's `cost_max` is held.
    ///
    /// # Errors
    /// `Invalid` for an effect of another class, since both tries may happen; as [`Ctx::effect`].
    /// An error of the one try waits for the answer of the other.
    ///
    /// # Cancel safety
    /// As [`Ctx::effect`].
    pub async fn hedged<T, F, Fut>(&self, mut step: Step, after: Duration, act: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        F: Fn(Scope) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Acted<T>>> + Send,
    {
        if step.effect.class != EffectClass::Pure {
            let reason = "only a pure effect may be tried twice at once";
            return Err(Error::invalid(
                format!("hedge of step {}", step.name),
                reason,
            ));
        }
        if let Some(max) = step.effect.cost_max {
            step.effect.cost_max = Some(max.plus(max)?);
        }
        let clock = self.door.clock();
        self.step(step, |scope| hedge(clock, scope, after, act))
            .await
    }
}

async fn hedge<T, F, Fut>(
    clock: &dyn Clock,
    scope: Scope,
    after: Duration,
    act: F,
) -> Result<Acted<T>>
where
    T: Send,
    F: Fn(Scope) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Acted<T>>> + Send,
{
    let (first, second) = (scope.child(), scope.child());
    let mut early = pin!(act(first.clone()));
    {
        let late = pin!(clock.sleep(after));
        if let Either::Left((answer, _)) = select(early.as_mut(), late).await {
            return answer;
        }
    }
    tracing::debug!("a second try is started beside a late one");
    let mut late = pin!(act(second.clone()));
    let (answer, loser, token) = match select(early.as_mut(), late.as_mut()).await {
        Either::Left((Err(_away), _)) => return late.await,
        Either::Right((Err(_away), _)) => return early.await,
        Either::Left((Ok(answer), _)) => (answer, late, second.cancellation),
        Either::Right((Ok(answer), _)) => (answer, early, first.cancellation),
    };
    token.cancel();
    // A try that watches its scope ends at once and says what it consumed.
    let consumed = match loser.now_or_never() {
        Some(Ok(other)) => other.usage,
        _ => answer.usage.clone(),
    };
    let mut answer = answer;
    answer.usage.extend(consumed);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use agent_core::{ErrorKind, Failure, ManualClock, Principal, Retry, Timestamp};

    use super::*;

    const AFTER: Duration = Duration::from_secs(2);

    /// Tries that take the seconds given, one after the other; those of 0 s fail at once. Advances
    /// the clock until one has answered.
    async fn race(takes: [u64; 2]) -> (Result<Acted<u32>>, u32, u64) {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let n_tries = Arc::new(AtomicU32::new(0));
        let act = |_scope: Scope| {
            let n = n_tries.fetch_add(1, Ordering::SeqCst);
            let took = takes[usize::try_from(n).unwrap()];
            let clock = Arc::clone(&clock);
            async move {
                clock.sleep(Duration::from_secs(took)).await;
                if took == 0 {
                    let kind = ErrorKind::Unavailable;
                    let failure = Failure::new(kind, Retry::Safe, "t.away", "", "");
                    return Err(Error::Agent(failure));
                }
                Ok(Acted::new(n).with_call("model"))
            }
        };
        let scope = Scope::new(Principal::host());
        let ticks = async {
            for second in 1_u64.. {
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                clock.advance(Duration::from_secs(1));
                if second > 60 {
                    std::future::pending::<()>().await;
                }
            }
        };
        let answer = tokio::select! {
            biased;
            answer = hedge(clock.as_ref(), scope, AFTER, act) => answer,
            () = ticks => unreachable!(),
        };
        let took = clock.now().since(Timestamp::EPOCH).as_secs();
        (answer, n_tries.load(Ordering::SeqCst), took)
    }

    #[tokio::test]
    async fn an_answer_in_time_is_the_only_try() {
        let (answer, n_tries, took) = race([1, 9]).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.value, answer.usage.len(), n_tries, took),
            (0, 1, 1, 1)
        );
    }

    #[tokio::test]
    async fn the_first_answer_wins_and_both_tries_count() {
        let (answer, n_tries, took) = race([9, 1]).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.value, answer.usage.len(), n_tries, took),
            (1, 2, 2, 3)
        );
        let (answer, n_tries, took) = race([3, 9]).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.value, answer.usage.len(), n_tries, took),
            (0, 2, 2, 3)
        );
    }

    #[tokio::test]
    async fn an_error_waits_for_the_other_try() {
        let (answer, n_tries, took) = race([5, 0]).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.value, answer.usage.len(), n_tries, took),
            (0, 1, 2, 5)
        );
        let (answer, n_tries, _took) = race([0, 9]).await;
        assert!(answer.is_err() && n_tries == 1);
    }

    #[tokio::test]
    async fn a_canceled_try_says_what_it_consumed() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let n_tries = AtomicU32::new(0);
        let act = |scope: Scope| {
            let n = n_tries.fetch_add(1, Ordering::SeqCst);
            async move {
                if n == 0 {
                    scope.cancellation.cancelled().await;
                    return Ok(Acted::new(n).with_call("partly"));
                }
                Ok(Acted::new(n).with_call("model"))
            }
        };
        let scope = Scope::new(Principal::host());
        let hedged = hedge(&clock, scope, AFTER, act);
        let (answer, ()) = tokio::join!(hedged, async { clock.advance(AFTER) });
        let usage = answer.unwrap().usage;
        let resources: Vec<&str> = usage.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(resources, ["model", "partly"]);
    }
}
