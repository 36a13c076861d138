//! Texts that are the same in every run: short statements of several people, and questions whose
//! answer is one of them.

/// Texts and questions, each with its user.
pub(crate) struct Corpus {
    pub(crate) texts: Vec<(String, String)>,
    pub(crate) questions: Vec<(String, String)>,
}

/// How many hits a question asks for.
pub(crate) const LIMIT: usize = 20;

const WHO: &str = "Ana Bo Chidi Dara Emil Fatima Goran Hana Ivo Jun Kofi Lena Mats Noor Olga Pavel Quyen Rosa \
    Sven Tariq Uma Vito Wanda Xin Yara Zeno";
const DID: &str = "bought sold found lost repaired painted borrowed returned cleaned photographed hid measured \
    wrapped carried ordered traded burned buried rented described";
const QUALITY: &str = "old blue broken wooden tiny golden heavy cheap striped leather empty frozen folded rusty \
    velvet crooked silent foreign wet spare";
const THING: &str = "bicycle kettle piano lantern carpet compass violin ladder mirror kayak guitar telescope \
    suitcase umbrella hammer teapot saddle clock globe harp oven puzzle quilt rowboat scarf tent vase wagon anchor \
    basket candle drum easel flute glove helmet";
const PLACE: &str = "Oslo Lisbon Kyoto Nairobi Lima Quebec Tallinn Hanoi Cairo Dublin Zagreb Accra Perth Havana \
    Tbilisi Bergen Malmo Porto Seville Gdansk";
const WHEN: &str = "before breakfast,after the storm,on the way home,during the festival,last winter,in the evening,\
    on a Sunday,when the shop closed,at the end of March,while it rained";
const WHY: &str = "because a neighbour had asked,for a friend from school,and told nobody at work,although it was late,\
    with the help of two cousins,to surprise the children,and was glad about it,for the third time this year";

impl Corpus {
    pub(crate) fn new(n_users: usize, n_texts: usize, n_questions: usize) -> Self {
        let mut draw = Draw(1);
        let (mut texts, mut keys) = (Vec::new(), Vec::new());
        for n in 0..n_texts {
            let [who, did] = [draw.of(WHO, ' '), draw.of(DID, ' ')];
            let (quality, thing) = (draw.of(QUALITY, ' '), draw.of(THING, ' '));
            let (place, when, why) = (draw.of(PLACE, ' '), draw.of(WHEN, ','), draw.of(WHY, ','));
            let user = format!("user{}", n % n_users);
            let text =
                format!("{who} {did} the {quality} {thing} number {n} in {place} {when}, {why}.");
            keys.push((
                user.clone(),
                format!("Who {did} the {quality} {thing} in {place}?"),
            ));
            texts.push((user, text));
        }
        let asked = (0..n_questions).filter_map(|_| keys.get(draw.below(keys.len())).cloned());
        Self {
            questions: asked.collect(),
            texts,
        }
    }
}

/// A generator of numbers (`SplitMix64`).
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let n = u64::try_from(n.max(1)).unwrap_or(u64::MAX);
        usize::try_from((x ^ (x >> 31)) % n).unwrap_or(0)
    }

    fn of<'w>(&mut self, words: &'w str, separator: char) -> &'w str {
        let n = words.split(separator).count();
        words.split(separator).nth(self.below(n)).unwrap_or("")
    }
}
