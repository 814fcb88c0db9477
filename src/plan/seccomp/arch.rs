//! The architectures that one kernel can run, and how each sees a system call. Depends on the name table's layout only.

use super::table::LIMITS;

/// An architecture as a profile means it: a system call table and a width of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86 (i386), under an x86_64 kernel.
    X86,
    /// x86_64 with 32-bit pointers: the audit value of x86_64, and bit 30 set in every number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI), under an arm64 kernel.
    Arm,
}

/// The bit that marks a number of x32 (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// In the table, numbers from here on are private calls of ARM.
const PRIVATE: u16 = 0xf000;
/// Where the private calls of ARM begin (`__ARM_NR_BASE`).
const PRIVATE_BASE: u32 = 0x000f_0000;
/// How many private numbers a table has room for; the kernel defines seven.
const PRIVATE_ROOM: usize = 16;

impl Arch {
    /// The architecture that this program is built for, if profiles are supported on it.
    pub const NATIVE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "x86") {
        Some(Self::X86)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else if cfg!(target_arch = "arm") {
        Some(Self::Arm)
    } else {
        None
    };

    /// The value of `seccomp_data.arch` (`AUDIT_ARCH_*` in linux/audit.h).
    #[must_use]
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are compared as 64 bits. x32's are not: libseccomp, whose verdicts are the reference, compares
    /// the lower halves.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        match self {
            Self::X86_64 | Self::Aarch64 => true,
            Self::X86 | Self::X32 | Self::Arm => false,
        }
    }

    /// Whether a kernel whose native architecture is `native` can run programs of this one.
    pub(super) const fn runs_under(self, native: Self) -> bool {
        match native {
            Self::X86_64 => matches!(self, Self::X86_64 | Self::X86 | Self::X32),
            Self::X86 => matches!(self, Self::X86),
            Self::Aarch64 => matches!(self, Self::Aarch64 | Self::Arm),
            Self::Arm => matches!(self, Self::Arm),
            Self::X32 => false,
        }
    }

    /// The column of the table.
    pub(super) const fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }

    /// How many slots hold a verdict for each number: the table's numbers, then ARM's private ones.
    pub(super) const fn slots(self) -> usize {
        match self {
            Self::X86_64 | Self::X86 | Self::X32 | Self::Aarch64 => LIMITS[self.column()] as usize,
            Self::Arm => LIMITS[self.column()] as usize + PRIVATE_ROOM,
        }
    }

    /// The slot of a number of the table.
    pub(super) const fn slot(self, raw: u16) -> usize {
        if raw >= PRIVATE { LIMITS[self.column()] as usize + (raw - PRIVATE) as usize } else { raw as usize }
    }

    /// The number as the kernel sees it (`seccomp_data.nr`) of a slot.
    pub(super) const fn number(self, slot: u32) -> u32 {
        let limit = LIMITS[self.column()] as u32;
        match self {
            Self::X32 => X32_BIT | slot,
            Self::Arm if slot >= limit => PRIVATE_BASE + slot - limit,
            Self::X86_64 | Self::X86 | Self::Aarch64 | Self::Arm => slot,
        }
    }
}
