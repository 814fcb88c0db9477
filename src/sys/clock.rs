//! The wall clock as runc writes it: RFC 3339 in UTC. Depends on nothing but the standard library.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, in seconds and nanoseconds since 1970-01-01 in UTC. A clock that is set before that reads as 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    seconds: u64,
    nanos: u32,
}

/// Now.
#[must_use]
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { seconds: since.as_secs(), nanos: since.subsec_nanos() }
}

impl Moment {
    /// `2026-11-20T23:49:41Z`: log records.
    #[must_use]
    pub fn seconds(self) -> String {
        format!("{}Z", self.date_and_time())
    }

    /// `2026-11-20T23:49:41.123456789Z`, without zeros at the end: Go's `RFC3339Nano`, in records of containers.
    #[must_use]
    pub fn nanos(self) -> String {
        let fraction = format!(".{:09}", self.nanos);
        format!("{}{}Z", self.date_and_time(), fraction.trim_end_matches(['0']).trim_end_matches('.'))
    }

    fn date_and_time(self) -> String {
        let (year, month, day) = civil(self.seconds / 86_400);
        let second = self.seconds % 86_400;
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// Days since 1970-01-01 → year, month, day. Counted in eras of 400 years that begin on the first of March, so that
/// the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_go_writes_them() {
        // seconds from `date -u -d … +%s`
        let rows = [
            (0, 0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            (951_782_399, 0, "2000-02-28T23:59:59Z", "2000-02-28T23:59:59Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00Z", "2000-02-29T00:00:00.5Z"),
            (1_795_218_581, 123_456_789, "2026-11-20T23:49:41Z", "2026-11-20T23:49:41.123456789Z"),
            (1_798_761_599, 100, "2026-12-31T23:59:59Z", "2026-12-31T23:59:59.0000001Z"),
            (4_107_542_400, 1, "2100-03-01T00:00:00Z", "2100-03-01T00:00:00.000000001Z"),
        ];
        for (seconds, nanos, short, long) in rows {
            let moment = Moment { seconds, nanos };
            assert_eq!((moment.seconds().as_str(), moment.nanos().as_str()), (short, long));
        }
    }
}
