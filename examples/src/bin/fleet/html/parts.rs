//! The parts pages are made of: sections, tables, figures.

use std::fmt::Display;
use std::time::Duration;

/// Writes a section; the body is HTML already.
pub(super) fn section(name: &str, body: impl Display) -> String {
    format!("<section>\n<h2>{name}</h2>\n{body}</section>\n")
}

/// Writes a table; the cells are HTML already.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>], n_text: usize) -> String {
    let class = |n: usize| match () {
        () if heads.get(n) == Some(&"") => " class=\"wide\"",
        () if n >= n_text => " class=\"n\"",
        () => "",
    };
    let mut html = "<div class=\"scroll\"><table>\n<thead><tr>".to_owned();
    for (n, head) in heads.iter().enumerate() {
        html += &if head.is_empty() {
            "<td class=\"wide\"></td>".to_owned()
        } else {
            format!("<th scope=\"col\"{}>{head}</th>", class(n))
        };
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        html += "<tr>";
        for (n, cell) in row.iter().enumerate() {
            html += &match n {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td{}>{cell}</td>", class(n)),
            };
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

/// Writes millionths as a percentage with two decimals.
pub(super) fn percent(per_million: u64) -> String {
    format!(
        "{}.{:02} %",
        per_million / 10_000,
        per_million % 10_000 / 100
    )
}

/// Writes a length of time as people say it.
pub(super) fn lasted(time: Duration) -> String {
    let (s, ms) = (time.as_secs(), time.subsec_millis());
    match (s / 3_600, s / 60 % 60) {
        (0, 0) => format!("{s}.{ms:03} s"),
        (0, minutes) => format!("{minutes} min {} s", s % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
