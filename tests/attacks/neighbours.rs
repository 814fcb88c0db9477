//! Neighbours that watch a container start: in a pid namespace that it joins, in the host's (a private host's), or in the
//! container that `exec` enters. They have Docker's default capabilities and inspect every new process.

use crate::support::private::Private;
use crate::support::world::has_controller;
use crate::support::{Bundle, not_here, payload, peer_differs, until};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Docker's default capabilities.
const DOCKERS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A private host with a secret in a file, in the environment and the command line of the runtime's caller, in its mount
/// table and in the name of a socket; and a container with an attacker ("thief") on it.
struct Neighbourhood {
    thief: Bundle,
    /// The pid namespace of the thief.
    pids: String,
    host: Private,
    _socket: UnixDatagram,
}

/// In which pid namespace the thief is.
#[derive(Clone, Copy, PartialEq)]
enum Sees {
    /// One that other containers join.
    ThePod,
    /// The private host's.
    TheHost,
}

impl Neighbourhood {
    fn new(sees: Sees) -> Self {
        let host = Private::new();
        let secret = host.file("secret", &host.token);
        let address = SocketAddr::from_abstract_name(&host.token).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let tables = if sees == Sees::ThePod { "tables" } else { "no-tables" };
        let words = ["thief", "/x", secret.to_str().unwrap(), &host.token, tables];
        let thief = Bundle::new("thief").caps(&DOCKERS).directory("/x").sees(&words);
        let thief = if sees == Sees::TheHost { thief.without_namespace("pid") } else { thief };
        let thief = host.hosts(thief, &[]);
        thief.create().ok();
        let inner = thief.pid();
        thief.start().ok();
        thief.hears("thief: ready");
        Self { thief, pids: format!("/proc/{inner}/ns/pid"), host, _socket: socket }
    }

    /// A bundle whose runtime is called on that host with the secret in its environment and command line.
    fn victim(&self, name: &str) -> Bundle {
        let bundle = Bundle::new(name).caps(&DOCKERS).sees(&["sleep", "2"]);
        let log = self.host.dir.join(format!("{}.log", self.host.token));
        self.host.hosts(bundle, &["--log", log.to_str().unwrap()])
    }

    /// Repeats an act for two seconds and at least three times. Asserts that the thief has seen processes but not the secret.
    fn nothing_is_seen(&self, what: &str, mut act: impl FnMut(&str)) {
        let end = Instant::now() + Duration::from_secs(2);
        let mut acts = 0;
        while Instant::now() < end || acts < 3 {
            act(&self.host.token);
            acts += 1;
        }
        std::fs::write(self.thief.rootfs().join("x/stop"), "").unwrap();
        self.thief.hears("seen: ");
        let said = self.thief.printed();
        until("the thief's end", || (self.thief.status() == "stopped").then_some(()));
        self.thief.delete().ok();
        let hits: Vec<&str> = said.lines().filter(|line| line.starts_with("hit: ")).collect();
        let differs = "is in sight before it is inside, and dumpable while maps of ids are written";
        if !hits.is_empty() && peer_differs(&["runc", "crun"], differs) {
            return;
        }
        assert!(hits.is_empty(), "{what}: {hits:#?} after {acts} acts");
        let seen: u32 = said.lines().find_map(|line| line.strip_prefix("seen: ")?.parse().ok()).unwrap();
        assert!(seen > 0 && acts > 2, "{acts} acts, {seen} processes seen: the test proves nothing: {said}");
    }

    fn with_bundle(&self, what: &str, prepare: impl FnOnce(Bundle, &str) -> Bundle, act: impl Fn(&Bundle, &str)) {
        let victim = prepare(self.victim("victim"), &self.pids);
        self.nothing_is_seen(what, |token| act(&victim, token));
    }
}

fn run(bundle: &Bundle, token: &str) {
    bundle.launch("run", &[]).env("HOST_SECRET", token).finish().ok();
}

fn create_and_start(bundle: &Bundle, token: &str) {
    bundle.launch("create", &[]).env("HOST_SECRET", token).finish().ok();
    bundle.runtime().args(["start", &bundle.id]).env("HOST_SECRET", token).finish().ok();
    bundle.runtime().args(["delete", "--force", &bundle.id]).env("HOST_SECRET", token).finish().ok();
}

/// CVE-2016-9962 (case 70): a `run` that joins the neighbour's pid namespace.
#[test]
fn a_run_that_joins_a_pid_namespace_shows_nothing_of_the_host() {
    let place = Neighbourhood::new(Sees::ThePod);
    place.with_bundle("run", |victim, pids| victim.namespace("pid", Some(pids)), run);
}

/// CVE-2016-9962 (case 70): `create` and `start` that join it; init waits there in between.
#[test]
fn a_create_that_joins_a_pid_namespace_shows_nothing_of_the_host() {
    let place = Neighbourhood::new(Sees::ThePod);
    place.with_bundle("create", |victim, pids| victim.namespace("pid", Some(pids)), create_and_start);
}

/// CVE-2016-9962 (case 70) with a small memory limit: init then has a copy of the runtime's memory.
#[test]
fn an_init_with_copied_memory_shows_nothing_of_the_host() {
    if !has_controller("memory") && not_here("there is no memory controller: no start with little memory") {
        return;
    }
    let few = if peer_differs(&["runc", "crun"], "needs more memory") { 64 << 20 } else { 8 << 20 };
    let place = Neighbourhood::new(Sees::ThePod);
    let prepare =
        |victim: Bundle, pids: &str| victim.namespace("pid", Some(pids)).set("/linux/resources/memory/limit", few);
    place.with_bundle("run", prepare, run);
}

/// CVE-2016-9962 (case 70): `exec` into the neighbour's own container.
#[test]
fn an_exec_shows_nothing_of_the_host() {
    let place = Neighbourhood::new(Sees::ThePod);
    let log = place.host.dir.join(format!("{}.log", place.host.token));
    let guest = place.host.hosts(Bundle::new("entered"), &["--log", log.to_str().unwrap()]);
    let (id, root) = (place.thief.id.clone(), place.thief.state_root());
    place.nothing_is_seen("exec", |token| {
        let call = guest.runtime().arg("--root").arg(&root).args(["exec", &id, payload::INSIDE, "sleep", "2"]);
        call.env("HOST_SECRET", token).finish().ok();
    });
}

/// CVE-2016-9962 (case 70): a neighbour in the host's pid namespace sees a plain start.
#[test]
fn a_run_seen_from_the_hosts_pid_namespace_shows_nothing() {
    Neighbourhood::new(Sees::TheHost).with_bundle("run", |victim, _| victim, run);
}

/// CVE-2016-9962 (case 70): the same with `create`, where the thief can see the waiting init.
#[test]
fn a_create_seen_from_the_hosts_pid_namespace_shows_nothing() {
    Neighbourhood::new(Sees::TheHost).with_bundle("create", |victim, _| victim, create_and_start);
}

/// CVE-2016-9962 (case 70): root of the host without `CAP_SYS_PTRACE` owns user namespaces that root created, and has all
/// privileges over a dumpable process in one.
#[test]
fn a_run_with_a_user_namespace_seen_from_the_hosts_pid_namespace_shows_nothing() {
    let place = Neighbourhood::new(Sees::TheHost);
    place.with_bundle("run", |victim, _| victim.user_namespace(), run);
}

/// CVE-2016-9962 (case 70): the same with `create` and `start`.
#[test]
fn a_created_container_with_a_user_namespace_seen_from_the_hosts_pid_namespace_shows_nothing() {
    let place = Neighbourhood::new(Sees::TheHost);
    place.with_bundle("create", |victim, _| victim.user_namespace(), create_and_start);
}

/// CVE-2016-9962 (case 70): an init with a copy of the runtime's memory, seen from the host's pid namespace.
#[test]
fn an_init_with_copied_memory_seen_from_the_hosts_pid_namespace_shows_nothing() {
    if !has_controller("memory") && not_here("there is no memory controller: no start with little memory") {
        return;
    }
    let few = if peer_differs(&["runc", "crun"], "needs more memory") { 64 << 20 } else { 8 << 20 };
    let place = Neighbourhood::new(Sees::TheHost);
    place.with_bundle("run", |victim, _| victim.set("/linux/resources/memory/limit", few), run);
}

/// CVE-2016-9962 (case 70): `exec` into a container with a user namespace, seen from the host's pid namespace.
#[test]
fn an_exec_into_a_user_namespace_seen_from_the_hosts_pid_namespace_shows_nothing() {
    let place = Neighbourhood::new(Sees::TheHost);
    let victim = place.victim("victim").user_namespace().sees(&["pause"]);
    victim.create().ok();
    victim.start().ok();
    place.nothing_is_seen("exec", |token| {
        let call = victim.runtime().args(["exec", &victim.id, payload::INSIDE, "sleep", "2"]);
        call.env("HOST_SECRET", token).finish().ok();
    });
    victim.down();
}
