//! The person who is asked whether a call happened, and looks.

use agent_core::Principal;
use agent_orch::{Answer, Request, RunHandle};
use anyhow::{Result, bail};
use serde_json::Value;

use crate::world::World;

/// Answers all open questions by looking at the world, and returns how many there were.
pub(crate) async fn answer(handle: &RunHandle, world: &World) -> Result<u64> {
    let mut n_answered = 0;
    for question in handle.open_requests().await? {
        let by = Principal::new("human:operator")?;
        let choice = if happened(&question, world)? {
            "it happened"
        } else {
            "repeat it"
        };
        handle.answer(question.id, Answer::new(choice, by)).await?;
        n_answered += 1;
    }
    Ok(n_answered)
}

fn happened(question: &Request, world: &World) -> Result<bool> {
    let arguments = question.details.pointer("/effect/arguments");
    let task = arguments
        .and_then(|a| a.get("task"))
        .and_then(Value::as_str);
    let call = arguments
        .and_then(|a| a.get("call"))
        .and_then(Value::as_u64);
    let (Some(task), Some(call)) = (task, call) else {
        bail!(
            "somebody asks what no operator can look up: {}",
            question.question
        );
    };
    Ok(world.has(task, usize::try_from(call)?))
}
