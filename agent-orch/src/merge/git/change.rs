//! Proposing a change: a commit made from edits, signed by its author, named by its task.

mod draft;
mod message;

use std::collections::BTreeMap;
use std::future::Future;

use agent_core::{AgentId, BoxError, TaskId};
use git2::{ErrorCode, Signature};

use super::open::failed;
use super::{Inner, Repository, from_oid, open, to_oid, tree};
use crate::merge::error::{Error, Result};
use crate::merge::object::{ObjectId, RepoPath};
use draft::check_trailer_value;

pub use draft::{Draft, Edit};
pub(super) use message::{parse_message, signature_of, trailer_id, with_trailers};

/// A change that lies in the repository as a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proposal {
    /// The commit.
    pub head: ObjectId,
    /// Its tree.
    pub tree: ObjectId,
    /// The commit the edits were made to.
    pub base: ObjectId,
    /// The task the change settles.
    pub task: TaskId,
    /// The agent that made it.
    pub agent: AgentId,
    /// The signature, unless the signer left it out.
    pub signature: Option<String>,
    /// Every trailer in order, those three included.
    pub trailers: Vec<(String, String)>,
    /// The first line of the message.
    pub subject: String,
}

impl Proposal {
    /// Returns what the signature covers: the tree, what it was made from, for which task, by whom.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        signed_bytes(self.tree, self.base, self.task, self.agent)
    }
}

fn signed_bytes(tree: ObjectId, parent: ObjectId, task: TaskId, agent: AgentId) -> Vec<u8> {
    format!("agent-orch.change.v1\ntree {tree}\nparent {parent}\ntask {task}\nagent {agent}\n")
        .into_bytes()
}

/// Returns the branch that holds a task's change.
pub(super) fn branch(task: TaskId) -> String {
    format!("{BRANCH_PREFIX}{task}")
}

const BRANCH_PREFIX: &str = "refs/heads/agents/changes/";

impl Repository {
    /// Makes a commit of the draft and points the branch `agents/changes/<task>` at it.
    ///
    /// `sign` gets the bytes to sign (see [`Proposal::signed_bytes`]) and returns one line of text,
    /// or `None` to leave the change unsigned. The same draft and signature make the same commit,
    /// so proposing again is harmless; a different draft for the task replaces the branch.
    ///
    /// # Errors
    /// `NotFound` for the base or a file to delete, `NotAFile`, `NothingChanged`, `TooLarge`,
    /// `Invalid` for the message, a trailer or the signature; `Unsigned` if the signer failed.
    ///
    /// # Cancel safety
    /// Atomic: either the branch points at the complete change, or it is where it was.
    pub async fn propose<S, F>(&self, draft: Draft, sign: S) -> Result<Proposal>
    where
        S: FnOnce(Vec<u8>) -> F,
        F: Future<Output = Result<Option<String>, BoxError>>,
    {
        draft.check()?;
        let Draft {
            base,
            task,
            agent,
            at,
            message,
            edits,
            trailers,
        } = draft;
        let tree = self
            .call(move |inner| inner.edited_tree(base, edits))
            .await?;
        let signature = sign(signed_bytes(tree, base, task, agent))
            .await
            .map_err(|source| Error::Unsigned { source })?;
        let mut block = vec![
            ("Agent".to_owned(), agent.to_string()),
            ("Task".to_owned(), task.to_string()),
        ];
        block.extend(trailers);
        if let Some(signature) = signature {
            check_trailer_value(&signature)?;
            block.push(("Signature".to_owned(), signature));
        }
        let message = with_trailers(message.trim(), &block);
        self.call(move |inner| {
            let author = signature_of(&agent.to_string(), at.as_unix_ms().div_euclid(1_000))?;
            let head = inner.write_commit(&author, &author, &message, tree, &[base])?;
            let log = "agents: propose";
            let set = inner.repo.reference(&branch(task), to_oid(head), true, log);
            set.map_err(failed("point the change's branch"))?;
            inner.proposal(head)
        })
        .await
    }

    /// Reads a change back from its commit.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if the commit was not made by [`Repository::propose`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn proposal(&self, head: ObjectId) -> Result<Proposal> {
        self.call(move |inner| inner.proposal(head)).await
    }

    /// Reads the changes that branches hold and that have not landed, in order of their tasks.
    ///
    /// The branches are the truth after a crash: queue what this returns again.
    ///
    /// # Errors
    /// `Corrupt`; `Invalid` if somebody put another commit on such a branch.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_changes(&self) -> Result<Vec<Proposal>> {
        self.call(|inner| {
            let mut heads = BTreeMap::new();
            let glob = format!("{BRANCH_PREFIX}*");
            for reference in inner
                .repo
                .references_glob(&glob)
                .map_err(failed("list branches"))?
            {
                let reference = reference.map_err(failed("list branches"))?;
                if let Some(head) = reference.target() {
                    heads.insert(reference.name_bytes().to_vec(), from_oid(head));
                }
            }
            heads
                .into_values()
                .map(|head| inner.proposal(head))
                .collect()
        })
        .await
    }

    /// Removes the branches of changes that are still at the given commits. Those commits stay
    /// reachable from wherever they landed. Returns how many were removed.
    ///
    /// # Errors
    /// `Backend` if the file system fails. A branch that is absent or elsewhere is left alone.
    ///
    /// # Cancel safety
    /// Every branch is removed even if the caller goes away.
    pub async fn remove_branches(&self, changes: Vec<(TaskId, ObjectId)>) -> Result<usize> {
        self.call(move |inner| {
            let mut n_removed: usize = 0;
            for (task, head) in changes {
                match inner.repo.find_reference(&branch(task)) {
                    Ok(mut reference) if reference.target() == Some(to_oid(head)) => {
                        reference.delete().map_err(failed("remove a branch"))?;
                        n_removed = n_removed.saturating_add(1);
                    }
                    Err(e) if e.code() != ErrorCode::NotFound => {
                        return Err(failed("find a branch")(e));
                    }
                    _ => {}
                }
            }
            Ok(n_removed)
        })
        .await
    }
}

impl Inner {
    fn edited_tree(&self, base: ObjectId, edits: BTreeMap<RepoPath, Edit>) -> Result<ObjectId> {
        let old = self
            .commit(base)?
            .tree()
            .map_err(open::missing("tree of", base))?;
        let new = tree::edited(&self.repo, Some(&old), &tree::arrange(edits)?)?;
        let new = match new {
            Some(new) => new,
            None => self
                .repo
                .treebuilder(None)
                .and_then(|empty| empty.write())
                .map_err(failed("write a tree"))?,
        };
        if new == old.id() {
            return Err(Error::NothingChanged);
        }
        Ok(from_oid(new))
    }

    pub(super) fn write_commit(
        &self,
        author: &Signature<'_>,
        committer: &Signature<'_>,
        message: &str,
        tree: ObjectId,
        parents: &[ObjectId],
    ) -> Result<ObjectId> {
        let tree = self.tree(tree)?;
        let parents = parents
            .iter()
            .map(|id| self.commit(*id))
            .collect::<Result<Vec<_>>>()?;
        let parents: Vec<&git2::Commit<'_>> = parents.iter().collect();
        let commit = self
            .repo
            .commit(None, author, committer, message, &tree, &parents);
        commit.map(from_oid).map_err(failed("write a commit"))
    }

    fn proposal(&self, head: ObjectId) -> Result<Proposal> {
        let commit = self.commit(head)?;
        let (subject, trailers) = parse_message(commit.message_raw_bytes());
        let value = |key: &str| {
            trailers
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        let base = match (commit.parent_count(), commit.parent_id(0)) {
            (1, Ok(base)) => from_oid(base),
            _ => return Err(Error::invalid("change", "it does not have one parent")),
        };
        Ok(Proposal {
            head,
            tree: from_oid(commit.tree_id()),
            base,
            task: trailer_id(value("Task"))?,
            agent: trailer_id(value("Agent"))?,
            signature: value("Signature").map(str::to_owned),
            subject,
            trailers,
        })
    }
}
