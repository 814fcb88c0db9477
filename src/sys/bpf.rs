//! bpf(2) for the device filter of cgroup v2: load a program, attach it to a cgroup, list the attached ones.
//!
//! May use nix and libc only. The numbers are those of `include/uapi/linux/bpf.h`.

use super::owned;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;
/// How many device programs of a cgroup are listed at most. (Usual are systemd's and ours.)
const MOST_PROGRAMS: usize = 64;

/// A device program in the kernel. It lives as long as this descriptor or its attachment to a cgroup.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`; what is not named is zero.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
    padding: u32,
}

/// The attribute with room behind it: some answers (`query.revision` of Linux 6.17) are written at their place in the
/// kernel's own union whatever size the caller gave.
#[repr(C)]
struct Room<T> {
    attr: T,
    room: [u64; 32],
}

fn bpf<T>(command: libc::c_long, attr: T) -> Result<(libc::c_int, T), Errno> {
    let mut room = Room { attr, room: [0; 32] };
    // SAFETY: `room` is live, exclusively borrowed and longer than any kernel's `union bpf_attr`, of which `attr` is a
    // prefix whose true size is passed; so the kernel reads and writes no further. The pointers inside `attr` are this
    // module's callers', each to a buffer of theirs that outlives the call and is as long as the count beside it.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(&mut room), size_of::<T>()) };
    Errno::result(answer).map(|n| (libc::c_int::try_from(n).unwrap_or_default(), room.attr))
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

impl Program {
    /// Has a device program checked and loaded by the kernel. Each element of `code` is one `struct bpf_insn`.
    ///
    /// # Errors
    /// bpf(2)'s: `EPERM` without `CAP_BPF`/`CAP_SYS_ADMIN` in the first user namespace, `EINVAL` or `EACCES` if the
    /// verifier refuses the program.
    pub fn load(code: &[u64]) -> Result<Self, Errno> {
        let license = c"Apache";
        let mut name = [0_u8; 16];
        name.iter_mut().zip(b"onggi_device").for_each(|(to, from)| *to = *from);
        let attr = Load {
            prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
            insn_cnt: u32::try_from(code.len()).map_err(|_| Errno::E2BIG)?,
            insns: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            prog_name: name,
            ..Load::default()
        };
        // the verifier fails with EAGAIN while a signal is pending, even an ignored one
        const TRIES: usize = 32;
        let mut answer = Err(Errno::EAGAIN);
        for _ in 0..TRIES {
            answer = bpf(BPF_PROG_LOAD, attr);
            if !matches!(answer, Err(Errno::EAGAIN)) {
                break;
            }
        }
        answer.map(|(fd, _)| Self(owned(fd)))
    }

    /// Attaches the program to a cgroup, in addition to those attached already.
    ///
    /// # Errors
    /// bpf(2)'s.
    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
        self.attach_with(cgroup, BPF_F_ALLOW_MULTI, None)
    }

    /// Replaces `old` by this program atomically: one of them is always in force.
    ///
    /// # Errors
    /// bpf(2)'s; `ENOENT` if `old` is not attached there.
    pub fn replace(&self, cgroup: BorrowedFd<'_>, old: &Self) -> Result<(), Errno> {
        self.attach_with(cgroup, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, Some(old))
    }

    fn attach_with(&self, cgroup: BorrowedFd<'_>, flags: u32, old: Option<&Self>) -> Result<(), Errno> {
        use std::os::fd::AsFd;
        let attr = Attach {
            target_fd: number(cgroup),
            attach_bpf_fd: number(self.0.as_fd()),
            attach_type: BPF_CGROUP_DEVICE,
            attach_flags: flags,
            replace_bpf_fd: old.map_or(0, |old| number(old.0.as_fd())),
        };
        bpf(BPF_PROG_ATTACH, attr).map(drop)
    }

    /// Detaches the program from a cgroup.
    ///
    /// # Errors
    /// bpf(2)'s.
    pub fn detach(&self, cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
        use std::os::fd::AsFd;
        let attr = Attach {
            target_fd: number(cgroup),
            attach_bpf_fd: number(self.0.as_fd()),
            attach_type: BPF_CGROUP_DEVICE,
            ..Attach::default()
        };
        bpf(BPF_PROG_DETACH, attr).map(drop)
    }

    /// The device programs that are attached to a cgroup itself (not those of its parents).
    ///
    /// # Errors
    /// bpf(2)'s. A program that is removed meanwhile is left out.
    pub fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<Self>, Errno> {
        let mut ids = [0_u32; MOST_PROGRAMS];
        let attr = Query {
            target_fd: number(cgroup),
            attach_type: BPF_CGROUP_DEVICE,
            prog_ids: ids.as_mut_ptr() as u64,
            prog_cnt: u32::try_from(ids.len()).unwrap_or_default(),
            ..Query::default()
        };
        let (_, answer) = bpf(BPF_PROG_QUERY, attr)?;
        let mut programs = Vec::new();
        for id in ids.iter().take(answer.prog_cnt as usize) {
            match bpf(BPF_PROG_GET_FD_BY_ID, ById { prog_id: *id, ..ById::default() }) {
                Ok((fd, _)) => programs.push(Self(owned(fd))),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(programs)
    }
}
