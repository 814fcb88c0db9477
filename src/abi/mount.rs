//! Mount flags: `mount(2)`'s `MS_*`, `mount_setattr(2)`'s `MOUNT_ATTR_*`, and the option strings that mean them
//! (config.md, Linux mount options; `mount(8)`).

/// Read-only.
pub const MS_RDONLY: u64 = 1;
/// Set-user-id and file capabilities are ignored.
pub const MS_NOSUID: u64 = 2;
/// Device nodes can't be opened.
pub const MS_NODEV: u64 = 4;
/// Nothing on it can be executed.
pub const MS_NOEXEC: u64 = 8;
/// Writes are synchronous.
pub const MS_SYNCHRONOUS: u64 = 16;
/// Changes the flags of an existing mount.
pub const MS_REMOUNT: u64 = 32;
/// Mandatory locks (no effect since Linux 5.15).
pub const MS_MANDLOCK: u64 = 64;
/// Directory changes are synchronous.
pub const MS_DIRSYNC: u64 = 128;
/// Symbolic links are not followed (Linux 5.10).
pub const MS_NOSYMFOLLOW: u64 = 256;
/// Access times are not kept.
pub const MS_NOATIME: u64 = 1024;
/// Access times of directories are not kept.
pub const MS_NODIRATIME: u64 = 2048;
/// Bind mount.
pub const MS_BIND: u64 = 4096;
/// Recursive: the mount and all mounts below it.
pub const MS_REC: u64 = 16384;
/// Fewer kernel messages.
pub const MS_SILENT: u64 = 32768;
/// Propagation: none, and can't be bind mounted.
pub const MS_UNBINDABLE: u64 = 1 << 17;
/// Propagation: none.
pub const MS_PRIVATE: u64 = 1 << 18;
/// Propagation: receives.
pub const MS_SLAVE: u64 = 1 << 19;
/// Propagation: sends and receives.
pub const MS_SHARED: u64 = 1 << 20;
/// Access times relative to modification.
pub const MS_RELATIME: u64 = 1 << 21;
/// The inode's version counts changes.
pub const MS_I_VERSION: u64 = 1 << 23;
/// Access times always kept.
pub const MS_STRICTATIME: u64 = 1 << 24;
/// Times are written lazily.
pub const MS_LAZYTIME: u64 = 1 << 25;

/// `MOUNT_ATTR_RDONLY`.
pub const ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const ATTR_NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const ATTR_NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const ATTR_NOEXEC: u64 = 0x8;
/// `MOUNT_ATTR__ATIME`: the field of access time modes.
pub const ATTR_ATIME: u64 = 0x70;
/// `MOUNT_ATTR_RELATIME`: zero, in the field above.
pub const ATTR_RELATIME: u64 = 0x0;
/// `MOUNT_ATTR_NOATIME`, in the field above.
pub const ATTR_NOATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`, in the field above.
pub const ATTR_STRICTATIME: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`.
pub const ATTR_NODIRATIME: u64 = 0x80;
/// `MOUNT_ATTR_IDMAP` (Linux 5.12).
pub const ATTR_IDMAP: u64 = 0x0010_0000;
/// `MOUNT_ATTR_NOSYMFOLLOW` (Linux 5.14).
pub const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// One of the propagation flags `MS_*`, or 0.
    pub propagation: u64,
    /// A user namespace, for `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

impl MountAttr {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

/// What a bind mount does about a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// `copy-symlink`: a source that is a link is made again in the container, and nothing is mounted.
    Copy,
    /// `src-nofollow`: a source that is a link is bound itself.
    Source,
    /// `dest-nofollow`: a destination that is a link is covered itself.
    Target,
}

/// The meaning of an option string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A `mount(2)` flag is set.
    Set(u64),
    /// A `mount(2)` flag is cleared.
    Clear(u64),
    /// Nothing: `defaults`, and crun's `rsync` and the like, which no mount attribute stands for.
    Nothing,
    /// Propagation, for the mount or with `MS_REC` for the tree.
    Propagation(u64),
    /// A recursive attribute (`mount_setattr(2)` with `AT_RECURSIVE`): set, clear.
    Recursive(u64, u64),
    /// The covered directory is copied into the new tmpfs (runc's extension).
    CopyUp,
    /// Ids are mapped; with `true` in the whole tree.
    IdMap(bool),
    /// What is done about a symbolic link at an end of a bind mount (crun's own).
    Link(Link),
}

/// Every option string, sorted by name. Others are passed to the file system unchanged.
pub const OPTIONS: &[(&str, Meaning)] = &[
    ("acl", Meaning::Set(1 << 16)),
    ("async", Meaning::Clear(MS_SYNCHRONOUS)),
    ("atime", Meaning::Clear(MS_NOATIME)),
    ("bind", Meaning::Set(MS_BIND)),
    ("copy-symlink", Meaning::Link(Link::Copy)),
    ("defaults", Meaning::Nothing),
    ("dest-nofollow", Meaning::Link(Link::Target)),
    ("dev", Meaning::Clear(MS_NODEV)),
    ("diratime", Meaning::Clear(MS_NODIRATIME)),
    ("dirsync", Meaning::Set(MS_DIRSYNC)),
    ("exec", Meaning::Clear(MS_NOEXEC)),
    ("idmap", Meaning::IdMap(false)),
    ("iversion", Meaning::Set(MS_I_VERSION)),
    ("lazytime", Meaning::Set(MS_LAZYTIME)),
    ("loud", Meaning::Clear(MS_SILENT)),
    ("mand", Meaning::Set(MS_MANDLOCK)),
    ("noacl", Meaning::Clear(1 << 16)),
    ("noatime", Meaning::Set(MS_NOATIME)),
    ("nodev", Meaning::Set(MS_NODEV)),
    ("nodiratime", Meaning::Set(MS_NODIRATIME)),
    ("noexec", Meaning::Set(MS_NOEXEC)),
    ("noiversion", Meaning::Clear(MS_I_VERSION)),
    ("nolazytime", Meaning::Clear(MS_LAZYTIME)),
    ("nomand", Meaning::Clear(MS_MANDLOCK)),
    ("norelatime", Meaning::Clear(MS_RELATIME)),
    ("nostrictatime", Meaning::Clear(MS_STRICTATIME)),
    ("nosuid", Meaning::Set(MS_NOSUID)),
    ("nosymfollow", Meaning::Set(MS_NOSYMFOLLOW)),
    ("private", Meaning::Propagation(MS_PRIVATE)),
    ("rasync", Meaning::Nothing),
    ("ratime", Meaning::Recursive(0, ATTR_NOATIME)),
    ("rbind", Meaning::Set(MS_BIND | MS_REC)),
    ("rdev", Meaning::Recursive(0, ATTR_NODEV)),
    ("rdiratime", Meaning::Recursive(0, ATTR_NODIRATIME)),
    ("rdirsync", Meaning::Nothing),
    ("relatime", Meaning::Set(MS_RELATIME)),
    ("remount", Meaning::Set(MS_REMOUNT)),
    ("rexec", Meaning::Recursive(0, ATTR_NOEXEC)),
    ("ridmap", Meaning::IdMap(true)),
    ("rmand", Meaning::Nothing),
    ("rnoatime", Meaning::Recursive(ATTR_NOATIME, 0)),
    ("rnodev", Meaning::Recursive(ATTR_NODEV, 0)),
    ("rnodiratime", Meaning::Recursive(ATTR_NODIRATIME, 0)),
    ("rnoexec", Meaning::Recursive(ATTR_NOEXEC, 0)),
    ("rnomand", Meaning::Nothing),
    ("rnorelatime", Meaning::Recursive(0, ATTR_RELATIME)),
    ("rnostrictatime", Meaning::Recursive(0, ATTR_STRICTATIME)),
    ("rnosuid", Meaning::Recursive(ATTR_NOSUID, 0)),
    ("rnosymfollow", Meaning::Recursive(ATTR_NOSYMFOLLOW, 0)),
    ("ro", Meaning::Set(MS_RDONLY)),
    ("rprivate", Meaning::Propagation(MS_PRIVATE | MS_REC)),
    ("rrelatime", Meaning::Recursive(ATTR_RELATIME, 0)),
    ("rro", Meaning::Recursive(ATTR_RDONLY, 0)),
    ("rrw", Meaning::Recursive(0, ATTR_RDONLY)),
    ("rshared", Meaning::Propagation(MS_SHARED | MS_REC)),
    ("rslave", Meaning::Propagation(MS_SLAVE | MS_REC)),
    ("rstrictatime", Meaning::Recursive(ATTR_STRICTATIME, 0)),
    ("rsuid", Meaning::Recursive(0, ATTR_NOSUID)),
    ("rsymfollow", Meaning::Recursive(0, ATTR_NOSYMFOLLOW)),
    ("rsync", Meaning::Nothing),
    ("runbindable", Meaning::Propagation(MS_UNBINDABLE | MS_REC)),
    ("rw", Meaning::Clear(MS_RDONLY)),
    ("shared", Meaning::Propagation(MS_SHARED)),
    ("silent", Meaning::Set(MS_SILENT)),
    ("slave", Meaning::Propagation(MS_SLAVE)),
    ("src-nofollow", Meaning::Link(Link::Source)),
    ("strictatime", Meaning::Set(MS_STRICTATIME)),
    ("suid", Meaning::Clear(MS_NOSUID)),
    ("symfollow", Meaning::Clear(MS_NOSYMFOLLOW)),
    ("sync", Meaning::Set(MS_SYNCHRONOUS)),
    ("tmpcopyup", Meaning::CopyUp),
    ("unbindable", Meaning::Propagation(MS_UNBINDABLE)),
];

/// Looks an option string up.
#[must_use]
pub fn option(name: &str) -> Option<Meaning> {
    OPTIONS.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|at| OPTIONS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted_and_found() {
        assert!(OPTIONS.windows(2).all(|w| w[0].0 < w[1].0));
        assert_eq!(option("rbind"), Some(Meaning::Set(MS_BIND | MS_REC)));
        assert_eq!(option("size=1k"), None);
    }
}
