//! The numbers of the descriptors that both halves know.

/// A place in the table of descriptors that both halves know: the host fills some before the clone, steps the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u16);

impl Slot {
    /// The container's root directory, as a mount of its own.
    pub const ROOT: Self = Self(0);
    /// A procfs that nothing is mounted over.
    pub const PROC: Self = Self(1);
    /// The container's `/dev`.
    pub const DEV: Self = Self(2);
    /// A detached mount being made.
    pub const TREE: Self = Self(3);
    /// The master of the container's terminal.
    pub const PTY: Self = Self(4);
    /// The container's side of its terminal.
    pub const TTY: Self = Self(5);
    /// The container's verified `/dev/null`.
    pub const NULL: Self = Self(6);
    /// The fifo through which `start` lets init go (`create`).
    pub const EXEC_FIFO: Self = Self(7);
    /// A pidfd of the container's first process (`exec`).
    pub const INIT: Self = Self(8);
    /// The seccomp listener.
    pub const LISTENER: Self = Self(9);
    /// The locked file that says that the container is created and not started, and that takes a late failure.
    pub const STATUS_LOCK: Self = Self(10);
    /// The socket of `--console-socket`.
    pub const CONSOLE: Self = Self(11);
    /// Standard input, output and error of hooks in the container.
    pub const HOOK: [Self; 3] = [Self(12), Self(13), Self(14)];
    /// Standard input of hooks at the start: another status stands in it.
    pub const HOOK_START: Self = Self(15);
    /// The network namespace that was made ahead.
    pub const NETWORK: Self = Self(16);
    /// A mount namespace that holds the root alone.
    pub const MOUNTS: Self = Self(17);
    /// The empty file system that covers masked directories.
    pub const COVER: Self = Self(18);
    /// The first one that a plan may number itself.
    pub const FREE: u16 = 19;
}
