//! Id-mapped mounts: which mapping a mount gets, and the user namespace that holds it.

use super::planner::Planner;
use super::{IdRange, Mapped, Maps};
use crate::abi::ns::Namespace;
use crate::error::{Error, Result};
use crate::spec::{MOST_RANGES, MountEntry, MountKind, too_many_ranges};

/// The id mapping of a mount, if it has one. The host opens a user namespace for it.
///
/// # Errors
/// A mount that can't be mapped, or no mapping to use.
pub(super) fn mapped(mount: &MountEntry, planner: &mut Planner<'_>) -> Result<Option<Mapped>> {
    let MountEntry { at, options, maps: given, .. } = mount;
    if given.is_none() && options.idmap.is_none() {
        return Ok(None);
    }
    let place = format!("{at}.{}", if given.is_some() { "uidMappings" } else { "options" });
    if !mount.is_bind() {
        return Err(Error::spec(place, "id-mapped mounts are only supported for bind-mounts"));
    }
    if mount.kind() == MountKind::RemountBind {
        return Err(Error::spec(place, "the ids of a mount that is there already can't be mapped"));
    }
    if planner.facts.unprivileged {
        return Err(Error::spec(place, "id-mapped mounts are not supported for rootless containers"));
    }
    let (recursive, written) = options.idmap.clone().unwrap_or_default();
    let maps = match (written, given) {
        (Some(_), Some(_)) => {
            return Err(Error::spec(place, "idmap= option conflicts with uidMappings/gidMappings"));
        }
        (Some(text), None) => parse(&format!("{at}.options"), &text, &planner.config.maps)?,
        (None, Some(maps)) => maps.clone(),
        (None, None) => match planner.chosen.joined(Namespace::User) {
            Some(namespace) => return Ok(Some(Mapped { namespace, recursive })),
            None => planner.config.maps.clone(),
        },
    };
    if maps.uids.is_empty() || maps.gids.is_empty() {
        let text = "id-mapped mounts must have both uid and gid mappings specified";
        return Err(Error::spec(place, text)
            .with_hint("those of the container are taken where it has a user namespace and the mount names none"));
    }
    Ok(Some(Mapped { namespace: planner.opens.mapping(maps), recursive }))
}

/// Parses crun's and Podman's form of a mapping: `uids=0-1000-10#10-2000-5;gids=@0-0-10`. After `@` the second number is an id in
/// the container's user namespace, not on the host.
fn parse(at: &str, text: &str, container: &Maps) -> Result<Maps> {
    let mut maps = Maps::default();
    for part in text.split(';') {
        let (list, own, ranges) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut maps.uids, &container.uids, ranges),
            Some(("gids", ranges)) => (&mut maps.gids, &container.gids, ranges),
            Some(_) | None => {
                return Err(Error::spec(at, format!("invalid id mapping {part:?}: expected uids=… or gids=…")));
            }
        };
        for range in ranges.split('#') {
            if list.len() == MOST_RANGES {
                return Err(too_many_ranges(at));
            }
            let parsed = triple(range).and_then(
                |(relative, parsed)| {
                    if relative { absolute(parsed, own) } else { Some(parsed) }
                },
            );
            let wrong = || format!("invalid id range {range:?}: expected CONTAINER-HOST-SIZE or @CONTAINER-HOST-SIZE");
            list.push(parsed.ok_or_else(|| Error::spec(at, wrong()))?);
        }
    }
    Ok(maps)
}

fn triple(text: &str) -> Option<(bool, IdRange)> {
    let (relative, text) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (count > 0 && numbers.next().is_none()).then_some((relative, IdRange { inside, outside, count }))
}

/// Converts a range whose second number is an id of the container into one with an id of the host.
fn absolute(range: IdRange, own: &[IdRange]) -> Option<IdRange> {
    let outside = own.iter().find_map(|own| own.translate(range.outside, range.count))?;
    Some(IdRange { outside, ..range })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    #[test]
    fn the_form_of_crun_is_read() {
        let own = Maps { uids: vec![range(0, 0, 1), range(1, 2, 1000)], gids: vec![range(0, 500, 10)] };
        let maps = parse("m", "uids=0-1-10#10-11-10;gids=0-100-10", &own).unwrap();
        assert_eq!(maps.uids, [range(0, 1, 10), range(10, 11, 10)]);
        assert_eq!(maps.gids, [range(0, 100, 10)]);
        let maps = parse("m", "uids=@1-3-10;gids=@0-5-5", &own).unwrap();
        assert_eq!((maps.uids, maps.gids), (vec![range(1, 4, 10)], vec![range(0, 505, 5)]));
        for wrong in
            ["", "uids", "uids=", "uids=1-2", "uids=1-2-0", "uids=1-2-3-4", "uids=a-1-2", "x=0-0-1", "gids=@0-5-6"]
        {
            assert!(parse("m", wrong, &own).is_err(), "{wrong}");
        }
    }
}
