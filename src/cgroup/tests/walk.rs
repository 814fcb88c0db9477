//! Walks through cgroups that others create and remove meanwhile.

use super::Bench;
use crate::cgroup::remove::empty;
use crate::cgroup::walk::{Visit, walk};
use crate::sys::cgroupfs::open_dir;
use crate::sys::{Answer, Errno, file};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A cgroup in which the tests create others.
fn bench() -> (Bench, PathBuf) {
    let bench = Bench::new("{}");
    let top = bench.handle().unified().expect("a cgroup2 tree").to_owned();
    (bench, top)
}

/// Creates one more in each cgroup that it enters, so that the walk never ends.
struct Grower;

impl Visit for Grower {
    fn enters(&mut self, dir: BorrowedFd<'_>, _name: &CStr) -> Answer<()> {
        file::mkdir(dir, c"more", 0o755)
    }
}

#[test]
fn a_tree_that_grows_all_the_time_is_given_up() {
    let (_bench, top) = bench();
    let end = Instant::now() + Duration::from_millis(50);
    assert_eq!(walk(open_dir(&top).unwrap().as_fd(), end, &mut Grower), Err(Errno::ETIMEDOUT));
    // by then it had gone deep
    assert!(top.join("more/more/more").exists());
    assert_eq!(empty(&top), Ok(()));
    assert!(!top.exists());
}

/// Removes the cgroups that it walks through.
struct Remover<'a> {
    at: &'a CStr,
    removes: [PathBuf; 2],
    met: Vec<CString>,
}

impl Visit for Remover<'_> {
    fn enters(&mut self, _dir: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
        self.met.push(name.to_owned());
        if name == self.at {
            self.removes.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
        }
        Ok(())
    }
}

#[test]
fn what_goes_meanwhile_is_no_failure() {
    let (_bench, top) = bench();
    let odd = |name: &[u8]| Path::new(OsStr::from_bytes(name)).to_owned();
    for path in [odd(b"a/\xff"), odd(b"b/\xff"), odd(b"c/\xff")] {
        std::fs::create_dir_all(top.join(path)).unwrap();
    }
    let removes = [top.join(odd(b"b/\xff")), top.join("b")];
    let mut remover = Remover { at: c"b", removes, met: Vec::new() };
    walk(open_dir(&top).unwrap().as_fd(), soon(), &mut remover).unwrap();
    remover.met.sort();
    assert_eq!(remover.met, [c"", c"a", c"b", c"c", c"\xff", c"\xff"].map(CString::from));

    // the cgroup that was entered, and the one above it
    let removes = [top.join(odd(b"c/\xff")), top.join("c")];
    std::fs::remove_dir(top.join(odd(b"a/\xff"))).unwrap();
    let mut remover = Remover { at: c"\xff", removes, met: Vec::new() };
    walk(open_dir(&top).unwrap().as_fd(), soon(), &mut remover).unwrap();
    remover.met.sort();
    assert_eq!(remover.met, [c"", c"a", c"c", c"\xff"].map(CString::from));
    assert_eq!(empty(&top), Ok(()));
}

#[test]
fn what_is_in_use_stays_and_the_rest_goes() {
    let (mut bench, top) = bench();
    let pid = bench.start("exec sleep 100");
    for name in ["a/b", "c/d"] {
        std::fs::create_dir_all(top.join(name)).unwrap();
    }
    std::fs::write(top.join("c/d/cgroup.procs"), pid.to_string()).unwrap();
    assert_eq!(empty(&top), Err(Errno::EBUSY));
    assert!(!top.join("a").exists() && top.join("c/d").exists());
    let file = std::fs::read_to_string(top.join("c/d/cgroup.procs")).unwrap();
    assert_eq!((file.trim_end(), bench.handle().pids().unwrap()), (pid.to_string().as_str(), vec![pid]));
}
