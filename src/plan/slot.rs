//! Slots: numbered variables for descriptors.

/// An index into init's table of descriptors. The host half fills some slots before the clone, steps fill the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u16);

impl Slot {
    /// The container's root directory, a mount of its own.
    pub const ROOT: Self = Self(0);
    /// A procfs that nothing is mounted over.
    pub const PROC: Self = Self(1);
    /// The container's `/dev`.
    pub const DEV: Self = Self(2);
    /// A detached mount being made.
    pub const TREE: Self = Self(3);
    /// The master of the container's terminal.
    pub const PTY: Self = Self(4);
    /// The slave of the container's terminal.
    pub const TTY: Self = Self(5);
    /// The container's verified `/dev/null`.
    pub const NULL: Self = Self(6);
    /// `exec.fifo`, at which the init of `create` waits for `start`.
    pub const EXEC_FIFO: Self = Self(7);
    /// A pidfd of the container's first process (`exec`).
    pub const INIT: Self = Self(8);
    /// The seccomp listener.
    pub const LISTENER: Self = Self(9);
    /// The locked file (`gate`) by which others know that the container is created but not started. Init writes into it if it
    /// fails after `start`.
    pub const STATUS_LOCK: Self = Self(10);
    /// The socket of `--console-socket`.
    pub const CONSOLE: Self = Self(11);
    /// Standard input, output and error of hooks in the container.
    pub const HOOK: [Self; 3] = [Self(12), Self(13), Self(14)];
    /// Standard input of `startContainer` hooks: the state document with another status.
    pub const HOOK_START: Self = Self(15);
    /// The network namespace that a thread created in advance.
    pub const NETWORK: Self = Self(16);
    /// A mount namespace that was created from the root alone.
    pub const MOUNTS: Self = Self(17);
    /// The empty file system that covers masked directories.
    pub const COVER: Self = Self(18);
    /// The first number that a plan may assign.
    pub const FREE: u16 = 19;

    /// Its index in the table.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}
