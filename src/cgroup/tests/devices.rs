//! The device filter by opening devices.

use super::Bench;
use crate::plan::cgroup::Devices;
use crate::sys::bpf::Program;
use crate::sys::cgroupfs::open_dir;
use std::os::fd::AsFd;

/// Rules that allow nothing of the memory devices but what every container has, and reading of 1:11 (kmsg).
const KMSG: &str = r#"{"devices":[{"allow":false,"access":"rwm"},
    {"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;

/// Makes nodes in a directory of its own and tries to open them.
fn probe(bench: &mut Bench) -> String {
    bench.run(
        "d=$(mktemp -d); mknod $d/null c 1 3; mknod $d/kmsg c 1 11; mknod $d/mem c 1 1; mknod $d/disk b 7 99; \
         t() { if $2 2> /dev/null; then echo -n \"$1 \"; fi; }; \
         r() { exec 3< $d/$1; }; w() { exec 3>> $d/$1; }; \
         for n in null kmsg mem disk; do (r $n) 2> /dev/null && echo -n \"r-$n \"; \
         (w $n) 2> /dev/null && echo -n \"w-$n \"; done; ls $d | tr '\\n' ' '; rm -r $d; exit 0",
    )
}

#[test]
fn rules_hold() {
    let mut bench = Bench::new(KMSG);
    bench.made.limit(&bench.plan).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null r-kmsg disk kmsg mem null 0");
}

#[test]
fn nothing_is_denied_without_rules_that_deny() {
    let mut bench = Bench::new(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    bench.made.limit(&bench.plan).unwrap();
    let said = probe(&mut bench);
    assert!(said.starts_with("r-null w-null r-kmsg w-kmsg r-mem"), "{said}");
}

#[test]
fn the_default_denies() {
    let mut bench = Bench::new("{}");
    bench.made.limit(&bench.plan).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null disk kmsg mem null 0");
}

#[test]
fn rules_are_exchanged_with_no_moment_without() {
    let mut bench = Bench::new(KMSG);
    let other = Bench::new(r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]}"#);
    bench.made.limit(&bench.plan).unwrap();
    let Devices::Bpf(_) = &bench.plan.devices else {
        // v1 takes rules back before it gives others: nothing is allowed in between
        bench.handle().set_devices(&other.plan.devices).unwrap();
        assert_eq!(probe(&mut bench), "r-null w-null w-kmsg disk kmsg mem null 0");
        return;
    };
    bench.start("d=$(mktemp -d); mknod $d/mem c 1 1; while :; do (exec 3< $d/mem) 2> /dev/null && echo open; done");
    for round in 0..100 {
        bench.handle().set_devices(if round % 2 == 0 { &other.plan.devices } else { &bench.plan.devices }).unwrap();
        let dir = open_dir(bench.handle().unified().unwrap()).unwrap();
        assert_eq!(Program::attached(dir.as_fd()).unwrap().len(), 1);
    }
    bench.handle().set_devices(&other.plan.devices).unwrap();
    assert_eq!(probe(&mut bench), "r-null w-null w-kmsg disk kmsg mem null 0");
    bench.handle().kill_all().unwrap();
    let output = bench.children.pop().unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    // and all can be allowed again
    bench.handle().set_devices(&Devices::Unrestricted).unwrap();
    assert!(probe(&mut bench).contains("r-mem"));
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
