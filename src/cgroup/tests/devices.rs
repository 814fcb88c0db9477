//! The device filter, tested by opening devices.

use super::{Bench, make};
use crate::plan::cgroup::Devices;
use crate::sys::bpf::Program;
use crate::sys::cgroupfs::{open_dir, send_signal};
use std::os::fd::AsFd;

/// Rules that deny the memory devices, but those that every container has, and reading 1:11 (kmsg).
const KMSG: &str = r#"{"devices":[{"allow":false,"access":"rwm"},
    {"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;

/// Creates device nodes in a directory of its own and tries to open them.
fn probe(bench: &mut Bench) -> String {
    bench.run(
        "mknod $D/null c 1 3; mknod $D/kmsg c 1 11; mknod $D/disk b 7 99; for n in null kmsg; do \
         (exec 3< $D/$n) 2> /dev/null && echo -n \"r-$n \"; (exec 3>> $D/$n) 2> /dev/null && echo -n \"w-$n \"; done; \
         ls $D | tr '\\n' ' '; rm $D/*; exit 0",
    )
}

#[test]
fn rules_hold() {
    let mut bench = Bench::new(KMSG);
    bench.made.limit(&bench.plan).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null r-kmsg disk kmsg null 0");
}

#[test]
fn nothing_is_denied_without_rules_that_deny() {
    let mut bench = Bench::new(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    bench.made.limit(&bench.plan).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null r-kmsg w-kmsg disk kmsg null 0");
}

#[test]
fn the_default_denies() {
    let mut bench = Bench::new("{}");
    bench.made.limit(&bench.plan).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null disk kmsg null 0");
}

#[test]
fn rules_are_exchanged_with_no_moment_without() {
    let rule =
        |minor: u32| format!(r#"{{"devices":[{{"allow":true,"type":"c","major":1,"minor":{minor},"access":"w"}}]}}"#);
    let (mut bench, other, kmsg) = (Bench::new(&rule(1)), Bench::new(&rule(2)), Bench::new(KMSG));
    bench.made.limit(&bench.plan).unwrap();
    let pid =
        bench.start("exec 2>&-; mknod $D/x c 1 11; while :; do (exec 3< $D/x) && echo open; echo >> $D/tries; done");
    while !bench.scratch.join("x").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let tries = || std::fs::read(bench.scratch.join("tries")).map_or(0, |tries| tries.len());
    for round in 0..10_000 {
        bench.handle().set_devices(if round % 2 == 0 { &other.plan.devices } else { &bench.plan.devices }).unwrap();
        if let Devices::Bpf(_) = &bench.plan.devices {
            let dir = open_dir(bench.handle().unified().unwrap()).unwrap();
            assert_eq!(Program::attached(dir.as_fd()).unwrap().len(), 1);
        }
        if tries() > 50 {
            break;
        }
    }
    assert!(tries() > 50);
    send_signal(pid, 9).unwrap();
    for file in ["x", "tries"] {
        std::fs::remove_file(bench.scratch.join(file)).unwrap();
    }
    let output = bench.children.pop().unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");

    bench.handle().set_devices(&kmsg.plan.devices).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null r-kmsg disk kmsg null 0");
    // everything can be allowed again
    let all = Bench::new(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    bench.handle().set_devices(&all.plan.devices).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null r-kmsg w-kmsg disk kmsg null 0");
}

#[test]
fn several_programs_become_one() {
    let bench = Bench::new(KMSG);
    bench.made.limit(&bench.plan).unwrap();
    let Devices::Bpf(code) = &bench.plan.devices else { return };
    let dir = open_dir(bench.handle().unified().unwrap()).unwrap();
    for _ in 0..3 {
        Program::load(code).unwrap().attach(dir.as_fd()).unwrap();
    }
    assert_eq!(Program::attached(dir.as_fd()).unwrap().len(), 4);
    bench.handle().set_devices(&bench.plan.devices).unwrap();
    assert_eq!(Program::attached(dir.as_fd()).unwrap().len(), 1);
}

#[test]
fn a_filter_that_was_left_does_not_stay() {
    let mut bench = Bench::new("{}");
    bench.made.limit(&bench.plan).unwrap();
    let again = make(&bench.plan).unwrap();
    let other = Bench::new(KMSG);
    again.limit(&other.plan).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null r-kmsg disk kmsg null 0");
}
