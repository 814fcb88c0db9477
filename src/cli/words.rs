//! Splits words into flags with their values and the rest, by the conventions of Go's `flag` package, which runc's callers rely
//! on: `-no-subreaper`, `--flag=value`, `--flag value`, `--switch=false`.

use super::nearest;
use super::table::{Flag, Takes};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command line, or a part of it, split into flags and other words.
#[derive(Debug, Default)]
pub(super) struct Words {
    flags: Vec<(&'static str, OsString)>,
    /// The words that are no flags.
    pub(super) rest: Vec<OsString>,
}

impl Words {
    /// Whether a switch was given and is not `=false`.
    pub(super) fn on(&self, long: &str) -> bool {
        self.last(long).is_some_and(|value| truth(value.as_bytes()) == Some(true))
    }

    /// The last value of a flag.
    pub(super) fn last(&self, long: &str) -> Option<&OsStr> {
        self.flags.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_os_str())
    }

    /// All values of a flag, in order.
    pub(super) fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a OsStr> {
        self.flags.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_os_str())
    }
}

/// How far flags are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Up to the first word that is not a flag; the rest is passed on as it is.
    FirstWord,
    /// To the end: known flags may also follow other words.
    End,
}

/// A mistake: the sentence that names it, and what may have been meant.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) sentence: String,
    pub(super) meant: Option<String>,
}

impl From<String> for Mistake {
    fn from(sentence: String) -> Self {
        Self { sentence, meant: None }
    }
}

/// Splits words into flags and the rest.
pub(super) fn split(
    words: impl Iterator<Item = OsString>,
    flags: &'static [&'static [Flag]],
    until: Until,
) -> Result<Words, Mistake> {
    let mut found = Words::default();
    let mut words = words.fuse();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            found.rest.extend(words.by_ref());
            break;
        }
        if bytes.len() < 2 || bytes.first() != Some(&b'-') {
            found.rest.push(word);
            if until == Until::FirstWord {
                found.rest.extend(words.by_ref());
                break;
            }
            continue;
        }
        let (name, value) = name_and_value(bytes)?;
        let Some(flag) = flags.iter().copied().flatten().find(|flag| flag.is(name)) else {
            if found.rest.is_empty() {
                let name = String::from_utf8_lossy(name);
                let shown = flags.iter().copied().flatten().filter(|flag| !flag.help.is_empty());
                let meant = nearest(&name, shown.map(|flag| flag.long)).map(|long| format!("--{long}"));
                return Err(Mistake { sentence: format!("flag provided but not defined: -{name}"), meant });
            }
            found.rest.push(word);
            continue;
        };
        let name = String::from_utf8_lossy(name);
        let value = match (value, flag.takes) {
            (Some(value), _) => OsString::from_vec(value.to_vec()),
            (None, Takes::Nothing) => OsString::from("true"),
            (None, Takes::Text | Takes::Texts | Takes::Number | Takes::Numbers | Takes::Duration) => {
                words.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?
            }
        };
        check(flag, &name, &value)?;
        found.flags.push((flag.long, value));
    }
    Ok(found)
}

impl Flag {
    /// Whether the flag has this long or short name.
    fn is(&self, name: &[u8]) -> bool {
        self.long.as_bytes() == name
            || matches!((self.short, name), (Some(short), [only]) if short == char::from(*only))
    }
}

/// `-name`, `--name`, `--name=value`, without the dashes.
fn name_and_value(word: &[u8]) -> Result<(&[u8], Option<&[u8]>), String> {
    let bare = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-")).unwrap_or(word);
    if matches!(bare.first(), None | Some(b'-' | b'=')) {
        return Err(format!("bad flag syntax: {}", String::from_utf8_lossy(word)));
    }
    Ok(match bare.iter().position(|byte| *byte == b'=') {
        Some(at) => (bare.get(..at).unwrap_or_default(), bare.get(at + 1..)),
        None => (bare, None),
    })
}

/// Whether the value is of the flag's type.
fn check(flag: &Flag, name: &str, value: &OsStr) -> Result<(), String> {
    let shown = value.to_string_lossy();
    match flag.takes {
        Takes::Nothing => truth(value.as_bytes())
            .map(|_| ())
            .ok_or_else(|| format!("invalid boolean value \"{shown}\" for -{name}: parse error")),
        Takes::Text | Takes::Texts => Ok(()),
        Takes::Number => shown
            .parse::<i64>()
            .map(|_| ())
            .map_err(|_| format!("invalid value \"{shown}\" for flag -{name}: parse error")),
        Takes::Numbers => shown.parse::<i64>().map(|_| ()).map_err(|_| {
            format!("invalid value \"{shown}\" for flag -{name}: strconv.ParseInt: parsing \"{shown}\": invalid syntax")
        }),
        Takes::Duration => super::time::duration(&shown)
            .map(|_| ())
            .ok_or_else(|| format!("invalid value \"{shown}\" for flag -{name}: parse error")),
    }
}

/// A truth value in one of Go's spellings.
pub(super) fn truth(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}
