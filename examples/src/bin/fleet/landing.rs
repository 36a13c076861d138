//! What the merge queue asks before a tree lands: that every check it is said to settle is settled
//! in exactly that tree.

use agent_core::{BoxError, Scope};
use agent_orch::Journal;
use agent_orch::merge::git::Repository;
use agent_orch::merge::{Candidate, Check, RepoPath, Verdict};
use async_trait::async_trait;
use std::sync::Arc;

use crate::agents::Job;
use crate::guest::{FILE_BYTES_MAX, Guest, Question};

/// Runs the checks of a candidate's tasks on its tree, on the host's account.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) repo: Repository,
    pub(crate) guest: Guest,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) scope: Scope,
}

#[async_trait]
impl Check for Settled {
    async fn check(&self, candidate: &Candidate) -> Result<Verdict, BoxError> {
        for id in &candidate.tasks {
            let task = self.journal.task(*id).await?;
            let job: Job = serde_json::from_value(task.input)?;
            let path = RepoPath::new(job.path.as_bytes())?;
            let bytes = self
                .repo
                .read_file(candidate.tree, path, FILE_BYTES_MAX)
                .await?;
            let Some(bytes) = bytes else {
                return Ok(Verdict::failed(format!("{} is gone", job.path)));
            };
            let question = Question {
                check: job.check.clone(),
                path: job.path.clone(),
                options: job.options,
                bytes: bytes.into(),
            };
            let (report, _usage) = self.guest.run(&self.scope, question).await?;
            if report.n_fixable > 0 {
                let summary = format!("{} still finds something in {}", job.check, job.path);
                return Ok(Verdict::failed(summary));
            }
        }
        Ok(Verdict::Passed)
    }
}
