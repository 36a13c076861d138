//! What the deterministic extractor reads, and what it does not.

use agent_core::Timestamp;
use agent_memory::extract::{Candidate, Claim, DeterministicExtractor, Utterance};
use agent_memory::{Kind, Trust};

/// Wednesday, 25 October 2023.
const SAID: Timestamp = Timestamp::from_unix_ms(1_698_224_400_000);

fn read(text: &str) -> Vec<Candidate> {
    DeterministicExtractor::new().read(&Utterance::new("Ana", text, SAID))
}

fn shown(text: &str) -> Vec<String> {
    let show = |candidate: Candidate| match candidate.claim {
        Claim::Is { slot, value, .. } => format!("{} = {value}", slot.key()),
        Claim::IsNot { slot, value, .. } => {
            format!(
                "{} != {}",
                slot.key(),
                value.unwrap_or_else(|| "*".to_owned())
            )
        }
        Claim::Replaces {
            subject, old, new, ..
        } => format!("{subject}: {old} -> {new}"),
        _ => candidate.kind.as_str().to_owned(),
    };
    read(text).into_iter().map(show).collect()
}

#[test]
fn facts_are_read_into_slots() {
    for (text, wanted) in [
        ("My name is Alice.", "ana/name = Alice"),
        ("I live in New York now.", "ana/home = New York"),
        ("I'm currently based in Oslo, actually.", "ana/home = Oslo"),
        (
            "By the way, we moved to San Diego last month.",
            "ana/home = San Diego",
        ),
        (
            "I work at Acme Corp as of Monday.",
            "ana/employer = Acme Corp",
        ),
        (
            "I just started working for Globex.",
            "ana/employer = Globex",
        ),
        (
            "My favorite colour is dark green.",
            "ana/favourite colour = dark green",
        ),
        ("My phone number is 555-0199.", "ana/phone = 555-0199"),
        ("My sister lives in Lima.", "ana's sister/home = Lima"),
        ("Bob works at Initech.", "bob/employer = Initech"),
        ("I have a dog named Rex.", "ana/pet = Rex"),
        ("I'm allergic to peanuts.", "ana/allergy = peanuts"),
        ("I'm a software engineer.", "ana/job = software engineer"),
        ("I am vegetarian.", "ana/diet = vegetarian"),
        (
            "The deadline for the launch is May 8.",
            "launch/deadline = May 8",
        ),
        ("The deadline was moved to Friday.", "ana/deadline = Friday"),
        ("I moved from Rome to Oslo.", "ana/home = Oslo"),
    ] {
        assert_eq!(shown(text), [wanted], "{text}");
    }
}

/// Other ways to say it: the perfect, no subject, the value first, somebody else's deed.
#[test]
fn what_is_said_another_way_fills_the_same_slot() {
    for (text, wanted) in [
        ("Moved to Lima last spring.", "ana/home = Lima"),
        ("We have settled down in Porto.", "ana/home = Porto"),
        ("New York is my home.", "ana/home = New York"),
        ("Found a small flat in Bern.", ""),
        ("I have found a small flat in Bern.", "ana/home = Bern"),
        ("Gave up our room in Bern.", "ana/home != Bern"),
        ("Acme hired me.", "ana/employer = Acme"),
        ("Acme has let me go.", "ana/employer != Acme"),
        ("I have given my notice at Acme.", "ana/employer != Acme"),
        ("Teal is my favorite colour.", "ana/favourite colour = Teal"),
        ("Text me on 555-0142.", "ana/phone = 555-0142"),
        ("I can speak Welsh.", "ana/language = Welsh"),
        ("I have outgrown my allergy to eggs.", "ana/allergy != eggs"),
        ("Opera has grown on me.", "ana/view of opera = likes"),
        ("I've gone off opera.", "ana/view of opera = dislikes"),
        (
            "I can't bear opera any more.",
            "ana/view of opera = dislikes",
        ),
        ("Opera isn't for me.", "ana/view of opera = dislikes"),
        ("I've learned to love opera.", "ana/view of opera = likes"),
    ] {
        let wanted: Vec<&str> = [wanted].into_iter().filter(|w| !w.is_empty()).collect();
        assert_eq!(shown(text), wanted, "{text}");
    }
}

#[test]
fn lists_and_clauses_are_taken_apart() {
    assert_eq!(
        shown("I speak English, French and Dutch."),
        [
            "ana/language = English",
            "ana/language = French",
            "ana/language = Dutch"
        ]
    );
    assert_eq!(
        shown("I live in Rome and work at Acme, and my dog is called Rex."),
        [
            "ana/home = Rome",
            "ana/employer = Acme",
            "ana's dog/name = Rex"
        ]
    );
}

#[test]
fn preferences_have_one_slot_whatever_they_say() {
    for (text, wanted) in [
        ("I love Chinese food!", "ana/view of chinese food = likes"),
        (
            "I hate Chinese food.",
            "ana/view of chinese food = dislikes",
        ),
        (
            "I really can't stand loud music.",
            "ana/view of loud music = dislikes",
        ),
        (
            "I don't like olives at all.",
            "ana/view of olives at all = dislikes",
        ),
        ("I prefer tea over coffee.", "ana/view of tea = likes"),
        ("I'm not a fan of jazz.", "ana/view of jazz = dislikes"),
        ("I enjoy swimming.", "ana/view of swimming = likes"),
    ] {
        let found = read(text);
        assert_eq!(found[0].kind, Kind::Preference, "{text}");
        assert!(
            shown(text)[0].starts_with(wanted.trim_end_matches(" at all = dislikes")),
            "{text}: {:?}",
            shown(text)
        );
    }
}

#[test]
fn ends_and_retractions_are_read() {
    for (text, wanted) in [
        ("I no longer live in Rome.", "ana/home != Rome"),
        ("I don't live in Rome anymore.", "ana/home != Rome"),
        ("I don't work at Acme any more.", "ana/employer != Acme"),
        ("Forget that I live in Rome.", "ana/home != Rome"),
        ("Please forget that my name is Bob.", "ana/name != Bob"),
        (
            "It's not true any more that I work at Acme.",
            "ana/employer != Acme",
        ),
        (
            "That I work at Acme is not true any more.",
            "ana/employer != Acme",
        ),
        ("Forget my phone number.", "ana/phone number != *"),
        ("My name is not Bob.", "ana/name != Bob"),
        ("I left my job at Acme.", "ana/employer != Acme"),
        (
            "I'm no longer allergic to peanuts.",
            "ana/allergy != peanuts",
        ),
        ("I switched from Vim to Helix.", "ana: Vim -> Helix"),
    ] {
        assert_eq!(shown(text), [wanted], "{text}");
    }
}

#[test]
fn what_claims_nothing_has_no_claims() {
    for text in [
        "Do I live in Rome?",
        "If I live in Rome, I will buy a bike.",
        "I wish my name was Bob.",
        "He said \"I live in Rome.\"",
        "I want to work at Acme.",
        "I'm going to move to Rome.",
        "Maybe I live in Rome.",
        "Thanks, that is great!",
        "That is my home.",
        "This is my phone.",
        "They call me names.",
        "Call me at home.",
        "Text me on Monday.",
        "Love Rome!",
        "ok",
        "",
        "\u{202e}\u{200b}",
    ] {
        assert_eq!(shown(text), [""; 0], "{text}");
    }
}

#[test]
fn dates_say_from_when_a_claim_holds() {
    let from = |text: &str| read(text)[0].from.to_string().get(..10).map(str::to_owned);
    assert_eq!(
        from("I moved to Oslo in May 2022.").as_deref(),
        Some("2022-05-01")
    );
    assert_eq!(
        from("I've lived in Oslo since 2019.").as_deref(),
        Some("2019-01-01")
    );
    assert_eq!(from("I live in Oslo.").as_deref(), Some("2023-10-25"));
    let episode = read("I ran a marathon with Bob last Saturday.");
    assert_eq!(
        (episode[0].kind, &episode[0].claim),
        (Kind::Fact, &Claim::Note)
    );
    assert_eq!(episode[0].from.to_string().get(..10), Some("2023-10-21"));
    assert_eq!(episode[0].entities, ["Ana", "Bob", "Saturday"]);
}

#[test]
fn procedures_are_kept_as_such() {
    for text in [
        "To deploy, run make release and tag it.",
        "When the build fails, clear the cache first.",
    ] {
        let found = read(text);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].kind, Kind::Procedure, "{text}");
    }
}

#[test]
fn provenance_and_trust_go_with_the_claim() {
    let mut said = Utterance::new("Ana", "I live in Rome.", SAID);
    said.trust = Trust::Untrusted;
    said.channel = Some("mail".to_owned());
    let found = DeterministicExtractor::new().read(&said);
    assert_eq!(
        (found[0].trust, found[0].channel.as_deref()),
        (Trust::Untrusted, Some("mail"))
    );
}

#[test]
fn hostile_text_is_bounded_and_never_panics() {
    let long = "I live in Rome. ".repeat(10_000);
    assert_eq!(read(&long).len(), 1, "the same claim once");
    let many: String = (0..10_000)
        .map(|n| format!("My key{n} is v{n}. "))
        .collect();
    assert!(read(&many).len() <= 64);
    let mega = "I live in ".to_owned() + &"x".repeat(1 << 20);
    assert!(read(&mega).iter().all(|c| matches!(&c.claim, Claim::Note)));
    for text in [
        "my my my is is is",
        "I I I",
        "' ' '",
        "A\u{301}\u{301}\u{301} is \u{202e}now",
        "my is",
        "my  is  ",
        "forget",
        "forget that",
        "i am",
        "not",
        "no longer",
        "any more",
    ] {
        read(text);
        read(&text.repeat(50));
    }
    assert!(
        DeterministicExtractor::new()
            .read(&Utterance::new("", "I live in Rome.", SAID))
            .is_empty()
    );
}
