//! Translates flags of `mount(2)` into mount attributes (`mount_setattr(2)`).

use crate::abi::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW, ATTR_RDONLY,
    ATTR_STRICTATIME, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_NOSYMFOLLOW, MS_RDONLY,
    MS_RELATIME, MS_STRICTATIME, MountAttr,
};

/// `mount(2)` flags as mount attributes. Flags that are not set are cleared, as by a remount; but the access time mode stays
/// unless one is set (an option that only clears one has no effect, as in mount(8)).
pub(super) fn attributes(set: u64, cleared: u64) -> (MountAttr, u64) {
    const PAIRS: [(u64, u64); 6] = [
        (MS_RDONLY, ATTR_RDONLY),
        (MS_NOSUID, ATTR_NOSUID),
        (MS_NODEV, ATTR_NODEV),
        (MS_NOEXEC, ATTR_NOEXEC),
        (MS_NOSYMFOLLOW, ATTR_NOSYMFOLLOW),
        (MS_NODIRATIME, ATTR_NODIRATIME),
    ];
    let atime = MS_NOATIME | MS_STRICTATIME | MS_RELATIME | MS_NODIRATIME;
    let keep_atime = set & atime == 0;
    let mut attr = MountAttr::default();
    let mut must_clear = 0;
    for (flag, attribute) in PAIRS {
        if attribute == ATTR_NODIRATIME && keep_atime {
            continue;
        }
        if set & flag != 0 {
            attr.set |= attribute;
        } else {
            attr.clear |= attribute;
        }
        if cleared & flag != 0 {
            must_clear |= attribute;
        }
    }
    if !keep_atime {
        attr.clear |= ATTR_ATIME;
        must_clear |= ATTR_ATIME;
        if set & MS_NOATIME != 0 {
            attr.set |= ATTR_NOATIME;
        } else if set & MS_STRICTATIME != 0 {
            attr.set |= ATTR_STRICTATIME;
        }
    }
    (attr, must_clear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_attributes_are_those_of_a_remount() {
        let (attr, must_clear) = attributes(MS_RDONLY, MS_NOSUID);
        assert_eq!(attr.set, ATTR_RDONLY);
        assert_eq!(attr.clear, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NOSYMFOLLOW);
        assert_eq!(must_clear, ATTR_NOSUID);
        let (attr, _) = attributes(MS_NOATIME, 0);
        assert_eq!(attr.set, ATTR_NOATIME);
        assert_ne!(attr.clear & ATTR_ATIME, 0);
    }
}
