//! Secrets in text: memory is searched, shown to models and exported, so they belong in a vault.

use crate::error::{Error, Result};

/// What kind of secret a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretKind {
    /// A key or token with the prefix of a known issuer.
    ApiKey,
    /// A private key in PEM.
    PrivateKey,
    /// A payment card's number, with a valid check digit.
    CardNumber,
    /// A JSON Web Token.
    Jwt,
    /// A password or key that is assigned or told.
    Password,
    /// A password within a URL.
    UrlPassword,
}

impl SecretKind {
    /// Returns the stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "API key",
            Self::PrivateKey => "private key",
            Self::CardNumber => "card number",
            Self::Jwt => "JSON Web Token",
            Self::Password => "password",
            Self::UrlPassword => "password in a URL",
        }
    }
}

/// Prefixes of keys and the fewest characters that follow in a real one.
const PREFIXES: &[(&str, usize)] = &[
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("github_pat_", 30),
    ("glpat-", 18),
    ("sk-", 20),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("pk_live_", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("xapp-", 16),
    ("npm_", 30),
    ("pypi-", 40),
    ("hf_", 30),
    ("AGE-SECRET-KEY-", 50),
    ("SG.", 40),
    ("dop_v1_", 40),
];

/// Words whose value is secret, and the words that may stand between.
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "api_key",
    "apikey",
    "api-key",
    "pin",
    "access_token",
    "auth_token",
    "client_secret",
    "secret_key",
    "private_key",
    "token",
    "passcode",
];

/// Returns the kind of the first secret a text holds. It knows common forms, not every one.
#[must_use]
pub fn find_secret(text: &str) -> Option<SecretKind> {
    let plain: String = text
        .chars()
        .filter(|c| c.is_whitespace() || crate::terms::is_visible(*c))
        .collect();
    if plain.contains("-----BEGIN ") && plain.contains("PRIVATE KEY-----") {
        return Some(SecretKind::PrivateKey);
    }
    let runs = plain.split(|c: char| c.is_whitespace() || "\"'`,;()[]{}<>".contains(c));
    for run in runs.filter(|run| run.len() >= 8) {
        let value = run.rsplit('=').next().unwrap_or(run);
        let value = value.trim_end_matches(['.', ':', '!', '?']);
        if [run, value].into_iter().any(is_api_key) {
            return Some(SecretKind::ApiKey);
        }
        if is_jwt(value) {
            return Some(SecretKind::Jwt);
        }
        if has_url_password(run) {
            return Some(SecretKind::UrlPassword);
        }
    }
    if has_card_number(&plain) {
        return Some(SecretKind::CardNumber);
    }
    has_password(&plain).then_some(SecretKind::Password)
}

/// Refuses a text with a secret.
///
/// # Errors
/// `Denied`, with the kind of secret and never the secret.
pub fn refuse_secrets(text: &str) -> Result<()> {
    find_secret(text).map_or(Ok(()), |kind| Err(Error::Secret { kind }))
}

fn is_api_key(run: &str) -> bool {
    PREFIXES.iter().any(|(prefix, n_min)| {
        run.strip_prefix(prefix).is_some_and(|rest| {
            let is_key = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            rest.len() >= *n_min
                && rest.chars().all(is_key)
                && rest.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase())
        })
    })
}

fn is_jwt(run: &str) -> bool {
    let parts: Vec<&str> = run.split('.').collect();
    let is_part = |part: &&str| {
        part.len() >= 4
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    run.starts_with("eyJ") && parts.len() == 3 && parts.iter().all(is_part)
}

fn has_url_password(run: &str) -> bool {
    let Some((_, rest)) = run.split_once("://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .and_then(|(user, _)| user.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty())
}

/// 13 to 19 digits, alone or in groups by spaces or hyphens, with a valid check digit.
fn has_card_number(text: &str) -> bool {
    let mut digits: Vec<u32> = Vec::new();
    let mut n_between = 0;
    for c in text.chars().chain(std::iter::once('x')) {
        if let Some(digit) = c.to_digit(10) {
            digits.push(digit);
            n_between = 0;
        } else if matches!(c, ' ' | '-') && !digits.is_empty() && n_between == 0 {
            n_between = 1;
        } else {
            if is_card(&digits) {
                return true;
            }
            digits.clear();
            n_between = 0;
        }
    }
    false
}

fn is_card(digits: &[u32]) -> bool {
    // Cards of the large networks begin with 2 to 6; telephone numbers and dates are shorter.
    let is_issued = digits.first().is_some_and(|first| (2..=6).contains(first));
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(n, digit)| match n % 2 {
            0 => *digit,
            _ if *digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    is_issued
        && (13..=19).contains(&digits.len())
        && sum.is_multiple_of(10)
        && digits.iter().any(|d| *d != 0)
}

/// `password = hunter2`, "my password is hunter2".
fn has_password(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.iter().enumerate().any(|(n, word)| {
        let lower = word.to_lowercase();
        if let Some((name, value)) = lower.split_once(['=', ':'])
            && is_name(name)
        {
            let next = words.get(n + 1).copied().unwrap_or_default();
            return is_value(if value.is_empty() { next } else { value }, name);
        }
        if !is_name(&lower) {
            return false;
        }
        let after = words.get(n + 1..).unwrap_or_default();
        let n_other = after
            .iter()
            .take(5)
            .position(|w| matches!(*w, "is" | "=" | ":" | "was" | "is:"));
        let value = n_other.and_then(|n| after.get(n + 1)).copied();
        value.is_some_and(|value| is_value(value, &lower))
    })
}

fn is_name(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    NAMES.iter().any(|name| {
        word == *name
            || word
                .strip_suffix(name)
                .is_some_and(|rest| rest.ends_with(['_', '-', '.']))
    })
}

/// Whether a word looks like a secret and not like a remark about one: it mixes kinds of
/// characters, or follows the name of a PIN as digits.
fn is_value(word: &str, name: &str) -> bool {
    let word = word.trim_matches(|c: char| "\"'`.,;()".contains(c));
    let has_digit = word.contains(|c: char| c.is_ascii_digit());
    let has_letter = word.contains(char::is_alphabetic);
    let has_mark = word.contains(|c: char| c.is_ascii_punctuation());
    let n_kinds = usize::from(has_digit) + usize::from(has_letter) + usize::from(has_mark);
    if name.contains("pin") || name.contains("passcode") {
        return word.len() >= 4 && has_digit && !has_letter;
    }
    word.len() >= 6 && n_kinds >= 2 && has_digit || word.len() >= 10 && has_digit
}
