//! The run's report as one HTML page that needs nothing else: no script, no network, no font.

mod parts;
mod svg;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Amount, Failure};
use agent_orch::report::{Report, Slot};
use agent_orch::{Audit, Request};

use parts::{lasted, percent, section, table};
use svg::{Text, bar, square};

/// What the page shows.
pub(crate) struct Page<'a> {
    /// What the run did.
    pub(crate) report: &'a Report,
    /// What acknowledged writes of the run survive.
    pub(crate) durability: &'a str,
    /// The digest of the fleet's manifest.
    pub(crate) fleet: &'a str,
    /// Tasks that wait for a person.
    pub(crate) waiting: u64,
    /// The questions that wait for an answer.
    pub(crate) open: &'a [Request],
    /// The pools and lanes that were given up, and why.
    pub(crate) quarantined: &'a BTreeMap<String, Failure>,
    /// What the checks found.
    pub(crate) checks: &'a [CheckRow],
    /// The verified audit chain, or why it does not verify.
    pub(crate) audit: Result<Audit, String>,
    /// The command that shows the branch; nothing if nothing landed.
    pub(crate) command: Option<&'a str>,
}

/// What one check found and what became of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckRow {
    pub(crate) check: String,
    /// Files it looked at.
    pub(crate) files: u64,
    pub(crate) findings: u64,
    /// Findings an agent mended.
    pub(crate) fixed: u64,
    /// Files whose change landed.
    pub(crate) landed: u64,
}

/// Writes the page.
pub(crate) fn render(page: &Page<'_>) -> String {
    let report = page.report;
    let head = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n<title>Fleet run {}</title>\n<style>\n{}</style>\n</head>\n",
        report.run,
        include_str!("html/style.css")
    );
    [
        head,
        "<body>\n<main>\n".to_owned(),
        title(page),
        tiles(page),
        quarantined(page),
        questions(page),
        timeline(report),
        format!(
            "<div class=\"grid\">\n{}{}{}{}</div>\n",
            outcomes(page),
            spend(report),
            reliability(report),
            faults(report)
        ),
        checks(page),
        evidence(page),
        "</main>\n</body>\n</html>\n".to_owned(),
    ]
    .concat()
}

fn title(page: &Page<'_>) -> String {
    let report = page.report;
    format!(
        "<header>\n<h1>{} of {} tasks done and verified</h1>\n<p class=\"dim\"><span class=\"id\">{}\
         </span><br>{}, {} to {}</p>\n</header>\n",
        report.completed,
        report.submitted,
        report.run,
        lasted(report.until.since(report.from)),
        report.from,
        report.until
    )
}

fn tiles(page: &Page<'_>) -> String {
    let report = page.report;
    let cost = report
        .cost_per_success()
        .map_or_else(|| "–".to_owned(), |cost| cost.to_string());
    let tiles = [
        (report.landed.to_string(), "changes landed"),
        (page.waiting.to_string(), "tasks wait for a person"),
        (report.spent().to_string(), "spent"),
        (cost, "per verified success"),
        (
            percent(report.compounded_per_million()),
            "first-try reliability, all layers",
        ),
        (
            report.retries.saturating_add(report.restarts).to_string(),
            "retries and restarts",
        ),
    ];
    let mut html = "<ul class=\"tiles\">\n".to_owned();
    for (value, what) in tiles {
        html += &format!("<li><b>{value}</b><span>{what}</span></li>\n");
    }
    html + "</ul>\n"
}

fn quarantined(page: &Page<'_>) -> String {
    if page.quarantined.is_empty() {
        return String::new();
    }
    let row = |(place, failure): (&String, &Failure)| {
        let why = format!(
            "{}<br><span class=\"dim\">{}</span>",
            Text(&failure.message),
            Text(&failure.fix)
        );
        vec![
            Text(place).to_string(),
            format!("<code>{}</code>", Text(&failure.code)),
            why,
        ]
    };
    let rows: Vec<_> = page.quarantined.iter().map(row).collect();
    section(
        "Given up after too many restarts",
        table(
            &["pool or lane", "code", "last failure and what to do"],
            &rows,
            3,
        ),
    )
}

fn questions(page: &Page<'_>) -> String {
    if page.open.is_empty() {
        return String::new();
    }
    let mut html = String::new();
    for request in page.open {
        html += "<div class=\"ask\">\n";
        html += &format!("<p>{}</p>\n<ul class=\"options\">", Text(&request.question));
        for option in &request.options {
            let class = if *option == request.default {
                " class=\"taken\""
            } else {
                ""
            };
            html += &format!("<li{class}>{}</li>", Text(option));
        }
        html += &format!(
            "</ul>\n<p class=\"dim\">Without an answer <b>{}</b> applies at {}. Asked of {}, \
             severity {}.<br><span class=\"id\">{}</span></p>\n</div>\n",
            Text(&request.default),
            request.deadline,
            Text(&request.route),
            Text(&format!("{:?}", request.severity).to_lowercase()),
            request.id
        );
    }
    section(
        &format!("Questions that wait for an answer ({})", page.open.len()),
        html,
    )
}

fn timeline(report: &Report) -> String {
    let slots = &report.timeline;
    let of = |pick: fn(&Slot) -> u64| slots.iter().map(pick).sum::<u64>();
    let (done, verified) = (of(|slot| slot.done), of(|slot| slot.verified));
    let (landed, failed) = (of(|slot| slot.landed), of(|slot| slot.failed));
    let summary = format!(
        "{done} works done, {verified} verified, {landed} changes landed and {failed} failed tries \
         in {} slots of {} ms.",
        slots.len(),
        report.slot_ms
    );
    let mut legend = String::new();
    for (class, what) in [
        ("done", format!("{done} done")),
        ("verified", format!("{verified} verified")),
        ("landed", format!("{landed} landed")),
        (
            "failed",
            format!("{failed} failed tries, marked at the top"),
        ),
    ] {
        legend += &format!("<li>{}{what}</li>", square(class));
    }
    let row = |(n, slot): (u64, &Slot)| {
        let at = Duration::from_millis(n.saturating_mul(report.slot_ms));
        let counts = [slot.done, slot.verified, slot.landed, slot.failed];
        let counts = counts.iter().map(ToString::to_string);
        [lasted(at)].into_iter().chain(counts).collect::<Vec<_>>()
    };
    let busy = |(_, slot): &(u64, &Slot)| **slot != Slot::default();
    let rows: Vec<_> = (0_u64..).zip(slots).filter(busy).map(row).collect();
    let numbers = table(&["from", "done", "verified", "landed", "failed"], &rows, 1);
    section(
        "Work over time",
        format!(
            "<div class=\"ends\"><span>{} a slot of {} at most</span></div>\n{}\n\
             <div class=\"ends\"><span>0 s</span><span>{}</span></div>\n\
             <ul class=\"legend\">{legend}</ul>\n\
             <details><summary>The same as a table</summary>\n{numbers}</details>\n",
            svg::fullest(slots),
            lasted(Duration::from_millis(report.slot_ms)),
            svg::timeline(slots, &summary),
            lasted(report.until.since(report.from)),
        ),
    )
}

fn outcomes(page: &Page<'_>) -> String {
    let report = page.report;
    let rows: Vec<_> = [
        ("completed", report.completed, "verified"),
        ("with a landed change", report.landed, "landed"),
        ("waiting for a person", page.waiting, "done"),
        ("failed", report.failed, "failed"),
        ("rejected", report.rejected, "failed"),
        ("canceled", report.canceled, "failed"),
    ]
    .into_iter()
    .map(|(name, n, class)| {
        vec![
            name.to_owned(),
            bar(n, report.submitted, class),
            n.to_string(),
        ]
    })
    .collect();
    let notes = format!(
        "<p class=\"dim\">{} conflicts met, {} resolved; {} works begun anew with feedback; {} \
         leases taken back; the run was resumed {} times; {} of {} questions answered.</p>\n",
        report.conflicted,
        report.resolved,
        report.corrections,
        report.leases_ended,
        report.resumes,
        report.answered,
        report.asked
    );
    section(
        "Tasks by outcome",
        table(&["outcome", "", "tasks"], &rows, 1) + &notes,
    )
}

fn spend(report: &Report) -> String {
    let units = |spent: i128| u64::try_from(spent.max(0)).unwrap_or(u64::MAX);
    let most = report
        .pools
        .values()
        .map(|pool| units(pool.spent))
        .max()
        .unwrap_or(0);
    let rows: Vec<_> = report
        .pools
        .iter()
        .map(|(name, pool)| {
            let name = if name.is_empty() { "host" } else { name };
            let spent = Amount::from_units(pool.spent, report.asset).to_string();
            let attempts = pool.attempts.to_string();
            vec![
                Text(name).to_string(),
                bar(units(pool.spent), most, "verified"),
                attempts,
                spent,
            ]
        })
        .collect();
    section(
        "Spend by pool",
        table(&["pool", "", "attempts", "spent"], &rows, 1),
    )
}

fn reliability(report: &Report) -> String {
    let mut rows: Vec<_> = report
        .layers
        .iter()
        .map(|(name, layer)| {
            let share = layer.per_million();
            let tries = format!("{} / {}", layer.done, layer.tries);
            vec![
                Text(name).to_string(),
                bar(share, 1_000_000, "landed"),
                tries,
                percent(share),
            ]
        })
        .collect();
    let all = report.compounded_per_million();
    rows.push(vec![
        "<b>all of them</b>".to_owned(),
        bar(all, 1_000_000, "verified"),
        String::new(),
        format!("<b>{}</b>", percent(all)),
    ]);
    let note = "<p class=\"dim\">Tries that ended well. The last row is the product: a chain of \
                one effect on each layer, without recovery.</p>\n";
    section(
        "First-try reliability",
        table(&["layer", "", "tries", "share"], &rows, 1) + note,
    )
}

fn faults(report: &Report) -> String {
    if report.faults.is_empty() {
        return section(
            "Injected faults",
            "<p class=\"dim\">None were injected.</p>\n",
        );
    }
    let row = |(kind, fault): (&String, &agent_orch::report::FaultTally)| {
        vec![
            format!("<code>{}</code>", Text(kind)),
            bar(fault.recovered, fault.injected, "landed"),
            fault.injected.to_string(),
            fault.recovered.to_string(),
        ]
    };
    let rows: Vec<_> = report.faults.iter().map(row).collect();
    let note =
        "<p class=\"dim\">Recovered: the task it hit was done and verified all the same.</p>\n";
    section(
        "Injected faults",
        table(&["kind", "", "injected", "recovered"], &rows, 1) + note,
    )
}

fn checks(page: &Page<'_>) -> String {
    let row = |row: &CheckRow| {
        let counts = [row.files, row.findings, row.fixed, row.landed];
        let name = format!("<code>{}</code>", Text(&row.check));
        [name]
            .into_iter()
            .chain(counts.iter().map(ToString::to_string))
            .collect::<Vec<_>>()
    };
    let rows: Vec<_> = page.checks.iter().map(row).collect();
    if rows.is_empty() {
        return section(
            "Findings",
            "<p class=\"dim\">No check reported anything.</p>\n",
        );
    }
    section(
        "Findings",
        table(&["check", "files", "findings", "fixed", "landed"], &rows, 1),
    )
}

fn evidence(page: &Page<'_>) -> String {
    let audit = match &page.audit {
        Ok(Audit { records, head, .. }) => format!(
            "<span class=\"good\">verified</span>, {records} records, head <code>{head}</code>"
        ),
        Err(why) => format!("<span class=\"bad\">not verified</span>: {}", Text(why)),
    };
    let command = match page.command {
        Some(command) => format!("<pre><code>{}</code></pre>\n", Text(command)),
        None => "<p class=\"dim\">Nothing landed: there is no branch to look at.</p>\n".to_owned(),
    };
    let facts = format!(
        "<dl><dt>audit chain</dt><dd>{audit}</dd><dt>run</dt><dd><code>{}</code></dd>\
         <dt>fleet</dt><dd><code>{}</code></dd><dt>durability</dt><dd>{}</dd></dl>\n",
        page.report.run,
        Text(page.fleet),
        Text(page.durability)
    );
    section("See the branch", command) + &section("Evidence", facts)
}

#[cfg(test)]
mod tests;
