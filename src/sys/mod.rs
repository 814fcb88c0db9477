//! The one door to the kernel: typed calls, and the only `unsafe` (with `launch/clone.rs`).

pub mod bpf;
pub mod cgroupfs;

pub use nix::errno::Errno;
