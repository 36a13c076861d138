//! Dates said in English, resolved against the moment they were said at: "last Saturday", "two
//! weeks ago", "in May 2023". Everything is UTC.

use agent_core::Timestamp;

use super::calendar::{
    DAY_MS, Days, civil, day_number, days_from, month_days, month_number, one, season, year_days,
    year_number,
};
use super::is_month;

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
];
/// The largest number of units that is taken for a date: beyond it the text means something else.
const UNITS_MAX: i64 = 1_000;

/// A stretch of time that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) from: Timestamp,
    /// Exclusive.
    pub(crate) to: Timestamp,
}

/// Which words named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) first: usize,
    /// Exclusive.
    pub(crate) end: usize,
    pub(crate) interval: Interval,
}

/// Finds the dates in lower-case words; they do not overlap and are in their order.
pub(crate) fn dates(words: &[&str], said_at: Timestamp) -> Vec<Named> {
    let reader = Reader {
        words,
        today: said_at.as_unix_ms().div_euclid(DAY_MS),
    };
    let mut found = Vec::new();
    let mut n = 0;
    while n < words.len() {
        let Some((end, days)) = reader.at(n) else {
            n += 1;
            continue;
        };
        found.push(Named {
            first: n,
            end,
            interval: interval(days),
        });
        n = end.max(n + 1);
    }
    found
}

fn interval((from, to): Days) -> Interval {
    let ms = |day: i64| Timestamp::from_unix_ms(day.saturating_mul(DAY_MS));
    Interval {
        from: ms(from),
        to: ms(to),
    }
}

struct Reader<'a> {
    words: &'a [&'a str],
    today: i64,
}

impl Reader<'_> {
    fn word(&self, n: usize) -> &str {
        self.words.get(n).copied().unwrap_or_default()
    }

    /// Reads the date that begins at a word.
    fn at(&self, n: usize) -> Option<(usize, Days)> {
        self.named_day(n)
            .or_else(|| self.ago(n))
            .or_else(|| self.which(n))
            .or_else(|| self.month(n))
            .or_else(|| self.iso(n))
            .or_else(|| self.season_or_year(n))
    }

    fn named_day(&self, n: usize) -> Option<(usize, Days)> {
        let day = |end, offset: i64| Some((end, one(self.today + offset)));
        match (self.word(n), self.word(n + 1), self.word(n + 2)) {
            ("the", "day", "before") if self.word(n + 3) == "yesterday" => day(n + 4, -2),
            ("the", "day", "after") if self.word(n + 3) == "tomorrow" => day(n + 4, 2),
            ("last", "night", _) => day(n + 2, -1),
            ("this", "morning" | "afternoon" | "evening", _) => day(n + 2, 0),
            ("today" | "tonight", ..) => day(n + 1, 0),
            ("yesterday", ..) => day(n + 1, -1),
            ("tomorrow", ..) => day(n + 1, 1),
            _ => None,
        }
    }

    /// "two weeks ago", "a month from now", "in three days".
    fn ago(&self, n: usize) -> Option<(usize, Days)> {
        let is_in = self.word(n) == "in";
        let start = n + usize::from(is_in);
        let (count, after) = self.count(start)?;
        let unit = self.word(after);
        let (end, sign) = match (self.word(after + 1), self.word(after + 2)) {
            ("ago" | "back" | "earlier", _) if !is_in => (after + 2, -1),
            ("from", "now") => (after + 3, 1),
            _ if is_in => (after + 1, 1),
            _ => return None,
        };
        let moved = count * sign;
        let days = match unit {
            "day" | "days" => one(self.today + moved),
            // Said in weeks, it is meant to about three days.
            "week" | "weeks" => (self.today + 7 * moved - 3, self.today + 7 * moved + 4),
            "month" | "months" => {
                let (year, month, _) = civil(self.today);
                month_days(year, month + moved)
            }
            "year" | "years" => year_days(civil(self.today).0 + moved),
            "decade" | "decades" => {
                let year = civil(self.today).0 + 10 * moved;
                (days_from(year - 1, 1, 1), days_from(year + 2, 1, 1))
            }
            _ => return None,
        };
        Some((end, days))
    }

    /// A number of units, and the word behind it.
    fn count(&self, n: usize) -> Option<(i64, usize)> {
        let word = self.word(n);
        if matches!(word, "a" | "an") {
            return match (self.word(n + 1), self.word(n + 2)) {
                ("couple", "of") => Some((2, n + 3)),
                ("couple", _) => Some((2, n + 2)),
                ("few", _) => Some((3, n + 2)),
                _ => Some((1, n + 1)),
            };
        }
        let by_name = (0..).zip(NUMBERS).find(|(_, name)| *name == word);
        let number = by_name.map(|(n, _)| n).or_else(|| word.parse().ok())?;
        (0..=UNITS_MAX).contains(&number).then_some((number, n + 1))
    }

    /// "last Saturday", "next month", "this summer", "on Monday".
    fn which(&self, n: usize) -> Option<(usize, Days)> {
        let (step, start) = match self.word(n) {
            "last" | "past" | "previous" => (-1, n + 1),
            "next" | "coming" => (1, n + 1),
            "this" => (0, n + 1),
            "on" => (-2, n + 1),
            _ => return None,
        };
        let unit = self.word(start);
        let end = start + 1;
        if let Some(weekday) = (0..).zip(WEEKDAYS).find(|(_, name)| *name == unit) {
            return Some((end, one(self.weekday(step, weekday.0))));
        }
        if step == -2 {
            return None;
        }
        let (year, month, _) = civil(self.today);
        let monday = self.today - (self.today + 3).rem_euclid(7);
        let days = match unit {
            "week" => (monday + 7 * step, monday + 7 * step + 7),
            "weekend" => (monday + 7 * step + 5, monday + 7 * step + 7),
            "month" => month_days(year, month + step),
            "year" => year_days(year + step),
            _ => return self.which_season(end, step, unit),
        };
        Some((end, days))
    }

    /// The weekday before today, after it, or of this week.
    const fn weekday(&self, step: i64, weekday: i64) -> i64 {
        let today = (self.today + 3).rem_euclid(7);
        match step {
            1 => {
                let ahead = (weekday - today).rem_euclid(7);
                self.today + if ahead == 0 { 7 } else { ahead }
            }
            0 => self.today - today + weekday,
            _ => {
                let back = (today - weekday).rem_euclid(7);
                self.today - if back == 0 && step == -1 { 7 } else { back }
            }
        }
    }

    fn which_season(&self, end: usize, step: i64, unit: &str) -> Option<(usize, Days)> {
        let year = civil(self.today).0;
        let span = |year| {
            season(unit, year).or_else(|| {
                let month = month_number(unit)?;
                Some(month_days(year, month))
            })
        };
        let this = span(year)?;
        // "last summer" said in autumn is this year's, said in spring the one of the year before.
        let year = match step {
            -1 if this.1 > self.today => year - 1,
            1 if this.0 <= self.today => year + 1,
            _ => year,
        };
        Some((end, span(year)?))
    }

    /// "May 2023", "8 May", "May 8th, 2023", "in May".
    fn month(&self, n: usize) -> Option<(usize, Days)> {
        let start = n + usize::from(matches!(self.word(n), "in" | "since" | "on"));
        let start = start + usize::from(start > n && self.word(start) == "the");
        if let Some(day) = day_number(self.word(start)) {
            let month = start + 1 + usize::from(self.word(start + 1) == "of");
            let number = month_number(self.word(month))?;
            return Some(self.with_year(month + 1, number, Some(day)));
        }
        let number = month_number(self.word(start))?;
        let before = start.checked_sub(1).and_then(|n| self.words.get(n));
        let [before, after] =
            [before, self.words.get(start + 1)].map(|w| w.map(|w| (*w).to_owned()));
        if matches!(self.word(start), "may" | "march" | "mar")
            && !is_month(before.as_ref(), after.as_ref())
        {
            return None;
        }
        let day = day_number(self.word(start + 1));
        let end = start + 1 + usize::from(day.is_some());
        Some(self.with_year(end, number, day))
    }

    /// Completes a month by the year that follows, or by the last one in which it had begun.
    fn with_year(&self, end: usize, month: i64, day: Option<i64>) -> (usize, Days) {
        let after = end + usize::from(matches!(self.word(end), "," | "of"));
        let span = |year| match day {
            Some(day) => one(days_from(year, month, day)),
            None => month_days(year, month),
        };
        if let Some(year) = year_number(self.word(after)) {
            return (after + 1, span(year));
        }
        let year = civil(self.today).0;
        let this = span(year);
        let year = if this.0 > self.today { year - 1 } else { year };
        (end, span(year))
    }

    /// `2023-05-08`, `2023-05`.
    fn iso(&self, n: usize) -> Option<(usize, Days)> {
        let mut parts = self.word(n).split('-');
        let year = year_number(parts.next()?)?;
        let month = parts.next().filter(|part| part.len() == 2)?;
        let month = month.parse().ok().filter(|m| (1..=12).contains(m))?;
        let Some(day) = parts.next() else {
            return Some((n + 1, month_days(year, month)));
        };
        let is_last = parts.next().is_none() && day.len() == 2;
        let day = day.parse().ok().filter(|d| (1..=31).contains(d))?;
        is_last.then(|| (n + 1, one(days_from(year, month, day))))
    }

    /// "in 2019", "since 2019", "in the summer of 2021".
    fn season_or_year(&self, n: usize) -> Option<(usize, Days)> {
        if !matches!(self.word(n), "in" | "since" | "during" | "until") {
            return None;
        }
        let start = n + 1 + usize::from(self.word(n + 1) == "the");
        if let Some(year) = year_number(self.word(start)) {
            return Some((start + 1, year_days(year)));
        }
        let after = start + 1 + usize::from(self.word(start + 1) == "of");
        let year = year_number(self.word(after))?;
        Some((after + 1, season(self.word(start), year)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wednesday, 25 October 2023.
    const SAID: Timestamp = Timestamp::from_unix_ms(1_698_224_400_000);

    fn read(text: &str) -> Option<String> {
        let words: Vec<&str> = text.split(' ').collect();
        let found = dates(&words, SAID);
        let date = |at: Timestamp| at.to_string().get(..10).map(str::to_owned);
        let first = found.first()?;
        Some(format!(
            "{}..{}",
            date(first.interval.from)?,
            date(first.interval.to)?
        ))
    }

    #[test]
    fn named_dates_are_resolved_against_the_moment_they_were_said() {
        for (text, wanted) in [
            ("i ran yesterday", "2023-10-24..2023-10-25"),
            ("the day before yesterday", "2023-10-23..2023-10-24"),
            ("last saturday", "2023-10-21..2023-10-22"),
            ("last wednesday", "2023-10-18..2023-10-19"),
            ("on wednesday", "2023-10-25..2023-10-26"),
            ("next monday", "2023-10-30..2023-10-31"),
            ("last week", "2023-10-16..2023-10-23"),
            ("last weekend", "2023-10-21..2023-10-23"),
            ("next month", "2023-11-01..2023-12-01"),
            ("last year", "2022-01-01..2023-01-01"),
            ("two days ago", "2023-10-23..2023-10-24"),
            ("10 months ago", "2022-12-01..2023-01-01"),
            ("a couple of years ago", "2021-01-01..2022-01-01"),
            ("in three days", "2023-10-28..2023-10-29"),
            ("in may 2023", "2023-05-01..2023-06-01"),
            ("in may", "2023-05-01..2023-06-01"),
            ("in december", "2022-12-01..2023-01-01"),
            ("8 may , 2023", "2023-05-08..2023-05-09"),
            ("may 8th", "2023-05-08..2023-05-09"),
            ("8th of may 2021", "2021-05-08..2021-05-09"),
            ("2023-05-08", "2023-05-08..2023-05-09"),
            ("since 2019", "2019-01-01..2020-01-01"),
            ("last summer", "2023-06-01..2023-09-01"),
            ("last winter", "2022-12-01..2023-03-01"),
            ("last june", "2023-06-01..2023-07-01"),
            ("in the summer of 2021", "2021-06-01..2021-09-01"),
            ("feb 29 2024", "2024-02-29..2024-03-01"),
        ] {
            assert_eq!(read(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn other_words_are_no_dates() {
        for text in [
            "you may go",
            "they march on",
            "a week",
            "in a minute",
            "99999999999 days ago",
            "room 2023",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
