//! The few D-Bus calls that the systemd driver needs, each with a time-out. May use sys, plan/cgroup and error.
//!
//! `rustbus` encodes and decodes messages. The connection is our own, because rustbus's has no time-outs and hangs on a bus
//! that does not answer. Cost of the alternatives over an empty program (static release binary; minimum of 300 runs of
//! connect, authenticate and one call to a dbus-daemon): this +50 KB, +0.19 ms; all of rustbus +91 KB, +0.20 ms; zbus 6.2
//! +1108 KB, +0.29 ms, and an asynchronous runtime.

use super::address;
use super::handle::Scope;
use crate::error::{Context, Error, Result};
use crate::plan::cgroup::property::{Property, Value};
use crate::sys::Errno;
use rustbus::ByteOrder;
use rustbus::message_builder::{MarshalledMessage, MarshalledMessageBody, MessageBuilder, MessageType};
use rustbus::signature::{Container, Type};
use rustbus::wire::ObjectPath;
use rustbus::wire::errors::MarshalError;
use rustbus::wire::marshal::traits::{Marshal, Signature};
use rustbus::wire::marshal::{MarshalContext, marshal};
use rustbus::wire::unmarshal::{unmarshal_dynamic_header, unmarshal_header};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one answer may take. A healthy systemd needs milliseconds.
const ANSWER: Duration = Duration::from_secs(5);
/// How long systemd may take for a job that it has accepted.
const JOB: Duration = Duration::from_secs(30);
/// The maximum length of a D-Bus message (the specification's limit).
const LONGEST: usize = 128 << 20;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";
const JOB_REMOVED: &str =
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// A connection to a service manager, over a bus or systemd's private socket.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    /// Its name in errors.
    name: String,
    serial: u32,
    /// How long one answer may take: [`ANSWER`], but in tests.
    patience: Duration,
    /// Jobs that have ended, with their object paths and results. The signal may arrive before the reply that names the job.
    ended: Vec<(String, String)>,
}

/// An error reply: its name and text.
struct ErrorReply {
    name: String,
    text: String,
}

impl Bus {
    /// Connects, authenticates and registers.
    ///
    /// # Errors
    /// The bus is missing or does not answer; the error names it.
    pub(super) fn connect(user: bool) -> Result<Self> {
        let (what, addresses) = if user { ("user", address::user()?) } else { ("system", address::system()) };
        Self::connect_to(what, addresses, ANSWER)
    }

    fn connect_to(what: &str, addresses: Vec<OsString>, patience: Duration) -> Result<Self> {
        let mut last = None;
        for address in addresses {
            let name = format!("systemd over the {what} bus {}", address.display());
            match address::connect(&address) {
                Ok(stream) => {
                    let mut bus = Self { stream, name, serial: 0, patience, ended: Vec::new() };
                    let greeted = bus.greet(!Path::new(&address).ends_with("systemd/private"));
                    return greeted.map_err(|error| bus.explain(error, "greet")).map(|()| bus);
                }
                Err(error) => last = last.or(Some(Error::from(error).context(name))),
            }
        }
        let error = last.unwrap_or_else(|| Error::msg(format!("the {what} bus has no address that can be used")));
        Err(error.with_hint("the systemd driver needs a running systemd; the cgroupfs driver does not"))
    }

    /// Authenticates as `EXTERNAL` without a user id: the bus takes the id from the socket's credentials, which are right in
    /// user namespaces too. Then sends `Hello` and subscribes to `JobRemoved`, both before it reads the replies.
    fn greet(&mut self, is_bus: bool) -> Result<()> {
        let end = Instant::now() + self.patience;
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = self.read_line(end)?;
            if !line.starts_with(expected) {
                return Err(Error::msg(format!("authentication failed: {line:?}")));
            }
        }
        if is_bus {
            let hello = self.send_call(DBUS, DBUS_PATH, DBUS, "Hello", |_| Ok(()))?;
            let watch = self.send_call(DBUS, DBUS_PATH, DBUS, "AddMatch", |body| body.push_param(JOB_REMOVED))?;
            for serial in [hello, watch] {
                self.reply(serial, end)?.map_err(|refused| Error::msg(refused.text))?;
            }
        }
        Ok(())
    }

    /// Starts a transient unit with a process in it, and waits until it is started.
    ///
    /// # Errors
    /// systemd refuses, or does not answer in time.
    pub(super) fn start(&mut self, unit: &str, properties: &[Property], pid: i32) -> Result<()> {
        let mut properties = properties.to_vec();
        let mut may_retry = true;
        loop {
            let refused = match self.start_once(unit, &properties, pid)? {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            if refused.name.ends_with(".UnitExists") && may_retry {
                // most likely a failed unit that systemd has not unloaded
                may_retry = false;
                self.reset_failed(unit)?;
            } else if let Some(at) = properties.iter().position(|p| p.optional && refused.text.contains(&p.name)) {
                properties.remove(at);
            } else {
                return Err(Error::msg(refused.text).context(format!("{}: start unit {unit}", self.name)));
            }
        }
    }

    fn start_once(
        &mut self,
        unit: &str,
        properties: &[Property],
        pid: i32,
    ) -> Result<std::result::Result<(), ErrorReply>> {
        let pids = [pid.unsigned_abs()];
        let mut list: Vec<(&str, Variant<'_>)> =
            properties.iter().map(|p| (p.name.as_str(), Variant::Value(&p.value))).collect();
        list.push(("PIDs", Variant::Numbers(&pids)));
        self.job("StartTransientUnit", unit, |body| {
            body.push_param2(unit, "replace")?;
            body.push_param(list.as_slice())?;
            let none: [(&str, &[(&str, Variant<'_>)]); 0] = [];
            body.push_param(&none[..])
        })
    }

    /// Stops a unit and has systemd unload it. Succeeds if there is no such unit.
    ///
    /// # Errors
    /// systemd does not answer in time.
    pub(super) fn stop(&mut self, unit: &str) -> Result<()> {
        match self.job("StopUnit", unit, |body| body.push_param2(unit, "replace"))? {
            Err(refused) if !refused.name.ends_with(".NoSuchUnit") => {
                return Err(Error::msg(refused.text).context(format!("{}: stop unit {unit}", self.name)));
            }
            Ok(()) | Err(_) => {}
        }
        self.reset_failed(unit)
    }

    /// Has systemd unload a unit that failed. Succeeds if there is none.
    fn reset_failed(&mut self, unit: &str) -> Result<()> {
        self.call("ResetFailedUnit", |body| body.push_param(unit)).map(drop)
    }

    /// Changes properties of a unit (not persistently).
    ///
    /// # Errors
    /// systemd refuses, or does not answer in time.
    pub(super) fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut properties = properties.to_vec();
        loop {
            let list: Vec<(&str, Variant<'_>)> =
                properties.iter().map(|p| (p.name.as_str(), Variant::Value(&p.value))).collect();
            let answer = self.call("SetUnitProperties", |body| {
                body.push_param2(unit, true)?;
                body.push_param(list.as_slice())
            })?;
            let Err(refused) = answer else { return Ok(()) };
            match properties.iter().position(|p| p.optional && refused.text.contains(&p.name)) {
                Some(at) => drop(properties.remove(at)),
                None => {
                    let what = format!("{}: set properties of unit {unit}", self.name);
                    return Err(Error::msg(refused.text).context(what));
                }
            }
        }
    }

    /// Has systemd move a process into a cgroup below a unit's, for callers who lack the permission.
    ///
    /// # Errors
    /// systemd refuses, or does not answer in time.
    pub(super) fn attach(&mut self, unit: &str, below: &str, pid: i32) -> Result<()> {
        let pids = [pid.unsigned_abs()];
        let answer = self.call("AttachProcessesToUnit", |body| {
            body.push_param2(unit, below)?;
            body.push_param(&pids[..])
        })?;
        answer.map(drop).map_err(|refused| {
            Error::msg(refused.text).context(format!("{}: attach process {pid} to unit {unit}", self.name))
        })
    }

    /// The path of the service manager's own cgroup.
    ///
    /// # Errors
    /// systemd does not answer in time.
    pub(super) fn control_group(&mut self) -> Result<String> {
        let what = || "ask for the service manager's cgroup";
        let end = Instant::now() + self.patience;
        let serial = self.send_call(SYSTEMD, MANAGER_PATH, "org.freedesktop.DBus.Properties", "Get", |body| {
            body.push_param2(MANAGER, "ControlGroup")
        });
        let answer = serial.and_then(|serial| self.reply(serial, end)).map_err(|error| self.explain(error, what()))?;
        let body = answer.map_err(|refused| self.explain(Error::msg(refused.text), what()))?;
        let variant: std::result::Result<rustbus::wire::unmarshal::traits::Variant<'_, '_>, _> = body.parser().get();
        let group = variant.and_then(|variant| variant.get::<String>());
        group.map_err(|error| self.explain(Error::msg(error.to_string()), what()))
    }

    /// The uid of the service manager, as the bus sees it; `None` if the manager is not connected to the bus.
    ///
    /// # Errors
    /// The bus does not answer in time, or does not know.
    pub(super) fn user(&mut self) -> Result<Option<u32>> {
        let end = Instant::now() + self.patience;
        let serial = self.send_call(DBUS, DBUS_PATH, DBUS, "GetConnectionUnixUser", |body| body.push_param(SYSTEMD))?;
        match self.reply(serial, end)? {
            Ok(body) => body.parser().get().map(Some).map_err(|error| Error::msg(error.to_string())),
            Err(refused) if refused.name.ends_with(".NameHasNoOwner") => Ok(None),
            Err(refused) => Err(Error::msg(refused.text)),
        }
    }

    /// Calls a method of the manager that creates a job, and waits for the job's end.
    fn job(
        &mut self,
        method: &str,
        unit: &str,
        fill: impl FnOnce(&mut MarshalledMessageBody) -> Filled,
    ) -> Result<std::result::Result<(), ErrorReply>> {
        let body = match self.call(method, fill)? {
            Ok(body) => body,
            Err(refused) => return Ok(Err(refused)),
        };
        let job: ObjectPath<String> =
            body.parser().get().map_err(|error| self.explain(Error::msg(error.to_string()), method))?;
        let end = Instant::now() + JOB;
        loop {
            if let Some(at) = self.ended.iter().position(|(ended, _)| *ended == *job.as_ref()) {
                let (_, result) = self.ended.swap_remove(at);
                return match result.as_str() {
                    "done" => Ok(Ok(())),
                    _ => {
                        let text = format!("the job of unit {unit} ended with {result:?}");
                        Err(self.explain(Error::msg(text), method))
                    }
                };
            }
            let received = self.receive(end);
            received.map_err(|error| self.explain(error, &format!("{method}: wait for the job of unit {unit}")))?;
        }
    }

    /// Calls a method of the manager.
    fn call(&mut self, method: &str, fill: impl FnOnce(&mut MarshalledMessageBody) -> Filled) -> Result<Answer> {
        let end = Instant::now() + self.patience;
        let serial = self.send_call(SYSTEMD, MANAGER_PATH, MANAGER, method, fill);
        serial.and_then(|serial| self.reply(serial, end)).map_err(|error| self.explain(error, method))
    }

    fn explain(&self, error: Error, doing: &str) -> Error {
        error.context(format!("{}: {doing}", self.name))
    }

    /// Sends a method call.
    fn send_call(
        &mut self,
        to: &str,
        path: &str,
        interface: &str,
        method: &str,
        fill: impl FnOnce(&mut MarshalledMessageBody) -> Filled,
    ) -> Result<u32> {
        let encode = |error: MarshalError| Error::msg(error.to_string());
        let mut message: MarshalledMessage =
            MessageBuilder::new().call(method).with_interface(interface).on(path).at(to).build();
        fill(&mut message.body).map_err(encode)?;
        self.serial += 1;
        let mut bytes = Vec::new();
        marshal(&message, self.serial, &mut bytes).map_err(encode)?;
        bytes.extend_from_slice(message.get_buf());
        self.send(&bytes)?;
        Ok(self.serial)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.set_write_timeout(Some(self.patience))?;
        self.stream.write_all(bytes).map_err(timed_out)
    }

    /// Receives messages until the reply to a call arrives.
    fn reply(&mut self, serial: u32, end: Instant) -> Result<Answer> {
        loop {
            if let Some((to, answer)) = self.receive(end)?.filter(|(to, _)| *to == serial) {
                let _ = to;
                return Ok(answer);
            }
        }
    }

    /// Receives one message. Returns a reply with the serial number of its call; notes the end of a job in `ended`; ignores
    /// anything else.
    fn receive(&mut self, end: Instant) -> Result<Option<(u32, Answer)>> {
        let decode = |error: rustbus::wire::errors::UnmarshalError| Error::msg(error.to_string());
        let mut bytes = vec![0; 16];
        self.read(&mut bytes, end)?;
        let (_, header) = unmarshal_header(&bytes, 0).map_err(decode)?;
        let fields: [u8; 4] = bytes.get(12..16).and_then(|b| b.try_into().ok()).unwrap_or_default();
        let fields = match header.byteorder {
            ByteOrder::LittleEndian => u32::from_le_bytes(fields),
            ByteOrder::BigEndian => u32::from_be_bytes(fields),
        };
        // the body is aligned to eight bytes
        let start = (16 + fields as usize).next_multiple_of(8);
        let whole = start + header.body_len as usize;
        if whole > LONGEST {
            return Err(Error::msg("a message of impossible length"));
        }
        bytes.resize(whole, 0);
        self.read(bytes.get_mut(16..).unwrap_or_default(), end)?;
        let (_, fields) = unmarshal_dynamic_header(&header, &bytes, 12).map_err(decode)?;
        let signature = fields.signature.clone().unwrap_or_default();
        let body = MarshalledMessageBody::from_parts(bytes.split_off(start), Vec::new(), signature, header.byteorder);
        match (header.typ, fields.response_serial) {
            (MessageType::Reply, Some(to)) => Ok(Some((to, Ok(body)))),
            (MessageType::Error, Some(to)) => {
                let text = body.parser().get::<String>().unwrap_or_default();
                Ok(Some((to, Err(ErrorReply { name: fields.error_name.unwrap_or_default(), text }))))
            }
            (MessageType::Signal, _) if fields.member.as_deref() == Some("JobRemoved") => {
                let parts = body.parser().get4::<u32, ObjectPath<String>, String, String>();
                let (_, job, _, result) = parts.map_err(decode)?;
                self.ended.push((job.as_ref().to_owned(), result));
                Ok(None)
            }
            (MessageType::Signal | MessageType::Call | MessageType::Invalid, _)
            | (MessageType::Reply | MessageType::Error, None) => Ok(None),
        }
    }

    /// Reads one line of the authentication.
    fn read_line(&mut self, end: Instant) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 1024 {
            let mut one = [0];
            self.read(&mut one, end)?;
            line.extend_from_slice(&one);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn read(&mut self, buffer: &mut [u8], end: Instant) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(rest) {
                Ok(0) => return Err(Error::msg("the connection was closed")),
                Ok(n) => filled += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error)),
            }
        }
        Ok(())
    }
}

type Filled = std::result::Result<(), MarshalError>;
type Answer = std::result::Result<MarshalledMessageBody, ErrorReply>;

/// Turns the error of a socket's time-out into `ETIMEDOUT`.
fn timed_out(error: std::io::Error) -> Error {
    let is_timeout = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind());
    if is_timeout { Error::from(Errno::ETIMEDOUT).context("no answer") } else { error.into() }
}

/// A property's value as a D-Bus variant.
enum Variant<'a> {
    Value(&'a Value),
    Numbers(&'a [u32]),
}

impl Signature for Variant<'_> {
    fn signature() -> Type {
        Type::Container(Container::Variant)
    }

    fn alignment() -> usize {
        1
    }
}

impl Marshal for Variant<'_> {
    fn marshal(&self, ctx: &mut MarshalContext<'_, '_>) -> Filled {
        let value = match self {
            Self::Numbers(numbers) => return numbers.marshal_as_variant(ctx),
            Self::Value(value) => value,
        };
        match value {
            Value::Bool(value) => value.marshal_as_variant(ctx),
            Value::I32(value) => value.marshal_as_variant(ctx),
            Value::U32(value) => value.marshal_as_variant(ctx),
            Value::I64(value) => value.marshal_as_variant(ctx),
            Value::U64(value) => value.marshal_as_variant(ctx),
            Value::Text(value) => value.as_str().marshal_as_variant(ctx),
            Value::Texts(value) => value.as_slice().marshal_as_variant(ctx),
            Value::Bytes(value) => value.as_slice().marshal_as_variant(ctx),
            Value::Pairs(value) => value.as_slice().marshal_as_variant(ctx),
        }
    }
}

impl Scope {
    /// Connects to the service manager that owns the unit.
    pub(super) fn bus(&self) -> Result<Bus> {
        Bus::connect(self.user).context(|| format!("reach systemd for unit {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A bus at a path of its own, which does `what` with the first connection.
    fn fake(name: &str, what: impl FnOnce(UnixStream) + Send + 'static) -> String {
        let path = std::env::temp_dir().join(format!("onggi-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || what(listener.accept().unwrap().0));
        path.display().to_string()
    }

    fn failure(address: String) -> (String, Duration) {
        let begin = Instant::now();
        let error = Bus::connect_to("system", vec![OsString::from(&address)], Duration::from_millis(200))
            .unwrap_err()
            .to_string();
        let _ = std::fs::remove_file(&address);
        (error.replace(&address, "PATH"), begin.elapsed())
    }

    #[test]
    fn a_bus_that_hangs_is_named_and_left() {
        let hang = |_: UnixStream| std::thread::sleep(Duration::from_secs(2));
        let (error, took) = failure(fake("hang", hang));
        assert_eq!(error, "systemd over the system bus PATH: greet: no answer: connection timed out");
        assert!(took < Duration::from_secs(1), "{took:?}");

        // it answers, but one byte at a time and never to the end
        let drip = |mut stream: UnixStream| {
            for _ in 0..100 {
                let _ = stream.write_all(b"x");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let (error, took) = failure(fake("drip", drip));
        assert_eq!(error, "systemd over the system bus PATH: greet: no answer: connection timed out");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    #[test]
    fn a_bus_that_will_not_is_named() {
        assert_eq!(failure("/nowhere/bus".into()).0, "systemd over the system bus PATH: no such file or directory");
        let (error, _) = failure(fake("close", drop));
        assert!(error.starts_with("systemd over the system bus PATH: greet: "), "{error}");
        let reject = |mut stream: UnixStream| {
            let _ = stream.write_all(b"REJECTED EXTERNAL\r\n");
            std::thread::sleep(Duration::from_millis(100));
        };
        let (error, _) = failure(fake("reject", reject));
        assert!(error.ends_with("greet: authentication failed: \"REJECTED EXTERNAL\""), "{error}");
        let nonsense = |mut stream: UnixStream| {
            let _ =
                stream.write_all(b"DATA\r\nOK 0\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
            std::thread::sleep(Duration::from_millis(100));
        };
        let (error, _) = failure(fake("nonsense", nonsense));
        assert!(error.starts_with("systemd over the system bus PATH: greet: "), "{error}");
    }
}
