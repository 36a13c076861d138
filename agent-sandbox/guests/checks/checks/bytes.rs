//! Reading bytes without a way to panic: whatever is out of range is empty or zero.

/// The byte at a position, 0 beyond the end.
pub(crate) fn at(bytes: &[u8], index: usize) -> u8 {
    bytes.get(index).copied().unwrap_or(0)
}

/// The bytes of a range, as many of them as there are.
pub(crate) fn slice(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end.min(bytes.len())).unwrap_or(&[])
}

/// Whether `needle` stands at a position.
pub(crate) fn starts_at(bytes: &[u8], index: usize, needle: &[u8]) -> bool {
    bytes
        .get(index..)
        .is_some_and(|rest| rest.starts_with(needle))
}

/// The first position of `needle` from a position on.
pub(crate) fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(needle.len().max(1))
        .position(|window| window == needle)
        .map(|at| at + from)
}

/// Whether `needle`, given in lower case, occurs in any case.
pub(crate) fn contains_ignoring_case(bytes: &[u8], needle: &str) -> bool {
    let needle = needle.as_bytes();
    let first = at(needle, 0);
    (0..bytes.len()).any(|index| {
        at(bytes, index).to_ascii_lowercase() == first
            && slice(bytes, index, index + needle.len()).eq_ignore_ascii_case(needle)
    })
}

/// Whether a byte can be part of an identifier. Bytes of characters beyond ASCII count as such.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether a byte is a space or a tab.
pub(crate) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The end of the run of bytes that fulfil a condition.
pub(crate) fn run_end(bytes: &[u8], from: usize, condition: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or(&[]);
    from + rest.iter().take_while(|byte| condition(**byte)).count()
}

/// The number of characters; each byte that belongs to none counts as one.
pub(crate) fn n_chars(bytes: &[u8]) -> usize {
    bytes
        .utf8_chunks()
        .map(|c| c.valid().chars().count() + c.invalid().len())
        .sum()
}

/// Bytes looked at to tell text from other data, as in git.
const SNIFF_BYTES: usize = 8000;

/// Whether the bytes are not text.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    slice(bytes, 0, SNIFF_BYTES).contains(&0)
}

/// One line of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Where the line starts in the file.
    pub(crate) start: usize,
    /// Where its text ends: before the line feed and the carriage return before that.
    pub(crate) end: usize,
    /// Where the next line starts, or the end of the file.
    pub(crate) next: usize,
    /// The bytes from start to end.
    pub(crate) text: &'a [u8],
}

impl Line<'_> {
    /// Whether there is nothing but blanks on the line.
    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim_ascii().is_empty()
    }

    /// The number of blanks before the text; a tab counts as four.
    pub(crate) fn indent(&self) -> usize {
        let blanks = self.text.iter().take_while(|byte| is_blank(**byte));
        blanks.map(|byte| if *byte == b'\t' { 4 } else { 1 }).sum()
    }
}

/// The lines of a file. A file that ends in a line feed has no empty line after it.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= bytes.len() {
            return None;
        }
        let feed = run_end(bytes, start, |byte| byte != b'\n');
        let next = (feed + 1).min(bytes.len());
        let has_return = next > feed && feed > start && at(bytes, feed - 1) == b'\r';
        let end = if has_return { feed - 1 } else { feed };
        let line = Line {
            start,
            end,
            next,
            text: slice(bytes, start, end),
        };
        start = next;
        Some(line)
    })
}
