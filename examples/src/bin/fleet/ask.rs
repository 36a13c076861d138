//! Questions to the person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use agent_core::Principal;
use agent_orch::{Answer, Request, RunHandle};
use anyhow::Result;

use crate::Args;

/// Has open questions answered, by the default with `--yes`, else by whoever sits at the terminal.
/// Returns how many were answered.
pub(crate) async fn answer(
    args: &Args,
    handle: &RunHandle,
    questions: &[Request],
) -> Result<usize> {
    let by_default = Principal::new("default")?;
    let person = Principal::new("human:terminal")?;
    let mut n_answered = 0;
    for question in questions {
        let answer = if args.yes {
            Some(Answer::new(question.default.clone(), by_default.clone()))
        } else if std::io::stdin().is_terminal() {
            prompt(question)?.map(|choice| Answer::new(choice, person.clone()))
        } else {
            None
        };
        if let Some(answer) = answer {
            handle.answer(question.id, answer).await?;
            n_answered += 1;
        }
    }
    Ok(n_answered)
}

/// Asks until there is a valid answer; an empty line or the end of input leaves it in the inbox.
#[expect(clippy::print_stderr, reason = "a program talks to its user")]
fn prompt(question: &Request) -> Result<Option<String>> {
    eprintln!("\n? {}", question.question.escape_debug());
    loop {
        for (n, option) in (1..).zip(&question.options) {
            let mark = if *option == question.default {
                "  (default)"
            } else {
                ""
            };
            eprintln!("  {n}  {option}{mark}");
        }
        eprint!("number, or Enter to decide later: ");
        std::io::stderr().flush()?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(None);
        }
        let chosen = line
            .trim()
            .parse::<usize>()
            .ok()
            .and_then(|n| n.checked_sub(1));
        if let Some(option) = chosen.and_then(|n| question.options.get(n)) {
            return Ok(Some(option.clone()));
        }
        eprintln!("`{}` is none of these numbers", line.trim().escape_debug());
    }
}
