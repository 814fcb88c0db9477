//! Namespaces: their names in the spec and in `/proc/PID/ns`, their clone flags (`clone(2)`, `namespaces(7)`).

/// One of the eight kinds of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Process ids (`pid_namespaces(7)`).
    Pid,
    /// Network devices, addresses, ports (`network_namespaces(7)`).
    Network,
    /// The mount table (`mount_namespaces(7)`).
    Mount,
    /// System V and POSIX message queues (`ipc_namespaces(7)`).
    Ipc,
    /// Host and domain name (`uts_namespaces(7)`).
    Uts,
    /// User and group ids (`user_namespaces(7)`).
    User,
    /// The root of the cgroup tree (`cgroup_namespaces(7)`).
    Cgroup,
    /// The monotonic and boot clocks (`time_namespaces(7)`, Linux 5.6).
    Time,
}

impl Namespace {
    /// All of them, in the order in which they are joined: the user namespace first, because it gives the capabilities
    /// for the others; the mount namespace last, because joining it changes every path.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Ipc, Self::Uts, Self::Network, Self::Pid, Self::Cgroup, Self::Time, Self::Mount];

    /// The name that the runtime spec gives it (config-linux.md, Namespaces).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Its file in `/proc/PID/ns`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::Pid | Self::Ipc | Self::Uts | Self::User | Self::Cgroup | Self::Time => self.name(),
        }
    }

    /// Its `CLONE_NEW*` flag, which `NS_GET_NSTYPE` returns.
    #[must_use]
    pub fn flag(self) -> u64 {
        match self {
            Self::Pid => 0x2000_0000,
            Self::Network => 0x4000_0000,
            Self::Mount => 0x0002_0000,
            Self::Ipc => 0x0800_0000,
            Self::Uts => 0x0400_0000,
            Self::User => 0x1000_0000,
            Self::Cgroup => 0x0200_0000,
            Self::Time => 0x80,
        }
    }

    /// runc's key for it in `namespace_paths` of the state record.
    #[must_use]
    pub fn runc_key(self) -> &'static str {
        match self {
            Self::Pid => "NEWPID",
            Self::Network => "NEWNET",
            Self::Mount => "NEWNS",
            Self::Ipc => "NEWIPC",
            Self::Uts => "NEWUTS",
            Self::User => "NEWUSER",
            Self::Cgroup => "NEWCGROUP",
            Self::Time => "NEWTIME",
        }
    }
}

/// A set of namespaces, as `CLONE_NEW*` flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(pub u64);

impl Namespaces {
    /// Adds one.
    pub fn insert(&mut self, kind: Namespace) {
        self.0 |= kind.flag();
    }

    /// Takes one away.
    pub fn remove(&mut self, kind: Namespace) {
        self.0 &= !kind.flag();
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, kind: Namespace) -> bool {
        self.0 & kind.flag() != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Namespace> for Namespaces {
    fn from(kind: Namespace) -> Self {
        Self(kind.flag())
    }
}

impl FromIterator<Namespace> for Namespaces {
    fn from_iter<I: IntoIterator<Item = Namespace>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |flags, kind| flags | kind.flag()))
    }
}

impl core::fmt::Display for Namespaces {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut bar = "";
        for kind in Namespace::ALL {
            if self.has(kind) {
                write!(f, "{bar}{}", kind.name())?;
                bar = "|";
            }
        }
        Ok(())
    }
}
