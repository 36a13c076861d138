//! Grants narrow with every delegation, and a chain that does not is refused wherever it is read.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use agent_core::{
    Amount, Classify, Effect, EffectClass, Env, Principal, Scope, Timestamp, Verdict,
};
use agent_identity::backend::InMemoryKeyStore;
use agent_identity::{
    Capability, DidKey, Error, GrantChain, Key, KeyName, KeyStore, Pattern, Purpose, Terms,
    Widening,
};
use proptest::prelude::*;

const END: Timestamp = Timestamp::from_unix_ms(2_000_000);
const NOW: Timestamp = Timestamp::from_unix_ms(1_000_000);

struct World {
    store: InMemoryKeyStore,
    scope: Scope,
    keys: Vec<Key>,
}

async fn world() -> World {
    let store = InMemoryKeyStore::new(&Env::system());
    let scope = Scope::new(Principal::host());
    let names = (0..10).map(|n| KeyName::new(format!("k{n}")).unwrap());
    let keys = store.generate(&scope, names.collect()).await.unwrap();
    World { store, scope, keys }
}

impl World {
    fn did(&self, n: usize) -> DidKey {
        self.keys.get(n).unwrap().did
    }

    async fn issue(&self, terms: &Terms) -> Result<GrantChain, Error> {
        GrantChain::issue(&self.store, &self.scope, self.keys.first().unwrap(), terms).await
    }

    async fn delegate(
        &self,
        chain: &GrantChain,
        by: usize,
        terms: &Terms,
    ) -> Result<GrantChain, Error> {
        let holder = self.keys.get(by).unwrap();
        chain
            .delegate(&self.store, &self.scope, holder, terms)
            .await
    }
}

fn cap(action: &str, target: &str) -> Capability {
    Capability::new(action, target).unwrap()
}

fn usd(text: &str) -> Amount {
    format!("{text} USD").parse().unwrap()
}

fn effect(action: &str, target: &str) -> Effect {
    Effect::new(action, target, EffectClass::Pure, serde_json::Value::Null)
}

fn code(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Deny { code, .. } | Verdict::Ask { code, .. } => code,
        _ => "allow",
    }
}

#[test]
fn patterns_cover_by_prefix_and_refuse_detours() {
    let covers = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().covers(text);
    assert!(covers("pay.*", "pay.transfer") && !covers("pay.*", "payout.x"));
    assert!(!covers("pay.*", "pay") && covers("pay", "pay") && !covers("pay", "pay.x"));
    assert!(covers("/repo/*", "/repo/src/x..y") && covers("*", "/a/../b"));
    for detour in ["/repo/../etc", "/repo/a/..", "/repo/./a", "/repo/..\\etc"] {
        assert!(!covers("/repo/*", detour), "{detour}");
    }
    let long = "x".repeat(257);
    for bad in ["", "a*", "*.x", "a.*.*", "**", "/a/../*", "a\n", &long] {
        assert_eq!(
            Pattern::new(bad).unwrap_err().code(),
            "identity.invalid",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_chain_survives_its_text_and_its_root_must_be_trusted() {
    let w = world().await;
    let terms = Terms::new(w.did(1), vec![cap("*", "*")], END).with_depth(1);
    let root = w.issue(&terms).await.unwrap();
    let terms = Terms::new(
        w.did(2),
        vec![cap("tool.*", "search").with_spend_max(usd("1.50"))],
        END,
    );
    let chain = w.delegate(&root, 1, &terms).await.unwrap();
    let text = chain.to_string();
    assert_eq!(GrantChain::verify(&text, &[w.did(0)]).unwrap(), chain);
    assert_eq!(chain.subject(), Some(w.did(2)));
    assert_eq!(chain.ids().next(), root.ids().next());
    let stranger = GrantChain::verify(&text, &[w.did(3)]).unwrap_err();
    assert!(matches!(stranger, Error::Untrusted { issuer, .. } if issuer == w.did(0)));
    // The same terms are the same grant, so that a restarted host issues what it issued before.
    let again = Terms::new(w.did(1), vec![cap("*", "*")], END).with_depth(1);
    assert_eq!(w.issue(&again).await.unwrap(), root);
    assert_ne!(w.issue(&again.with_nonce("2")).await.unwrap(), root);
}

#[tokio::test]
async fn a_wider_link_is_refused_with_the_reason() {
    let w = world().await;
    let held = cap("pay.*", "shop/*")
        .with_spend_max(usd("5"))
        .with_calls_max(3)
        .with_expiry(NOW);
    let begin = Timestamp::from_unix_ms(10);
    let terms = Terms::new(w.did(1), vec![held.clone()], END)
        .with_depth(2)
        .with_not_before(begin);
    let root = w.issue(&terms).await.unwrap();
    let narrow = |cap: Capability| {
        Terms::new(w.did(2), vec![cap], END)
            .with_not_before(begin)
            .with_depth(1)
    };
    let one = |action, target| {
        cap(action, target)
            .with_spend_max(usd("5"))
            .with_calls_max(3)
            .with_expiry(NOW)
    };
    let later = Timestamp::from_unix_ms(END.as_unix_ms() + 1);
    let mut unlimited = held.clone();
    unlimited.calls_max = None;
    let euros = held.clone().with_spend_max("1 EUR".parse().unwrap());
    type Expect = fn(&Widening) -> bool;
    let cases: Vec<(Terms, Expect)> = vec![
        (narrow(one("*", "shop/*")), |w| {
            matches!(w, Widening::Capability { index: 0, .. })
        }),
        (narrow(one("pay.*", "shop")), |w| {
            matches!(w, Widening::Capability { .. })
        }),
        (narrow(held.clone().with_spend_max(usd("5.01"))), |w| {
            matches!(w, Widening::Spend { .. })
        }),
        (narrow(euros), |w| matches!(w, Widening::Spend { .. })),
        (narrow(held.clone().with_calls_max(4)), |w| {
            matches!(
                w,
                Widening::Calls {
                    parent: 3,
                    child: Some(4),
                    ..
                }
            )
        }),
        (narrow(unlimited), |w| {
            matches!(w, Widening::Calls { child: None, .. })
        }),
        (narrow(held.clone().with_expiry(END)), |w| {
            matches!(w, Widening::CapabilityExpiry { .. })
        }),
        (
            narrow(held.clone()).with_not_before(Timestamp::EPOCH),
            |w| matches!(w, Widening::NotBefore { .. }),
        ),
        (narrow(held.clone()).with_depth(2), |w| {
            matches!(
                w,
                Widening::Depth {
                    parent: 2,
                    child: 2,
                    ..
                }
            )
        }),
        (
            Terms::new(w.did(2), vec![held.clone()], later).with_not_before(begin),
            |w| matches!(w, Widening::Expiry { .. }),
        ),
    ];
    for (terms, expected) in cases {
        let error = w.delegate(&root, 1, &terms).await.unwrap_err();
        let Error::Widened { link: 1, by, .. } = &error else {
            panic!("{terms:?} gave {error}");
        };
        assert!(expected(by), "{by}");
        // The same link, signed by its holder against the rules, is refused by whoever reads it.
        let forged = forge(&w, &root, 1, &terms).await;
        let read = GrantChain::verify(&forged, &[w.did(0)]).unwrap_err();
        assert!(
            matches!(&read, Error::Widened { by: read, .. } if read == by),
            "{read}"
        );
    }
    w.delegate(&root, 1, &narrow(held)).await.unwrap();
}

/// Signs a link as its holder could without this crate, and appends it to the text of a chain.
async fn forge(w: &World, chain: &GrantChain, by: usize, terms: &Terms) -> String {
    let payload_text = chain.to_string().split('.').nth_back(1).unwrap().to_owned();
    let parent = agent_core::Digest::of_bytes(&unbase64(&payload_text));
    let caps: Vec<_> = terms
        .capabilities
        .iter()
        .map(|cap| {
            let mut json = serde_json::json!({
                "action": cap.action.to_string(), "target": cap.target.to_string(),
            });
            let fields = json.as_object_mut().unwrap();
            if let Some(spend) = cap.spend_max {
                fields.insert("spend".to_owned(), spend.to_string().into());
            }
            if let Some(calls) = cap.calls_max {
                fields.insert("calls".to_owned(), calls.into());
            }
            if let Some(expires) = cap.expires {
                fields.insert("exp".to_owned(), expires.as_unix_ms().into());
            }
            json
        })
        .collect();
    let json = serde_json::json!({
        "v": 1, "issuer": w.did(by), "subject": terms.subject, "parent": parent,
        "nbf": terms.not_before, "exp": terms.expires, "depth": terms.depth,
        "nonce": terms.nonce, "caps": caps,
    });
    append(w, &chain.to_string(), by, &json.to_string()).await
}

async fn append(w: &World, text: &str, by: usize, payload: &str) -> String {
    let key = w.keys.get(by).unwrap().id;
    let bytes = payload.as_bytes().to_vec();
    let signature = w
        .store
        .sign(&w.scope, key, Purpose::GRANT, bytes)
        .await
        .unwrap();
    let signature = signature.to_string();
    let signature = signature.strip_prefix("ed25519:").unwrap();
    format!("{text}.{}.{signature}", base64(payload.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    Base64UrlUnpadded::encode_string(bytes)
}

fn unbase64(text: &str) -> Vec<u8> {
    use base64ct::{Base64UrlUnpadded, Encoding};
    Base64UrlUnpadded::decode_vec(text).unwrap()
}

#[tokio::test]
async fn only_the_holder_delegates_and_links_stay_in_their_chain() {
    let w = world().await;
    let wide = || vec![cap("*", "*")];
    let root = w
        .issue(&Terms::new(w.did(1), wide(), END).with_depth(3))
        .await
        .unwrap();
    let other = w
        .issue(
            &Terms::new(w.did(1), wide(), END)
                .with_depth(3)
                .with_nonce("other"),
        )
        .await
        .unwrap();
    let terms = Terms::new(w.did(2), wide(), END);
    let thief = w.delegate(&root, 3, &terms).await.unwrap_err();
    assert!(matches!(thief, Error::Broken { link: 1, .. }));
    let forged = forge(&w, &root, 3, &terms).await;
    let read = GrantChain::verify(&forged, &[w.did(0)]).unwrap_err();
    assert!(matches!(read, Error::Broken { link: 1, .. }), "{read}");
    // A good link moved behind another root.
    let good = w.delegate(&root, 1, &terms).await.unwrap().to_string();
    let link = good.strip_prefix(&root.to_string()).unwrap();
    let read = GrantChain::verify(&format!("{other}{link}"), &[w.did(0)]).unwrap_err();
    assert!(matches!(read, Error::Broken { link: 1, .. }), "{read}");
    // Without its root.
    let read = GrantChain::verify(&format!("agentgrant1{link}"), &[w.did(1)]).unwrap_err();
    assert!(matches!(read, Error::Broken { link: 0, .. }), "{read}");
}

#[tokio::test]
async fn other_spellings_of_a_signed_link_are_refused() {
    let w = world().await;
    let issuer = w.did(0);
    let subject = w.did(1);
    let good = format!(
        r#"{{"caps":[{{"action":"*","target":"*"}}],"depth":0,"exp":2000000,"issuer":"{issuer}","nbf":0,"nonce":"","subject":"{subject}","v":1}}"#
    );
    let text = append(&w, "agentgrant1", 0, &good).await;
    GrantChain::verify(&text, &[issuer]).unwrap();
    for (what, with) in [
        (r#""v":1"#, r#""v":2"#),
        (r#""v":1"#, r#""v": 1"#),
        (r#""v":1"#, r#""v":1,"x":0"#),
        (r#""v":1"#, r#""v":1,"v":1"#),
        (r#""depth":0"#, r#""depth":-1"#),
        (r#""depth":0"#, r#""depth":0.0"#),
        (r#""depth":0"#, r#""depth":256"#),
        (r#""exp":2000000"#, r#""exp":2e6"#),
        (r#""exp":2000000"#, r#""exp":9007199254740992"#),
        (r#""nbf":0"#, r#""nbf":2000000"#),
        (r#""nbf":0"#, r#""nbf":-1"#),
        (r#""target":"*""#, r#""target":"a*b""#),
        (r#""target":"*""#, r#""target":"/a/../*""#),
        (r#""target":"*""#, r#""spend":"-1.00 USD","target":"*""#),
        (r#"[{"action":"*","target":"*"}]"#, "[]"),
    ] {
        let bad = good.replace(what, with);
        assert_ne!(bad, good);
        let text = append(&w, "agentgrant1", 0, &bad).await;
        let error = GrantChain::verify(&text, &[issuer]).unwrap_err();
        assert_eq!(error.code(), "identity.invalid", "{with}: {error}");
    }
}

#[tokio::test]
async fn bounds_hold_for_issuers_and_readers() {
    let w = world().await;
    let many = vec![cap("*", "*"); Terms::CAPABILITIES_MAX + 1];
    w.issue(&Terms::new(w.did(1), many, END)).await.unwrap_err();
    w.issue(&Terms::new(w.did(1), Vec::new(), END))
        .await
        .unwrap_err();
    w.issue(&Terms::new(w.did(1), vec![cap("*", "*")], Timestamp::EPOCH))
        .await
        .unwrap_err();
    let long = "x".repeat(65);
    w.issue(&Terms::new(w.did(1), vec![cap("*", "*")], END).with_nonce(long))
        .await
        .unwrap_err();
    let mut chain = w
        .issue(&Terms::new(w.did(1), vec![cap("*", "*")], END).with_depth(200))
        .await
        .unwrap();
    for n in 1..GrantChain::LINKS_MAX {
        let depth = 200 - u8::try_from(n).unwrap();
        let terms = Terms::new(w.did(n + 1), vec![cap("*", "*")], END).with_depth(depth);
        chain = w.delegate(&chain, n, &terms).await.unwrap();
    }
    let n = GrantChain::LINKS_MAX;
    let terms = Terms::new(w.did(9), vec![cap("*", "*")], END);
    let error = w.delegate(&chain, n, &terms).await.unwrap_err();
    assert_eq!(error.code(), "identity.too_many");
    let forged = forge(&w, &chain, n, &terms).await;
    GrantChain::verify(&forged, &[w.did(0)]).unwrap_err();
    let huge = format!("agentgrant1.{}", "A".repeat(GrantChain::TEXT_BYTES_MAX));
    GrantChain::verify(&huge, &[w.did(0)]).unwrap_err();
}

#[tokio::test]
async fn time_cover_and_limits_decide() {
    let w = world().await;
    let caps = vec![
        cap("tool.call", "search").with_expiry(NOW),
        cap("pay.*", "*").with_spend_max(usd("2")),
    ];
    let begin = Timestamp::from_unix_ms(10);
    let chain = w
        .issue(&Terms::new(w.did(1), caps, END).with_not_before(begin))
        .await
        .unwrap();
    let before = Timestamp::from_unix_ms(NOW.as_unix_ms() - 1);
    let pay = |cost| effect("pay.transfer", "shop").with_cost_max(usd(cost));
    for (effect, at, expected) in [
        (effect("tool.call", "search"), before, "allow"),
        (effect("tool.call", "search"), NOW, "grant.over_limit"),
        (effect("tool.call", "shell"), NOW, "grant.not_covered"),
        (
            effect("tool.call", "search"),
            Timestamp::from_unix_ms(9),
            "grant.not_yet_valid",
        ),
        (effect("tool.call", "search"), END, "grant.expired"),
        (pay("2"), NOW, "allow"),
        (pay("2.000001"), NOW, "grant.over_limit"),
        (pay("-1"), NOW, "grant.over_limit"),
        (
            pay("1").with_cost_max("1 EUR".parse().unwrap()),
            NOW,
            "grant.over_limit",
        ),
    ] {
        assert_eq!(code(&chain.permits(&effect, at)), expected, "{effect:?}");
    }
}

fn pattern_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        "[ab]([./][ab.]){0,3}",
        "([ab.]{1,2}[./]){1,3}\\*",
    ]
}

fn capability() -> impl Strategy<Value = Option<Capability>> {
    let limits = (
        prop::option::of(0_i128..4),
        prop::option::of(0_u64..3),
        prop::option::of(1_i64..4),
    );
    (pattern_text(), pattern_text(), limits).prop_map(
        |(action, target, (spend, calls, expires))| {
            let mut cap = Capability::new(&action, &target).ok()?;
            cap.spend_max = spend.map(|units| Amount::from_units(units, agent_core::Asset::USD));
            cap.calls_max = calls;
            cap.expires = expires.map(Timestamp::from_unix_ms);
            Some(cap)
        },
    )
}

type LinkTerms = (Vec<Option<Capability>>, i64, i64);

/// Derives a link from the one before, so that some of the random links are narrower.
fn mixed(parent: &Terms, random: &LinkTerms, subject: DidKey) -> Terms {
    let (caps, begin, end) = random;
    let mut narrowed: Vec<_> = parent.capabilities.iter().take(2).cloned().collect();
    narrowed.extend(caps.iter().flatten().take(1).cloned());
    if caps.len() > 1 {
        narrowed.pop();
        narrowed.extend(caps.first().cloned().flatten());
    }
    Terms::new(subject, narrowed, Timestamp::from_unix_ms(*end))
        .with_not_before(Timestamp::from_unix_ms(*begin))
        .with_depth(parent.depth.saturating_sub(1))
}

proptest! {
    #[test]
    fn whatever_a_pattern_covers_the_including_one_covers(
        outer in pattern_text(), inner in pattern_text(), text in "[ab]?([./][ab.]?){0,4}",
    ) {
        if let (Ok(outer), Ok(inner)) = (Pattern::new(&outer), Pattern::new(&inner))
            && outer.includes(&inner) && inner.covers(&text)
        {
            prop_assert!(outer.covers(&text));
        }
    }

    #[test]
    fn the_reader_survives_any_text(text in "(agentgrant1)?(\\.[A-Za-z0-9_=-]{0,40}){0,5}", any in ".{0,60}") {
        prop_assert!(GrantChain::verify(&text, &[]).is_err());
        prop_assert!(GrantChain::verify(&any, &[]).is_err());
        let _ = Pattern::new(&any);
    }
}

proptest! {
    // Each case signs and verifies some twenty links.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_the_last_link_permits_every_earlier_link_permits(
        links in prop::collection::vec(
            (prop::collection::vec(capability(), 1..3), 0_i64..2, 2_i64..5), 1..4),
        tries in prop::collection::vec(
            ("[ab](\\.[ab.]){0,2}", "[ab]([./][ab.]){0,3}", 0_i64..5, prop::option::of(0_i128..4)), 24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let w = world().await;
            let everything = Terms::new(w.did(1), vec![cap("*", "*")], Timestamp::from_unix_ms(5));
            let mut chain = w.issue(&everything.with_depth(9)).await.unwrap();
            for random in &links {
                let n = chain.links().len();
                let terms = mixed(&chain.links().last().unwrap().terms, random, w.did(n + 1));
                match w.delegate(&chain, n, &terms).await {
                    Ok(longer) => chain = longer,
                    Err(error) => assert!(matches!(error, Error::Widened { .. } | Error::Invalid { .. }), "{error}"),
                }
            }
            let text = chain.to_string();
            let parts: Vec<_> = text.split('.').collect();
            for (action, target, at, cost) in &tries {
                let mut effect = effect(action, target);
                effect.cost_max = cost.map(|units| Amount::from_units(units, agent_core::Asset::USD));
                let at = Timestamp::from_unix_ms(*at);
                if chain.permits(&effect, at) != Verdict::Allow {
                    continue;
                }
                for n in 1..chain.links().len() {
                    let shorter = parts.get(..=n * 2).unwrap().join(".");
                    let shorter = GrantChain::verify(&shorter, &[w.did(0)]).unwrap();
                    assert_eq!(shorter.permits(&effect, at), Verdict::Allow, "{shorter:?} {effect:?}");
                    // Each link by itself, read without the rest of this crate's bookkeeping.
                    let caps = &shorter.links().last().unwrap().terms.capabilities;
                    assert!(caps.iter().any(|cap| cap.permits(&effect, at)));
                }
            }
        });
    }
}

#[tokio::test]
async fn any_changed_character_breaks_a_chain() {
    let w = world().await;
    let chain = w
        .issue(&Terms::new(w.did(1), vec![cap("a.b", "c")], END))
        .await
        .unwrap();
    let text = chain.to_string();
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(GrantChain::verify(&changed, &[w.did(0)]).is_err(), "{at}");
    }
}
