//! Which kernel this is, and what it can do that not every one can.

use super::{Answer, Errno, call, cred, ns};

/// The kernel's version, by uname(2).
#[must_use]
pub fn version() -> (u32, u32) {
    // SAFETY: an all-zero value is a valid one.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: names has room for the answer.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return (0, 0);
    }
    // c_char has a sign on some architectures
    let release = names.release.map(|byte| u8::from_ne_bytes(byte.to_ne_bytes()));
    let mut numbers = release
        .split(|byte| !byte.is_ascii_digit())
        .map(|digits| digits.iter().fold(0u32, |number, digit| number.wrapping_mul(10) + u32::from(digit - b'0')));
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// Whether a mount namespace can be made out of one tree (`OPEN_TREE_NAMESPACE`, Linux 7.0), joined, and filled with
/// new file systems by us. A kernel that is older is not asked; one that knows the flag misses the descriptor. In a user
/// namespace procfs can't be mounted where none is visible yet, and in a new one none is.
#[must_use]
pub fn makes_namespaces_of_trees() -> bool {
    const CAP_SYS_CHROOT: u64 = 1 << 18;
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const NEEDED: u64 = CAP_SYS_CHROOT | CAP_SYS_ADMIN;
    version() >= (7, 0)
        && matches!(of_no_tree(), Err(Errno::EBADF))
        && !ns::in_user_namespace()
        && cred::caps().is_ok_and(|sets| sets.effective & NEEDED == NEEDED)
}

fn of_no_tree() -> Answer<usize> {
    let flags = super::mount::OPEN_TREE_NAMESPACE | libc::AT_EMPTY_PATH as usize;
    // SAFETY: the string is static; the descriptor is none.
    unsafe { call(libc::SYS_open_tree, [usize::MAX, c"".as_ptr() as usize, flags, 0, 0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_proc() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let (major, minor) = version();
        assert!((major, minor) >= (5, 14) && release.starts_with(&format!("{major}.{minor}")), "{release}");
    }
}
