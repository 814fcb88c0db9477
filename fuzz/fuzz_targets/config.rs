//! Feeds texts to the way of `config.json`: parser, judge, plans.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onggi_fuzz::configuration(data));
