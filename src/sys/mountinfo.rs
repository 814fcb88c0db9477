//! Parses the text of `mountinfo` (proc(5)). Pure. Paths need not be UTF-8.

/// The fields of a mount that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The root of the mount within the file system.
    pub root: Vec<u8>,
    /// The mount point.
    pub at: Vec<u8>,
    /// The file system's type.
    pub kind: &'a [u8],
    /// The options of the file system.
    pub options: &'a [u8],
}

/// The mounts of a text, in its order.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(line)
}

fn line(line: &[u8]) -> Option<Line<'_>> {
    // any number of optional fields come before the separator
    let separator = line.windows(3).position(|window| window == b" - ")?;
    let mut right = line.get(separator + 3..)?.split(|byte| *byte == b' ');
    let (kind, _, options) = (right.next()?, right.next(), right.next()?);
    let mut left = line.get(..separator)?.split(|byte| *byte == b' ').skip(3);
    Some(Line { root: unescape(left.next()?), at: unescape(left.next()?), kind, options })
}

/// Decodes the octal escapes of blank, tab, newline and backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &behind[3..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let text = b"22 1 0:21 / /proc rw,nosuid shared:7 - proc proc rw\n\
                     nonsense\n\
                     30 22 0:30 /a\\134b /with\\040blank\xff rw - tmpfs none rw,size=4k\n";
        let found: Vec<_> = lines(text).collect();
        let line = |root: &[u8], at: &[u8], kind, options| Line { root: root.to_vec(), at: at.to_vec(), kind, options };
        assert_eq!(
            found,
            [
                line(b"/", b"/proc", &b"proc"[..], &b"rw"[..]),
                line(b"/a\\b", b"/with blank\xff", &b"tmpfs"[..], &b"rw,size=4k"[..]),
            ]
        );
    }
}
