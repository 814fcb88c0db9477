//! exec into a restored container.

use crate::checkpoint::{count, counting, counts_on, not_possible, nothing};
use crate::support::{kernel, payload, peer_differs};

/// CRIU restores into a time namespace that is not in the bundle. A process of `exec` must join it too, or the container
/// cannot be checkpointed again.
#[test]
fn exec_joins_the_time_namespace_of_a_restored_container() {
    if not_possible() {
        return;
    }
    for mapped in [false, true] {
        if mapped && peer_differs(&["runc"], "closes the images to who is root in the container") {
            continue;
        }
        let bundle = counting("clocks");
        let bundle = if mapped { bundle.user_namespace() } else { bundle };
        bundle.saved();
        bundle.back();
        let own = kernel::namespace(bundle.pid(), "time");
        let joined = || bundle.verb(&["exec", &bundle.id, payload::INSIDE, "ns"]).ok();
        joined().has("ns.time", &own);
        let beside = bundle.runtime().args(["exec", "--detach", &bundle.id, payload::INSIDE, "pause"]);
        beside.stdio(&nothing()).finish().ok();
        let before = count(&bundle);
        bundle.checkpoint(&[]).ok();
        bundle.nothing_left();
        bundle.back();
        counts_on(&bundle, before);
        joined().has("ns.time", &kernel::namespace(bundle.pid(), "time"));
        bundle.down();
    }
}
