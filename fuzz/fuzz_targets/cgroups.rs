//! Feeds a `linux.cgroupsPath` and, behind a zero byte, limits to the plan of the cgroups.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (path, limits) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let limits = limits.get(1..).and_then(|text| onggi::fuzzing::spec::resources(text).ok());
    onggi_fuzz::cgroups(limits.as_ref(), Some(Path::new(OsStr::from_bytes(path))));
});
