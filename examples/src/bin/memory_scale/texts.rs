//! Texts and questions, made up and the same in every run.

const VOCABULARY: u64 = 50_000;
const WORDS_PER_TEXT: u64 = 20;
const WORDS_PER_QUERY: usize = 5;
/// How many texts a thread has.
pub(crate) const TEXTS_PER_THREAD: u64 = 20;
const WORDS_PER_SUBJECT: u64 = 100;

/// The words of a question that one of the texts answers.
pub(crate) fn question(n: u64) -> String {
    let of = mix(n) % 10_000;
    let text = text(of);
    let words: Vec<&str> = text.split(' ').collect();
    let offset = usize::try_from(mix(n) >> 60).unwrap_or_default() % 4;
    let asked = words.into_iter().skip(offset).step_by(3);
    asked.take(WORDS_PER_QUERY).collect::<Vec<_>>().join(" ")
}

/// Makes up a text that is the same in every run.
pub(crate) fn text(n: u64) -> String {
    let mut words = Vec::new();
    let subject = mix(n / TEXTS_PER_THREAD) % 5_000;
    for k in 0..WORDS_PER_TEXT {
        let x = mix(n * WORDS_PER_TEXT + k);
        let rank = if x & 1 == 0 {
            frequent(x >> 1)
        } else {
            mix(subject * WORDS_PER_SUBJECT + (x >> 1) % WORDS_PER_SUBJECT) % VOCABULARY
        };
        words.push(word(rank));
    }
    words.join(" ")
}

/// A rank drawn so that rank r comes up about as often as 1/r.
fn frequent(x: u64) -> u64 {
    // The exponent is uniform in the logarithm of the vocabulary, as 1/r is.
    let octaves = u64::from(VOCABULARY.ilog2()) + 1;
    let octave = x % octaves;
    let within = (x >> 8) % (1 << octave);
    ((1 << octave) + within - 1).min(VOCABULARY - 1)
}

/// A word by its rank, of syllables.
fn word(rank: u64) -> String {
    const STARTS: [&str; 16] = [
        "b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    ];
    const ENDS: [&str; 8] = ["an", "el", "or", "i", "um", "et", "ar", "o"];
    let (mut left, mut word) = (rank + 128, String::new());
    while left > 0 {
        let (start, end) = (left % 16, left / 16 % 8);
        let pick =
            |of: &[&'static str], n: u64| usize::try_from(n).ok().and_then(|n| of.get(n).copied());
        word.push_str(pick(&STARTS, start).unwrap_or_default());
        word.push_str(pick(&ENDS, end).unwrap_or_default());
        left /= 128;
    }
    word
}

/// Spreads the bits of a number (the finalizer of `SplitMix64`).
const fn mix(n: u64) -> u64 {
    let x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
