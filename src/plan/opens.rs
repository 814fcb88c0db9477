//! Assigns slots, and collects what the host opens before the clone.

use super::Open;
use super::step::Slot;
use crate::spec::Maps;
use std::collections::BTreeMap;

/// The slots of a plan, and what the host opens into some of them.
#[derive(Debug)]
pub(super) struct Opens {
    list: Vec<(Slot, Open)>,
    next: u16,
    /// The slot of the user namespace for each distinct id mapping.
    mappings: BTreeMap<Maps, Slot>,
}

impl Opens {
    pub(super) fn new() -> Self {
        Self { list: Vec::new(), next: Slot::FREE, mappings: BTreeMap::new() }
    }

    /// Reserves a slot that a step will fill. If none is left, returns the last one again; see [`Self::is_full`].
    pub(super) fn slot(&mut self) -> Slot {
        let slot = Slot(self.next);
        self.next = self.next.saturating_add(1);
        slot
    }

    /// Reserves a slot that the host fills.
    pub(super) fn open(&mut self, open: Open) -> Slot {
        let slot = self.slot();
        self.open_at(slot, open);
        slot
    }

    /// Has the host fill a slot with a fixed number.
    pub(super) fn open_at(&mut self, slot: Slot, open: Open) {
        self.list.push((slot, open));
    }

    /// The slot of the user namespace for an id mapping.
    pub(super) fn mapping(&mut self, maps: Maps) -> Slot {
        if let Some(slot) = self.mappings.get(&maps) {
            return *slot;
        }
        let slot = self.open(Open::Mapping(maps.clone()));
        self.mappings.insert(maps, slot);
        slot
    }

    /// Whether more slots were needed than exist: then the plan must be refused.
    pub(super) fn is_full(&self) -> bool {
        self.next == u16::MAX
    }

    /// What the host opens, and the number of slots.
    pub(super) fn into_parts(self) -> (Vec<(Slot, Open)>, u16) {
        (self.list, self.next)
    }
}
