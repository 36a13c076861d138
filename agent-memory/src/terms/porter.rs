//! The Porter stemmer (M. F. Porter, "An algorithm for suffix stripping", 1980).

/// Words outside these lengths in bytes are left as they are, as FTS5 does.
const LENGTHS: std::ops::Range<usize> = 3..64;

/// Rules of steps 2 and 3: replaced where the stem before has a measure above 0.
const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("logi", "log"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
];
const STEP_3: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];
/// Suffixes removed in step 4 where the stem before has a measure above 1.
const STEP_4: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
];

/// Replaces an English word of ASCII letters in lower case by its stem.
pub(super) fn stem(word: &mut String) {
    if !LENGTHS.contains(&word.len()) || !word.is_ascii() {
        return;
    }
    step_1a(word);
    step_1b(word);
    if word.strip_suffix('y').is_some_and(has_vowel) {
        word.pop();
        word.push('i');
    }
    replace_first(word, STEP_2);
    replace_first(word, STEP_3);
    step_4(word);
    step_5(word);
}

fn step_1a(word: &mut String) {
    let cut = if word.ends_with("sses") || word.ends_with("ies") {
        2
    } else {
        usize::from(word.ends_with('s') && !word.ends_with("ss"))
    };
    word.truncate(word.len().saturating_sub(cut));
}

fn step_1b(word: &mut String) {
    if let Some(stem) = word.strip_suffix("eed") {
        if measure(stem) > 0 {
            word.pop();
        }
        return;
    }
    let Some(stem) = ["ed", "ing"]
        .into_iter()
        .find_map(|suffix| word.strip_suffix(suffix))
    else {
        return;
    };
    if !has_vowel(stem) {
        return;
    }
    word.truncate(stem.len());
    if ["at", "bl", "iz"].iter().any(|end| word.ends_with(end)) {
        word.push('e');
    } else if ends_double(word) && !word.ends_with(['l', 's', 'z']) {
        word.pop();
    } else if measure(word) == 1 && ends_cvc(word) {
        word.push('e');
    }
}

/// Applies the rule of the longest suffix that fits, if its stem has a measure above 0.
fn replace_first(word: &mut String, rules: &[(&str, &str)]) {
    let rule = rules
        .iter()
        .filter(|(suffix, _)| word.ends_with(suffix))
        .max_by_key(|(suffix, _)| suffix.len());
    let Some((suffix, with)) = rule else { return };
    let kept = word.len() - suffix.len();
    if measure(word.get(..kept).unwrap_or_default()) > 0 {
        word.truncate(kept);
        word.push_str(with);
    }
}

fn step_4(word: &mut String) {
    let suffix = STEP_4
        .iter()
        .filter(|suffix| word.ends_with(**suffix))
        .max_by_key(|suffix| suffix.len());
    let Some(suffix) = suffix else { return };
    let stem = word.strip_suffix(suffix).unwrap_or_default();
    if measure(stem) > 1 && (*suffix != "ion" || stem.ends_with(['s', 't'])) {
        word.truncate(stem.len());
    }
}

fn step_5(word: &mut String) {
    if let Some(stem) = word.strip_suffix('e') {
        let m = measure(stem);
        if m > 1 || (m == 1 && !ends_cvc(stem)) {
            word.pop();
        }
    }
    if word.ends_with("ll") && measure(word) > 1 {
        word.pop();
    }
}

/// Whether each letter is a consonant; `y` is one at the start and after a vowel.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    word.bytes().scan(false, |was_consonant, b| {
        let is_consonant = match b {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*was_consonant,
            _ => true,
        };
        *was_consonant = is_consonant;
        Some(is_consonant)
    })
}

/// The number of vowel-consonant sequences.
fn measure(word: &str) -> usize {
    let mut was_vowel = false;
    let mut n = 0;
    for is_consonant in consonants(word) {
        n += usize::from(was_vowel && is_consonant);
        was_vowel = !is_consonant;
    }
    n
}

fn has_vowel(word: &str) -> bool {
    consonants(word).any(|is_consonant| !is_consonant)
}

fn ends_double(word: &str) -> bool {
    let mut last = word.bytes().rev();
    let (a, b) = (last.next(), last.next());
    a.is_some() && a == b && consonants(word).last() == Some(true)
}

/// Ends in consonant, vowel, consonant, the last not w, x or y.
fn ends_cvc(word: &str) -> bool {
    let all: Vec<bool> = consonants(word).collect();
    all.ends_with(&[true, false, true]) && !word.ends_with(['w', 'x', 'y'])
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn published_examples_are_stemmed() {
        let examples = [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("cats", "cat"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("troubled", "troubl"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("sky", "sky"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("vietnamization", "vietnam"),
            ("triplicate", "triplic"),
            ("hopefulness", "hope"),
            ("goodness", "good"),
            ("adjustment", "adjust"),
            ("adoption", "adopt"),
            ("effective", "effect"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("controll", "control"),
            ("generalizations", "gener"),
        ];
        for (word, expected) in examples {
            let mut found = word.to_owned();
            stem(&mut found);
            assert_eq!(found, expected, "{word}");
        }
    }
}
