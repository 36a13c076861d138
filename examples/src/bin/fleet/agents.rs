//! The agents: one that mends, one that verifies. The one that lands is the library's.

use std::sync::{Arc, OnceLock};

use agent_core::{AgentId, Effect, EffectClass, ErrorKind, Failure, Retry, TaskId, Timestamp};
use agent_identity::{DidKey, KeyId, Purpose, Signature};
use agent_memory::{Draft as Memory, MemoryStoreExt, Namespace};
use agent_orch::merge::git::{Draft, Repository};
use agent_orch::merge::{ObjectId, RepoPath};
use agent_orch::{Acted, Agent, Ctx, Ended, Error, Result, Stack, Task, agent_id};
use agent_tools::{JsonSchema, Tool, ToolError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::guest::{FILE_BYTES_MAX, Guest, Question, Report, by_code};

/// One check of one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) check: String,
    pub(crate) path: String,
    /// The commit the work of the first round is made on.
    pub(crate) base: ObjectId,
    #[serde(default)]
    pub(crate) options: Vec<String>,
}

/// What a mender hands to its verifier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) check: String,
    pub(crate) base: ObjectId,
    pub(crate) n_findings: u64,
    pub(crate) n_fixable: u64,
    pub(crate) skipped: Option<String>,
    pub(crate) codes: std::collections::BTreeMap<String, u64>,
    pub(crate) first: Vec<crate::guest::Finding>,
    pub(crate) decision: Option<String>,
    pub(crate) change: Option<Change>,
}

/// A proposed change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) head: ObjectId,
    pub(crate) did: DidKey,
}

/// What both agents work with.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) repo: Repository,
    pub(crate) guest: Guest,
    pub(crate) stack: Stack,
    pub(crate) target: String,
}

/// Findings a task's output carries; the rest is counted.
const FINDINGS_SHOWN: usize = 5;

fn job(task: &Task) -> Result<(Job, RepoPath)> {
    let job: Job = serde_json::from_value(task.input.clone())
        .map_err(|e| Error::invalid("task.input", e.to_string()))?;
    let path = RepoPath::new(job.path.as_bytes())?;
    Ok((job, path))
}

impl Desk {
    async fn read(&self, at: ObjectId, path: &RepoPath) -> Result<Option<Arc<[u8]>>> {
        Ok(self
            .repo
            .read_file(at, path.clone(), FILE_BYTES_MAX)
            .await?
            .map(Arc::from))
    }

    fn question(job: &Job, bytes: Arc<[u8]>) -> Question {
        let (check, path) = (job.check.clone(), job.path.clone());
        Question {
            check,
            path,
            options: job.options.clone(),
            bytes,
        }
    }
}

/// Checks a file and proposes the fix.
#[derive(Debug)]
pub(crate) struct Mender(pub(crate) Desk);

#[async_trait]
impl Agent for Mender {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let (job, path) = job(task)?;
        let base = self.base(cx, task, &job).await?;
        let Some(bytes) = self.0.read(base, &path).await? else {
            return Err(failed(
                "hygiene.file_gone",
                "the file is gone from the target",
            ));
        };
        let question = Desk::question(&job, Arc::clone(&bytes));
        let report = self.0.guest.ask(cx, "check", base, question).await?;
        let decision = self.decide(cx, &job, &report).await?;
        if report.n_findings > 0 {
            self.remember(cx, &job, &report).await?;
        }
        let change = match &report.edit {
            Some(edit) => {
                let after = edit.apply(&bytes).map_err(|e| broken(&e))?;
                Some(self.propose(cx, &job, base, after).await?)
            }
            None => None,
        };
        let work = Work {
            check: job.check,
            base,
            n_findings: report.n_findings,
            n_fixable: report.n_fixable,
            skipped: report.skipped,
            codes: by_code(&report.findings),
            first: report.findings.into_iter().take(FINDINGS_SHOWN).collect(),
            decision,
            change,
        };
        Ok(Ended::done(json!(work)))
    }
}

impl Mender {
    /// The first round works on the commit the run started from, so that agents meet on the same
    /// files; after a conflict the work is made again on the target's tip.
    async fn base(&self, cx: &Ctx, task: &Task, job: &Job) -> Result<ObjectId> {
        if task.round == 0 {
            return Ok(job.base);
        }
        let read = json!({ "round": task.round });
        let effect = Effect::new("repo.read", &self.0.target, EffectClass::Pure, read);
        let target = format!("refs/heads/{}", self.0.target);
        cx.effect("tip", effect, |_scope| async move {
            Ok(Acted::new(self.0.repo.tip(&target).await?))
        })
        .await
    }

    /// Asks a person about secrets.
    async fn decide(&self, cx: &Ctx, job: &Job, report: &Report) -> Result<Option<String>> {
        let Some(secret) = report.findings.iter().find(|f| f.severity == "secret") else {
            return Ok(None);
        };
        let question = format!(
            "{}:{}: {} ({} of this kind in the file). Is it a real secret?",
            job.path, secret.line, secret.message, report.n_findings
        );
        let details = json!({ "path": job.path, "line": secret.line, "code": secret.code });
        cx.ask("secret", &question, &["false alarm", "rotate it"], details)
            .await
            .map(Some)
    }

    /// Notes what was found, for whoever works on the same file next.
    async fn remember(&self, cx: &Ctx, job: &Job, report: &Report) -> Result<()> {
        let text = format!("{} found {} in {}", job.check, report.n_findings, job.path);
        let arguments = json!({ "text": text });
        let effect = Effect::new("memory.add", "hygiene", EffectClass::Idempotent, arguments);
        let memory = self.0.stack.memory();
        cx.effect("remember", effect, |scope| async move {
            let mut draft = Memory::event(text);
            if let Some(key) = scope.idempotency_key.clone() {
                draft = draft.with_key(key);
            }
            let at = Namespace::new("hygiene/findings")?;
            memory.add_one(&scope, at, draft).await?;
            Ok(Acted::new(()).with_call("memory.add"))
        })
        .await
    }

    /// Proposes the fixed file through the tool.
    async fn propose(&self, cx: &Ctx, job: &Job, base: ObjectId, after: Vec<u8>) -> Result<Change> {
        let proposal = Propose {
            task: cx.lease().task.to_string(),
            base: base.to_string(),
            path: job.path.clone(),
            check: job.check.clone(),
            blob: agent_core::Digest::of_bytes(&after).to_string(),
        };
        let arguments = json!(proposal);
        let effect = Effect::new(
            "tool.call",
            PROPOSE,
            EffectClass::Idempotent,
            arguments.clone(),
        );
        let tools = self.0.stack.tools();
        let bytes = Bytes::of(&after);
        cx.effect("propose", effect, |scope| async move {
            let call =
                agent_core::model::ToolCall::new("propose", PROPOSE, bytes.beside(arguments));
            let outcome = tools.call(&scope, call).await?;
            if outcome.is_error {
                return Err(failed("hygiene.proposal_refused", &outcome.to_text()));
            }
            let change = outcome.structured_content.unwrap_or_default();
            let change: Change = serde_json::from_value(change)
                .map_err(|e| Error::invalid("propose_change", e.to_string()))?;
            Ok(Acted::new(change).with_call("tool.propose_change"))
        })
        .await
    }
}

/// The name of the tool that proposes a change.
const PROPOSE: &str = "propose_change";

/// The arguments of the tool, beside the file's new bytes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "agent_tools::schemars")]
struct Propose {
    /// The task the change settles.
    task: String,
    /// The commit the change is made on.
    base: String,
    /// The file's path.
    path: String,
    /// The check whose findings it fixes.
    check: String,
    /// The BLAKE3 digest of the new bytes.
    blob: String,
}

/// The arguments as the tool gets them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "agent_tools::schemars")]
struct ProposeWhole {
    #[serde(flatten)]
    proposal: Propose,
    /// The new bytes, in base 16 where they are not UTF-8.
    content: Bytes,
}

/// Bytes in JSON: text where possible.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "agent_tools::schemars")]
#[serde(rename_all = "snake_case")]
enum Bytes {
    /// UTF-8 text.
    Text(String),
    /// Anything else, two hexadecimal digits a byte.
    Hex(String),
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(
            |_other| Self::Hex(bytes.iter().map(|b| format!("{b:02x}")).collect()),
            |text| Self::Text(text.to_owned()),
        )
    }

    fn beside(self, mut arguments: serde_json::Value) -> serde_json::Value {
        if let Some(object) = arguments.as_object_mut() {
            object.insert("content".to_owned(), json!(self));
        }
        arguments
    }

    fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Hex(digits) => digits
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect(),
        }
    }
}

/// Makes the tool with which agents propose changes: a signed commit on a branch of its own.
pub(crate) fn propose_tool(
    repo: Arc<OnceLock<(Repository, i64)>>,
    stack: Arc<OnceLock<Stack>>,
) -> Tool {
    let about = "Proposes new content for one file as a signed commit on a branch of its own.";
    Tool::new(
        PROPOSE,
        about,
        move |call: agent_tools::Invocation, args: ProposeWhole| {
            let (repo, stack) = (Arc::clone(&repo), Arc::clone(&stack));
            async move {
                let not_open = || ToolError::failed("no run is open");
                let stack = stack.get().ok_or_else(not_open)?;
                // All commits of a run carry its time, so that proposing again makes the same commit.
                let (repo, at_ms) = repo.get().ok_or_else(not_open)?;
                let at = Timestamp::from_unix_ms(*at_ms);
                let ProposeWhole { proposal, content } = args;
                let content = content
                    .into_bytes()
                    .ok_or_else(|| ToolError::failed("bad content"))?;
                let did: DidKey = call.scope.actor.as_str().parse()?;
                let task: TaskId = proposal.task.parse()?;
                let message = format!("{}: fix {}", proposal.check, proposal.path);
                let draft = Draft::new(proposal.base.parse()?, task, agent_id(&did), at, message)
                    .with_put(RepoPath::new(proposal.path.as_bytes())?, content)
                    .with_trailer("Identity", did.to_string());
                let keys = stack.keys();
                let made = repo
                    .propose(draft, |bytes| async move {
                        let scope = stack.host_scope();
                        let signed = keys.sign(&scope, KeyId::from(did), Purpose::COMMIT, bytes);
                        Ok(Some(signed.await?.to_string()))
                    })
                    .await?;
                Ok::<_, ToolError>(Change {
                    head: made.head,
                    did,
                })
            }
        },
    )
    .with_class(EffectClass::Idempotent)
}

/// Checks a mender's work: that the check says the same, and that the change is what the check
/// asked for, and nothing else, signed by its author.
#[derive(Debug)]
pub(crate) struct Verifier(pub(crate) Desk);

#[async_trait]
impl Agent for Verifier {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let (job, path) = job(task)?;
        let work: Work = serde_json::from_value(task.output.clone().unwrap_or_default())
            .map_err(|e| Error::invalid("task.output", e.to_string()))?;
        let Some(before) = self.0.read(work.base, &path).await? else {
            return Ok(Ended::refused(json!("the file does not exist at the base")));
        };
        let question = Desk::question(&job, Arc::clone(&before));
        let again = self.0.guest.ask(cx, "check", work.base, question).await?;
        if (again.n_findings, again.n_fixable) != (work.n_findings, work.n_fixable) {
            return Ok(Ended::refused(json!("the check finds something else")));
        }
        let wanted = match &again.edit {
            Some(edit) => Some(edit.apply(&before).map_err(|e| broken(&e))?),
            None => None,
        };
        match (&work.change, wanted) {
            (None, None) => {}
            (Some(change), Some(wanted)) => {
                if let Some(wrong) = self.examine(task, &path, &work, change, &wanted).await? {
                    return Ok(Ended::refused(json!(wrong)));
                }
                let question = Desk::question(&job, wanted.into());
                let after = self
                    .0
                    .guest
                    .ask(cx, "check_after", change.head, question)
                    .await?;
                if after.n_fixable > 0 {
                    return Ok(Ended::refused(json!(
                        "the check still finds something to fix"
                    )));
                }
            }
            _ => return Ok(Ended::refused(json!("a change is missing or not wanted"))),
        }
        Ok(Ended::accepted(
            json!({ "n_findings": again.n_findings, "n_fixable": again.n_fixable }),
        ))
    }
}

impl Verifier {
    /// Returns what is wrong with a change, if anything is.
    async fn examine(
        &self,
        task: &Task,
        path: &RepoPath,
        work: &Work,
        change: &Change,
        wanted: &[u8],
    ) -> Result<Option<String>> {
        let repo = &self.0.repo;
        let proposal = repo.proposal(change.head).await?;
        let author: Option<AgentId> = task.author;
        if proposal.base != work.base || proposal.task != task.id {
            return Ok(Some("the change is for another task or base".to_owned()));
        }
        if author != Some(agent_id(&change.did)) || author != Some(proposal.agent) {
            return Ok(Some("the change is not its author's".to_owned()));
        }
        let signature: Option<Signature> =
            proposal.signature.as_deref().and_then(|s| s.parse().ok());
        let signed = signature.is_some_and(|signature| {
            change
                .did
                .verify(&Purpose::COMMIT, &proposal.signed_bytes(), &signature)
                .is_ok()
        });
        if !signed {
            return Ok(Some("the signature does not verify".to_owned()));
        }
        let changed = repo.changed_paths(work.base, change.head).await?;
        if changed.len() != 1 || !changed.contains(path) {
            return Ok(Some("the change touches other files".to_owned()));
        }
        let after = self.0.read(change.head, path).await?;
        if after.as_deref() != Some(wanted) {
            return Ok(Some(
                "the change is not what the check asked for".to_owned(),
            ));
        }
        Ok(None)
    }
}

fn failed(code: &str, message: &str) -> Error {
    let fix = "look at the task's events";
    Error::Agent(Failure::new(
        ErrorKind::Invalid,
        Retry::Never,
        code,
        message,
        fix,
    ))
}

fn broken(error: &anyhow::Error) -> Error {
    failed("hygiene.bad_edit", &format!("{error:#}"))
}
