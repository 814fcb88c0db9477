//! Who shares memory with whom, by processes that are spawned.

use super::*;
use crate::sys::file::{cwd, open};
use crate::sys::signal::End;
use crate::sys::task::Latch;
use std::sync::atomic::AtomicU32;

thread_local! {
    static OWN: std::cell::Cell<u32> = const { std::cell::Cell::new(7) };
}

#[derive(Debug, Default)]
struct Seen {
    errno: AtomicU32,
    own: AtomicU32,
    done: Latch,
}

extern "C" fn beside(seen: *mut c_void) -> ! {
    // SAFETY: the test passes a value that is leaked.
    let seen = unsafe { &*seen.cast_const().cast::<Seen>() };
    let refused = open(cwd(), c"/nonexistent", 0, 0).err();
    seen.errno.store(refused.map_or(0, |errno| errno as u32), Ordering::Relaxed);
    seen.own.store(OWN.replace(8), Ordering::Relaxed);
    seen.done.open();
    end_thread()
}

#[test]
fn a_thread_has_storage_of_its_own() {
    let seen: &'static Seen = Box::leak(Box::default());
    Errno::set_raw(0);
    OWN.set(9);
    thread(beside, seen).unwrap();
    seen.done.wait();
    let all = [&seen.errno, &seen.own].map(|word| word.load(Ordering::Relaxed));
    assert_eq!(all, [Errno::ENOENT as u32, 7], "errno and initial values are the thread's own");
    assert_eq!((OWN.get(), Errno::last_raw()), (9, 0), "ours stay ours");
    assert_eq!(thread(beside, seen), Err(Errno::EBUSY), "there is one area");
}

const NONE: Request<'_> = Request { new: Namespaces(0), cgroup: None };

/// Ends with a status that it has from its argument, and leaves a mark in memory.
fn leaves_mark(args: &'static mut (AtomicU32, i32)) -> ! {
    args.0.store(1, Ordering::Relaxed);
    task::exit_now(args.1)
}

fn end_of(child: &Process) -> Option<End> {
    signal::reap(child.pid, true).unwrap().map(|(_, end)| end)
}

/// Whether the child's mark is in our memory.
fn marked(args: &ChildArgs<(AtomicU32, i32)>) -> bool {
    // SAFETY: the child has ended.
    unsafe { args.start.as_ref() }.value.0.load(Ordering::Relaxed) == 1
}

#[test]
fn arguments_are_one_childs() {
    let mut copy = ChildArgs::new((AtomicU32::new(0), 7), leaves_mark);
    let child = copy.spawn(NONE).unwrap();
    assert_eq!(end_of(&child), Some(End::Exited(7)));
    assert!(!marked(&copy), "a child with a copy writes to the copy");
    let again = [copy.spawn(NONE), copy.spawn_sharing_memory(NONE), copy.spawn_through(NONE, false, &mut |_| Ok(()))];
    for answer in again {
        assert_eq!(answer.map(|child| child.pid), Err(Errno::EBUSY));
    }

    let mut sharing = ChildArgs::new((AtomicU32::new(0), 8), leaves_mark);
    let child = sharing.spawn_sharing_memory(NONE).unwrap();
    assert_eq!(end_of(&child), Some(End::Exited(8)));
    assert!(marked(&sharing), "a child that shares our memory writes to ours");
    let mut second = ChildArgs::new((AtomicU32::new(0), 9), leaves_mark);
    assert_eq!(second.spawn_sharing_memory(NONE).map(|child| child.pid), Err(Errno::EBUSY), "there is one stack");
}

#[test]
fn an_intermediate_process_runs_first_and_the_child_is_ours() {
    for own_memory in [false, true] {
        let mut args = ChildArgs::new((AtomicU32::new(0), 5), leaves_mark);
        let refused = args.spawn_through(NONE, own_memory, &mut |_| Err(Errno::EPERM));
        assert_eq!(refused.map(|child| child.pid), Err(Errno::EPERM), "the intermediate process's answer");
        let (ours, mut theirs) = (nix::unistd::getpid().as_raw(), 0);
        let mut before = |args: &(AtomicU32, i32)| {
            assert_eq!(args.1, 5);
            theirs = nix::unistd::getpid().as_raw();
            Ok(())
        };
        let child = args.spawn_through(NONE, own_memory, &mut before).unwrap();
        assert_eq!(end_of(&child), Some(End::Exited(5)), "it is our child");
        assert!(!marked(&args), "it has a copy of our memory");
        if own_memory {
            assert_eq!(theirs, 0, "the intermediate process has a copy, too");
        } else {
            assert!(theirs != 0 && theirs != ours && theirs != child.pid, "the intermediate process shares our memory");
        }
    }
}
