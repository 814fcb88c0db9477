//! Fix-ups of a document that does not fit its types. What Go's JSON reader and runc accept is put into the form that the
//! types accept, what the spec wants a warning for is removed with a note, and mistakes that callers know by runc's words
//! are reported in these. Pure. What is still wrong afterwards is reported with its JSON path.

use super::runc_error;
use crate::error::Result;
use oci_spec::runtime::{Capability, LinuxNamespaceType, PosixRlimitType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// `config.json`.
pub(super) fn config(value: &mut Value, notes: &mut Vec<String>) -> Result<()> {
    without_nulls(value);
    // sections for other operating systems are ignored
    if let Some(root) = value.as_object_mut() {
        root.retain(|key, _| !matches!(key.as_str(), "windows" | "solaris" | "vm" | "zos" | "freebsd"));
    }
    for (i, namespace) in list(value, "/linux/namespaces").enumerate() {
        if let Some(kind) = kind(namespace)
            && !fits::<LinuxNamespaceType>(kind)
        {
            let path = namespace.get("path").and_then(Value::as_str).unwrap_or_default();
            let text = format!("namespace {{{kind:?} {path:?}}} does not exist");
            return Err(runc_error(format!("linux.namespaces[{i}].type"), text));
        }
    }
    for syscall in list(value, "/linux/seccomp/syscalls") {
        for argument in list(syscall, "/args") {
            default(argument, "index", json!(0));
            default(argument, "value", json!(0));
        }
    }
    if let Some(resources) = value.pointer_mut("/linux/resources") {
        self::resources(resources, notes)?;
    }
    match value.get_mut("process") {
        Some(process) => process_at("process.", process, notes),
        None => Ok(()),
    }
}

/// A process in a document of its own.
pub(super) fn process(value: &mut Value, notes: &mut Vec<String>) -> Result<()> {
    process_at("", value, notes)
}

/// A process; `at` is the beginning of its JSON paths.
fn process_at(at: &str, value: &mut Value, notes: &mut Vec<String>) -> Result<()> {
    without_nulls(value);
    default(value, "user", Value::Object(Map::new()));
    if value.is_object() && value.get("cwd").is_none() {
        return Err(runc_error(format!("{at}cwd"), "Cwd property must not be empty"));
    }
    if value.get("ioPriority").is_some_and(|priority| priority.is_object() && priority.get("class").is_none()) {
        return Err(runc_error(format!("{at}ioPriority.class"), "invalid ioPriority.Class: \"\""));
    }
    for (i, limit) in list(value, "/rlimits").enumerate() {
        if let Some(kind) = kind(limit)
            && !fits::<PosixRlimitType>(kind)
        {
            return Err(runc_error(format!("{at}rlimits[{i}].type"), format!("wrong rlimit value: {kind}")));
        }
    }
    // oci-spec spells two flags differently from the spec (config.md, scheduler) and the kernel
    for flag in list(value, "/scheduler/flags") {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = json!("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = json!("SCHED_FLAG_D_L_OVERRUN"),
            Some(_) | None => {}
        }
    }
    let mut unknown = Vec::new();
    for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
        if let Some(Value::Array(names)) = value.pointer_mut(&format!("/capabilities/{set}")) {
            names.retain(|name| match name.as_str() {
                Some(name) if !fits::<Capability>(name) => {
                    unknown.push(name.to_owned());
                    false
                }
                // a value that is not a string is reported when the type is read
                Some(_) | None => true,
            });
        }
    }
    if !unknown.is_empty() {
        unknown.sort();
        unknown.dedup();
        notes.push(format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
    }
    Ok(())
}

/// Resource limits, of `config.json` or in a document of their own.
pub(super) fn resources(value: &mut Value, _: &mut Vec<String>) -> Result<()> {
    without_nulls(value);
    // `pids` without `limit` sets no limit; its type would make it 0, which in the spec and in runc 1.4 is a limit
    if let Some(members) = value.as_object_mut()
        && members.get("pids").is_some_and(|pids| pids.as_object().is_some_and(|pids| !pids.contains_key("limit")))
    {
        members.remove("pids");
    }
    // the spec's numbers go up to 2^64, the type's up to 2^63; no machine has that much memory, so -1 (no limit) is the same
    for huge in list(value, "/hugepageLimits") {
        if huge.get("limit").and_then(Value::as_u64).is_some_and(|limit| i64::try_from(limit).is_err()) {
            huge["limit"] = json!(-1);
        }
    }
    for rule in list(value, "/devices") {
        if let Some(rule) = rule.as_object_mut()
            && rule.get("type") == Some(&json!(""))
        {
            rule.remove("type");
        }
    }
    Ok(())
}

/// Whether a string is a value of the enum `T`.
fn fits<'de, T: Deserialize<'de>>(name: &str) -> bool {
    T::deserialize(serde::de::value::StringDeserializer::<serde::de::value::Error>::new(name.to_owned())).is_ok()
}

/// The `type` of an object, empty if it has none. `None` if the value is not an object or its `type` not a string, which is
/// reported when the type is read.
fn kind(value: &Value) -> Option<&str> {
    value.as_object()?.get("type").map_or(Some(""), Value::as_str)
}

/// The members of a list; none if there is no list.
fn list<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

fn default(value: &mut Value, key: &str, default: Value) {
    if let Some(object) = value.as_object_mut() {
        object.entry(key).or_insert(default);
    }
}

/// Go writes an absent list or map as `null`, and reads `null` as absent.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(members) => members.iter_mut().for_each(without_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
