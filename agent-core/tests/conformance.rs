//! The model laws, on every model and layer of this crate.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use agent_core::model::conformance::{N_CALLS, request};
use agent_core::model::{Model, ModelExt};
use agent_core::model::{
    RateLimitModel, RecordingModel, ReplayModel, RetryModel, ScriptedModel, Turn,
};
use agent_core::{Env, Error, ErrorKind, Principal, Retry, Scope};

fn script() -> ScriptedModel {
    let turns = (0..N_CALLS).map(|_| Turn::text("Hello, whoever you are."));
    ScriptedModel::new("scripted", turns)
}

mod scripted {
    use super::*;
    agent_core::model_conformance!(async || Arc::new(script()) as Arc<dyn Model>);
}

mod recording {
    use super::*;
    agent_core::model_conformance!(
        async || Arc::new(RecordingModel::new(script())) as Arc<dyn Model>
    );
}

mod replay {
    use super::*;
    agent_core::model_conformance!(async || {
        let recording = RecordingModel::new(script());
        for _ in 0..N_CALLS {
            let scope = Scope::new(Principal::host());
            recording.complete(&scope, request()).await.unwrap();
        }
        let text = recording.cassette().to_string();
        Arc::new(ReplayModel::new(text.parse().unwrap()).unwrap()) as Arc<dyn Model>
    });
}

mod retry {
    use super::*;
    agent_core::model_conformance!(async || {
        let away = |_| {
            let kind = ErrorKind::Unavailable;
            Turn::error(Error::backend("test", "answer", kind, Retry::Safe, "away"))
        };
        let turns = (0..N_CALLS).map(away);
        let turns = turns.chain((0..N_CALLS).map(|_| Turn::text("Hello at last.")));
        let model = RetryModel::new(ScriptedModel::new("scripted", turns), &Env::system())
            .with_attempts_max(u8::MAX)
            .with_waits(Duration::ZERO, Duration::ZERO);
        Arc::new(model) as Arc<dyn Model>
    });
}

mod rate_limit {
    use super::*;
    agent_core::model_conformance!(async || {
        let calls = NonZeroU32::new(2).unwrap();
        let period = Duration::from_millis(4);
        let model = RateLimitModel::new(script(), calls, period, &Env::system()).unwrap();
        Arc::new(model) as Arc<dyn Model>
    });
}

mod arc {
    use super::*;
    agent_core::model_conformance!(async || Arc::new(Arc::new(script())) as Arc<dyn Model>);
}
