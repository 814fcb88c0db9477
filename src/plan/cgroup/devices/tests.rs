//! Compares the program with a simple interpretation of the rules; tests the v1 exceptions.

#![allow(clippy::cast_possible_truncation, reason = "small random numbers")]

use super::super::{Hierarchy, Tree};
use super::*;

fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_str(json).unwrap()
}

fn v1_facts() -> CgroupFacts {
    let devices = Hierarchy { controllers: vec!["devices".to_owned()], ..Hierarchy::default() };
    CgroupFacts::Legacy { hierarchies: vec![devices], unified: None }
}

fn v2_facts() -> CgroupFacts {
    CgroupFacts::Unified(Tree::default())
}

/// A simple interpretation of the rules: for each access the last matching rule decides.
fn meaning(rules: &[Rule], node: Type, major: u32, minor: u32, access: u8) -> bool {
    [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
        let fits = |rule: &&Rule| {
            rule.access & bit != 0
                && rule.node.is_none_or(|n| n == node)
                && rule.major.is_none_or(|n| n == major)
                && rule.minor.is_none_or(|n| n == minor)
        };
        rules.iter().rfind(fits).is_some_and(|rule| rule.allow)
    })
}

/// Runs a program as the kernel would.
fn run(code: &[u64], node: Type, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(access) << 16 | node as u32, major, minor];
    let mut r = [0_u32; 11];
    let mut pc = 0;
    for _ in 0..code.len() {
        let insn = code[pc];
        let (dst, src) = ((insn >> 8 & 15) as usize, (insn >> 12 & 15) as usize);
        let (off, imm) = ((insn >> 16 & 0xffff) as usize, (insn >> 32) as u32);
        pc += 1;
        match insn & 0xff {
            0x61 => r[dst] = context[off / 4],
            0xbc => r[dst] = r[src],
            0xb4 => r[dst] = imm,
            0x54 => r[dst] &= imm,
            0x74 => r[dst] >>= imm,
            0x7c => r[dst] >>= r[src],
            0x26 if r[dst] > imm => pc += off,
            0x56 if r[dst] != imm => pc += off,
            0x16 if r[dst] == imm => pc += off,
            0x56 | 0x16 | 0x26 => {}
            0x95 => return r[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
    panic!("ran over the end");
}

#[test]
fn the_program_means_what_the_rules_say() {
    // few values, so that random rules overlap; the generator is Numerical Recipes' and needs no crate
    let mut state = 1_u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for _ in 0..3000 {
        let count = below(9);
        let list: Vec<Rule> = (0..count)
            .map(|_| Rule {
                allow: below(2) == 0,
                node: [None, Some(Type::Block), Some(Type::Char)][below(3) as usize],
                major: [None, Some(0), Some(u32::MAX)][below(3) as usize],
                minor: [None, Some(0), Some(7), Some(31), Some(32)][below(5) as usize],
                access: 1 + below(7) as u8,
            })
            .collect();
        let code = bpf(&list).unwrap();
        for node in [Type::Block, Type::Char] {
            for (major, minor) in
                [(0, 0), (0, 7), (0, 31), (u32::MAX, 0), (u32::MAX, 9), (u32::MAX, 32), (3, 3), (3, 31)]
            {
                for access in 1..=ALL {
                    let got = code.as_ref().is_none_or(|code| run(code, node, major, minor, access));
                    let want = meaning(&list, node, major, minor, access);
                    assert_eq!(got, want, "{node:?} {major}:{minor} {access} under {list:?}");
                }
            }
        }
    }
}

#[test]
fn rules_that_are_there_twice_cost_nothing() {
    // as engines send them: the defaults again
    let once = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#;
    let of = |list: String| plan(&rules(&list), &v2_facts()).unwrap();
    assert_eq!(of(format!("[{once},{once}]")), of("[]".to_owned()));
}

#[test]
fn everything_allowed_needs_no_program() {
    let all = rules(r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#);
    assert_eq!(plan(&all, &v2_facts()).unwrap(), Devices::Unrestricted);
    let none = rules(r#"[{"allow":false,"access":"rwm"}]"#);
    let Devices::Bpf(code) = plan(&none, &v2_facts()).unwrap() else { panic!() };
    assert_eq!(plan(&[], &v2_facts()).unwrap(), Devices::Bpf(code.clone()));
    // null and any mknod are always allowed, the machine's memory never
    assert!(run(&code, Type::Char, 1, 3, READ | WRITE));
    assert!(run(&code, Type::Block, 8, 0, MKNOD));
    assert!(run(&code, Type::Char, 136, 5, READ | WRITE));
    assert!(!run(&code, Type::Char, 1, 1, READ));
    assert!(!run(&code, Type::Block, 1, 3, READ));
}

#[test]
fn v1_exceptions() {
    let defaults = "allow b *:* m, allow c *:* m, allow c 1:3 rwm, allow c 1:5 rwm, allow c 1:7 rwm, \
                    allow c 1:8 rwm, allow c 1:9 rwm, allow c 5:0 rwm, allow c 5:2 rwm, allow c 10:200 rwm, \
                    allow c 136:* rwm";
    let table = [
        ("[]", format!("deny a, {defaults}")),
        (r#"[{"allow":false,"access":"rwm"}]"#, format!("deny a, {defaults}")),
        (r#"[{"allow":true,"access":"rwm"}]"#, "allow a".to_owned()),
        (
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"minor":-1,"access":"wr"}]"#,
            "allow a, deny b 8:* rw".to_owned(),
        ),
        (
            r#"[{"allow":true,"type":"c","major":1,"minor":3,"access":"r"},
                {"allow":true,"type":"u","major":0,"minor":0,"access":"w"},
                {"allow":true,"type":"c","major":0,"minor":1,"access":"rw"},
                {"allow":false,"type":"c","major":0,"minor":1,"access":"r"},
                {"allow":true,"type":"c","major":0,"minor":2,"access":"r"},
                {"allow":false,"type":"c","major":0,"minor":2,"access":"rw"}]"#,
            format!("deny a, {}", defaults.replace("allow c 1:3", "allow c 0:0 w, allow c 0:1 w, allow c 1:3")),
        ),
    ];
    // a letter that runc ignores
    let odd = r#"[{"allow":true,"type":"c","major":1,"minor":11,"access":"rwa"}]"#;
    assert_eq!(plan(&rules(odd), &v1_facts()).unwrap(), plan(&rules(&odd.replace("rwa", "rw")), &v1_facts()).unwrap());
    for (json, want) in table {
        let Devices::V1(writes) = plan(&rules(json), &v1_facts()).unwrap() else { panic!() };
        let got: Vec<_> = writes.iter().map(|w| format!("{} {}", w.file.replace("devices.", ""), w.value)).collect();
        assert_eq!(got.join(", "), want, "{json}");
    }
}

#[test]
fn mistakes() {
    for (json, want) in [
        (r#"[{"allow":true,"type":"c"}]"#, "[0].access: device access at 0 field cannot be empty"),
        (r#"[{"allow":true,"access":""}]"#, "[0].access: device access at 0 field cannot be empty"),
        (r#"[{"allow":true,"access":"a"}]"#, "[0].access: device access at 0 field cannot be empty"),
        (r#"[{"allow":true,"access":"rx"}]"#, "[0].access: unknown access \"x\""),
        (r#"[{"allow":true,"type":"p","access":"r"}]"#, "[0].type: invalid cgroup device type \"p\""),
        (r#"[{"allow":true,"major":-2,"access":"r"}]"#, "[0].major: -2 is no device number"),
        (r#"[{"allow":true,"minor":4294967296,"access":"r"}]"#, "[0].minor: 4294967296 is no device number"),
    ] {
        let error = plan(&rules(json), &v2_facts()).unwrap_err().to_string();
        assert_eq!(error, format!("linux.resources.devices{want}"), "{json}");
    }
    let hole =
        r#"[{"allow":true,"type":"b","access":"rw"},{"allow":false,"type":"b","major":8,"minor":0,"access":"w"}]"#;
    assert_eq!(
        plan(&rules(hole), &v1_facts()).unwrap_err().to_string(),
        "linux.resources.devices: rule \"b 8:0 w\" not supported by devices cgroupv1 \
         (cannot punch hole in existing rule \"b *:* rw\")"
    );
    assert!(plan(&rules(hole), &v2_facts()).is_ok());
    let nothing = CgroupFacts::Legacy { hierarchies: Vec::new(), unified: None };
    assert_eq!(plan(&[], &nothing).unwrap_err().to_string(), "mountpoint for devices not found");
}
