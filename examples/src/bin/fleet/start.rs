//! From the arguments to a finished run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent_core::{Amount, Asset, Digest, Env, SecretBytes, Unit};
use agent_identity::Unlock;
use agent_orch::merge::git::{CloneOptions, Repository};
use agent_orch::merge::{MergeQueue, ObjectId, QueueConfig};
use agent_orch::report::Report;
use agent_orch::{
    Chaos, Fleet, Lander, Layers, Progress, Run, RunHandle, Stack, StackConfig, Supervisor,
};
use agent_pay::{Price, RateCard};
use agent_sandbox::backend::wasm::{Config as WasmConfig, WasmRuntime};
use agent_tools::{InProcess, Limits as ToolLimits};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::agents::{Desk, Mender, Verifier, propose_tool};
use crate::guest::{Guest, RESOURCE};
use crate::plan::{Plan, plan};
use crate::{Args, ask, findings, landing, show};

/// How many tasks are submitted in one transaction.
const SUBMIT_BATCH: usize = 2_000;
/// The branch changes land on, unless the manifest's lane says otherwise.
const LANE: &str = "landing";

/// What a resumed run must know again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Meta {
    /// The clone, below the data directory.
    clone: String,
    /// The commit the tasks were planned on.
    base: ObjectId,
    /// When the run was first started, in milliseconds: the time of all its commits.
    at_ms: i64,
}

/// Runs the fleet to its end, or to where it waits for a person.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let env = Env::system();
    let fleet = args.manifest()?;
    let source = source(&args.repo).await?;
    let stack_cell = Arc::new(OnceLock::new());
    let repo_cell = Arc::new(OnceLock::new());
    let stack = open_stack(args, &env, &fleet, &stack_cell, &repo_cell).await?;
    let done = with_stack(args, &env, fleet, &source, &stack, &repo_cell).await;
    stack.close().await;
    done
}

async fn with_stack(
    args: &Args,
    env: &Env,
    fleet: Fleet,
    source: &Source,
    stack: &Stack,
    repo_cell: &OnceLock<(Repository, i64)>,
) -> Result<()> {
    let (run, meta, repo) = open_run(args, env, &fleet, source, stack).await?;
    // Set once: this function is called once.
    let _first = repo_cell.set((repo.clone(), meta.at_ms));
    show::opening(args, &fleet, source, &run);
    let Plan {
        tasks,
        tree,
        n_files,
        skipped,
    } = plan(&repo, meta.base).await?;
    show::planned(n_files, tasks.len(), &skipped);
    if tasks.is_empty() {
        bail!("the repository tracks no text files: there is nothing to check");
    }
    let asset = fleet.budget.asset();
    let guest = Guest::new(stack.sandbox(), tree, Guest::cost_max(asset));
    let target = fleet
        .lanes
        .get(LANE)
        .map_or("agents/hygiene", |l| l.target.as_str())
        .to_owned();
    let lander = lander(stack, &repo, &guest, &meta, &target).await?;
    let desk = Desk {
        repo: repo.clone(),
        guest,
        stack: stack.clone(),
        target: target.clone(),
    };
    let (mender, verifier, landing) = (desk.clone(), desk, lander.clone());
    let handle = Supervisor::new(stack.clone(), fleet)
        .with_agent("mender", move || Mender(mender.clone()))
        .with_agent("verifier", move || Verifier(verifier.clone()))
        .with_agent("lander", move || landing.clone())
        .with_chaos(Chaos::new(args.chaos))
        .start(run)
        .await?;
    for batch in tasks.chunks(SUBMIT_BATCH) {
        handle.submit(batch.to_vec()).await?;
    }
    let ended = drive(args, env, stack, &handle).await;
    let Some(progress) = ended? else {
        handle.stop().await;
        lander.stop().await;
        show::interrupted();
        return Ok(());
    };
    handle.stop().await;
    lander.stop().await;
    finish(
        args, stack, &handle, &repo, &meta, &target, &progress, asset,
    )
    .await
}

/// Waits for the run, showing it, and has questions answered. Nothing if it was interrupted.
async fn drive(
    args: &Args,
    env: &Env,
    stack: &Stack,
    handle: &RunHandle,
) -> Result<Option<Progress>> {
    loop {
        let view = show::View::start(handle).await?;
        let progress = tokio::select! {
            settled = handle.settled() => settled?,
            shown = view.follow(handle, stack, env) => return Err(shown.into()),
            _ = tokio::signal::ctrl_c() => return Ok(None),
        };
        view.finish();
        let questions = handle.open_requests().await?;
        if questions.is_empty() || !progress.quarantined.is_empty() {
            return Ok(Some(progress));
        }
        if ask::answer(args, handle, &questions).await? == 0 {
            return Ok(Some(progress));
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the end of the run needs all that was made"
)]
async fn finish(
    args: &Args,
    stack: &Stack,
    handle: &RunHandle,
    repo: &Repository,
    meta: &Meta,
    target: &str,
    progress: &Progress,
    asset: Asset,
) -> Result<()> {
    let open = handle.open_requests().await?;
    let journal = stack.journal();
    let report = Report::of(journal.as_ref(), handle.id(), asset).await?;
    let audit = journal.verify().await?;
    let checks = findings::by_check(journal.as_ref(), handle.id()).await?;
    let view = show::Ending {
        args,
        report: &report,
        audit,
        progress,
        open: &open,
        clone: repo.path(),
        base: meta.base,
        target,
        checks: &checks,
    };
    view.print();
    let path = args
        .report
        .clone()
        .unwrap_or_else(|| args.data.join("report.html"));
    let written = std::fs::write(&path, view.html(handle.run()));
    if let Some((pool, failure)) = progress.quarantined.first_key_value() {
        bail!(
            "the pool {pool} was given up after too many failures, the last: {failure}; {}, then \
             run the same command to go on",
            failure.fix
        );
    }
    written.with_context(|| format!("cannot write the report {}", path.display()))?;
    view.closing(&path);
    if open.is_empty() && progress.counts.moving() == 0 {
        handle.end().await?;
    }
    Ok(())
}

/// The repository the fleet was sent to.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) head: ObjectId,
}

async fn source(path: &Path) -> Result<Source> {
    let path = std::fs::canonicalize(path)
        .with_context(|| format!("there is no directory {}", path.display()))?;
    let head = Repository::open(&path).await?.resolve("HEAD").await?;
    Ok(Source { path, head })
}

async fn open_run(
    args: &Args,
    env: &Env,
    fleet: &Fleet,
    source: &Source,
    stack: &Stack,
) -> Result<(Run, Meta, Repository)> {
    let subject = source.path.to_string_lossy().into_owned();
    let named = format!("{subject}\n{}", source.head);
    let clone: String = Digest::of_bytes(named.as_bytes())
        .to_string()
        .chars()
        .take(12)
        .collect();
    let clone = format!("clone-{clone}");
    let options = CloneOptions::default().with_revision(source.head.to_string());
    let (repo, head) =
        Repository::clone_local(&source.path, args.data.join(&clone), options).await?;
    let lane = fleet
        .lanes
        .get(LANE)
        .map_or("agents/hygiene", |lane| lane.target.as_str());
    // What earlier runs landed is where this one begins.
    let base = repo
        .resolve(&format!("refs/heads/{lane}"))
        .await
        .unwrap_or(head);
    let meta = Meta {
        clone: clone.clone(),
        base,
        at_ms: env.clock.now().as_unix_ms(),
    };
    let run = stack.open_run(fleet, &subject, json!(meta)).await?;
    let known: Meta = serde_json::from_value(run.meta.clone())
        .context("the unfinished run was started by another program")?;
    if known.clone == clone {
        return Ok((run, known, repo));
    }
    drop(repo);
    let repo = Repository::open_clone(args.data.join(&known.clone)).await?;
    Ok((run, known, repo))
}

async fn open_stack(
    args: &Args,
    env: &Env,
    fleet: &Fleet,
    stack_cell: &Arc<OnceLock<Stack>>,
    repo_cell: &Arc<OnceLock<(Repository, i64)>>,
) -> Result<Stack> {
    let made = std::fs::create_dir_all(&args.data);
    made.with_context(|| format!("cannot make the data directory {}", args.data.display()))?;
    let cache = args.data.join("compiled");
    let runtime = WasmRuntime::open(WasmConfig::new(env.clone()).with_cache(cache, None))?;
    let tool = propose_tool(Arc::clone(repo_cell), Arc::clone(stack_cell));
    let limits = ToolLimits::new().with_arguments_bytes_max(32 << 20);
    let tools = InProcess::new(env, [tool])?.with_limits(limits);
    let rates = rates(fleet.budget.asset())?;
    let config = StackConfig::new(&args.data, unlock(&args.data)?, rates);
    let layers = Layers::new(Arc::new(runtime), Arc::new(tools));
    let stack = Stack::open(config, env.clone(), layers)
        .await
        .with_context(|| format!("cannot open the data directory {}", args.data.display()))?;
    // Set once: this function is called once.
    let _first = stack_cell.set(stack.clone());
    Ok(stack)
}

/// The vault's key: 32 random bytes in a file only its owner reads. A host with a key management
/// service would hand the key over instead.
fn unlock(data: &Path) -> Result<Unlock> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = data.join("vault.key");
    let about = || format!("cannot read or make the vault's key {}", path.display());
    let secret = match std::fs::read(&path) {
        Ok(secret) => secret,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut secret = vec![0_u8; 32];
            agent_core::Entropy::fill(&agent_core::OsEntropy::new(), &mut secret);
            // Written aside and renamed, so that a kill leaves no half a key.
            let aside = data.join("vault.key.part");
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)
                .with_context(about)?;
            file.write_all(&secret)
                .and_then(|()| file.sync_all())
                .with_context(about)?;
            std::fs::rename(&aside, &path).with_context(about)?;
            secret
        }
        Err(error) => return Err(error).with_context(about),
    };
    Ok(Unlock::key(SecretBytes::new(Box::new(secret))))
}

/// What the fleet's resources cost: made-up prices in the range of hosted sandboxes.
fn rates(asset: Asset) -> Result<RateCard> {
    let price = |resource: &str, unit, units, per| {
        Price::new(resource, unit, Amount::from_units(units, asset), per)
    };
    Ok(RateCard::new("hygiene-1", asset)?
        .with_free("memory.add")?
        .with_free("merge.land")?
        .with_free(RESOURCE)?
        .with_price(price(RESOURCE, Unit::Calls, 10, 1))?
        .with_price(price(RESOURCE, Unit::CpuUs, 50_000, 3_600_000_000))?
        .with_price(price("tool.propose_change", Unit::Calls, 100, 1))?)
}

async fn lander(
    stack: &Stack,
    repo: &Repository,
    guest: &Guest,
    meta: &Meta,
    target: &str,
) -> Result<Lander> {
    let check = landing::Settled {
        repo: repo.clone(),
        guest: guest.clone(),
        journal: stack.journal(),
        scope: stack.host_scope(),
    };
    let config = QueueConfig::new(meta.base).with_target(format!("refs/heads/{target}"));
    let queue = MergeQueue::open(repo.clone(), config, Arc::new(check)).await?;
    Ok(Lander::start(queue, target))
}

/// How often the view is drawn.
pub(crate) const FRAME: Duration = Duration::from_millis(200);
