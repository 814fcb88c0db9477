//! The kernel's constants: flags, structures and name tables. No calls; may use only `core`.

pub mod errno;
pub mod mount;
pub mod ns;
