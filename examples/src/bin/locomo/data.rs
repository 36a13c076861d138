//! Reads LoCoMo's file: conversations of two people over months, and questions whose answers lie in
//! turns that are named.

use std::collections::BTreeMap;

use agent_core::Timestamp;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// One conversation.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) id: String,
    pub(crate) turns: Vec<Turn>,
    pub(crate) questions: Vec<Question>,
}

/// What somebody said.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) speaker: String,
    /// What was said, with the speaker and the caption of a shared photo.
    pub(crate) text: String,
    /// Which of the conversation's sessions.
    pub(crate) session: u32,
    pub(crate) at: Timestamp,
}

/// A question and the turns that answer it, by place.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) text: String,
    /// 1 multi-hop, 2 temporal, 3 open-domain, 4 single-hop, 5 adversarial.
    pub(crate) category: u8,
    pub(crate) evidence: Vec<usize>,
}

#[derive(Deserialize)]
struct SampleText {
    sample_id: String,
    conversation: BTreeMap<String, Value>,
    qa: Vec<QuestionText>,
}

#[derive(Deserialize)]
struct QuestionText {
    question: String,
    category: u8,
    #[serde(default)]
    evidence: Vec<String>,
}

#[derive(Deserialize)]
struct TurnText {
    speaker: String,
    dia_id: String,
    text: String,
    blip_caption: Option<String>,
}

/// Reads all conversations.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample>> {
    let samples: Vec<SampleText> =
        serde_json::from_str(text).context("this is not a file of LoCoMo")?;
    samples.into_iter().map(sample).collect()
}

fn sample(text: SampleText) -> Result<Sample> {
    let mut sessions: Vec<u32> = text
        .conversation
        .keys()
        .filter_map(|key| key.strip_prefix("session_")?.parse().ok())
        .collect();
    sessions.sort_unstable();
    let (mut turns, mut places) = (Vec::new(), BTreeMap::new());
    for session in sessions {
        let key = format!("session_{session}");
        let date = text
            .conversation
            .get(&format!("{key}_date_time"))
            .and_then(Value::as_str);
        let at = moment(date.with_context(|| format!("{key} has no date"))?)?;
        let said = text.conversation.get(&key).cloned().unwrap_or_default();
        let said: Vec<TurnText> = serde_json::from_value(said)?;
        for turn in said {
            if let [place] = ids(&turn.dia_id).as_slice() {
                places.insert(*place, turns.len());
            }
            let photo = turn.blip_caption.map_or_else(String::new, |caption| {
                format!(" [shares a photo: {caption}]")
            });
            turns.push(Turn {
                text: format!("{}: {}{photo}", turn.speaker, turn.text),
                speaker: turn.speaker,
                session,
                at,
            });
        }
    }
    let question = |q: QuestionText| {
        let named = q.evidence.iter().flat_map(|text| ids(text));
        let mut evidence: Vec<usize> = named.filter_map(|id| places.get(&id).copied()).collect();
        evidence.sort_unstable();
        evidence.dedup();
        Question {
            text: q.question,
            category: q.category,
            evidence,
        }
    };
    Ok(Sample {
        id: text.sample_id,
        // A question whose evidence is not among the turns cannot be scored.
        questions: text
            .qa
            .into_iter()
            .map(question)
            .filter(|q| !q.evidence.is_empty())
            .collect(),
        turns,
    })
}

/// Reads `D8:6`, and what the file also has: several in one text, `D:11:26`, leading zeros.
fn ids(text: &str) -> Vec<(u32, u32)> {
    let id = |part: &str| {
        let (session, turn) = part.trim_start_matches(':').split_once(':')?;
        let digits = |text: &str| {
            text.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        };
        Some((digits(session).parse().ok()?, digits(turn).parse().ok()?))
    };
    text.split('D').filter_map(id).collect()
}

/// Reads `1:56 pm on 8 May, 2023`, as UTC; the hour does not matter here.
fn moment(text: &str) -> Result<Timestamp> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let date = text.split(" on ").nth(1).unwrap_or_default();
    let words: Vec<&str> = date.split([' ', ',']).filter(|w| !w.is_empty()).collect();
    let [day, month, year] = words.as_slice() else {
        bail!("`{text}` is not a date such as `1:56 pm on 8 May, 2023`");
    };
    let month = MONTHS.iter().position(|name| name == month);
    let month = month.with_context(|| format!("`{text}` names no month"))?;
    let month = u32::try_from(month)? + 1;
    let (day, year): (i64, i64) = (day.parse()?, year.parse()?);
    let noon_ms = |day_of_epoch: i64| day_of_epoch * 86_400_000 + 43_200_000;
    // Thirty-one days hold every month: look for the day whose date it is.
    let near = (year - 1_970) * 365 + i64::from(month - 1) * 28;
    (near..near + 120)
        .map(|day| Timestamp::from_unix_ms(noon_ms(day)))
        .find(|at| {
            let (y, m, d) = at.utc_date();
            (y, m, i64::from(d)) == (year, month, day)
        })
        .with_context(|| format!("`{text}` is no day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_read_as_it_stands_in_the_file() {
        assert_eq!(ids("D8:6; D9:17"), [(8, 6), (9, 17)]);
        assert_eq!(ids("D9:1 D4:04"), [(9, 1), (4, 4)]);
        assert_eq!(ids("D:11:26"), [(11, 26)]);
        assert!(ids("D").is_empty() && ids("").is_empty());
    }

    #[test]
    fn dates_are_read() {
        let at = moment("1:56 pm on 8 May, 2023").unwrap();
        assert_eq!(at.utc_date(), (2023, 5, 8));
        assert_eq!(
            moment("9:00 am on 31 December, 2024").unwrap().utc_date(),
            (2024, 12, 31)
        );
        assert!(moment("yesterday").is_err() && moment("1 pm on 31 June, 2023").is_err());
    }

    #[test]
    fn a_small_file_is_read() {
        let text = r#"[{"sample_id": "s", "conversation": {"session_2": [], "session_2_date_time":
            "1:00 pm on 2 May, 2023", "session_1": [{"speaker": "Ana", "dia_id": "D1:1", "text": "Hi",
            "blip_caption": "a cat"}], "session_1_date_time": "1:00 pm on 1 May, 2023"},
            "qa": [{"question": "Who?", "category": 4, "evidence": ["D1:1", "D7:7"]},
                   {"question": "No?", "category": 5, "evidence": []}]}]"#;
        let samples = parse(text).unwrap();
        assert_eq!(samples[0].turns[0].text, "Ana: Hi [shares a photo: a cat]");
        assert_eq!(samples[0].questions.len(), 1);
        assert_eq!(samples[0].questions[0].evidence, [0]);
        assert!(parse("{}").is_err());
    }
}
