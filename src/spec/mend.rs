//! A second look at a document that does not fit its types: what Go's JSON reader and runc let pass is put right, what
//! the spec wants warned about is taken out with a note, and mistakes that callers know by runc's words get these.
//! Pure. What is still wrong afterwards is named by its JSON path.

use crate::error::{Error, Kind, Result};
use oci_spec::runtime::{Capability, LinuxNamespaceType, PosixRlimitType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// `config.json`.
pub(super) fn config(value: &mut Value, notes: &mut Vec<String>) -> Result<()> {
    without_nulls(value);
    // other systems' sections say nothing about a Linux container
    if let Some(root) = value.as_object_mut() {
        root.retain(|key, _| !matches!(key.as_str(), "windows" | "solaris" | "vm" | "zos" | "freebsd"));
    }
    for namespace in list(value, "/linux/namespaces") {
        if let Some(kind) = kind(namespace)
            && !fits::<LinuxNamespaceType>(kind)
        {
            let path = namespace.get("path").and_then(Value::as_str).unwrap_or_default();
            return Err(Error::new(Kind::Spec, format!("namespace {{{kind:?} {path:?}}} does not exist")));
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
        Some(process) => self::process(process, notes),
        None => Ok(()),
    }
}

/// A process: of `config.json`, or a document of its own.
pub(super) fn process(value: &mut Value, notes: &mut Vec<String>) -> Result<()> {
    without_nulls(value);
    default(value, "user", Value::Object(Map::new()));
    if value.is_object() && value.get("cwd").is_none() {
        return Err(Error::new(Kind::Spec, "Cwd property must not be empty"));
    }
    if value.get("ioPriority").is_some_and(|priority| priority.is_object() && priority.get("class").is_none()) {
        return Err(Error::new(Kind::Spec, "invalid ioPriority.Class: \"\""));
    }
    for limit in list(value, "/rlimits") {
        if let Some(kind) = kind(limit)
            && !fits::<PosixRlimitType>(kind)
        {
            return Err(Error::new(Kind::Spec, format!("wrong rlimit value: {kind}")));
        }
    }
    // oci-spec spells two flags otherwise than the spec (config.md, scheduler) and the kernel
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
                // what is no text at all is a mistake of its own
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

/// Limits alone.
pub(super) fn resources(value: &mut Value, _: &mut Vec<String>) -> Result<()> {
    without_nulls(value);
    // a limit on processes that names none is none; its type would make it 0, which the spec and runc 1.4 mean
    if let Some(members) = value.as_object_mut()
        && members.get("pids").is_some_and(|pids| pids.as_object().is_some_and(|pids| !pids.contains_key("limit")))
    {
        members.remove("pids");
    }
    // the spec's numbers reach to 2^64, the type's to 2^63: more memory than either there is none
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

/// Whether a word is one of a type's.
fn fits<'de, T: Deserialize<'de>>(word: &str) -> bool {
    T::deserialize(serde::de::value::StringDeserializer::<serde::de::value::Error>::new(word.to_owned())).is_ok()
}

/// The type that an object says it has, empty where it says none; what is no object, or says no word, is a mistake of its own.
fn kind(value: &Value) -> Option<&str> {
    value.as_object()?.get("type").map_or(Some(""), Value::as_str)
}

/// The members of a list, none where there is no list.
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
