//! The outside world: it does what it is told, once per key only where it recognizes keys.

use std::collections::BTreeMap;

use agent_core::EffectClass;

/// What happened outside.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    happened: BTreeMap<String, u64>,
}

impl Outside {
    /// Does something. Nothing may happen twice for one intention.
    pub(crate) fn act(&mut self, key: &str, class: EffectClass) -> Result<(), String> {
        if class == EffectClass::Pure {
            return Ok(());
        }
        if class == EffectClass::Idempotent && self.knows(key) {
            return Ok(());
        }
        let n = self.happened.entry(key.to_owned()).or_default();
        *n += 1;
        if *n == 1 {
            Ok(())
        } else {
            Err(format!(
                "an effect of class {class:?} happened {n} times under {key}"
            ))
        }
    }

    /// Says whether something happened: to a probe, or to a person who looks.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.happened.contains_key(key)
    }
}
