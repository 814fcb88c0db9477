//! What the host opens before the clone, and who gets which slot.

use super::Open;
use super::step::Slot;
use crate::spec::Maps;
use std::collections::BTreeMap;

/// The slots of a plan, and what the host puts into some of them.
#[derive(Debug)]
pub(super) struct Opens {
    list: Vec<(Slot, Open)>,
    next: u16,
    /// The user namespaces that stand for mappings of ids: one for each mapping.
    mappings: BTreeMap<Maps, Slot>,
}

impl Opens {
    pub(super) fn new() -> Self {
        Self { list: Vec::new(), next: Slot::FREE, mappings: BTreeMap::new() }
    }

    /// Reserves a slot, which a step fills. If none is left the last one is handed out again: see [`Self::is_full`].
    pub(super) fn slot(&mut self) -> Slot {
        let slot = Slot(self.next);
        self.next = self.next.saturating_add(1);
        slot
    }

    /// Reserves a slot, which the host fills.
    pub(super) fn open(&mut self, open: Open) -> Slot {
        let slot = self.slot();
        self.open_at(slot, open);
        slot
    }

    /// Lets the host fill a slot that has a fixed number.
    pub(super) fn open_at(&mut self, slot: Slot, open: Open) {
        self.list.push((slot, open));
    }

    /// The slot of the user namespace that stands for a mapping of ids.
    pub(super) fn mapping(&mut self, maps: Maps) -> Slot {
        if let Some(slot) = self.mappings.get(&maps) {
            return *slot;
        }
        let slot = self.open(Open::Mapping(maps.clone()));
        self.mappings.insert(maps, slot);
        slot
    }

    /// Whether more slots were reserved than there are: then the plan must be refused.
    pub(super) fn is_full(&self) -> bool {
        self.next == u16::MAX
    }

    /// What the host opens, and how many slots there are.
    pub(super) fn into_parts(self) -> (Vec<(Slot, Open)>, u16) {
        (self.list, self.next)
    }
}
