//! Paths of cgroups in the JSON of the record: as a string, or as a list of bytes if they are not UTF-8. That can happen,
//! because they begin with a mount point and the caller's own cgroup, which others have named.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Found {
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) fn serialize<S: Serializer>(paths: &BTreeMap<String, PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(paths.iter().map(|(key, path)| {
        let bytes = path.as_os_str().as_bytes();
        (key, path.to_str().map_or(Written::Bytes(bytes), Written::Text))
    }))
}

pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<BTreeMap<String, PathBuf>, D::Error> {
    let found = BTreeMap::<String, Found>::deserialize(from)?;
    let path = |found| match found {
        Found::Text(text) => PathBuf::from(text),
        Found::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
    };
    Ok(found.into_iter().map(|(key, found)| (key, path(found))).collect())
}

#[cfg(test)]
mod tests {
    use crate::cgroup::Cgroup;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn a_path_comes_back_as_it_was() {
        let odd = Path::new(OsStr::from_bytes(b"/\xff"));
        let handle = Cgroup::of(&[("", Path::new("/sys/fs/cgroup/a b")), ("cpu", odd)]);
        let text = serde_json::to_string(&handle).unwrap();
        assert_eq!(text, r#"{"cgroup_paths":{"":"/sys/fs/cgroup/a b","cpu":[47,255]}}"#);
        assert_eq!(serde_json::from_str::<Cgroup>(&text).unwrap(), handle);
    }
}
