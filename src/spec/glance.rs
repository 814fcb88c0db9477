//! A glance at a `config.json` that is not parsed yet.

/// Whether the text seems to ask for a new network namespace, and for no user namespace. A guess: it looks for the spec's
/// words and not at the document's structure.
pub fn looks_for_network(text: &[u8]) -> bool {
    let mut network = false;
    for (at, _) in text.windows(6).enumerate().filter(|(_, window)| *window == b"\"type\"") {
        let Some(value) = string_behind(&text[at + 6..]) else { continue };
        match value {
            b"user" => return false,
            b"network" => network |= !has_path(text, at),
            _ => {}
        }
    }
    network
}

/// The string that is the value of a key whose end this is.
fn string_behind(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    text.iter().position(|byte| *byte == b'"').map(|end| &text[..end])
}

/// Whether the innermost object around a place names a path.
fn has_path(text: &[u8], at: usize) -> bool {
    let from = text[..at].iter().rposition(|byte| *byte == b'{').unwrap_or(0);
    let to = text[at..].iter().position(|byte| *byte == b'}').map_or(text.len(), |end| at + end);
    text[from..to].windows(6).any(|window| window == b"\"path\"")
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
