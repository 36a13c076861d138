//! Laws that must find the bugs they are there for.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::panic::AssertUnwindSafe;

/// Whether a law fails, with a bug or without one.
pub(crate) fn is_found<B, F: Future<Output = ()>>(
    bug: Option<B>,
    law: impl FnOnce(Option<B>) -> F,
) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(law(bug)))).is_err()
}

/// Runs each law of `agent_pay::conformance` against what `subject` makes without a bug, where it must
/// hold, and with each of its bugs, where it must not.
macro_rules! laws_find {
    ($($law:ident: $($bug:ident),+;)+) => {
        $(
            #[test]
            fn $law() {
                let law = |bug| agent_pay::conformance::$law(subject(bug));
                assert!(!$crate::finds::is_found(None, law), "it fails without a bug");
                for bug in [$(Bug::$bug),+] {
                    assert!($crate::finds::is_found(Some(bug), law), "{bug:?} is not found");
                }
            }
        )+
    };
}

pub(crate) use laws_find;
