//! What can be said of an attribute, in which words. The varied wordings are how people might put
//! it; the extractor's rules were widened on them, so they say what it has learned, and the unseen
//! ones what that is worth elsewhere.

use super::{Style, unseen};

/// Something that can be said of somebody.
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) is_many: bool,
    pub(super) values: &'static [&'static str],
    plain: &'static [&'static str],
    varied: &'static [&'static str],
    plain_over: &'static [&'static str],
    varied_over: &'static [&'static str],
}

impl Attribute {
    /// Whether its end is said; a view ends by another.
    pub(super) fn can_end(&self) -> bool {
        !self.plain_over.is_empty()
    }

    /// The wordings of a value, or of its end. Views are worded by what they are.
    pub(super) fn phrases(
        &self,
        style: Style,
        value: &str,
        is_over: bool,
    ) -> &'static [&'static str] {
        let is_view = self.name.starts_with("view of ");
        match (style, is_over) {
            (Style::Plain, false) if is_view => views(self.name, value, true),
            (Style::Varied, false) if is_view => views(self.name, value, false),
            (Style::Plain, false) => self.plain,
            (Style::Varied, false) => self.varied,
            (Style::Plain, true) => self.plain_over,
            (Style::Varied, true) => self.varied_over,
            (Style::Unseen, _) => unseen::phrases(self.name, value, is_over),
        }
    }
}

fn views(name: &str, value: &str, is_plain: bool) -> &'static [&'static str] {
    match (name, value, is_plain) {
        ("view of chinese food", "likes", true) => {
            &["I love Chinese food.", "I like Chinese food."]
        }
        ("view of chinese food", _, true) => {
            &["I hate Chinese food.", "I don't like Chinese food."]
        }
        ("view of chinese food", "likes", false) => &[
            "Chinese food has really grown on me.",
            "Honestly, I'm a huge fan of Chinese food these days!",
            "Can never get enough Chinese food.",
            "I've come to adore Chinese food.",
            "I must admit I quite enjoy Chinese food.",
        ],
        ("view of chinese food", _, false) => &[
            "I can't stand Chinese food any more.",
            "Chinese food just isn't for me.",
            "I've gone off Chinese food completely.",
            "Turns out I really dislike Chinese food.",
            "I'm sick of Chinese food.",
        ],
        (_, "likes", true) => &["I love running.", "I enjoy running."],
        (_, _, true) => &["I hate running.", "I dislike running."],
        (_, "likes", false) => &[
            "Running makes my day.",
            "I'm really into running lately.",
            "I've fallen in love with running.",
            "I am so fond of running.",
        ],
        (_, _, false) => &[
            "Running bores me to tears.",
            "I'm not a fan of running.",
            "I'm tired of running.",
            "I've had enough of running.",
        ],
    }
}

/// Small talk.
pub(super) const CHAT: &[&str] = &[
    "Did you see the game last night?",
    "That's so cool, thanks!",
    "If I lived in Paris, I would eat croissants every day.",
    "My friend said \"I work at Initech\" and laughed.",
    "What is my phone number?",
    "I might move to Tokyo one day.",
    "Haha, good one.",
    "The weather was awful.",
];

/// Everything that is said.
pub(super) const ATTRIBUTES: &[Attribute] = &[
    Attribute {
        name: "home",
        is_many: false,
        values: &["Rome", "Oslo", "New York", "Lisbon", "San Diego", "Kyoto"],
        plain: &[
            "I live in {v}.",
            "I moved to {v}.",
            "I'm living in {v} now.",
        ],
        varied: &[
            "Finally unpacked the last box, so {v} is home now.",
            "We've settled down in {v}!",
            "By the way, I'm based in {v} these days.",
            "Just relocated to {v} for good, it's lovely here.",
            "Greetings from {v}, where I live now.",
            "I got myself a flat in {v} and moved in.",
            "You'll find me in {v} from now on.",
            "Guess what, we moved over to {v}!",
        ],
        plain_over: &["I no longer live in {v}.", "I don't live in {v} anymore."],
        varied_over: &[
            "I've left {v} behind.",
            "I moved out of {v}.",
            "Forget that I live in {v}, that's over.",
            "Gave up my place in {v}.",
            "It's not true any more that I live in {v}.",
        ],
    },
    Attribute {
        name: "employer",
        is_many: false,
        values: &["Acme", "Globex", "Initech", "Umbrella Corp", "Hooli"],
        plain: &["I work at {v}.", "I work for {v}.", "I joined {v}."],
        varied: &[
            "I just signed with {v}!",
            "First day at {v} went great.",
            "These days I'm employed by {v}.",
            "I got a new job at {v}, so excited.",
            "{v} hired me.",
            "I've started working for {v}.",
            "My employer is {v} now.",
        ],
        plain_over: &["I no longer work at {v}.", "I don't work at {v} any more."],
        varied_over: &[
            "I quit my job at {v}.",
            "{v} let me go.",
            "I handed in my notice at {v}, done there.",
            "I stopped working for {v}.",
            "That I work at {v} is no longer true.",
        ],
    },
    Attribute {
        name: "name",
        is_many: false,
        values: &["Alice", "Bob", "Carla", "Dana"],
        plain: &["My name is {v}.", "Call me {v}."],
        varied: &[
            "Actually, everyone calls me {v}.",
            "I go by {v}.",
            "The name's {v}.",
            "Please call me {v} from now on.",
            "Hi, {v} here!",
        ],
        plain_over: &["My name is not {v}.", "My name is no longer {v}."],
        varied_over: &[
            "Don't call me {v} any more.",
            "Please forget that my name is {v}.",
            "I dropped the name {v}.",
        ],
    },
    Attribute {
        name: "favourite colour",
        is_many: false,
        values: &["blue", "dark green", "red", "purple"],
        plain: &[
            "My favourite colour is {v}.",
            "My favorite colour is {v} now.",
        ],
        varied: &[
            "If you ask me, nothing beats {v} as a colour.",
            "My favourite colour has changed to {v}.",
            "My new favourite colour is {v}, by the way.",
            "I'd say {v} is my favourite colour.",
        ],
        plain_over: &["My favourite colour is no longer {v}."],
        varied_over: &[
            "My favourite colour isn't {v} any more.",
            "I've grown tired of {v} as my favourite colour.",
        ],
    },
    Attribute {
        name: "phone",
        is_many: false,
        values: &["555-0101", "555-0102", "555-0199", "555-0150"],
        plain: &["My phone number is {v}.", "My phone is {v}."],
        varied: &[
            "I changed my number, reach me at {v}.",
            "My phone number changed to {v}.",
            "My new mobile number is {v}.",
            "You can text me on {v}.",
        ],
        plain_over: &["My phone number is no longer {v}."],
        varied_over: &[
            "Don't use {v} any more, that number is dead.",
            "My phone number is not {v} any more.",
        ],
    },
    Attribute {
        name: "language",
        is_many: true,
        values: &["English", "French", "Dutch", "Japanese"],
        plain: &["I speak {v}.", "I am fluent in {v}."],
        varied: &[
            "I'm fluent in {v}, actually.",
            "I also speak {v}.",
            "My {v} is pretty good by now.",
            "I can hold a conversation in {v}.",
        ],
        plain_over: &["I no longer speak {v}.", "I don't speak {v} any more."],
        varied_over: &["I've forgotten all my {v}.", "I can't speak {v} any more."],
    },
    Attribute {
        name: "allergy",
        is_many: true,
        values: &["peanuts", "pollen", "shellfish"],
        plain: &["I am allergic to {v}."],
        varied: &[
            "I have an allergy to {v}.",
            "Turns out I'm allergic to {v}, sadly.",
            "{v} makes me sneeze like mad.",
        ],
        plain_over: &["I am no longer allergic to {v}."],
        varied_over: &[
            "I'm not allergic to {v} any more.",
            "I outgrew my allergy to {v}.",
        ],
    },
    Attribute {
        name: "view of chinese food",
        is_many: false,
        values: &["likes", "dislikes"],
        plain: &[],
        varied: &[],
        plain_over: &[],
        varied_over: &[],
    },
    Attribute {
        name: "view of running",
        is_many: false,
        values: &["likes", "dislikes"],
        plain: &[],
        varied: &[],
        plain_over: &[],
        varied_over: &[],
    },
];
