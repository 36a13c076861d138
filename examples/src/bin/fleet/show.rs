//! What the terminal shows: the plan, the run while it goes, and its end.

use std::collections::BTreeMap;
use std::path::Path;

use agent_core::{Amount, ClockExt, Env};
use agent_orch::merge::ObjectId;
use agent_orch::report::{PoolSpend, Report};
use agent_orch::{Audit, Fleet, Progress, Request, Run, RunHandle, Stack, Stage, Status};
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::Args;
use crate::html::{CheckRow, Page, render};
use crate::start::{FRAME, Source};

#[expect(clippy::print_stderr, reason = "a program talks to its user")]
pub(crate) fn opening(args: &Args, fleet: &Fleet, source: &Source, run: &Run) {
    let verb = if run.is_resumed {
        "resuming"
    } else {
        "starting"
    };
    let head: String = source.head.to_string().chars().take(12).collect();
    eprintln!(
        "{verb} {} of fleet {} on {} at {head}; data in {}",
        run.id,
        fleet.name,
        source.path.display(),
        args.data.display()
    );
}

#[expect(clippy::print_stderr, reason = "a program talks to its user")]
pub(crate) fn planned(n_files: usize, n_tasks: usize, skipped: &BTreeMap<&'static str, usize>) {
    eprintln!("{n_tasks} tasks on {n_files} text files");
    for (why, n) in skipped {
        eprintln!("  skipped: {n} {why}");
    }
}

#[expect(clippy::print_stderr, reason = "a program talks to its user")]
pub(crate) fn interrupted() {
    eprintln!("stopped; run the same command to go on");
}

/// The run while it goes.
pub(crate) struct View {
    bars: MultiProgress,
    tasks: ProgressBar,
    line: ProgressBar,
}

impl View {
    pub(crate) async fn start(handle: &RunHandle) -> Result<Self> {
        let progress = handle.progress().await?;
        let bars = MultiProgress::new();
        let tasks = bars.add(ProgressBar::new(progress.counts.total()));
        tasks.set_style(ProgressStyle::with_template(
            "{elapsed_precise} {bar:40} {pos}/{len} tasks ended  {msg}",
        )?);
        let line = bars.add(ProgressBar::new_spinner());
        line.set_style(ProgressStyle::with_template("         {msg}")?);
        Ok(Self { bars, tasks, line })
    }

    /// Draws until it fails; the caller drops it when the run has settled.
    pub(crate) async fn follow(
        &self,
        handle: &RunHandle,
        stack: &Stack,
        env: &Env,
    ) -> agent_orch::Error {
        loop {
            if let Err(error) = self.draw(handle, stack).await {
                return error;
            }
            env.clock.sleep(FRAME).await;
        }
    }

    async fn draw(&self, handle: &RunHandle, stack: &Stack) -> agent_orch::Result<()> {
        let Progress {
            counts, restarts, ..
        } = handle.progress().await?;
        let at = |stage, status| counts.0.get(&(stage, status)).copied().unwrap_or(0);
        let ended: u64 = [
            Status::Completed,
            Status::Failed,
            Status::Canceled,
            Status::Rejected,
        ]
        .into_iter()
        .map(|status| counts.of(status))
        .sum();
        self.tasks.set_length(counts.total());
        self.tasks.set_position(ended);
        self.tasks
            .set_message(format!("{} wait for a person", counts.of(Status::Parked)));
        let working: u64 = at(Stage::Work, Status::Leased) + at(Stage::Verify, Status::Leased);
        let spent = stack
            .balance("hygiene", Amount::zero(agent_core::Asset::USD))
            .await;
        let spent = spent.map_or_else(|_none| String::new(), |b| b.spent.to_string());
        self.line.set_message(format!(
            "{working} agents busy  {} merges queued, {} landed  {restarts} restarts  {spent} spent",
            at(Stage::Merge, Status::Ready) + at(Stage::Merge, Status::Leased),
            at(Stage::Merge, Status::Completed),
        ));
        Ok(())
    }

    pub(crate) fn finish(&self) {
        self.tasks.finish_and_clear();
        self.line.finish_and_clear();
        // The lines are cleared; a terminal that refuses that is not worth failing for.
        let _cleared = self.bars.clear();
    }
}

/// The end of a run.
pub(crate) struct Ending<'a> {
    pub(crate) args: &'a Args,
    pub(crate) report: &'a Report,
    pub(crate) audit: Audit,
    pub(crate) progress: &'a Progress,
    pub(crate) open: &'a [Request],
    pub(crate) clone: &'a Path,
    pub(crate) base: ObjectId,
    pub(crate) target: &'a str,
    pub(crate) checks: &'a [CheckRow],
}

/// Writes millionths as a percentage with two decimals.
fn percent(per_million: u64) -> String {
    format!(
        "{}.{:02} %",
        per_million / 10_000,
        per_million % 10_000 / 100
    )
}

#[expect(clippy::print_stdout, reason = "the table is the program's output")]
impl Ending<'_> {
    pub(crate) fn print(&self) {
        let report = self.report;
        let took = report.until.since(report.from);
        println!();
        println!(
            "run {}  {}.{:03} s",
            report.run,
            took.as_secs(),
            took.subsec_millis()
        );
        println!();
        println!("tasks        {:>8}", report.submitted);
        println!(
            "  completed  {:>8}  verified by an agent that is not the author",
            report.completed
        );
        println!("  failed     {:>8}", report.failed);
        println!("  rejected   {:>8}", report.rejected);
        println!(
            "  waiting    {:>8}  for a person",
            self.progress.counts.of(Status::Parked)
        );
        println!();
        println!(
            "merges       {:>8}  landed on {}",
            report.landed, self.target
        );
        println!("  conflicted {:>8}", report.conflicted);
        println!("  resolved   {:>8}", report.resolved);
        println!();
        println!("recovery     {:>8}  attempts retried", report.retries);
        println!(
            "             {:>8}  works begun anew with feedback",
            report.corrections
        );
        println!("             {:>8}  agents restarted", report.restarts);
        println!(
            "             {:>8}  times the run was resumed",
            report.resumes
        );
        for (kind, fault) in &report.faults {
            println!(
                "  {kind:<20} {:>8} injected, {} recovered",
                fault.injected, fault.recovered
            );
        }
        println!();
        self.print_findings();
        self.print_money();
        self.print_reliability();
    }

    fn print_findings(&self) {
        println!("check                   files findings    fixed   landed");
        for CheckRow {
            check,
            files,
            findings,
            fixed,
            landed,
        } in self.checks
        {
            println!("  {check:<20} {files:>6} {findings:>8} {fixed:>8} {landed:>8}");
        }
        println!();
    }

    fn print_money(&self) {
        let report = self.report;
        println!("spend        {}", report.spent());
        for (
            pool,
            PoolSpend {
                attempts, spent, ..
            },
        ) in &report.pools
        {
            let spent = Amount::from_units(*spent, report.asset).to_string();
            println!("  {pool:<12} {spent:>14}  {attempts} attempts");
        }
        match report.cost_per_success() {
            Some(cost) => println!("cost per verified success  {cost}"),
            None => println!("cost per verified success  nothing was verified"),
        }
        println!();
    }

    fn print_reliability(&self) {
        println!("first-try reliability");
        for (layer, reliability) in &self.report.layers {
            let share = percent(reliability.per_million());
            println!(
                "  {layer:<12} {share:>10}  {} of {}",
                reliability.done, reliability.tries
            );
        }
        println!(
            "  {:<12} {:>10}",
            "compounded",
            percent(self.report.compounded_per_million())
        );
        println!();
        println!(
            "audit        {} records verified, head {}",
            self.audit.records, self.audit.head
        );
    }

    /// Writes the page.
    pub(crate) fn html(&self, run: &Run) -> String {
        let command = self.diff();
        render(&Page {
            report: self.report,
            durability: &run.durability,
            fleet: &run.spec.to_string(),
            waiting: self.progress.counts.of(Status::Parked),
            open: self.open,
            quarantined: &self.progress.quarantined,
            checks: self.checks,
            audit: Ok(self.audit),
            command: (self.report.landed > 0).then_some(&*command),
        })
    }

    fn diff(&self) -> String {
        format!(
            "git -C {} diff {} {}",
            self.clone.display(),
            self.base,
            self.target
        )
    }

    /// Says where everything is.
    pub(crate) fn closing(&self, report: &Path) {
        println!("report       {}", report.display());
        let clone = self.clone.display();
        if self.report.landed > 0 {
            println!("see it       {}", self.diff());
            println!("take it      git fetch {clone} {}", self.target);
        } else {
            println!("nothing landed: there was nothing to mend");
        }
        for question in self.open {
            println!("waits        {}", question.question.escape_debug());
        }
        if !self.open.is_empty() {
            println!(
                "{} questions wait in the inbox in {}; run the same command at a terminal, or with --yes",
                self.open.len(),
                self.args.data.display()
            );
        }
    }
}
