//! Feeds words, with zero bytes between them, to the reader of the command line; who is refused is shown help that can be made.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let words = data.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    if let Err(misuse) = onggi::fuzzing::parse(std::iter::once("onggi".into()).chain(words)) {
        assert!(!misuse.error.to_string().is_empty());
    }
});
