//! Opens what the plan says is opened before the clone.

#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set, and most steps explain themselves")]

use super::hooks::Files;
use super::{idmap, init_error, node};
use crate::abi::mount::{MS_SLAVE, MountAttr};
use crate::error::{Context, Error, Result};
use crate::plan::step::{Slot, Step};
use crate::plan::{Mapped, Open, Plan};
use crate::sys::file::{self, cwd};
use crate::sys::{Answer, Errno, close, mount, ns, socket};
use std::ffi::{CStr, CString};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Fills the slots as the plan says.
///
/// # Errors
/// Something can't be opened; the error names it, with its JSON path if it has one.
pub(super) fn open(plan: &Plan) -> Result<Vec<Option<OwnedFd>>> {
    let mut slots: Vec<Option<OwnedFd>> = Vec::new();
    slots.resize_with(plan.slots.into(), || None);
    for (slot, open) in &plan.opens {
        match open {
            Open::HookFiles(output) => {
                for (slot, fd) in Slot::HOOK.into_iter().zip(Files::new(output)?.into_inner()) {
                    slots[slot.index()] = Some(fd);
                }
                slots[Slot::HOOK_START.index()] = Some(file::memfd(c"hook").context(|| "memfd_create")?);
            }
            open => {
                let opened = one(open, &slots).map_err(|error| {
                    let takes = |step: &Step| matches!(step, Step::Take { slot: taken, .. } if taken == slot);
                    let bind = plan.steps.iter().position(takes).and_then(|at| init_error::bind_at(&plan.steps, at));
                    match bind {
                        Some((source, target)) => error.context(init_error::mounting(source, target)),
                        None => error,
                    }
                });
                slots[slot.index()] = Some(opened?);
            }
        }
    }
    Ok(slots)
}

fn one(open: &Open, slots: &[Option<OwnedFd>]) -> Result<OwnedFd> {
    match open {
        Open::Namespace { path, kind, at } => {
            let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::spec(at, "holds a zero byte"))?;
            let fd = file::open(cwd(), &name, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
                .context(|| format!("{at}: open {}", path.display()))?;
            match ns::kind(fd.as_fd()) {
                Some(found) if found == *kind => Ok(fd),
                Some(found) => {
                    let text = format!("{} is a {} namespace, not {}", path.display(), found.name(), kind.name());
                    Err(Error::spec(at, text))
                }
                None => Err(Error::spec(at, format!("{} is no namespace", path.display()))),
            }
        }
        Open::Tree { source, recursive, nofollow, mapped, fallback, shares } => {
            let cloned = match (tree(source, *recursive, *nofollow, *shares), fallback) {
                (Err(Errno::ENOENT), Some(fallback)) => tree(fallback, *recursive, false, *shares),
                (answer, _) => answer,
            };
            let tree = cloned.map_err(|errno| {
                let path = source.to_string_lossy();
                match errno {
                    Errno::ENOENT => Error::from(errno).context(format!("failed to fulfil mount request: open {path}")),
                    _ => Error::from(errno).context(format!("open_tree({path:?})")),
                }
            })?;
            if let Some(mapped) = mapped {
                map_ids(tree.as_fd(), source, *mapped, slots)?;
            }
            Ok(tree)
        }
        Open::Node { source, mode, device, owner } => node::open(source, *mode, *device, *owner),
        Open::Mapping(maps) => idmap::namespace(maps)
            .map_err(|error| error.context("failed to fulfil mount request: failed to create userns for id-mapping")),
        Open::Console(path) => {
            socket::connect_stream(path).context(|| format!("connect to console socket {}", path.display()))
        }
        Open::HookFiles(_) => Err(Error::msg("hook files take three slots")),
    }
}

/// Maps the ids of a detached mount.
///
/// # Errors
/// Worded like runc's.
pub(super) fn map_ids(tree: BorrowedFd<'_>, source: &CStr, mapped: Mapped, slots: &[Option<OwnedFd>]) -> Result<()> {
    let namespace = slots.get(usize::from(mapped.namespace.0)).and_then(Option::as_ref);
    let namespace =
        namespace.ok_or_else(|| Error::msg("internal error: no user namespace in the slot of an id mapping"))?;
    mount::map_ids(tree, namespace.as_fd(), mapped.recursive).map_err(|errno| init_error::not_mapped(source, errno))
}

/// A clone of a mount that receives what is mounted on the host and propagates nothing back, as if init had cloned it in its
/// own mount namespace; or, if `shares`, one that stays in the peer group.
fn tree(source: &CStr, recursive: bool, nofollow: bool, shares: bool) -> Answer<OwnedFd> {
    let tree = mount::clone_tree(cwd(), source, recursive, !nofollow)?;
    if shares {
        return Ok(tree);
    }
    let slave = MountAttr { propagation: MS_SLAVE, ..MountAttr::default() };
    mount::set_attr(tree.as_fd(), &slave, true)?;
    Ok(tree)
}

/// Checks that the descriptors that the caller wants preserved are open. They are counted from 3 on; `asked` names the option.
///
/// # Errors
/// One is not open.
pub fn check_preserved(asked: &str, range: Range<u32>) -> Result<()> {
    let count = range.len();
    for number in range {
        let number = i32::try_from(number).ok().and_then(|number| number.checked_add(3)).unwrap_or(i32::MAX);
        close::close_on_exec(number, false).context(|| format!("{asked} {count}: descriptor {number}"))?;
    }
    Ok(())
}

/// So many numbers are checked one by one; beyond that, procfs is asked for the highest open one.
const FEW: u32 = 64;

/// The highest number of an open descriptor of ours, if procfs tells.
fn highest_open() -> Option<u32> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max()
}

/// Lets the descriptors of `--preserve-fds` through to the payload: `count` of them, from number 3 + `from` on. Returns how many
/// numbers that are, up to the last one that is open. Numbers in between that are not open are filled with an empty file that
/// is closed on execve, so that no descriptor of ours gets one of them: the payload finds them closed, as the caller left them.
///
/// # Errors
/// The kernel's answer.
pub fn preserve(count: u32, from: u32) -> Result<u32> {
    let what = |number: i32| move || format!("--preserve-fds {count}: descriptor {number}");
    let number = |index: u32| i32::try_from(from + index).unwrap_or(i32::MAX).saturating_add(3);
    let (mut holes, mut kept) = (Vec::new(), 0);
    let candidates = if count > FEW {
        count.min(highest_open().map_or(count, |highest| highest.saturating_sub(2 + from)))
    } else {
        count
    };
    for index in 0..candidates {
        match close::close_on_exec(number(index), false) {
            Ok(()) => kept = index + 1,
            Err(Errno::EBADF) => holes.push(index),
            Err(errno) => return Err(errno).context(what(number(index))),
        }
    }
    let mut holes = holes.into_iter().filter(|index| *index < kept).map(number);
    if let Some(first) = holes.next() {
        // it gets the lowest number that is not open
        let filler = ManuallyDrop::new(file::memfd(c"hole").context(what(first))?);
        for hole in holes {
            file::reserve(filler.as_fd(), hole).context(what(hole))?;
        }
    }
    Ok(kept)
}
