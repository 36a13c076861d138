//! One command: a child process whose whole answer is one JSON value.

use std::process::Stdio;

use agent_core::{BoxError, ErrorKind, Principal, Retry, Scope};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::wire::{Envelope, Preflight};
use super::{NAME, StripeProjects};
use crate::error::{Error, Result};
use crate::provision::{Blocker, BlockerCode};

/// The longest answer in bytes: the catalogue of some hundred services.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

impl StripeProjects {
    /// Runs a command and returns its data.
    ///
    /// The program is killed when this is dropped. What it did until then is not known, so every
    /// failure behind the start is of unknown outcome, except a refusal that it says itself.
    pub(super) async fn run<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let envelope = self.envelope(arguments).await?;
        if !envelope.is_ok {
            return Err(refusal(envelope));
        }
        let data = envelope.data.unwrap_or_default();
        serde_json::from_value(data).map_err(|e| unreadable("read an answer", e))
    }

    /// Runs a preflight and returns what did not pass, whether or not the command calls it a
    /// failure.
    pub(super) async fn checked(&self, arguments: &[&str]) -> Result<Vec<Blocker>> {
        let envelope = match self.envelope(arguments).await {
            Ok(envelope) => envelope,
            Err(Error::Blocked { blockers }) => return Ok(blockers),
            Err(error) => return Err(error),
        };
        let is_ok = envelope.is_ok;
        let details = match (&envelope.data, &envelope.error) {
            (_, Some(error)) => error.details.clone(),
            (data, None) => data.clone(),
        };
        let details = details.unwrap_or_default();
        let listed: Preflight = serde_json::from_value(details).unwrap_or_default();
        let blockers = listed.blockers();
        match is_ok || !blockers.is_empty() {
            true => Ok(blockers),
            false => match refusal(envelope) {
                Error::Blocked { blockers } => Ok(blockers),
                error => Err(error),
            },
        }
    }

    async fn envelope(&self, arguments: &[&str]) -> Result<Envelope> {
        let settings = &self.settings;
        let mut command = tokio::process::Command::new(&settings.program);
        command.arg("projects").args(arguments).arg("--json");
        command.env_clear().envs(&settings.variables);
        command.current_dir(&settings.dir).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // What it says to a reader may hold values.
        command.stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| {
            let found = format!("{}: {error}", settings.program.display());
            let remedy = "install the program with its plugin `projects`, or correct the path";
            Error::blocked(vec![Blocker::new(
                BlockerCode::ProgramUnusable,
                found,
                remedy,
            )])
        })?;
        let out = child.stdout.take();
        let deadline = self.clock.now().after(settings.time);
        let scope = Scope::new(Principal::host()).with_deadline(deadline);
        let work = async {
            let answer = read(out).await?;
            child.wait().await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = scope.guard(self.clock.as_ref(), work).await;
        let answer = answer.map_err(|late| unreadable("wait for a command", late))?;
        let answer = answer.map_err(|e| unreadable("run a command", e))?;
        serde_json::from_slice(&answer).map_err(|e| unreadable("read an answer", e))
    }
}

async fn read(out: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    if let Some(out) = out {
        out.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    }
    Ok(answer)
}

fn unreadable(operation: &'static str, source: impl Into<BoxError>) -> Error {
    Error::backend(
        NAME,
        operation,
        ErrorKind::Unavailable,
        Retry::Unknown,
        source,
    )
}

/// Reads a refusal: what stands in the way, or an error of the other side. Its message is not kept,
/// since another side wrote it.
fn refusal(envelope: Envelope) -> Error {
    let error = envelope.error.unwrap_or_default();
    let details = error.details.clone().unwrap_or_default();
    let listed: Preflight = serde_json::from_value(details).unwrap_or_default();
    let mut blockers = listed.blockers();
    let code = BlockerCode::parse(&error.code);
    if blockers.is_empty() && !matches!(code, BlockerCode::Other(_)) {
        let remedy = error.remedy.unwrap_or_else(|| remedy(&code).to_owned());
        blockers.push(Blocker::new(
            code.clone(),
            "Stripe Projects says so",
            remedy,
        ));
    }
    if !blockers.is_empty() {
        return Error::blocked(blockers);
    }
    let said = BlockerCode::as_str(&code).to_owned();
    // Of a code that is not known it is not known either what was done.
    Error::backend(
        NAME,
        "do a command",
        ErrorKind::Unavailable,
        Retry::Unknown,
        said,
    )
}

const fn remedy(code: &BlockerCode) -> &'static str {
    match code {
        BlockerCode::BrowserAuthRequired => "run `stripe projects init` and log in",
        BlockerCode::TosAcceptanceRequired => "read the terms and accept them as the host",
        BlockerCode::PlanRequired => "add a way to pay with `stripe projects billing add`",
        BlockerCode::AccountNotEligible => "use another Stripe account",
        _ => "see what Stripe Projects says",
    }
}
