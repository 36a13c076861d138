//! The laws of [`Toolset`]: one function each, listed once in
//! [`toolset_conformance!`](crate::toolset_conformance).
//!
//! A backend offers the [fixture](tools) by its own means, be it a function, a protocol or a file,
//! and runs the laws on that. Unstable: laws may be added in any release.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a law fails by panicking"
)]

mod arguments;
mod fixture;
mod hostile;
mod listing;
mod outcome;
mod stopping;

use std::sync::Arc;
use std::time::Duration;

use agent_core::model::ToolCall;
use agent_core::{Clock, Env, ManualClock, OsEntropy, Principal, Scope, Timestamp};
use serde_json::Value;

use crate::toolset::Toolset;

pub use arguments::{
    an_argument_beyond_its_type_is_invalid, arguments_are_checked_before_the_tool_runs,
    null_stands_for_no_arguments, violations_name_the_place,
};
pub use fixture::tools;
pub use hostile::{
    a_panic_is_contained, deep_arguments_are_refused, huge_arguments_are_refused,
    long_results_are_cut_with_a_note, look_alike_names_are_unknown,
};
pub use listing::{
    effects_are_equal_for_equal_calls, effects_carry_the_class, listed_names_are_valid_and_ordered,
    listed_schemas_compile, listing_twice_gives_the_same,
};
pub use outcome::{
    a_call_consumes_at_least_itself, a_failure_of_the_tool_is_a_value,
    concurrent_calls_keep_their_results, structured_content_matches_its_schema,
    text_comes_back_unchanged,
};
pub use stopping::{
    a_canceled_call_ends, a_canceled_scope_starts_nothing, a_passed_deadline_ends_the_call,
    a_passed_deadline_starts_nothing,
};

/// A toolset to examine.
#[derive(Debug)]
#[non_exhaustive]
pub struct Subject {
    /// A fresh toolset that offers the [fixture](tools), and it alone.
    pub toolset: Arc<dyn Toolset>,
    /// What stands before the fixture's names.
    pub prefix: String,
    /// The clock the toolset runs on.
    pub clock: Arc<ManualClock>,
}

impl Subject {
    /// Builds a toolset on an environment whose clock the laws move.
    pub fn new(make: impl FnOnce(&Env) -> Arc<dyn Toolset>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_000_000)));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let env = Env::new(shared, Arc::new(OsEntropy::new()));
        Self {
            toolset: make(&env),
            prefix: String::new(),
            clock,
        }
    }

    /// Sets what stands before the fixture's names. Default: nothing.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    fn call(&self, tool: &str, arguments: Value) -> ToolCall {
        ToolCall::new("call_1", format!("{}{tool}", self.prefix), arguments)
    }

    /// Moves the clock beyond the given time and beyond any default limit.
    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

fn scope() -> Scope {
    Scope::new(Principal::host())
}

/// Runs every law on the subjects that `$make`, an `async fn() -> Subject`, returns.
#[macro_export]
macro_rules! toolset_conformance {
    ($make:path) => {
        $crate::toolset_conformance! { @laws $make:
            listed_names_are_valid_and_ordered,
            listed_schemas_compile,
            listing_twice_gives_the_same,
            effects_carry_the_class,
            effects_are_equal_for_equal_calls,
            text_comes_back_unchanged,
            structured_content_matches_its_schema,
            a_failure_of_the_tool_is_a_value,
            a_call_consumes_at_least_itself,
            concurrent_calls_keep_their_results,
            arguments_are_checked_before_the_tool_runs,
            violations_name_the_place,
            an_argument_beyond_its_type_is_invalid,
            null_stands_for_no_arguments,
            a_canceled_scope_starts_nothing,
            a_canceled_call_ends,
            a_passed_deadline_starts_nothing,
            a_passed_deadline_ends_the_call,
            a_panic_is_contained,
            deep_arguments_are_refused,
            huge_arguments_are_refused,
            long_results_are_cut_with_a_note,
            look_alike_names_are_unknown,
        }
    };
    (@laws $make:path: $($law:ident,)*) => {
        $(
            #[tokio::test]
            async fn $law() {
                $crate::conformance::$law($make().await).await;
            }
        )*
    };
}
