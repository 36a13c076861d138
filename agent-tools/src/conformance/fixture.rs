//! The tools every examined toolset offers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::{EffectClass, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tool::{Tool, ToolError};

#[derive(Deserialize, JsonSchema)]
struct Echo {
    text: String,
}

#[derive(Deserialize, JsonSchema)]
struct Add {
    a: i32,
    b: i32,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    sum: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Fail {
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
struct Tally {
    step: u8,
}

#[derive(Serialize, JsonSchema)]
struct Total {
    total: u32,
}

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Deserialize, JsonSchema)]
struct Large {
    n_bytes: u32,
}

/// Returns a fresh set: `echo`, `add`, `fail`, `tally`, `wait`, `panic`, `large`.
#[must_use]
pub fn tools() -> Vec<Tool> {
    let total = Arc::new(AtomicU32::new(0));
    vec![
        Tool::new("echo", "Returns the text.", |_, echo: Echo| async move {
            Ok(echo.text)
        })
        .with_class(EffectClass::Pure),
        Tool::new("add", "Adds two numbers.", |_, add: Add| async move {
            let sum = i64::from(add.a).saturating_add(i64::from(add.b));
            Ok(Sum { sum })
        })
        .with_class(EffectClass::Pure)
        .with_output_schema::<Sum>(),
        Tool::new(
            "fail",
            "Fails for the reason.",
            |call, fail: Fail| async move {
                call.consume(Unit::EgressBytes, 7);
                Err::<(), _>(ToolError::failed(fail.reason))
            },
        )
        .with_class(EffectClass::Pure),
        Tool::new("tally", "Adds to a total.", move |_, tally: Tally| {
            let total = Arc::clone(&total);
            async move {
                let step = u32::from(tally.step);
                let before = total.fetch_add(step, Ordering::SeqCst);
                Ok(Total {
                    total: before.saturating_add(step),
                })
            }
        }),
        Tool::new("wait", "Never ends.", |_, Nothing {}| async move {
            std::future::pending::<()>().await;
            Ok(())
        }),
        Tool::new("panic", "Panics.", |_, nothing: Nothing| async move {
            let Nothing {} = nothing;
            Err::<(), _>(panicking())
        }),
        Tool::new(
            "large",
            "Returns a long text.",
            |_, large: Large| async move { Ok("x".repeat(usize::try_from(large.n_bytes)?)) },
        )
        .with_class(EffectClass::Pure),
    ]
}

fn panicking() -> ToolError {
    panic!("the fixture's tool panics")
}
