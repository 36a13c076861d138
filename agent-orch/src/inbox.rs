//! The inbox: questions to people that wait without a thread or a lease, with a deadline and a
//! default.

use agent_core::{Digest, Principal, RunId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

agent_core::define_id!(
    /// A question to a person; derived from what is asked, so that asking again finds it.
    RequestId, "request"
);

/// How much a question matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Good to know.
    Low,
    /// Work waits.
    #[default]
    Medium,
    /// Damage is possible.
    High,
}

/// A question to ask.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewRequest {
    /// The task that waits.
    pub task: TaskId,
    /// Its run.
    pub run: RunId,
    /// Names the question within the task and round: `step#ordinal`.
    pub name: String,
    /// How much it matters.
    pub severity: Severity,
    /// Who is asked: a route of the fleet's configuration.
    pub route: String,
    /// What is asked, in one or two sentences.
    pub question: String,
    /// The answers offered, at least one.
    pub options: Vec<String>,
    /// What the person should know; no secrets.
    pub details: Value,
    /// The effect an approval is bound to.
    pub effect: Option<Digest>,
    /// When the default applies.
    pub deadline: Timestamp,
    /// The option taken at the deadline.
    pub default: String,
    /// The option that ends the task as rejected; the others make it ready again.
    pub reject: Option<String>,
}

impl NewRequest {
    /// The most options: more is not a choice but a form.
    pub const OPTIONS_MAX: usize = 16;

    /// Asks with two or more options; the default is the last one, severity medium, route `owner`.
    #[must_use]
    pub fn new(
        run: RunId,
        task: TaskId,
        name: impl Into<String>,
        question: impl Into<String>,
        options: &[&str],
        deadline: Timestamp,
    ) -> Self {
        Self {
            task,
            run,
            name: name.into(),
            severity: Severity::default(),
            route: "owner".to_owned(),
            question: question.into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            details: Value::Null,
            effect: None,
            deadline,
            default: options
                .last()
                .map_or_else(String::new, |option| (*option).to_owned()),
            reject: None,
        }
    }

    /// Returns the id: the same question of the same task has the same one.
    #[must_use]
    pub fn id(&self) -> RequestId {
        let effect = self
            .effect
            .map(|digest| digest.to_string())
            .unwrap_or_default();
        let named = format!("{}/{}/{}/{effect}", self.run, self.task, self.name);
        RequestId::from_bits(Digest::of_bytes(named.as_bytes()).to_bits())
    }

    /// Returns an error unless the question can be answered.
    pub(crate) fn check(&self) -> Result<()> {
        if self.options.is_empty() || self.options.len() > Self::OPTIONS_MAX {
            return Err(Error::invalid(
                "request.options",
                "a question offers 1 to 16 answers",
            ));
        }
        if !self.options.contains(&self.default) {
            return Err(Error::invalid(
                "request.default",
                "the default must be one of the options",
            ));
        }
        Ok(())
    }
}

/// An answer and who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// One of the options.
    pub choice: String,
    /// Who answered; `timeout` for the default at the deadline.
    pub by: Principal,
    /// What they said.
    pub note: String,
}

impl Answer {
    /// Answers without a note.
    #[must_use]
    pub fn new(choice: impl Into<String>, by: Principal) -> Self {
        Self {
            choice: choice.into(),
            by,
            note: String::new(),
        }
    }
}

/// A question as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Request {
    /// The question.
    pub id: RequestId,
    /// The task that waits.
    pub task: TaskId,
    /// Its run.
    pub run: RunId,
    /// Names the question within the task.
    pub name: String,
    /// How much it matters.
    pub severity: Severity,
    /// Who is asked.
    pub route: String,
    /// What is asked.
    pub question: String,
    /// The answers offered.
    pub options: Vec<String>,
    /// What the person should know.
    pub details: Value,
    /// The effect an approval is bound to.
    pub effect: Option<Digest>,
    /// When the default applies.
    pub deadline: Timestamp,
    /// The option taken at the deadline.
    pub default: String,
    /// The option that ends the task as rejected.
    pub reject: Option<String>,
    /// The answer, once there is one.
    pub answer: Option<Answer>,
}

impl Request {
    /// The most open requests of one answer.
    pub const PAGE_MAX: usize = 1_000;
}
