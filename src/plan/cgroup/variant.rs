//! `org.systemd.property.NAME: VALUE` annotations: parses the value, which is in GVariant text format.
//!
//! Pure. Of the format (GLib's documentation, "GVariant Text Format") it supports what unit properties need: numbers, booleans,
//! strings and arrays of strings.

use super::property::Value;
use crate::error::{Error, Result};

/// The property of the annotation `key`, which ends in `name`. A name that ends in `Sec` has a value in seconds; the D-Bus
/// property's name ends in `USec` and its value is in microseconds.
pub(super) fn property(key: &str, name: &str, text: &str) -> Result<(String, Value)> {
    let field = || format!("annotations[{key:?}]");
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(Error::spec(field(), format!("annotation {key} name incorrect: must be 3 letters or more")));
    }
    let wrong = |why: &str| Error::spec(field(), format!("annotation {key}={text} value parse error: {why}"));
    // not `USec` or `NSec`
    if let Some(stem) = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        let micros = micros(text.trim()).ok_or_else(|| wrong("not a number"))?;
        return Ok((format!("{stem}USec"), Value::U64(micros)));
    }
    let value = parse(text.trim()).ok_or_else(|| wrong("no boolean, whole number, string or array of strings"))?;
    Ok((name.to_owned(), value))
}

/// Microseconds of a number of seconds: whole or not, with or without a type prefix.
fn micros(text: &str) -> Option<u64> {
    let number = match text.split_once(' ') {
        Some(("int32" | "uint32" | "int64" | "uint64" | "double", number)) => number.trim(),
        Some(_) => return None,
        None => text,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1_000_000);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within 2^64 by the guard
    number.parse::<f64>().ok().filter(|n| (0.0..1e12).contains(n)).map(|n| (n * 1e6) as u64)
}

fn parse(text: &str) -> Option<Value> {
    if let Some((kind, rest)) = text.split_once(' ') {
        let rest = rest.trim();
        return match kind {
            "boolean" => rest.parse().ok().map(Value::Bool),
            "int32" => rest.parse().ok().map(Value::I32),
            "uint32" => rest.parse().ok().map(Value::U32),
            "int64" => rest.parse().ok().map(Value::I64),
            "uint64" => rest.parse().ok().map(Value::U64),
            "string" => string(rest).filter(|(_, rest)| rest.is_empty()).map(|(text, _)| Value::Text(text)),
            "@as" => strings(rest),
            _ => untyped(text),
        };
    }
    untyped(text)
}

fn untyped(text: &str) -> Option<Value> {
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ if text.starts_with('[') => strings(text),
        _ if text.starts_with(['\'', '"']) => {
            string(text).filter(|(_, rest)| rest.is_empty()).map(|(text, _)| Value::Text(text))
        }
        _ => text.parse().ok().map(Value::I32),
    }
}

/// A quoted string and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut letters = text.char_indices();
    let (_, quote) = letters.next().filter(|(_, c)| matches!(c, '\'' | '"'))?;
    let mut out = String::new();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => out.push(match letters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            _ if letter == quote => return Some((out, text.get(at + 1..)?)),
            _ => out.push(letter),
        }
    }
    None
}

fn strings(text: &str) -> Option<Value> {
    let mut rest = text.strip_prefix('[')?.trim_start();
    let mut all = Vec::new();
    if rest == "]" {
        return Some(Value::Texts(all));
    }
    loop {
        let (one, after) = string(rest)?;
        all.push(one);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return (rest == "]").then_some(Value::Texts(all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let text = |text: &str| Value::Text(text.to_owned());
        let table = [
            ("CollectMode", "'inactive-or-failed'", "CollectMode", text("inactive-or-failed")),
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::U64(123_456_789)),
            ("TimeoutStopSec", "uint64 5", "TimeoutStopUSec", Value::U64(5_000_000)),
            ("TimeoutStopSec", "2", "TimeoutStopUSec", Value::U64(2_000_000)),
            ("TimeoutStopSec", "0.5", "TimeoutStopUSec", Value::U64(500_000)),
            ("DefaultDependencies", "true", "DefaultDependencies", Value::Bool(true)),
            ("Nice", "-5", "Nice", Value::I32(-5)),
            ("Description", r#""a \"b\" 'c'""#, "Description", text("a \"b\" 'c'")),
            (
                "After",
                "['a.service', \"b.service\"]",
                "After",
                Value::Texts(vec!["a.service".into(), "b.service".into()]),
            ),
            ("After", "@as []", "After", Value::Texts(Vec::new())),
        ];
        for (name, value, want, expected) in table {
            let got = property("k", name, value).unwrap();
            assert_eq!(got, (want.to_owned(), expected), "{name}={value}");
        }
        for (name, value) in [
            ("TS", "1"),
            ("Time-out", "1"),
            ("After", "['a'"),
            ("After", "['a' 'b']"),
            ("Nice", "five"),
            ("Nice", "'5'x"),
            ("TimeoutStopSec", "'5'"),
            ("TimeoutStopSec", "-1"),
            ("TasksMax", "uint64 -1"),
        ] {
            assert!(property("k", name, value).is_err(), "{name}={value}");
        }
    }
}
