//! The list of buckets updated since a time, as JSON.

use crate::bucket_ids::BucketIds;
use crate::mapping::write_bucket_id;
use crate::salts::{Damaged, Table};

const DAY_MS: i64 = 86_400_000;
/// The first and the last millisecond that a date can name.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;

pub fn write(table: Table<'_>, ids: &BucketIds, since: i64) -> Result<Vec<u8>, Damaged> {
    let mut out = vec![b'['];
    let mut last: Option<(i64, String)> = None;
    for number in 0..table.layout.rows {
        let updated = table.last_updated(number)?;
        if updated < since {
            continue;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"bucket_id\":");
        write_bucket_id(ids, table.row(number)?.bucket_number(), &mut out);
        out.extend_from_slice(b",\"last_updated\":\"");
        let text = match last {
            Some((time, text)) if time == updated => text,
            _ => local_time(updated),
        };
        out.extend_from_slice(text.as_bytes());
        last = Some((updated, text));
        out.extend_from_slice(b"\"}");
    }
    out.push(b']');
    Ok(out)
}

pub fn range(table: Table<'_>) -> Result<Option<(i64, i64)>, Damaged> {
    let mut found: Option<(i64, i64)> = None;
    for number in 0..table.layout.rows {
        let updated = table.last_updated(number)?;
        found = Some(found.map_or((updated, updated), |(least, most)| (least.min(updated), most.max(updated))));
    }
    Ok(found)
}

/// `yyyy-MM-ddTHH:mm:ss.SSS` in UTC.
fn local_time(millis: i64) -> String {
    let millis = millis.clamp(FIRST, LAST);
    let (days, rest) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    // The civil calendar in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (seconds, fraction) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}")
}
