//! Finds the JSON path of a position in a text: `linux.seccomp.syscalls[3].action`. Pure.
//!
//! A parser that tracks the path in every type it reads would be half a megabyte of code; this finds it afterwards.

/// What encloses a position.
enum Around {
    /// An object, and the key whose value is being read.
    Object(Option<String>),
    /// A list, and how many of its members came before.
    List(usize),
}

/// The path of the innermost value that the first `end` bytes of a text have just begun or ended.
pub(super) fn path_at(text: &[u8], end: usize) -> String {
    let mut around: Vec<Around> = Vec::new();
    let mut rest = text.get(..end).unwrap_or(text);
    while let [byte, behind @ ..] = rest {
        rest = behind;
        match byte {
            b'{' => around.push(Around::Object(None)),
            b'[' => around.push(Around::List(0)),
            b'}' | b']' => drop(around.pop()),
            b',' => match around.last_mut() {
                Some(Around::Object(key)) => *key = None,
                Some(Around::List(before)) => *before += 1,
                None => {}
            },
            b'"' => {
                let (string, behind) = string(rest);
                rest = behind;
                if let Some(Around::Object(key @ None)) = around.last_mut() {
                    *key = Some(String::from_utf8_lossy(string).into_owned());
                }
            }
            _ => {}
        }
    }
    around.iter().fold(String::new(), |path, step| match step {
        Around::Object(Some(key)) if path.is_empty() => key.clone(),
        Around::Object(Some(key)) => format!("{path}.{key}"),
        Around::Object(None) => path,
        Around::List(before) => format!("{path}[{before}]"),
    })
}

/// The contents of a string after its first quote (escapes are kept), and the text after it.
fn string(text: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
            _ => {}
        }
    }
    (text, &[])
}

#[cfg(test)]
mod tests {
    use super::path_at;

    #[test]
    fn every_place() {
        let text = r#"{"a":{"b":[1,{"c":"x, \"]"},[true]],"d\"e":null},"f":2}"#;
        let rows = [
            (r#"{"a":"#, "a"),
            (r#"{"a":{"b":["#, "a.b[0]"),
            (r#"{"a":{"b":[1"#, "a.b[0]"),
            (r#"{"a":{"b":[1,{"c":"#, "a.b[1].c"),
            (r#"{"a":{"b":[1,{"c":"x, \"]""#, "a.b[1].c"),
            (r#"{"a":{"b":[1,{"c":"x, \"]"}"#, "a.b[1]"),
            (r#"{"a":{"b":[1,{"c":"x, \"]"},[true"#, "a.b[2][0]"),
            (r#"{"a":{"b":[1,{"c":"x, \"]"},[true]]"#, "a.b"),
            (r#"{"a":{"b":[1,{"c":"x, \"]"},[true]],"d\"e":null"#, "a.d\\\"e"),
            (r#"{"a":{"b":[1,{"c":"x, \"]"},[true]],"d\"e":null},"f":2"#, "f"),
            (text, ""),
        ];
        for (before, path) in rows {
            assert!(text.starts_with(before), "{before}");
            assert_eq!(path_at(text.as_bytes(), before.len()), path, "{before}");
        }
    }
}
