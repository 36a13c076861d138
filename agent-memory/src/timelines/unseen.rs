//! A second set of free wordings, kept for judging: it was written before the rules were widened on
//! the first set, and no rule was made or changed after it was tried.

/// The wordings of a value, and of its end.
type Wordings = (&'static [&'static str], &'static [&'static str]);

/// How a value of an attribute is put, or its end. Views are worded by what they are.
pub(super) fn phrases(name: &str, value: &str, is_over: bool) -> &'static [&'static str] {
    let (holds, over) = match name {
        "home" => HOME,
        "employer" => EMPLOYER,
        "name" => NAME,
        "favourite colour" => COLOUR,
        "phone" => PHONE,
        "language" => LANGUAGE,
        "allergy" => ALLERGY,
        _ => return view(name, value),
    };
    if is_over { over } else { holds }
}

const HOME: Wordings = (
    &[
        "After years of dreaming about it I finally made the move to {v}.",
        "My new address is in {v}, I'll send you the details.",
        "We bought a little house in {v} last month.",
        "I call {v} home these days.",
        "Been living in {v} for a while now.",
        "I ended up in {v} and couldn't be happier.",
        "My wife and I are now residents of {v}.",
        "I'm renting a place in {v} at the moment.",
    ],
    &[
        "I don't live in {v} these days.",
        "We sold the house in {v} and left.",
        "My time in {v} is over.",
        "I'm not in {v} any longer.",
        "I packed up and left {v}.",
    ],
);

const EMPLOYER: Wordings = (
    &[
        "I accepted an offer from {v} and begin on Monday.",
        "My boss at {v} is really supportive.",
        "I'm on the payroll of {v} now.",
        "Got hired at {v} after three interviews!",
        "I switched jobs, it's {v} now.",
        "I'm with {v} these days.",
        "I do consulting for {v} full time.",
    ],
    &[
        "I resigned from {v} today.",
        "I've been laid off by {v}.",
        "My contract with {v} ended.",
        "I left {v} for good.",
        "I'm no longer with {v}.",
    ],
);

const NAME: Wordings = (
    &[
        "You can call me {v}.",
        "My friends call me {v}, so should you.",
        "I'm {v}, nice to meet you!",
        "I changed my name to {v}.",
        "This is {v} speaking.",
    ],
    &[
        "I don't go by {v} any more.",
        "{v} isn't my name any more.",
        "Stop calling me {v}, please.",
    ],
);

const COLOUR: Wordings = (
    &[
        "I've decided that {v} is my favourite colour.",
        "My favourite colour these days is {v}.",
        "{v} has become my favourite colour.",
        "These days my favourite colour is {v}, no contest.",
    ],
    &[
        "{v} is no longer my favourite colour.",
        "I don't have {v} as my favourite colour any more.",
    ],
);

const PHONE: Wordings = (
    &[
        "Here's my new number: {v}.",
        "You can reach me at {v}.",
        "Call me on {v} if anything comes up.",
        "I got a new phone number, it's {v}.",
    ],
    &[
        "I can't be reached at {v} any more.",
        "{v} is not my number any more.",
    ],
);

const LANGUAGE: Wordings = (
    &[
        "I learned {v} as a child and speak it well.",
        "I know {v} quite well.",
        "{v} is one of my languages.",
        "At home we speak {v}.",
    ],
    &["I lost my {v} over the years.", "I no longer know any {v}."],
);

const ALLERGY: Wordings = (
    &[
        "The doctor says I'm allergic to {v}.",
        "I've developed an allergy to {v}.",
        "I have a bad reaction to {v}.",
    ],
    &[
        "My allergy to {v} is gone.",
        "I got over my allergy to {v}.",
    ],
);

fn view(name: &str, value: &str) -> &'static [&'static str] {
    match (name, value) {
        ("view of chinese food", "likes") => &[
            "Chinese food is my absolute favourite.",
            "I'm crazy about Chinese food at the moment.",
            "I've started to like Chinese food.",
            "I could eat Chinese food every day.",
        ],
        ("view of chinese food", _) => &[
            "I've lost my taste for Chinese food.",
            "I really don't care for Chinese food.",
            "Chinese food is not my thing.",
            "I no longer like Chinese food at all, I hate it.",
        ],
        (_, "likes") => &[
            "I can't get enough of running.",
            "Running is so much fun.",
            "I've really come to love running.",
            "I'm passionate about running.",
        ],
        _ => &[
            "I've grown to hate running.",
            "I find running terribly boring.",
            "I lost interest in running.",
            "Running is the worst.",
        ],
    }
}
