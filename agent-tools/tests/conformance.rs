//! The laws of `Toolset` on every backend and every layer.

#![expect(clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use agent_tools::conformance::{Subject, tools};
use agent_tools::{InProcess, Toolset};

mod in_process {
    use super::*;

    async fn make() -> Subject {
        Subject::new(|env| Arc::new(InProcess::new(env, tools()).expect("offers the fixture")))
    }

    agent_tools::toolset_conformance!(make);
}

mod policed {
    use agent_tools::layer::Policed;
    use agent_tools::{Policy, Rule};

    use super::*;

    async fn make() -> Subject {
        Subject::new(|env| {
            let tools = InProcess::new(env, tools()).expect("offers the fixture");
            let policy = Policy::new().with_rule(Rule::allow("*").with_per_minute_max(1_000));
            Arc::new(Policed::new(tools, policy, env))
        })
    }

    agent_tools::toolset_conformance!(make);
}

mod limited {
    use agent_tools::Limits;
    use agent_tools::layer::Limited;

    use super::*;

    /// The inner toolset takes nearly anything, so that the layer's own limits are what holds.
    async fn make() -> Subject {
        Subject::new(|env| {
            let open = Limits::new()
                .with_arguments_bytes_max(usize::MAX)
                .with_arguments_depth_max(usize::MAX)
                .with_result_bytes_max(usize::MAX);
            let tools = InProcess::new(env, tools()).expect("offers the fixture");
            Arc::new(Limited::new(tools.with_limits(open), Limits::new(), env))
        })
    }

    agent_tools::toolset_conformance!(make);
}

mod combined {
    use agent_tools::layer::Combined;

    use super::*;

    async fn make() -> Subject {
        Subject::new(|env| {
            let tools: Arc<dyn Toolset> =
                Arc::new(InProcess::new(env, tools()).expect("offers the fixture"));
            let combined = Combined::new().mount("fixture", tools);
            Arc::new(combined.expect("mounts"))
        })
        .with_prefix("fixture__")
    }

    agent_tools::toolset_conformance!(make);
}

mod combined_root {
    use agent_tools::layer::Combined;

    use super::*;

    async fn make() -> Subject {
        Subject::new(|env| {
            let empty = Arc::new(InProcess::new(env, []).expect("offers nothing"));
            let tools = Arc::new(InProcess::new(env, tools()).expect("offers the fixture"));
            let combined = Combined::new().with_root(tools).mount("empty", empty);
            Arc::new(combined.expect("mounts"))
        })
    }

    agent_tools::toolset_conformance!(make);
}

mod faulty {
    use agent_core::SeededEntropy;
    use agent_core::fault::Chaos;
    use agent_tools::layer::Faulty;

    use super::*;

    /// Without planted faults the layer changes nothing.
    async fn make() -> Subject {
        Subject::new(|env| {
            let tools = InProcess::new(env, tools()).expect("offers the fixture");
            let chaos = Chaos::new(Arc::new(SeededEntropy::new(1)));
            Arc::new(Faulty::new(tools, chaos, env))
        })
    }

    agent_tools::toolset_conformance!(make);
}
