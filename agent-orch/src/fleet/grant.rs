//! What the agents of a pool may do, as text.

use agent_core::Amount;

/// A grant: `action:target`, each with an optional `*` at the end, and limits after semicolons:
/// `pay.refund:*; calls 3; spend 5.00 USD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantText<'a> {
    pub(crate) action: &'a str,
    pub(crate) target: &'a str,
    pub(crate) calls_max: Option<u64>,
    pub(crate) spend_max: Option<Amount>,
}

impl<'a> GrantText<'a> {
    /// Reads a grant, or says what is wrong with it.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let what = parts.next().unwrap_or_default();
        let Some((action, target)) = what.split_once(':') else {
            return Err(format!("`{what}` is not `action:target`"));
        };
        let mut grant = Self {
            action,
            target,
            calls_max: None,
            spend_max: None,
        };
        for limit in parts {
            let wrong = || format!("`{limit}` is neither `calls N` nor `spend AMOUNT`");
            match limit.split_once(' ') {
                Some(("calls", n)) => grant.calls_max = Some(n.parse().map_err(|_text| wrong())?),
                Some(("spend", n)) => grant.spend_max = Some(n.parse().map_err(|_text| wrong())?),
                _ => return Err(wrong()),
            }
        }
        Ok(grant)
    }

    /// Returns whether effects count against it.
    pub(crate) const fn is_limited(&self) -> bool {
        self.calls_max.is_some() || self.spend_max.is_some()
    }
}
