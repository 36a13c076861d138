//! One sentence against the rules.

use super::dated;
use super::lexicon::{ADVERBS, OPENINGS, SUBJECTLESS, UNREAL};
use super::pattern::{Matcher, Taken};
use super::reword::{Mood, reworded};
use super::rules::{Makes, RULES, Rule};
use super::value::{self, Bound};
use super::words::Sentence;
use super::{Candidate, Cardinality, Claim, Slot, Utterance, normalized};
use crate::memory::Kind;
use crate::when::{Named, dates};

/// The most words of an attribute that is to be forgotten.
const NAME_WORDS_MAX: usize = 3;

/// Reads the sentences of one utterance.
pub(super) struct Reader<'a> {
    said: &'a Utterance,
    speaker: String,
}

impl<'a> Reader<'a> {
    /// None if the speaker's name cannot be a subject.
    pub(super) fn new(said: &'a Utterance) -> Option<Self> {
        let slot = Slot::new(&said.speaker, "x").ok()?;
        Some(Self {
            said,
            speaker: slot.subject,
        })
    }

    pub(super) fn read(&self, sentence: &Sentence) -> Vec<Candidate> {
        if sentence.is_question {
            return Vec::new();
        }
        let dates = dates(&sentence.lower(), self.said.said_at);
        let mut found = Vec::new();
        let mut carried = None;
        for start in clauses(sentence) {
            let (clause, mood, start) = reworded(sentence, start);
            if is_unreal(&clause, start) {
                continue;
            }
            let named = if clause.words.len() == sentence.words.len() {
                dates.clone()
            } else {
                crate::when::dates(&clause.lower(), self.said.said_at)
            };
            let matched = RULES.iter().find_map(|rule| {
                self.claims(rule, &clause, &named, (start, mood, carried.as_deref()))
            });
            if let Some((subject, claims)) = matched {
                carried = subject;
                found.extend(claims);
            }
        }
        if found.is_empty() {
            found.extend(self.forgets(sentence));
        }
        if found.is_empty() {
            found.extend(dated::note(self.said, sentence, &dates));
        }
        for candidate in &mut found {
            self.finish(candidate, sentence, &dates);
        }
        found
    }

    fn finish(&self, candidate: &mut Candidate, sentence: &Sentence, dates: &[Named]) {
        candidate.text = format!("{}: {}", self.said.speaker, sentence.text);
        candidate.evidence = self.said.event.into_iter().collect();
        candidate.channel.clone_from(&self.said.channel);
        candidate.trust = self.said.trust;
        candidate.entities = dated::entities(&self.said.speaker, sentence);
        if candidate.claim != Claim::Note {
            candidate.from = dated::holds_from(self.said.said_at, sentence, dates);
        }
    }

    /// "Forget my address", "forget where I live".
    fn forgets(&self, sentence: &Sentence) -> Option<Candidate> {
        let lower = sentence.lower();
        let at = lower.iter().position(|word| *word == "forget")?;
        if lower
            .get(..at)?
            .iter()
            .any(|word| *word == "not" || *word == "never")
        {
            return None;
        }
        let mut rest = lower.get(at + 1..)?;
        while let Some((
            "about" | "that" | "what" | "i" | "said" | "told" | "you" | "everything" | "whatever",
            more,
        )) = rest.split_first().map(|(first, more)| (*first, more))
        {
            rest = more;
        }
        let attribute = match rest {
            ["where", "i", "live", ..] => "home".to_owned(),
            ["where", "i", "work", ..] => "employer".to_owned(),
            ["my" | "our", named @ ..] => {
                let n = named
                    .iter()
                    .take_while(|word| word.chars().any(char::is_alphanumeric))
                    .count();
                named.get(..n.min(NAME_WORDS_MAX))?.join(" ")
            }
            _ => return None,
        };
        let slot = Slot::new(&self.speaker, &attribute).ok()?;
        Some(Candidate::is_not(slot, None, self.said.said_at))
    }

    /// What the clause claims by a rule, and about whom. None if the rule does not fit.
    fn claims(
        &self,
        rule: &Rule,
        clause: &Sentence,
        dates: &[Named],
        (start, mood, carried): (usize, Mood, Option<&str>),
    ) -> Option<(Option<String>, Vec<Candidate>)> {
        let bound = match rule.makes {
            Makes::Likes(_)
            | Makes::Indifferent
            | Makes::Fact("hobby" | "learning" | "uses" | "owns", _) => Bound::Loose,
            Makes::Fact(_, Cardinality::Many) => Bound::List,
            _ => Bound::Tight,
        };
        let parts: Vec<&str> = rule.pattern.split(' ').collect();
        let matcher = Matcher {
            speaker: &self.speaker,
            clause,
            dates,
            bound,
        };
        let taken = matcher.fit(&parts, start, Taken::default()).or_else(|| {
            let (first, rest) = parts.split_first()?;
            let word = clause.words.get(start).map(|word| word.lower.as_str());
            let is_left_out = word.is_some_and(|word| SUBJECTLESS.contains(&word));
            let implied = carried.or(is_left_out.then_some(self.speaker.as_str()));
            let subject = implied.filter(|_| *first == "S")?.to_owned();
            let taken = Taken {
                subject: Some(subject),
                ..Taken::default()
            };
            matcher.fit(rest, start, taken)
        })?;
        let subject = taken.subject.clone();
        let claims = self.made(rule.makes, clause, &taken, mood)?;
        Some((subject, claims))
    }

    fn made(
        &self,
        makes: Makes,
        clause: &Sentence,
        taken: &Taken,
        mood: Mood,
    ) -> Option<Vec<Candidate>> {
        let texts: Vec<String> = taken
            .values
            .iter()
            .map(|(first, end)| value::text(clause, *first, *end))
            .collect::<Option<_>>()?;
        let last = texts.last()?.clone();
        let subject = taken
            .subject
            .clone()
            .unwrap_or_else(|| self.speaker.clone());
        let at = self.said.said_at;
        let single =
            |slot: Slot, value: String| vec![self.fact(slot, value, Cardinality::Single, mood)];
        Some(match makes {
            Makes::Fact(attribute, Cardinality::Many) => {
                let slot = Slot::new(&subject, attribute).ok()?;
                value::parts(&last)
                    .into_iter()
                    .map(|part| self.fact(slot.clone(), part, Cardinality::Many, mood))
                    .collect()
            }
            Makes::Fact(attribute, _) => single(Slot::new(&subject, attribute).ok()?, last),
            Makes::Named => {
                let owner = taken.owner.clone().unwrap_or(subject);
                let slot = Slot::new(&owner, taken.attribute.as_deref()?).ok()?;
                single(canonical(slot), last)
            }
            Makes::Likes(is_liked) => {
                let value = if is_liked { "likes" } else { "dislikes" };
                value::parts_of_preference(&last)
                    .iter()
                    .filter_map(|about| {
                        let slot = preference(&subject, about)?;
                        let fact = self.fact(slot, value.to_owned(), Cardinality::Single, mood);
                        Some(fact.of_kind(Kind::Preference))
                    })
                    .collect()
            }
            Makes::Indifferent => {
                let slot = preference(&subject, &last)?;
                vec![Candidate::is_not(slot, None, at).of_kind(Kind::Preference)]
            }
            Makes::Over(attribute) => {
                vec![Candidate::is_not(
                    Slot::new(&subject, attribute).ok()?,
                    Some(last),
                    at,
                )]
            }
            Makes::Replaces => {
                let claim = Claim::Replaces {
                    subject,
                    old: texts.first()?.clone(),
                    new: last,
                };
                vec![Candidate::new(claim, "", at)]
            }
            Makes::Being => {
                let attribute = being(&normalized(&last))?;
                single(Slot::new(&subject, attribute).ok()?, last)
            }
        })
    }

    fn fact(&self, slot: Slot, value: String, cardinality: Cardinality, mood: Mood) -> Candidate {
        let at = self.said.said_at;
        match mood {
            Mood::Is => Candidate::is(slot, value, cardinality, at),
            Mood::IsNot => Candidate::is_not(slot, Some(value), at),
        }
    }
}

/// The slot of what somebody thinks of something.
fn preference(subject: &str, about: &str) -> Option<Slot> {
    Slot::new(subject, &format!("view of {}", normalized(about))).ok()
}

/// Other words for the attributes that rules know.
fn canonical(slot: Slot) -> Slot {
    let attribute = match slot.attribute.as_str() {
        "home" | "address" | "city" | "hometown" | "home town" | "home city" => "home",
        "employer" | "company" | "workplace" => "employer",
        "job" | "occupation" | "profession" | "job title" => "job",
        "wife" | "husband" | "spouse" | "girlfriend" | "boyfriend" | "fiancee" => "partner",
        "full name" | "first name" | "nickname" => "name",
        "mobile" | "phone number" | "mobile number" | "cell" | "telephone" => "phone",
        "email address" | "e-mail" | "mail address" => "email",
        other => {
            let spelled = other.replace("favorite", "favourite");
            return Slot {
                attribute: spelled,
                ..slot
            };
        }
    };
    Slot {
        attribute: attribute.to_owned(),
        ..slot
    }
}

/// What somebody is said to be, if the word alone tells what it is about.
fn being(value: &str) -> Option<&'static str> {
    const JOBS: [&str; 12] = [
        "er",
        "or",
        "ist",
        "ian",
        "nurse",
        "chef",
        "pilot",
        "architect",
        "accountant",
        "ant",
        "student",
        "lead",
    ];
    match value {
        "vegan" | "vegetarian" | "pescatarian" | "omnivore" => return Some("diet"),
        "single" | "divorced" | "widowed" => return Some("marital status"),
        _ => {}
    }
    let last = value.rsplit(' ').next()?;
    let is_job = value.split(' ').count() <= 4
        && last.len() > 4
        && JOBS.iter().any(|end| last.ends_with(end));
    is_job.then_some("job")
}

/// Where clauses begin: at the start behind what only opens the sentence, and behind "and", "but"
/// and commas.
fn clauses(sentence: &Sentence) -> Vec<usize> {
    let mut starts = vec![opened(sentence, 0)];
    for (n, word) in sentence.words.iter().enumerate() {
        if matches!(
            word.lower.as_str(),
            "and" | "but" | "," | "because" | ":" | "-" | "\u{2013}" | "\u{2014}" | "so"
        ) {
            let start = opened(sentence, n + 1);
            if !starts.contains(&start) && start < sentence.words.len() {
                starts.push(start);
            }
        }
    }
    starts
}

/// Skips openings, adverbs and marks.
fn opened(sentence: &Sentence, start: usize) -> usize {
    let lower = sentence.lower();
    let mut n = start;
    loop {
        let rest = lower.get(n..).unwrap_or_default();
        let opening = OPENINGS
            .iter()
            .map(|opening| opening.split(' ').collect::<Vec<_>>())
            .find(|opening| rest.starts_with(opening));
        let is_passed = rest
            .first()
            .is_some_and(|word| ADVERBS.contains(word) || !word.chars().any(char::is_alphanumeric));
        match opening {
            Some(opening) => n += opening.len(),
            None if is_passed => n += 1,
            None => return n,
        }
    }
}

fn is_unreal(clause: &Sentence, start: usize) -> bool {
    let words: Vec<&str> = clause.lower().into_iter().skip(start).take(8).collect();
    let first_verbs = words.get(..words.len().min(5)).unwrap_or_default();
    words.first().is_some_and(|word| UNREAL.contains(word))
        || first_verbs.iter().any(|word| {
            matches!(
                *word,
                "wish" | "might" | "maybe" | "hope" | "should" | "could" | "if" | "will"
            )
        })
        || words.windows(2).take(4).any(|pair| {
            matches!(
                pair,
                [
                    "going"
                        | "want"
                        | "wanted"
                        | "plan"
                        | "planning"
                        | "hoping"
                        | "like"
                        | "love"
                        | "trying",
                    "to"
                ]
            ) && !matches!(pair, ["like" | "love", "to"] if !words.contains(&"would"))
        })
}
