//! Feeds texts to the way of `exec --process`.
#![no_main]

use onggi::plan::tenant::{Request, plan};
use onggi::fuzzing::spec;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let file = std::env::temp_dir().join(format!("onggi-fuzz-process-{}", std::process::id()));
    std::fs::write(&file, data).expect("a file to read from");
    let loaded = spec::load_process(&file);
    let _ = std::fs::remove_file(&file);
    let Ok(loaded) = loaded else { return };
    if spec::validate_process(&loaded.spec).is_err() {
        return;
    }
    let template = spec::config(spec::template(Some((1, 1)), true).into_bytes(), Path::new("t")).expect("a template");
    for linux in [None, template.spec.linux().as_ref()] {
        for caller in &onggi_fuzz::callers() {
            let request = Request {
                id: "box",
                process: &loaded.spec,
                linux,
                console_socket: None,
                no_new_keyring: false,
                preserve_fds: 0,
                privileged: !caller.unprivileged,
                placed_late: false,
            };
            let _ = plan(&request, caller);
        }
    }
});
