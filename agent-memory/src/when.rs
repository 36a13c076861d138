//! Months and years that a question names in English or as `2023-05`, and dates that a statement names.

mod calendar;
mod relative;

use agent_core::Timestamp;

pub(crate) use calendar::days_from;
pub(crate) use relative::{Named, dates};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// Words before "may" or "march" that make a month of them, where no number follows.
const BEFORE_MONTH: &[&str] = &[
    "after", "before", "by", "during", "early", "end", "in", "last", "late", "mid", "next", "of",
    "since", "this", "until",
];
/// The years a bare number may mean.
const YEARS: std::ops::RangeInclusive<i64> = 1_900..=2_199;

/// The months and years a question names; names none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    months: Vec<u32>,
    years: Vec<i64>,
}

impl Asked {
    /// Reads a question.
    pub(crate) fn of(question: &str) -> Self {
        let mut asked = Self::default();
        let words: Vec<String> = question
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        for (n, word) in words.iter().enumerate() {
            let before = n.checked_sub(1).and_then(|n| words.get(n));
            let after = words.get(n + 1);
            if let Some(year) = word.parse().ok().filter(|year| YEARS.contains(year)) {
                asked.years.push(year);
                asked.months.extend(after.and_then(|word| numbered(word)));
            }
            let named = (1..).zip(MONTHS).find(|(_, name)| name == word);
            if let Some((month, name)) = named
                && (!matches!(name, "may" | "march") || is_month(before, after))
            {
                asked.months.push(month);
            }
        }
        asked
    }

    /// Whether something that happened at `at` (UTC) fits a month or year that was named.
    pub(crate) fn fits(&self, at: Timestamp) -> bool {
        if self.months.is_empty() && self.years.is_empty() {
            return false;
        }
        let (year, month, _) = at.utc_date();
        (self.months.is_empty() || self.months.contains(&month))
            && (self.years.is_empty() || self.years.contains(&year))
    }
}

/// Reads the month of `2023-05`: two digits.
fn numbered(word: &str) -> Option<u32> {
    let month = word.parse().ok().filter(|month| (1..=12).contains(month));
    month.filter(|_| word.len() == 2)
}

/// Whether "may" or "march" between these words is a month.
fn is_month(before: Option<&String>, after: Option<&String>) -> bool {
    let starts_with_digit = |word: &String| word.starts_with(|c: char| c.is_ascii_digit());
    after.is_some_and(starts_with_digit)
        || before.is_some_and(|word| {
            starts_with_digit(word) || BEFORE_MONTH.binary_search(&word.as_str()).is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8 May 2023.
    const MAY: Timestamp = Timestamp::from_unix_ms(1_683_504_000_000);

    #[test]
    fn months_and_years_are_read() {
        for question in [
            "What did Ana do in May 2023?",
            "Where was she on 8 May, 2023?",
            "What happened in 2023-05?",
            "Who came in 2023?",
            "What did she paint in May?",
        ] {
            assert!(Asked::of(question).fits(MAY), "{question}");
        }
        for question in [
            "What did Ana do in June 2023?",
            "What happened in 2022-05?",
            "What may she do next?",
            "Did they march against it?",
            "What is it?",
            "",
        ] {
            assert!(!Asked::of(question).fits(MAY), "{question}");
        }
    }

    #[test]
    fn the_words_before_a_month_are_sorted_for_the_search() {
        assert!(BEFORE_MONTH.is_sorted());
    }
}
