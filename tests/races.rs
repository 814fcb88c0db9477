//! Concurrency: parallel creates, a loaded machine, and runtimes that are killed half-way.

use crate::support::{Bundle, Runtime, peer_differs, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Threads that keep every core busy while they live.
struct Load(Arc<AtomicBool>);

impl Load {
    fn on_every_core() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn of_two_creates_of_one_id_exactly_one_wins() {
    if peer_differs(&["runc<1.2"], "both may lose") {
        return;
    }
    for round in 0..20 {
        let bundle = Bundle::new("twins").sees(&["pause"]);
        let (one, other) = (bundle.launch("create", &[]).start(), bundle.launch("create", &[]).start());
        let outputs = [one.finish(), other.finish()];
        let won = outputs.iter().filter(|output| output.code == 0).count();
        assert_eq!(won, 1, "round {round}: {} --- {}", outputs[0], outputs[1]);
        for output in outputs.into_iter().filter(|output| output.code != 0) {
            // runc's later check is its mkdir
            output
                .fails(1, if Runtime::get().is_onggi() { "container with given ID already exists" } else { "exists" });
        }
        assert_eq!(bundle.status(), "created");
        bundle.start().ok();
        bundle.down();
        bundle.nothing_left();
    }
}

#[test]
fn a_foreground_run_never_misses_the_end_of_its_payload() {
    let runs: u32 = std::env::var("ONGGI_TEST_RUNS").map_or(200, |n| n.parse().expect("ONGGI_TEST_RUNS"));
    let bundle = Bundle::new("wake-up").sees(&["true"]);
    let _load = Load::on_every_core();
    for run in 0..runs {
        let output = bundle.launch("run", &[]).start().finish_within(crate::support::limit(30));
        assert_eq!(output.code, 0, "run {run} of {runs}: {output}");
    }
}

#[test]
fn state_never_fails_while_the_container_exists() {
    let bundle = Bundle::new("polled").sees(&["sleep", "30"]);
    for _ in 0..10 {
        bundle.create().ok();
        let start = bundle.runtime().args(["start", &bundle.id]).start();
        let mut seen = vec![bundle.status()];
        until("the container to stop", || {
            seen.push(bundle.status());
            seen.last().is_some_and(|status| status == "stopped").then_some(())
        });
        start.finish().ok();
        seen.dedup();
        let story = ["created", "running", "stopped"];
        assert!(seen.iter().all(|status| story.contains(&status.as_str())), "{seen:?}");
        bundle.delete().ok();
    }
}

/// Kills the runtime at each of `moments` equally spaced moments of a start; `delete --force` must then clean up.
fn killed_half_way(verb: &'static str, moments: u32) {
    let whole = {
        let bundle = Bundle::new("measure").sees(&["true"]);
        let begun = Instant::now();
        bundle.launch(verb, &[]).finish().ok();
        let whole = begun.elapsed();
        bundle.verb(&["delete", "--force", &bundle.id]).ok();
        whole
    };
    for moment in 0..moments {
        let bundle = Bundle::new("half-way").sees(&["pause"]);
        let runtime = bundle.launch(verb, &[]).start();
        std::thread::sleep(whole * moment / moments);
        runtime.kill(libc::SIGKILL);
        let output = runtime.finish();
        assert!(output.code == 137 || output.code == 0, "killed at {moment}/{moments}: {output}");
        let deleted = bundle.verb(&["delete", "--force", &bundle.id]);
        assert_eq!(deleted.code, 0, "killed at {moment}/{moments} of {whole:?}: {deleted}");
        until(&format!("nothing to be left, killed at {moment}/{moments} of {whole:?}"), || {
            bundle.left().is_empty().then_some(())
        });
    }
}

#[test]
fn delete_cleans_up_after_a_create_killed_half_way() {
    if !peer_differs(&["runc", "crun"], "a process or a cgroup without a record, made early, stays behind") {
        killed_half_way("create", 40);
    }
}

#[test]
fn delete_cleans_up_after_a_run_killed_half_way() {
    if !peer_differs(&["runc", "crun"], "a process or a cgroup without a record, made early, stays behind") {
        killed_half_way("run", 40);
    }
}

#[test]
fn many_execs_at_once() {
    let bundle = Bundle::new("execs").sees(&["pause"]);
    bundle.up();
    let exec = |n: i32| bundle.runtime().args(["exec", &bundle.id, "/payload", "exit", &n.to_string()]).start();
    let runs: Vec<_> = (0..16).map(exec).collect();
    for (n, run) in (0..).zip(runs) {
        run.finish().code(n);
    }
    bundle.down();
}

#[test]
fn exec_never_misses_the_end_of_its_process() {
    let bundle = Bundle::new("exec-wake-up").sees(&["pause"]);
    bundle.up();
    let _load = Load::on_every_core();
    for run in 0..100 {
        let exec = bundle.runtime().args(["exec", &bundle.id, "/payload", "true"]).start();
        assert_eq!(exec.finish_within(crate::support::limit(30)).code, 0, "run {run}");
    }
    bundle.down();
}

#[test]
fn many_containers_at_once() {
    let bundles: Vec<Bundle> = (0..12).map(|_| Bundle::new("crowd").sees(&["id", "+", "exit", "9"])).collect();
    let runs: Vec<_> = bundles.iter().map(|bundle| bundle.launch("run", &[]).start()).collect();
    for run in runs {
        run.finish().code(9).has("Pid", "1");
    }
}
