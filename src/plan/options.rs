//! The options of a mount, sorted by what they mean. The option strings are in `abi::mount`.

use crate::abi::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW, ATTR_RDONLY,
    ATTR_STRICTATIME, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_NOSYMFOLLOW, MS_RDONLY,
    MS_RELATIME, MS_STRICTATIME, Meaning, MountAttr, option,
};

/// An entry's options, sorted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// `MS_*` that are set.
    pub(super) set: u64,
    /// `MS_*` that were cleared by name.
    pub(super) cleared: u64,
    /// What the file system parses itself.
    pub(super) data: String,
    /// How the mount propagates.
    pub(super) propagation: Option<u64>,
    /// Attributes of the whole tree.
    pub(super) recursive: MountAttr,
    /// A new tmpfs gets what lies below it.
    pub(super) copy_up: bool,
    /// Ids are mapped: in the whole tree, and what stands behind the option's `=`.
    pub(super) idmap: Option<(bool, Option<String>)>,
}

/// Sorts the options of an entry; what is not known is the file system's to judge.
pub(super) fn options(list: &[String]) -> Options {
    let mut sorted = Options::default();
    for name in list {
        match option(name) {
            Some(Meaning::Set(flags)) => {
                sorted.set |= flags;
                sorted.cleared &= !flags;
            }
            Some(Meaning::Clear(flags)) => {
                sorted.set &= !flags;
                sorted.cleared |= flags;
            }
            Some(Meaning::Nothing) => {}
            Some(Meaning::Propagation(flags)) => sorted.propagation = Some(flags),
            Some(Meaning::Recursive(set, clear)) => recursive(&mut sorted.recursive, set, clear),
            Some(Meaning::CopyUp) => sorted.copy_up = true,
            Some(Meaning::IdMap(recursive)) => sorted.idmap = Some((recursive, None)),
            None if name.is_empty() => {}
            None => {
                if let Some((name, mapping)) = name.split_once('=')
                    && let Some(Meaning::IdMap(recursive)) = option(name)
                {
                    sorted.idmap = Some((recursive, Some(mapping.to_owned())));
                    continue;
                }
                if !sorted.data.is_empty() {
                    sorted.data.push(',');
                }
                sorted.data.push_str(name);
            }
        }
    }
    sorted
}

/// Access times are one field, not a bit each: setting or clearing one mode replaces the field.
fn recursive(attr: &mut MountAttr, set: u64, clear: u64) {
    let field =
        (set | clear) & !(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NODIRATIME | ATTR_NOSYMFOLLOW);
    let atime = field != 0 || (set == 0 && clear == 0);
    if atime {
        attr.set = (attr.set & !ATTR_ATIME) | set;
        attr.clear |= ATTR_ATIME;
    } else {
        attr.set = (attr.set | set) & !clear;
        attr.clear = (attr.clear | clear) & !set;
    }
}

/// `mount(2)` flags as attributes of a mount: what is not set is cleared, as a remount would, but access times stay
/// when none are set (an option that only takes some away is passed over, as mount(8) does).
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
    let mut explicit = 0;
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
            explicit |= attribute;
        }
    }
    if !keep_atime {
        attr.clear |= ATTR_ATIME;
        explicit |= ATTR_ATIME;
        if set & MS_NOATIME != 0 {
            attr.set |= ATTR_NOATIME;
        } else if set & MS_STRICTATIME != 0 {
            attr.set |= ATTR_STRICTATIME;
        }
    }
    (attr, explicit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::mount::{ATTR_RELATIME, MS_BIND, MS_PRIVATE, MS_REC, MS_SLAVE};

    fn parse(list: &[&str]) -> Options {
        options(&list.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn sorts_options() {
        let sorted = parse(&["rbind", "ro", "nosuid", "suid", "rslave", "size=1k", "mode=755"]);
        assert_eq!(sorted.set, MS_BIND | MS_REC | MS_RDONLY);
        assert_eq!(sorted.cleared, MS_NOSUID);
        assert_eq!(sorted.propagation, Some(MS_SLAVE | MS_REC));
        assert_eq!(sorted.data, "size=1k,mode=755");
        assert_eq!(parse(&["rslave", "private"]).propagation, Some(MS_PRIVATE));
        assert_eq!(parse(&["ridmap", "idmap"]).idmap, Some((false, None)));
        let mapped = parse(&["ridmap=uids=0-1-2;gids=0-1-2", "mode=755"]);
        assert_eq!(mapped.idmap, Some((true, Some("uids=0-1-2;gids=0-1-2".to_owned()))));
        assert_eq!(mapped.data, "mode=755");
    }

    #[test]
    fn recursive_access_times_replace_the_field() {
        let attr = |list: &[&str]| parse(list).recursive;
        let field = |set| MountAttr { set, clear: ATTR_ATIME, ..MountAttr::default() };
        assert_eq!(attr(&["rnoatime"]), field(ATTR_NOATIME));
        assert_eq!(attr(&["rnoatime", "rrelatime"]), field(ATTR_RELATIME));
        assert_eq!(attr(&["rstrictatime"]), field(ATTR_STRICTATIME));
        assert_eq!(attr(&["ratime"]), field(0));
        assert_eq!(attr(&["rro", "rrw"]), MountAttr { clear: ATTR_RDONLY, ..MountAttr::default() });
        let both = MountAttr { set: ATTR_RDONLY, clear: ATTR_NODEV, ..MountAttr::default() };
        assert_eq!(attr(&["rro", "rdev"]), both);
    }

    #[test]
    fn bind_attributes_are_those_of_a_remount() {
        let (attr, explicit) = attributes(MS_RDONLY, MS_NOSUID);
        assert_eq!(attr.set, ATTR_RDONLY);
        assert_eq!(attr.clear, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NOSYMFOLLOW);
        assert_eq!(explicit, ATTR_NOSUID);
        let (attr, _) = attributes(MS_NOATIME, 0);
        assert_eq!(attr.set, ATTR_NOATIME);
        assert_ne!(attr.clear & ATTR_ATIME, 0);
    }
}
