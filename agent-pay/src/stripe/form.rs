//! Bodies and queries as Stripe reads them: pairs, percent-encoded, with names like `a[b]`.

use form_urlencoded::Serializer;

/// Pairs in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a pair.
    pub(super) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Adds a pair if there is a value.
    pub(super) fn with_some(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds `name[key]` for each entry.
    pub(super) fn with_map<'a>(
        self,
        name: &str,
        entries: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        entries.into_iter().fold(self, |form, (key, value)| {
            form.with(format!("{name}[{key}]"), value)
        })
    }

    pub(super) fn encode(&self) -> String {
        let mut out = Serializer::new(String::new());
        for (name, value) in &self.0 {
            out.append_pair(name, value);
        }
        out.finish()
    }
}
