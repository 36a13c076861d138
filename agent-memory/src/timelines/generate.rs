//! Timelines by seed, and what is to be believed.

use std::time::Duration;

use agent_core::{EntropyExt, SeededEntropy, Timestamp};

use super::phrases::{ATTRIBUTES, Attribute, CHAT};

/// When timelines begin: 2023-01-01.
const START: Timestamp = Timestamp::from_unix_ms(1_672_531_200_000);

/// How sentences are worded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// As a form would be filled in.
    Plain,
    /// As people might talk; the extractor's rules were widened on these.
    Varied,
    /// As people might talk, in words that no rule was made or changed after.
    Unseen,
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statement {
    /// Of which attribute; empty for small talk.
    pub attribute: String,
    /// Whether the attribute has many values at a time.
    pub is_many: bool,
    /// The value.
    pub value: String,
    /// Whether the value is said to be over.
    pub is_over: bool,
    /// When it was said.
    pub said_at: Timestamp,
    /// In which words.
    pub text: String,
}

impl Statement {
    pub(super) fn key(&self) -> String {
        if self.is_many {
            format!("{}={}", self.attribute, self.value.to_lowercase())
        } else {
            self.attribute.clone()
        }
    }
}

/// What was said, in the order it arrives, and what is erased at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeline {
    /// How it is worded.
    pub style: Style,
    /// The statements in the order they arrive.
    pub arriving: Vec<Statement>,
    /// A statement whose value is erased at the end.
    pub erased: Option<Statement>,
}

impl Timeline {
    /// Generates the timeline of a seed; even seeds are plain, odd ones varied.
    #[must_use]
    pub fn generate(seed: u64) -> Self {
        let style = if seed.is_multiple_of(2) {
            Style::Plain
        } else {
            Style::Varied
        };
        Self::generate_in(seed, style)
    }

    /// Generates the timeline of a seed in a style.
    #[must_use]
    pub fn generate_in(seed: u64, style: Style) -> Self {
        let dice = Dice(SeededEntropy::new(
            seed.wrapping_mul(2_654_435_761).wrapping_add(7),
        ));
        let attributes: Vec<&Attribute> = ATTRIBUTES.iter().filter(|_| dice.of(100) < 60).collect();
        let mut said: Vec<Statement> = Vec::new();
        let mut at = START;
        for _ in 0..12 + dice.of(8) {
            at = at.after(Duration::from_secs(86_400 * (1 + dice.of(20))));
            let statement = match dice.pick(&attributes) {
                Some(attribute) if dice.of(100) < 92 => dice.statement(attribute, &said, style, at),
                _ => dice.chat(at),
            };
            said.push(statement);
        }
        let erased = said
            .iter()
            .rfind(|statement| !statement.is_over && !statement.attribute.is_empty())
            .filter(|_| dice.of(100) < 25)
            .cloned();
        Self {
            style,
            arriving: dice.delayed(said),
            erased,
        }
    }

    /// What a slot holds at a moment: the value said last by then, unless it was said to be over
    /// or erased.
    pub(super) fn expected(&self, key: &str, at: Timestamp) -> Option<String> {
        let mut said: Vec<&Statement> = self
            .arriving
            .iter()
            .filter(|statement| statement.key() == key && statement.said_at <= at)
            .collect();
        said.sort_by_key(|statement| statement.said_at);
        let mut held: Option<&str> = None;
        for statement in said {
            if !statement.is_over {
                held = Some(&statement.value);
            } else if held == Some(&statement.value) {
                held = None;
            }
        }
        let is_erased = |value: &&str| {
            let erased = self.erased.as_ref();
            erased.is_some_and(|erased| erased.key() == key && erased.value == **value)
        };
        held.filter(|value| !is_erased(value))
            .map(str::to_lowercase)
    }

    pub(super) fn was_said(&self, key: &str, value: &str) -> bool {
        let mut all = self.arriving.iter();
        all.any(|statement| statement.key() == key && statement.value.to_lowercase() == value)
    }
}

struct Dice(SeededEntropy);

impl Dice {
    fn of(&self, n: u64) -> u64 {
        self.0.next_u64() % n.max(1)
    }

    fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let n = u64::try_from(of.len()).unwrap_or(1);
        of.get(usize::try_from(self.of(n)).unwrap_or(0))
    }

    fn chat(&self, at: Timestamp) -> Statement {
        Statement {
            attribute: String::new(),
            is_many: false,
            value: String::new(),
            is_over: false,
            said_at: at,
            text: (*self.pick(CHAT).unwrap_or(&"ok")).to_owned(),
        }
    }

    fn statement(
        &self,
        attribute: &Attribute,
        before: &[Statement],
        style: Style,
        at: Timestamp,
    ) -> Statement {
        let mut of_it = before.iter().filter(|s| s.attribute == attribute.name);
        let last = of_it.next_back().filter(|last| !last.is_over);
        let luck = self.of(100);
        let (value, is_over) = match last {
            Some(last) if luck < 16 => (last.value.clone(), false),
            Some(last) if luck < 32 && attribute.can_end() => (last.value.clone(), true),
            _ => {
                let others: Vec<&&str> = attribute
                    .values
                    .iter()
                    .filter(|value| last.is_none_or(|last| last.value != ***value))
                    .collect();
                let value = self.pick(&others).map_or("x", |value| value);
                (value.to_owned(), false)
            }
        };
        let phrases = attribute.phrases(style, &value, is_over);
        let phrase = self.pick(phrases).copied().unwrap_or("{v}");
        Statement {
            attribute: attribute.name.to_owned(),
            is_many: attribute.is_many,
            is_over,
            said_at: at,
            text: phrase.replace("{v}", &value),
            value,
        }
    }

    /// Lets some statements arrive later, but for ends, and never behind an end of their slot: an
    /// end acts on what is known when it arrives.
    fn delayed(&self, said: Vec<Statement>) -> Vec<Statement> {
        let mut arriving = said;
        let mut n = 0;
        while n < arriving.len() {
            let n_places = if self.of(100) < 18 { 1 + self.of(3) } else { 0 };
            for step in 0..n_places {
                let place = n + usize::try_from(step).unwrap_or(0);
                let [Some(moved), Some(next)] = [arriving.get(place), arriving.get(place + 1)]
                else {
                    break;
                };
                let is_bound = moved.is_over || next.is_over && next.key() == moved.key();
                if is_bound {
                    break;
                }
                arriving.swap(place, place + 1);
            }
            n += 1;
        }
        arriving
    }
}
