//! The charts, drawn in whole numbers so that no value can be not a number.

use std::fmt::{self, Display};

use agent_orch::report::Slot;

/// The height of a chart in its own units.
const HEIGHT: u64 = 1_000;
/// The top part of the timeline, where failures are marked.
const MARKS: u64 = 120;
/// The width of one slot in the chart's units, with the gap between two.
const SLOT: u64 = 10;
/// The most characters of one text; what is longer is somebody's attempt to fill the page.
const TEXT_CHARS_MAX: usize = 400;

/// Text from outside, written so that it is text wherever it stands in the page.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(TEXT_CHARS_MAX) {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Marks that reorder or hide what follows are shown instead of obeyed.
                c if c.is_control() || is_invisible(c) => write!(f, "{}", c.escape_unicode())?,
                c => write!(f, "{c}")?,
            }
        }
        if chars.next().is_some() {
            f.write_str("…")
        } else {
            Ok(())
        }
    }
}

const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Draws a bar of `part` out of `whole`; nothing is drawn of nothing.
pub(crate) fn bar(part: u64, whole: u64, class: &str) -> String {
    let width = scaled(part.min(whole), whole, HEIGHT);
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 {HEIGHT} 10\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\"><rect class=\"track\" width=\"{HEIGHT}\" height=\"10\"/>\
         <rect class=\"{class}\" width=\"{width}\" height=\"10\"/></svg>"
    )
}

/// Draws the square of a legend.
pub(crate) fn square(class: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 1 1\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"1\" \
         height=\"1\"/></svg>"
    )
}

/// Returns the number of events in the fullest slot, failures aside.
pub(crate) fn fullest(slots: &[Slot]) -> u64 {
    slots.iter().map(stacked).max().unwrap_or(0)
}

const fn stacked(slot: &Slot) -> u64 {
    slot.done
        .saturating_add(slot.verified)
        .saturating_add(slot.landed)
}

/// Draws the timeline: a stacked column for each slot, a mark above it where tries failed.
pub(crate) fn timeline(slots: &[Slot], summary: &str) -> String {
    let n = u64::try_from(slots.len()).unwrap_or(u64::MAX).max(1);
    let width = n.saturating_mul(SLOT);
    let most = fullest(slots);
    let most_failed = slots.iter().map(|slot| slot.failed).max().unwrap_or(0);
    let mut svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-labelledby=\"tl-title tl-desc\"><title id=\"tl-title\">Work over time\
         </title><desc id=\"tl-desc\">{}</desc>",
        Text(summary)
    );
    for (slot, n) in slots.iter().zip(0_u64..) {
        let (x, mut y) = (n.saturating_mul(SLOT), HEIGHT);
        for (count, class) in [
            (slot.landed, "landed"),
            (slot.verified, "verified"),
            (slot.done, "done"),
        ] {
            let height = scaled(count, most, HEIGHT - MARKS);
            y = y.saturating_sub(height);
            svg += &column(x, y, height, class);
        }
        if slot.failed > 0 {
            // At least a third of the band: a single failure must be seen.
            let height = (MARKS / 3).max(scaled(slot.failed, most_failed, MARKS - 20));
            svg += &column(x, 0, height, "failed");
        }
    }
    svg + "</svg>"
}

fn column(x: u64, y: u64, height: u64, class: &str) -> String {
    if height == 0 {
        return String::new();
    }
    let width = SLOT - 2;
    format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>")
}

/// Scales `part` of `whole` to `length`, 0 if there is no whole.
fn scaled(part: u64, whole: u64, length: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(length);
    scaled
        .checked_div(u128::from(whole))
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(0)
}
