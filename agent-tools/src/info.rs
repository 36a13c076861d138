//! What is known about a tool: its description for the model, and its effect class for the host.

use agent_core::model::{ToolCall, ToolSpec};
use agent_core::{Amount, Effect, EffectClass};
use serde_json::Value;

use crate::error::{Error, Result, Violation};

/// Hints about a tool, with MCP's meanings and defaults.
///
/// They inform; decisions rest on the effect class and the policy, since a hint from a peer may
/// lie.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these four are what the protocol defines"
)]
pub struct Annotations {
    /// A title for people.
    pub title: Option<String>,
    /// The tool changes nothing.
    pub read_only: bool,
    /// The tool may destroy something, rather than only add.
    pub destructive: bool,
    /// Calling twice with the same arguments has the effect of calling once.
    pub idempotent: bool,
    /// The tool reaches things outside the host's own.
    pub open_world: bool,
}

impl Annotations {
    /// Returns the hints that follow from an effect class: a pure tool is read-only, idempotent
    /// and not destructive; any other is assumed to be destructive. All are open-world.
    #[must_use]
    pub const fn of(class: EffectClass) -> Self {
        let pure = matches!(class, EffectClass::Pure);
        Self {
            title: None,
            read_only: pure,
            destructive: !pure,
            idempotent: matches!(class, EffectClass::Pure | EffectClass::Idempotent),
            open_world: true,
        }
    }

    /// Sets the title. Default: none.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets whether something may be destroyed. Default: true, unless the class is pure.
    #[must_use]
    pub const fn with_destructive(mut self, destructive: bool) -> Self {
        self.destructive = destructive;
        self
    }

    /// Sets whether the tool reaches outside the host's own. Default: true.
    #[must_use]
    pub const fn with_open_world(mut self, open_world: bool) -> Self {
        self.open_world = open_world;
        self
    }
}

/// A tool as its host sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ToolInfo {
    /// What the model is told.
    pub spec: ToolSpec,
    /// The JSON Schema (2020-12) of the structured content, where the tool promises one.
    pub output_schema: Option<Value>,
    /// What recovery may do when the outcome of a call is not known.
    pub class: EffectClass,
    /// Hints for people and policies.
    pub annotations: Annotations,
    /// The most one call may cost; nothing is reserved if absent.
    pub cost_max: Option<Amount>,
}

impl ToolInfo {
    /// The longest name: the limit of the large model APIs.
    pub const NAME_BYTES_MAX: usize = 64;
    /// The most tools in one list. Models choose badly above some dozens; this leaves room for a
    /// whole imported API that a policy narrows.
    pub const LIST_MAX: usize = 2_048;
    /// The action of the effect every call is.
    pub const ACTION: &'static str = "tool.call";

    /// Describes a tool of an unknown kind: class `Opaque`, with the hints that follow, no output
    /// schema, no cost.
    #[must_use]
    pub const fn new(spec: ToolSpec) -> Self {
        Self {
            spec,
            output_schema: None,
            class: EffectClass::Opaque,
            annotations: Annotations::of(EffectClass::Opaque),
            cost_max: None,
        }
    }

    /// Sets the effect class and the hints that follow from it. Default: `Opaque`.
    #[must_use]
    pub fn with_class(mut self, class: EffectClass) -> Self {
        self.class = class;
        self.annotations = Annotations::of(class);
        self
    }

    /// Sets the hints. Default: those of the class.
    #[must_use]
    pub fn with_annotations(mut self, annotations: Annotations) -> Self {
        self.annotations = annotations;
        self
    }

    /// Sets the schema of the structured content. Default: none.
    #[must_use]
    pub fn with_output_schema(mut self, schema: Value) -> Self {
        self.output_schema = Some(schema);
        self
    }

    /// Sets the most one call may cost. Default: nothing is reserved.
    #[must_use]
    pub fn with_cost_max(mut self, cost_max: Amount) -> Self {
        self.cost_max = Some(cost_max);
        self
    }

    /// Checks that a name has 1 to [`Self::NAME_BYTES_MAX`] characters of `A-Z`, `a-z`, `0-9`,
    /// `_` and `-`: what every large model API takes, without look-alikes from other scripts.
    ///
    /// # Errors
    /// `Invalid` otherwise.
    pub fn check_name(name: &str) -> Result<()> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > Self::NAME_BYTES_MAX || !name.bytes().all(allowed) {
            return Err(Error::invalid_definition(
                name,
                "a name has 1 to 64 characters of A-Z, a-z, 0-9, _ and -",
            ));
        }
        Ok(())
    }

    /// Describes the effect of a call of this tool: the action [`Self::ACTION`] on the tool's
    /// name. Equal calls have equal digests, whatever the order of their arguments.
    ///
    /// # Errors
    /// `NotFound` if the call names another tool, `Invalid` if an argument has no canonical form.
    pub fn effect(&self, call: &ToolCall) -> Result<Effect> {
        if call.name != self.spec.name {
            return Err(Error::unknown_tool(&call.name));
        }
        let effect = Effect::new(
            Self::ACTION,
            &*self.spec.name,
            self.class,
            call.arguments.clone(),
        );
        let effect = match self.cost_max {
            Some(cost_max) => effect.with_cost_max(cost_max),
            None => effect,
        };
        match effect.digest() {
            Ok(_) => Ok(effect),
            Err(error) => Err(Error::invalid_arguments(
                &call.name,
                vec![Violation::new("", "canonical JSON", &error.to_string())],
            )),
        }
    }
}
