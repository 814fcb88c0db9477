//! Feeds texts to the way of `exec --process`.
#![no_main]

use onggi::plan::exec::{Request, plan};
use onggi::plan::request::StartOptions;
use onggi::fuzzing::spec;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let file = std::env::temp_dir().join(format!("onggi-fuzz-process-{}", std::process::id()));
    std::fs::write(&file, data).expect("a file to read from");
    let loaded = spec::load_process(&file);
    let _ = std::fs::remove_file(&file);
    let Ok(loaded) = loaded else { return };
    let Ok(process) = spec::check_process(*loaded.spec) else { return };
    let template = spec::config(spec::template(Some((1, 1)), true).into_bytes(), Path::new("t")).expect("a template");
    for linux in [None, template.spec.linux().as_ref()] {
        for caller in &onggi_fuzz::callers() {
            let request = Request {
                id: "box",
                process: &process,
                linux,
                options: &StartOptions::default(),
                privileged: !caller.unprivileged,
                placed_late: false,
                keeps_groups: false,
            };
            let _ = plan(&request, caller);
        }
    }
});
