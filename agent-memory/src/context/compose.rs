//! The text of a context from what was recalled. Pure.

use std::collections::BTreeSet;

use super::{Context, CountTokens, Item, LeftOut, Why};
use crate::memory::{Memory, Trust};
use crate::recall::Order;
use crate::safety::{QUOTE_NOTE, quote_text};
use crate::terms::for_each_term;

const KNOWN: &str = "What is known:";
const RECALLED: &str = "What may matter here:";
/// How alike the words of two memories must be for one to repeat the other, in percent of all
/// their words.
const ALIKE_PERCENT: usize = 90;
/// How much of a channel's name is shown, in characters.
const CHANNEL_CHARS: usize = 32;

/// How many tokens there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) whole: usize,
    pub(super) profile: usize,
}

/// A memory that is shown, with its rank and words.
struct Chosen {
    item: Item,
    rank: usize,
    words: BTreeSet<String>,
}

/// Chooses what is shown.
struct Chooser<'a> {
    counter: &'a dyn CountTokens,
    chosen: Vec<Chosen>,
    left_out: Vec<LeftOut>,
    tokens: usize,
}

/// Composes a context: the profile, then of what was recalled, best first, whatever
/// fits.
pub(super) fn compose(
    mut profile: Vec<Memory>,
    recalled: Vec<(Memory, f32)>,
    budget: Budget,
    counter: &dyn CountTokens,
) -> Context {
    let mut chooser = Chooser {
        counter,
        chosen: Vec::new(),
        left_out: Vec::new(),
        tokens: counter
            .count(QUOTE_NOTE)
            .saturating_add(counter.count(KNOWN)),
    };
    // In the order in which they came, so that the next one changes nothing before it.
    profile.sort_by_key(|memory| (memory.recorded_at, memory.id));
    let mut rank = 0;
    for memory in profile {
        chooser.offer(memory, None, rank, budget.profile);
        rank += 1;
    }
    let n_profile = chooser.chosen.len();
    if n_profile == 0 {
        chooser.tokens = counter.count(QUOTE_NOTE);
    }
    chooser.tokens = chooser.tokens.saturating_add(counter.count(RECALLED));
    for (memory, score) in recalled {
        chooser.offer(memory, Some(score), rank, budget.whole);
        rank += 1;
    }
    let Chooser {
        mut chosen,
        mut left_out,
        ..
    } = chooser;
    if let Some(recalled) = chosen.get_mut(n_profile..) {
        recalled.sort_by_key(|one| (one.item.memory.occurred_at, one.item.memory.id));
    }
    loop {
        let (text, prefix_bytes) = render(&chosen);
        let tokens = counter.count(&text);
        if tokens <= budget.whole || chosen.is_empty() {
            let items = chosen.into_iter().map(|one| one.item).collect();
            return Context {
                text,
                prefix_bytes,
                tokens,
                items,
                left_out,
                order: Order::OfSearch,
            };
        }
        // A counter need not count a whole as its parts; then the last in rank go.
        let last = chosen.iter().enumerate().max_by_key(|(_, one)| one.rank);
        let Some(place) = last.map(|(place, _)| place) else {
            continue;
        };
        let gone = chosen.remove(place);
        let (id, tokens) = (gone.item.memory.id, gone.item.tokens);
        let why = Why::Budget { tokens };
        left_out.push(LeftOut { id, why });
    }
}

impl Chooser<'_> {
    fn offer(&mut self, memory: Memory, score: Option<f32>, rank: usize, budget: usize) {
        let id = memory.id;
        if self.chosen.iter().any(|one| one.item.memory.id == id) {
            return;
        }
        // One of the profile that found no place there may find one as what was recalled.
        self.left_out.retain(|left| left.id != id);
        let words = words(&memory.text);
        if let Some(why) = self
            .chosen
            .iter()
            .find_map(|one| says(one, &memory, &words))
        {
            self.left_out.push(LeftOut { id, why });
            return;
        }
        // The number is not known yet; two digits are what most contexts have.
        let tokens = self.counter.count(&show(99, &memory));
        if self.tokens.saturating_add(tokens) > budget {
            let why = Why::Budget { tokens };
            self.left_out.push(LeftOut { id, why });
            return;
        }
        self.tokens = self.tokens.saturating_add(tokens);
        let item = Item {
            memory,
            score,
            tokens,
        };
        self.chosen.push(Chosen { item, rank, words });
    }
}

fn words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for_each_term(text, |word| {
        words.insert(word.to_owned());
    });
    words
}

/// Returns why a memory need not be shown beside one that is.
fn says(one: &Chosen, memory: &Memory, words: &BTreeSet<String>) -> Option<Why> {
    let shown = &one.item.memory;
    let both = one.words.intersection(words).count();
    let all = one.words.union(words).count();
    let is_alike = if all == 0 {
        shown.text == memory.text
    } else {
        both.saturating_mul(100) >= all.saturating_mul(ALIKE_PERCENT)
    };
    if is_alike {
        return Some(Why::Repeats(shown.id));
    }
    // The other way round something would be lost: a source may say more than its record.
    let restates = memory.provenance.sources == [shown.id];
    restates.then_some(Why::Restates(shown.id))
}

/// Renders what is shown; returns the text and how much of it the profile makes.
fn render(chosen: &[Chosen]) -> (String, usize) {
    let mut text = String::new();
    let Some(first) = chosen.first() else {
        return (text, 0);
    };
    text.push_str(QUOTE_NOTE);
    text.push('\n');
    if first.item.score.is_none() {
        text.push_str(KNOWN);
        text.push('\n');
    }
    let mut prefix_bytes = text.len();
    let mut is_recalled = false;
    for (place, one) in chosen.iter().enumerate() {
        if one.item.score.is_some() && !is_recalled {
            is_recalled = true;
            text.push_str(RECALLED);
            text.push('\n');
        }
        text.push_str(&show(place + 1, &one.item.memory));
        if !is_recalled {
            prefix_bytes = text.len();
        }
    }
    (text, prefix_bytes)
}

/// Shows a memory under a number: its date (UTC), who said it by which way, how far that is trusted,
/// and the text, quoted.
fn show(number: usize, memory: &Memory) -> String {
    let (year, month, day) = memory.occurred_at.utc_date();
    let from = &memory.provenance;
    let trust = match from.trust {
        Trust::Untrusted => ", untrusted",
        Trust::Normal => "",
        Trust::Verified => ", verified",
    };
    let channel = from.channel.as_deref().map(plain).unwrap_or_default();
    let via = if channel.is_empty() {
        String::new()
    } else {
        format!(" via {channel}")
    };
    let who = plain(from.actor.as_str());
    let text = quote_text(&memory.text);
    format!("[{number}] {year:04}-{month:02}-{day:02}, {who}{via}{trust}\n{text}\n")
}

/// A name without what could be taken for something else.
fn plain(name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || ":._-/@ ".contains(*c);
    name.chars().filter(is_plain).take(CHANNEL_CHARS).collect()
}
