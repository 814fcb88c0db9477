//! Feeds mounts to the plan, four lines each: destination, type, source, options with commas between them.
#![no_main]

use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.split('\n').collect();
    let mounts: Vec<Value> = lines
        .chunks(4)
        .take(32)
        .map(|lines| {
            let line = |number: usize| lines.get(number).copied().unwrap_or_default();
            let options: Vec<&str> = line(3).split(',').filter(|option| !option.is_empty()).collect();
            json!({"destination": line(0), "type": line(1), "source": line(2), "options": options})
        })
        .collect();
    let mut config: Value = serde_json::from_str(&onggi::fuzzing::spec::template(None, true)).expect("a template");
    config["mounts"] = mounts.into();
    onggi_fuzz::configuration(config.to_string().as_bytes());
});
