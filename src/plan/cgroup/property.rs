//! A property of a systemd unit: a name, and a value of a D-Bus type.
//!
//! Pure.

use std::fmt;

/// A property's value, by its D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

/// A property of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// May be left out if systemd does not know it, because we write the same limit to a file of the cgroup.
    pub optional: bool,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U64(u64::MAX) => f.write_str("infinity"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::I32(value) => write!(f, "{value}"),
            Self::U32(value) => write!(f, "{value}"),
            Self::I64(value) => write!(f, "{value}"),
            Self::U64(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::Texts(value) => write!(f, "{value:?}"),
            Self::Bytes(value) => write!(f, "{value:?}"),
            Self::Pairs(value) => {
                let pairs: Vec<_> = value.iter().map(|(first, second)| format!("{first}:{second}")).collect();
                f.write_str(&pairs.join(" "))
            }
        }
    }
}

/// A property that systemd must know.
pub(super) fn property(name: &str, value: Value) -> Property {
    Property { name: name.to_owned(), value, optional: false }
}

/// A property that may be left out.
pub(super) fn optional(name: &str, value: Value) -> Property {
    Property { optional: true, ..property(name, value) }
}
