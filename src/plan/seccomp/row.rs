//! One row of the generated table of system calls. Depends on nothing.

/// Marks an architecture that lacks the call.
pub(super) const NO: u16 = u16::MAX;

/// One name of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// In the order of `Arch::column`.
    pub(super) numbers: [u16; 5],
    /// The call of x86 that carries this one.
    pub(super) behind: u8,
}

/// A row, written short.
pub(super) const fn row(name: &'static str, numbers: [u16; 5], behind: u8) -> Row {
    Row { name, numbers, behind }
}
