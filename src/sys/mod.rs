//! The one door to the kernel: typed calls, and the only `unsafe` (with `launch/clone.rs`).

pub mod bpf;
pub mod cgroupfs;
pub mod clock;
#[allow(unsafe_code, reason = "pidfd_open and pidfd_send_signal have no safe wrapper in nix")]
pub mod proc;
pub mod wait;

pub use nix::errno::Errno;
