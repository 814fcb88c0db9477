//! Documents that are not quite JSON, as the parsers of runc and crun take them: with a warning.

use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Deserializer, Value};
use std::borrow::Cow;

/// The first value of a document. What follows it is ignored, and half a surrogate pair becomes the replacement character.
///
/// # Errors
/// It is no JSON otherwise, or not UTF-8 (config.md: documents are).
pub(super) fn value(bytes: &[u8], notes: &mut Vec<String>) -> Result<Value> {
    let wrong = |error: serde_json::Error| Error::new(Kind::Spec, error.to_string());
    // the reader words the error, with line and column
    let Ok(text) = str::from_utf8(bytes) else { return serde_json::from_slice(bytes).map_err(wrong) };
    let paired = paired(text);
    if matches!(paired, Cow::Owned(_)) {
        notes.push("the document has half a surrogate pair (\\ud800 to \\udfff): it is replaced".to_owned());
    }
    let mut reader = Deserializer::from_str(&paired);
    let value = Value::deserialize(&mut reader).map_err(wrong)?;
    if reader.end().is_err() {
        notes.push("data behind the JSON document is ignored".to_owned());
    }
    Ok(value)
}

/// The text with each escaped half of a surrogate pair (`\ud800` without `\udc00` behind it) replaced by `\ufffd`.
fn paired(text: &str) -> Cow<'_, str> {
    let mut paired = Cow::Borrowed(text);
    let mut at = 0;
    while let Some(found) = text[at..].find('\\').map(|offset| at + offset) {
        let (length, lone) = match unit(text, found) {
            Some(0xd800..0xdc00) if matches!(unit(text, found + 6), Some(0xdc00..0xe000)) => (12, false),
            Some(0xd800..0xe000) => (6, true),
            // whatever is escaped, it is no backslash that begins another escape
            Some(_) | None => (1 + text[found + 1..].chars().next().map_or(0, char::len_utf8), false),
        };
        if lone {
            // as long as what it replaces
            paired.to_mut().replace_range(found..found + 6, "\\ufffd");
        }
        at = found + length;
    }
    paired
}

/// The number of the escape `\uXXXX` that begins here.
fn unit(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_go_takes_is_taken_with_a_warning() {
        let rows: [(&[u8], Option<Value>, usize); 11] = [
            (b"{\"a\": 1}\n", Some(json!({"a": 1})), 0),
            (b"{\"a\": 1}}", Some(json!({"a": 1})), 1),
            (b"{\"a\": 1}\n{\"a\": 2}", Some(json!({"a": 1})), 1),
            (b"[\"\\ud83d\\ude00\"]", Some(json!(["\u{1f600}"])), 0),
            (b"[\"\\ud800\"]", Some(json!(["\u{fffd}"])), 1),
            (b"[\"\\udc00x\\uD800\\u0041\"]", Some(json!(["\u{fffd}x\u{fffd}A"])), 1),
            // an escaped backslash, and no escape behind it
            (b"[\"\\\\ud800\"]", Some(json!(["\\ud800"])), 0),
            (b"[\"\xff\"]", None, 0),
            (b"{\"a\": ", None, 0),
            (b"[\"\\", None, 0),
            (b"", None, 0),
        ];
        for (text, expected, warnings) in rows {
            let mut notes = Vec::new();
            let found = value(text, &mut notes).ok();
            assert_eq!(found, expected, "{}", text.escape_ascii());
            assert_eq!(if found.is_some() { notes.len() } else { 0 }, warnings, "{notes:?}");
        }
    }
}
