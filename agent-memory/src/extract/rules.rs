//! What sentences of English claim, as a table. A rule's pattern is words, each possibly a choice
//! (`live|reside`) or optional (`?now`), with `S` for a subject, `A` for an attribute of one to
//! three words, and `V` for a value; `W` is a value before its verb, `P` one of capital words, `D` a
//! number with many digits.

use super::Cardinality::{self, Many, Single};

/// What a rule makes of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Makes {
    /// A slot of the subject with the value.
    Fact(&'static str, Cardinality),
    /// A slot that the sentence names.
    Named,
    /// What the subject thinks of the value.
    Likes(bool),
    /// The end of a value of the slot.
    Over(&'static str),
    /// The end of liking the value.
    Indifferent,
    /// Another value for whatever slot has the old one.
    Replaces,
    /// What the subject is, where the value says what that is about.
    Being,
}

/// A pattern and what it makes.
pub(super) struct Rule {
    pub(super) pattern: &'static str,
    pub(super) makes: Makes,
}

const fn fact(pattern: &'static str, attribute: &'static str) -> Rule {
    Rule {
        pattern,
        makes: Makes::Fact(attribute, Single),
    }
}

const fn many(pattern: &'static str, attribute: &'static str) -> Rule {
    Rule {
        pattern,
        makes: Makes::Fact(attribute, Many),
    }
}

const fn likes(pattern: &'static str, is_liked: bool) -> Rule {
    Rule {
        pattern,
        makes: Makes::Likes(is_liked),
    }
}

const fn over(pattern: &'static str, attribute: &'static str) -> Rule {
    Rule {
        pattern,
        makes: Makes::Over(attribute),
    }
}

const fn plain(pattern: &'static str, makes: Makes) -> Rule {
    Rule { pattern, makes }
}

/// The rules, the more telling first: the first that fits wins.
pub(super) const RULES: &[Rule] = &[
    // Changes from one value to another.
    fact("S moved|relocated ?back|over from V to V", "home"),
    plain(
        "S switched|changed|migrated|went from V to V",
        Makes::Replaces,
    ),
    plain("S replaced|swapped V with|for|by V", Makes::Replaces),
    plain(
        "S changed|switched|updated|moved ?my|our|the A from V to V",
        Makes::Named,
    ),
    plain(
        "S changed|switched|updated|set ?my|our|the A to V",
        Makes::Named,
    ),
    plain(
        "my|our|the A changed|moved|switched from V to V",
        Makes::Named,
    ),
    plain(
        "my|our|the A ?has|was|is|got ?been changed|moved|switched|set|updated|postponed ?over to V",
        Makes::Named,
    ),
    // Ends.
    over("S left|quit ?my ?job|post|position at|with V", "employer"),
    over("S stopped working at|for V", "employer"),
    over("S was|got fired|laid ?off from|by V", "employer"),
    over("S handed|gave|put ?in ?my notice at|to|with V", "employer"),
    over("P fired|sacked|dismissed me|us", "employer"),
    over("P let|laid me|us go|off", "employer"),
    over("S moved away|out from|of V", "home"),
    over(
        "S gave ?up ?my|our place|flat|apartment|house|home|room|lease ?up in V",
        "home",
    ),
    over("S left P behind", "home"),
    over("S used to live in|at V", "home"),
    over("S dropped|changed the|my name V", "name"),
    over("S outgrew|lost|overcame my|the allergy to V", "allergy"),
    over("S used to work at|for V", "employer"),
    plain(
        "S used to like|love|enjoy|prefer|hate V",
        Makes::Indifferent,
    ),
    likes("S went off V", false),
    likes("S have|has|had ?had enough of V", false),
    likes("W is not for me|us", false),
    likes("W bores|annoys|irritates|disgusts me|us", false),
    likes("W makes my|our day", true),
    likes("W grew on me|us", true),
    likes("W is growing on me|us", true),
    likes(
        "S came|grew|learned ?to like|love|adore|enjoy|appreciate V",
        true,
    ),
    likes("S fell in love with V", true),
    likes("S can never get enough ?of V", true),
    over(
        "S gave up|stopped|quit playing|doing|practising|practicing V",
        "hobby",
    ),
    over("S sold|lost|crashed ?my|our|the V", "owns"),
    // Names and age.
    fact("my|the ?first|full|last|real name is V", "name"),
    fact("the name's V", "name"),
    fact("everyone|everybody|people|they call|calls me P", "name"),
    fact("S go|goes by V", "name"),
    fact("you can call me P", "name"),
    fact("?please call me P", "name"),
    fact("S am|is called|named V", "name"),
    fact("S am|is V years old", "age"),
    fact("S ?just turned V", "age"),
    // Home.
    fact(
        "S live|lives|reside|resides|living ?over|out|down|up in|at V",
        "home",
    ),
    fact(
        "S am|is|are living|residing|based|located|settled ?down in|at|near V",
        "home",
    ),
    fact("S am|is|are ?all settled ?down|in in V", "home"),
    fact("S have|has lived|been living in V", "home"),
    fact(
        "S moved|relocated|moving ?house|back|over|down|up|out to|into V",
        "home",
    ),
    fact("S am|is|are moving|relocating ?back|over to V", "home"),
    fact("S have|has ?just moved|relocated ?back|over to V", "home"),
    fact("S settled ?down in V", "home"),
    fact("P is ?now ?my|our ?new home", "home"),
    fact("greetings from V , where S live|lives|moved", "home"),
    fact("you will|can find me|us in V", "home"),
    fact(
        "S bought|rented|got|found|took ?myself|ourselves|us a|an|our|my ?new|small|big|little|own house|flat|apartment|place|room in V",
        "home",
    ),
    fact("my|our home is|was in V", "home"),
    fact("S am|is|come|comes ?originally from V", "origin"),
    fact("S was born ?and ?raised in V", "birthplace"),
    fact("S grew up in V", "birthplace"),
    // Work and study.
    fact("S work|works|working at|for V", "employer"),
    fact("S am|is working|employed at|for|by V", "employer"),
    fact("S joined V", "employer"),
    fact("S signed ?on|up with V", "employer"),
    fact("?my ?the first day|week|month at V", "employer"),
    fact("P hired|employed me|us", "employer"),
    fact(
        "S started ?working|work ?a ?new ?job at|with|for V",
        "employer",
    ),
    fact(
        "S got|took|accepted|landed a|an|the ?new job|position|role|offer at|with|from V",
        "employer",
    ),
    fact("S have|has ?just been hired by V", "employer"),
    fact("S got hired by|at V", "employer"),
    fact("S work|works|working as V", "job"),
    fact("S am|is working|employed as V", "job"),
    fact("S got|was promoted to V", "job"),
    fact("S became V", "job"),
    fact("S study|studies at V", "school"),
    fact("S am|is studying at V", "school"),
    fact("S go|goes to school|college|university at V", "school"),
    fact("S study|studies V", "studies"),
    fact("S am|is studying V", "studies"),
    // People and animals.
    fact("S am|is|got married to V", "partner"),
    fact("S am|is|got engaged to V", "partner"),
    fact("S am|is dating V", "partner"),
    many(
        "S have|has|own|owns|got|adopted a|an ?new ?little ?small ?big ?old dog|cat|puppy|kitten|rabbit|parrot|hamster|horse ?named|called V",
        "pet",
    ),
    // Things, habits, abilities.
    fact("S drive|drives V", "car"),
    fact("S bought|got a|an|the|myself ?a ?new car , V", "car"),
    many("S ?can speak|speaks V", "language"),
    many("S can have|hold|follow a conversation in V", "language"),
    many("S am|is fluent in V", "language"),
    many("S am|is learning V", "learning"),
    many("S am|is allergic to V", "allergy"),
    many("S have|has an|a allergy to V", "allergy"),
    many("S play|plays V", "hobby"),
    many("S took up V", "hobby"),
    many(
        "S started|began playing|doing|practising|practicing V",
        "hobby",
    ),
    many("S own|owns V", "owns"),
    many("S use|uses V", "uses"),
    // Preferences.
    likes(
        "S do|does not like|love|enjoy|want|care ?at ?all ?for V",
        false,
    ),
    likes("S can not stand|bear|abide V", false),
    likes(
        "S hate|hates|dislike|dislikes|detest|detests|loathe|loathes|despise|despises|avoid|avoids V",
        false,
    ),
    likes(
        "S am|is not ?a|much ?big|of ?fan ?of|into|a|keen ?fan ?of|on V",
        false,
    ),
    likes("S am|is sick|tired|bored of|with V", false),
    likes(
        "S like|likes|love|loves|enjoy|enjoys|adore|adores|prefer|prefers|fancy|fancies V",
        true,
    ),
    likes("S would rather ?have|take|use V", true),
    likes("S am|is ?a fond|fan of V", true),
    likes("S am|is ?a big|huge|great fan of V", true),
    likes("S am|is ?really into V", true),
    likes("S am|is crazy|mad about V", true),
    likes("S am|is keen on V", true),
    // Whatever the sentence names.
    fact(
        "?you ?can ?please reach|text|call|ring|phone me|us at|on|under D",
        "phone",
    ),
    plain("W is|are ?now my|our ?new|current A", Makes::Named),
    plain(
        "my|our ?new|current A is|are ?now|called|named|currently ?called V",
        Makes::Named,
    ),
    plain("the A of|for ?my|our|the N is|are ?now V", Makes::Named),
    plain(
        "the ?new|current|updated A is now|currently V",
        Makes::Named,
    ),
    plain("the new|current|updated A is V", Makes::Named),
    plain("S am|is ?now ?a|an V", Makes::Being),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_has_a_subject_or_a_name_and_a_value() {
        for rule in RULES {
            let parts: Vec<&str> = rule.pattern.split(' ').collect();
            let has_value = ["V", "W", "P", "D"]
                .iter()
                .any(|value| parts.contains(value));
            assert!(has_value, "{}", rule.pattern);
            if rule.makes == Makes::Named {
                assert!(parts.contains(&"A"), "{}", rule.pattern);
            }
        }
    }
}
