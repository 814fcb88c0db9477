//! Feeds texts to the reader of `state.json`: what was read and written again is the same. The text is an id, too: one that is
//! taken is a name and leads nowhere.
#![no_main]

use onggi::fuzzing::state::{Cgroup, Record, Status, check_id};
use std::path::{Component, Path};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(id) = std::str::from_utf8(data)
        && check_id(id).is_ok()
    {
        let mut parts = Path::new(id).components();
        assert!(matches!(parts.next(), Some(Component::Normal(name)) if name == id) && parts.next().is_none(), "{id:?}");
    }
    let Ok(record) = serde_json::from_slice::<Record<Cgroup>>(data) else { return };
    let text = serde_json::to_vec(&record).expect("a record is JSON");
    let again: Record<Cgroup> = serde_json::from_slice(&text).expect("a record that we wrote");
    assert_eq!(record, again);
    serde_json::to_vec(&record.document(Status::Stopped, String::new())).expect("a state is JSON");
});
