//! A guess, from a `config.json` that is not parsed yet, whether the container gets a new network namespace.

/// Whether the text seems to ask for a new network namespace, and for no user namespace. If so, the creation of that namespace,
/// which takes long, can start before the text is parsed. This is a guess: it searches for the spec's keys and ignores the
/// structure of the document. A wrong guess only costs time.
///
/// One pass over the text, which may be anything and not only JSON.
pub fn looks_for_network(text: &[u8]) -> bool {
    let mut network = false;
    // the last opening brace and the last path so far; the next closing brace and the next path, as far as searched for
    let (mut open, mut path) = (0, None);
    let (mut close, mut ahead) = (0, 0);
    for (at, window) in text.windows(6).enumerate() {
        match window {
            [b'{', ..] => open = at,
            b"\"path\"" => path = Some(at),
            b"\"type\"" => match string_behind(&text[at + 6..]) {
                Some(b"user") => return false,
                Some(b"network") if !network => {
                    close = next(text, at, close, 1, |window| window == b"}");
                    ahead = next(text, at, ahead, 6, |window| window == b"\"path\"");
                    // whether the innermost object around this position has a path
                    network = path.is_none_or(|path| path < open) && ahead + 6 > close;
                }
                Some(_) | None => {}
            },
            _ => {}
        }
    }
    network
}

/// The first position from `at` on where a window is found, or the end; `known` is the result for an earlier position.
fn next(text: &[u8], at: usize, known: usize, size: usize, found: impl Fn(&[u8]) -> bool) -> usize {
    if known > at { known } else { text[at..].windows(size).position(found).map_or(text.len(), |ahead| at + ahead) }
}

/// The string value of a key; the text begins after the key.
fn string_behind(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    text.iter().position(|byte| *byte == b'"').map(|end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::looks_for_network;

    #[test]
    fn guesses() {
        let rows = [
            (r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"network"}]}}"#, true),
            ("{\"linux\": {\"namespaces\": [\n{\n\t\"type\" :\n\"network\"\n}]}}", true),
            (r#"{"linux":{"namespaces":[{"type":"network","path":"/run/netns/x"}]}}"#, false),
            (r#"{"linux":{"namespaces":[{"path":"/run/netns/x","type":"network"}]}}"#, false),
            (r#"{"process":{"user":{}},"linux":{"namespaces":[{"path":"/p","type":"pid"},{"type":"network"}]}}"#, true),
            (r#"{"linux":{"namespaces":[{"type":"network"},{"type":"user"}]}}"#, false),
            (r#"{"mounts":[{"type":"tmpfs"}]}"#, false),
            (r#"{"type"#, false),
            (r#"{"type":"network"#, false),
            ("", false),
        ];
        for (text, expected) in rows {
            assert_eq!(looks_for_network(text.as_bytes()), expected, "{text}");
        }
    }
}
