//! Which calls may pass: rules over tool names and arguments, deny by default. Deciding changes
//! nothing; the [`Policed`](crate::layer::Policed) layer counts.

mod constraint;

use std::fmt;
use std::time::Duration;

use agent_core::model::ToolCall;
use agent_core::{ErrorKind, Retry};

pub use constraint::Constraint;

/// What a policy says about one call, with the rule that said it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The call may pass.
    #[non_exhaustive]
    Allow {
        /// The rule's name.
        rule: String,
    },
    /// The call may not pass.
    #[non_exhaustive]
    Deny {
        /// The rule's name; absent if no rule is about this tool.
        rule: Option<String>,
        /// Why, for people and for the model.
        reason: String,
    },
    /// The rule's calls of this minute are used up.
    #[non_exhaustive]
    RateLimit {
        /// The rule's name.
        rule: String,
        /// When the next call may pass.
        retry_after: Duration,
    },
    /// All calls the rule allows are used up.
    #[non_exhaustive]
    CallLimit {
        /// The rule's name.
        rule: String,
        /// How many it allows.
        calls_max: u32,
    },
}

impl Decision {
    /// Returns whether the call may pass.
    #[must_use]
    pub const fn is_allow(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    pub(crate) const fn kind(&self) -> ErrorKind {
        match self {
            Self::Allow { .. } | Self::Deny { .. } => ErrorKind::Denied,
            Self::RateLimit { .. } | Self::CallLimit { .. } => ErrorKind::Exhausted,
        }
    }

    pub(crate) const fn retry(&self) -> Retry {
        match self {
            Self::RateLimit { .. } => Retry::Safe,
            _ => Retry::Never,
        }
    }

    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Allow { .. } | Self::Deny { .. } => "tools.denied",
            Self::RateLimit { .. } => "tools.rate_limited",
            Self::CallLimit { .. } => "tools.call_limit",
        }
    }

    pub(crate) const fn fix(&self) -> &'static str {
        match self {
            Self::Allow { .. } | Self::Deny { .. } => "do without this call, or ask the host",
            Self::RateLimit { .. } => "wait as long as the error says, then call again",
            Self::CallLimit { .. } => "do without this call, or ask the host for more calls",
        }
    }

    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimit { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow { rule } => write!(f, "allowed by the rule `{rule}`"),
            Self::Deny {
                rule: Some(rule),
                reason,
            } => write!(f, "{reason} (rule `{rule}`)"),
            Self::Deny { rule: None, reason } => f.write_str(reason),
            Self::RateLimit { rule, retry_after } => write!(
                f,
                "the calls of this minute are used up (rule `{rule}`), the next may pass in {} ms",
                retry_after.as_millis()
            ),
            Self::CallLimit { rule, calls_max } => {
                write!(f, "all {calls_max} calls are used up (rule `{rule}`)")
            }
        }
    }
}

/// One rule about the tools whose names match a pattern.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rule {
    name: String,
    pattern: String,
    is_deny: bool,
    constraints: Vec<Constraint>,
    per_minute_max: Option<u32>,
    calls_max: Option<u32>,
}

impl Rule {
    /// The most calls a minute a rule can count: above it a rate says nothing about an agent.
    pub const PER_MINUTE_MAX: u32 = 10_000;

    /// Lets calls of matching tools pass; `*` in the pattern stands for any characters.
    #[must_use]
    pub fn allow(pattern: impl Into<String>) -> Self {
        Self::new(pattern.into(), false)
    }

    /// Refuses calls of matching tools, whatever later rules say.
    #[must_use]
    pub fn deny(pattern: impl Into<String>) -> Self {
        Self::new(pattern.into(), true)
    }

    fn new(pattern: String, is_deny: bool) -> Self {
        let verb = if is_deny { "deny" } else { "allow" };
        Self {
            name: format!("{verb} {pattern}"),
            pattern,
            is_deny,
            constraints: Vec::new(),
            per_minute_max: None,
            calls_max: None,
        }
    }

    /// Sets the name decisions give. Default: the verb and the pattern.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a constraint on the arguments; the rule applies only to calls that meet them all.
    /// Default: none.
    #[must_use]
    pub fn with_constraint(mut self, constraint: Constraint) -> Self {
        self.constraints.push(constraint);
        self
    }

    /// Sets the most calls in any 60 seconds, at most [`Self::PER_MINUTE_MAX`]. Default: no limit.
    #[must_use]
    pub fn with_per_minute_max(mut self, calls: u32) -> Self {
        self.per_minute_max = Some(calls.min(Self::PER_MINUTE_MAX));
        self
    }

    /// Sets the most calls in the layer's life. Default: no limit.
    #[must_use]
    pub const fn with_calls_max(mut self, calls: u32) -> Self {
        self.calls_max = Some(calls);
        self
    }

    fn denial(&self, reason: String) -> Decision {
        Decision::Deny {
            rule: Some(self.name.clone()),
            reason,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn per_minute_max(&self) -> Option<u32> {
        self.per_minute_max
    }

    pub(crate) const fn calls_max(&self) -> Option<u32> {
        self.calls_max
    }
}

/// An ordered list of rules. The first that applies to a call decides; if none does, the call is
/// denied.
///
/// A rule applies if its pattern matches the tool and its constraints are met. So an allow rule
/// whose constraints are not met leaves the call to the rules after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// Creates a policy that denies everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule after the others.
    #[must_use]
    pub fn with_rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Decides about a call by its name and arguments; counts nothing.
    #[must_use]
    pub fn decide(&self, call: &ToolCall) -> Decision {
        self.apply(call).0
    }

    /// Returns whether some call of this tool could pass.
    #[must_use]
    pub fn may_call(&self, name: &str) -> bool {
        self.rules
            .iter()
            .filter(|rule| matches(&rule.pattern, name))
            .find(|rule| !rule.is_deny || rule.constraints.is_empty())
            .is_some_and(|rule| !rule.is_deny)
    }

    /// Decides about a call, and returns the rule that allows it with its place.
    pub(crate) fn apply(&self, call: &ToolCall) -> (Decision, Option<(usize, &Rule)>) {
        let mut nearest = None;
        for (place, rule) in self.rules.iter().enumerate() {
            if !matches(&rule.pattern, &call.name) {
                continue;
            }
            let unmet = rule
                .constraints
                .iter()
                .find(|constraint| !constraint.is_met(&call.arguments));
            match unmet {
                None if rule.is_deny => {
                    return (rule.denial("the policy forbids this call".to_owned()), None);
                }
                None => {
                    let rule_name = rule.name.clone();
                    return (Decision::Allow { rule: rule_name }, Some((place, rule)));
                }
                Some(_) if rule.is_deny => {}
                Some(constraint) => {
                    nearest.get_or_insert_with(|| {
                        rule.denial(format!(
                            "the arguments are outside the policy: {constraint}"
                        ))
                    });
                }
            }
        }
        let denial = nearest.unwrap_or_else(|| Decision::Deny {
            rule: None,
            reason: "no rule of the policy allows this tool".to_owned(),
        });
        (denial, None)
    }
}

/// Matches a name against a pattern whose `*` stands for any characters, in time proportional to
/// the product of their lengths and without recursion.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.as_bytes(), name.as_bytes());
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), name.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, name));
                pattern = rest;
            }
            (Some((expected, pattern_rest)), Some((found, name_rest))) if expected == found => {
                (pattern, name) = (pattern_rest, name_rest);
            }
            (None, None) => return true,
            // The last star takes one more character.
            _ => match retry.and_then(|(rest, from)| Some((rest, from.split_first()?.1))) {
                Some((rest, from)) => {
                    retry = Some((rest, from));
                    (pattern, name) = (rest, from);
                }
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("github__*", "github__list", true),
            ("github__*", "gitlab__list", false),
            ("*_read", "file_read", true),
            ("*_read", "file_read_all", false),
            ("a*b*c", "a_b_b_c", true),
            ("a*b*c", "a_c_b", false),
            ("read", "Read", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(200), &"b".repeat(5_000)));
    }
}
