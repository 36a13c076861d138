//! The grammar of `WWW-Authenticate` (RFC 9110, section 11.6.1): challenges of any scheme, several
//! of them in one field, with parameters whose values are tokens or quoted.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use crate::error::{Error, Result};

/// The longest field that is read in bytes: twice what servers should keep a challenge below.
pub(super) const FIELD_BYTES_MAX: usize = 16_384;
/// The most parameters of one challenge.
const PARAMS_MAX: usize = 32;
/// The most challenges of one field.
const CHALLENGES_MAX: usize = 16;

/// The parameters of one challenge, names in lower case.
pub(super) type Params = BTreeMap<String, String>;

/// Reads every challenge of a field, with its scheme as written.
///
/// # Errors
/// `Invalid` for a field that is too long, malformed, or names a parameter twice.
pub(super) fn parse(field: &str) -> Result<Vec<(String, Params)>> {
    if field.len() > FIELD_BYTES_MAX {
        return Err(malformed("longer than 16384 bytes"));
    }
    let mut reader = Reader {
        rest: field.chars().peekable(),
    };
    let mut challenges: Vec<(String, Params)> = Vec::new();
    loop {
        reader.skip(|c| matches!(c, ' ' | '\t' | ','));
        if reader.rest.peek().is_none() {
            return Ok(challenges);
        }
        let name = reader.token()?;
        let is_spaced = reader.skip(is_blank) > 0;
        if reader.rest.peek() != Some(&'=') {
            if challenges.len() == CHALLENGES_MAX {
                return Err(malformed("more than 16 challenges"));
            }
            challenges.push((name, Params::new()));
            if is_spaced {
                reader.skip_token68();
            }
            continue;
        }
        let _equals = reader.rest.next();
        reader.skip(is_blank);
        let value = reader.value()?;
        let Some((_scheme, params)) = challenges.last_mut() else {
            return Err(malformed("a parameter before any scheme"));
        };
        if params.len() == PARAMS_MAX {
            return Err(malformed("more than 32 parameters"));
        }
        if params.insert(name.to_ascii_lowercase(), value).is_some() {
            return Err(malformed("a parameter twice"));
        }
    }
}

/// Writes a value as a quoted string.
///
/// # Errors
/// `Invalid` for control characters and what is not ASCII, which no field carries.
pub(super) fn quote(into: &mut String, name: &str, value: &str) -> Result<()> {
    if value.chars().any(|c| !c.is_ascii() || c.is_ascii_control()) {
        return Err(malformed("a value that no field can carry"));
    }
    into.push_str(name);
    into.push_str("=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
    into.push('"');
    Ok(())
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) -> usize {
        let mut n = 0_usize;
        while self.rest.next_if(|c| is_skipped(*c)).is_some() {
            n = n.saturating_add(1);
        }
        n
    }

    fn token(&mut self) -> Result<String> {
        let mut token = String::new();
        while let Some(c) = self.rest.next_if(|c| is_token(*c)) {
            token.push(c);
        }
        if token.is_empty() {
            return Err(malformed("not a token"));
        }
        Ok(token)
    }

    fn value(&mut self) -> Result<String> {
        if self.rest.next_if_eq(&'"').is_none() {
            return self.token();
        }
        let mut value = String::new();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(value),
                Some('\\') => match self.rest.next() {
                    Some(c) if !c.is_control() => value.push(c),
                    _ => return Err(malformed("an escape of nothing")),
                },
                Some(c) if c == '\t' || !c.is_control() => value.push(c),
                _ => return Err(malformed("a quote that does not end")),
            }
        }
    }

    /// Passes over what a scheme such as `Negotiate` has where others have parameters. A token
    /// that an `=` and a value follow is a parameter and stays.
    fn skip_token68(&mut self) {
        let mut ahead = self.rest.clone();
        let mut n = 0_usize;
        while ahead
            .next_if(|c| is_token(*c) || matches!(c, '/' | '='))
            .is_some()
        {
            n = n.saturating_add(1);
        }
        while ahead.next_if(|c| is_blank(*c)).is_some() {}
        let is_alone = n > 0 && matches!(ahead.peek(), None | Some(','));
        let text: String = self.rest.clone().take(n).collect();
        let is_param = text.trim_end_matches('=').contains('=');
        if is_alone && !is_param {
            for _ in 0..n {
                let _passed = self.rest.next();
            }
        }
    }
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn malformed(reason: &'static str) -> Error {
    Error::invalid("payment challenge", reason)
}
