//! The packed opt-out index: look-ups. The layout is that of `uid2.bulk.optout_index`.

use crate::memory::{prefetch, LINE};
use crate::normal::decode_exact;
use crate::normal::Hash;

pub const MAGIC: &[u8; 8] = b"uid2opt1";
pub const HEADER: usize = 32;
pub const ROW: usize = 40;
pub const ALWAYS: u64 = (1 << 56) - 1;
const LONG_ID: u8 = 0x40;
const INTEG: u8 = 1;
/// Rows of a cell on average: few enough for a guess within it to be near.
const CELL: usize = 32;
/// Parts of the range of hashes for each row. Seven of eight hashes without an opt-out fall into one without a row.
const PARTS: usize = 8;
/// Rows that are looked at one by one around a guess before halves are taken.
const NEAR: usize = 8;
/// Rows fetched ahead on either side of a guess: nearly all lie that near.
const AROUND: usize = 3;
const TOGETHER: usize = 64;
/// Guesses at the place of an id before halves are taken: ids are evenly spread as a rule, not by law.
const ID_GUESSES: usize = 8;
/// Of these, so many are made for all ids of a batch in turn.
const ID_ROUNDS: usize = 5;

/// Damage found while looking something up.
#[derive(Debug)]
pub struct Damaged;

#[derive(Clone, Copy)]
pub struct Index<'a> {
    rows: &'a [u8],
    order: &'a [u8],
    directory: &'a Directory,
    pub size: usize,
    pub environment: u8,
}

/// What is found out about an index when it is opened, so that a look-up reads few places.
#[derive(Default)]
pub struct Directory {
    /// Hashes are evenly spread. A bit for each of many equal parts of their range: whether a row lies in it.
    occupied: Vec<u64>,
    /// The first row of each of fewer equal parts of the range, and the end of the last.
    cells: Vec<u32>,
    groups: Vec<Group>,
}

static EMPTY: Directory = Directory { occupied: Vec::new(), cells: Vec::new(), groups: Vec::new() };

/// The places in the order by id that share a metadata byte; among them the ids are evenly spread.
struct Group {
    metadata: u8,
    begin: usize,
    end: usize,
}

/// An id on its way to the first place that is not before it: `low..=high`, all of it below `end`.
struct IdProbe {
    key: [u8; 16],
    low: usize,
    high: usize,
    guess: usize,
    size: usize,
    end: usize,
}

/// Where a hash must be among the rows, `low..=high`, and where it is likely to be.
struct Place {
    wanted: u64,
    low: usize,
    high: usize,
    guess: usize,
}

impl<'a> Index<'a> {
    pub fn of(data: &'a [u8]) -> Option<Self> {
        if data.len() < HEADER || &data[..8] != MAGIC || data[16] > 2 {
            return None;
        }
        let size = usize::try_from(u64::from_le_bytes(data[8..16].try_into().ok()?)).ok()?;
        if size.checked_mul(ROW + 4)?.checked_add(HEADER)? != data.len() {
            return None;
        }
        let (rows, order) = data[HEADER..].split_at(size * ROW);
        Some(Index { rows, order, directory: &EMPTY, size, environment: data[16] })
    }

    /// The same index, for look-ups.
    pub fn with(self, directory: &'a Directory) -> Self {
        Index { directory, ..self }
    }

    pub fn directory(&self) -> Result<Directory, Damaged> {
        let mut directory = Directory {
            occupied: vec![0; (self.size * PARTS).div_ceil(64)],
            cells: Vec::with_capacity(self.size / CELL + 2),
            groups: self.groups()?,
        };
        let (parts, count) = (directory.occupied.len() * 64, self.size / CELL + 1);
        for (number, row) in self.rows.as_chunks::<ROW>().0.iter().enumerate() {
            let (part, cell) = (scaled(leading_of(row), parts), scaled(leading_of(row), count));
            directory.occupied[part / 64] |= 1 << (part % 64);
            while directory.cells.len() <= cell {
                directory.cells.push(number as u32);
            }
        }
        directory.cells.resize(count + 1, self.size as u32);
        Ok(directory)
    }

    /// A few steps for each.
    fn groups(&self) -> Result<Vec<Group>, Damaged> {
        let (mut groups, mut begin) = (Vec::new(), 0);
        while begin < self.size {
            let metadata = self.row_at(begin)?[39];
            let same = |place: usize| self.row_at(place).is_ok_and(|row| row[39] <= metadata);
            let end = begin + lower_bound(self.size - begin, |at| same(begin + at)).max(1);
            groups.push(Group { metadata, begin, end });
            begin = end;
        }
        Ok(groups)
    }

    pub fn rows(&self) -> &'a [u8] {
        self.rows
    }

    fn row(&self, number: usize) -> &'a [u8] {
        &self.rows[number * ROW..number * ROW + ROW]
    }

    fn leading(&self, number: usize) -> u64 {
        leading_of(self.row(number))
    }

    fn place(&self, prefix: &[u8]) -> Place {
        let wanted = leading_of(prefix);
        let cells = &self.directory.cells[..];
        if cells.len() < 2 {
            return Place { wanted, low: 0, high: self.size, guess: scaled(wanted, self.size) };
        }
        let count = cells.len() - 1;
        let cell = scaled(wanted, count);
        let (low, high) = (cells[cell] as usize, cells[cell + 1] as usize);
        let within = wanted.wrapping_mul(count as u64);
        Place { wanted, low, high, guess: low + scaled(within, high - low) }
    }

    fn part(&self, flh: &Hash) -> usize {
        scaled(leading_of(flh), self.directory.occupied.len() * 64)
    }

    /// Whether a row may be there; most hashes without one are told at this price.
    fn may_hold(&self, flh: &Hash) -> bool {
        let part = self.part(flh);
        self.directory.occupied.get(part / 64).is_none_or(|bits| bits >> (part % 64) & 1 != 0)
    }

    /// Fetch ahead what look-ups of these hashes are likely to read, in loops in which many waits for memory overlap.
    pub fn prefetch<'h>(&self, hashes: impl Iterator<Item = &'h Hash> + Clone) {
        for flh in hashes.clone() {
            prefetch(&self.directory.occupied, self.part(flh) / 64);
        }
        for flh in hashes.filter(|flh| self.may_hold(flh)) {
            let guess = self.place(flh).guess;
            let begin = guess.saturating_sub(AROUND) * ROW;
            for at in (begin..(guess + AROUND + 1) * ROW).step_by(LINE) {
                prefetch(self.rows, at);
            }
        }
    }

    /// Epoch seconds of the latest opt-out of a hash, 0 when there is none.
    pub fn timestamp_of_hash(&self, flh: &Hash) -> u64 {
        if *flh == [0; 32] {
            return ALWAYS;
        }
        if *flh == [0xFF; 32] {
            return 0;
        }
        if !self.may_hold(flh) {
            return 0;
        }
        self.rows_of(&flh[..16]).map(seconds).max().unwrap_or(0)
    }

    /// The rows of the hash with these first 16 bytes.
    fn rows_of<'b>(&'b self, prefix: &'b [u8]) -> impl Iterator<Item = &'a [u8]> + 'b {
        let rows = (self.lower_bound(self.place(prefix))..self.size).map(|number| self.row(number));
        rows.skip_while(move |row| &row[..16] < prefix).take_while(move |row| &row[..16] == prefix)
    }

    /// Those of the rows for whose hash and id this index has no time from theirs less the tolerance on.
    pub fn missing(&self, rows: &[[u8; ROW]], tolerance: u64) -> Vec<u8> {
        let mut missing = Vec::new();
        for row in rows {
            let enough = seconds(row).saturating_sub(tolerance);
            let same = |held: &[u8]| held[16..32] == row[16..32] && held[39] == row[39] && seconds(held) >= enough;
            if !self.rows_of(&row[..16]).any(same) {
                missing.extend_from_slice(row);
            }
        }
        missing
    }

    /// The first row that is not before the wanted one: by single steps from a good guess, else by halves.
    fn lower_bound(&self, place: Place) -> usize {
        let Place { wanted, mut low, mut high, guess } = place;
        if guess < self.size && self.leading(guess) < wanted {
            let last = (guess + 1 + NEAR).min(high);
            if let Some(found) = (guess + 1..last).find(|&at| self.leading(at) >= wanted) {
                return found;
            }
            low = (guess + 1).max(last);
        } else {
            let end = guess.min(high);
            let begin = low.max(end.saturating_sub(NEAR));
            if let Some(found) = (begin..end).rev().find(|&at| self.leading(at) < wanted) {
                return found + 1;
            }
            high = begin.min(end);
        }
        low + lower_bound(high.saturating_sub(low), |at| self.leading(low + at) < wanted)
    }

    pub fn timestamps_of_hashes(&self, hashes: &[Hash]) -> Vec<u64> {
        let mut found = Vec::with_capacity(hashes.len());
        for batch in hashes.chunks(TOGETHER) {
            self.prefetch(batch.iter());
            found.extend(batch.iter().map(|flh| self.timestamp_of_hash(flh)));
        }
        found
    }

    /// How many hashes have an entry before a time in epoch seconds.
    pub fn hashes_before(&self, seconds: u64) -> usize {
        let (mut before, mut last) = (0, None);
        for row in self.rows.as_chunks::<ROW>().0 {
            // The metadata byte is the highest of the eight.
            let at = u64::from_le_bytes(row[32..].try_into().unwrap_or_default()) & ALWAYS;
            if at < seconds && last != Some(&row[..16]) {
                before += 1;
                last = Some(&row[..16]);
            }
        }
        before
    }

    /// Epoch seconds of the earliest opt-out recorded with a raw UID written in canonical base64.
    pub fn timestamp_of_id(&self, text: &[u8]) -> Result<Option<u64>, Damaged> {
        self.id_probe(text).map_or(Ok(None), |probe| self.finish_id(probe))
    }

    pub fn timestamps_of_ids(&self, texts: &[String]) -> Result<Vec<Option<u64>>, Damaged> {
        let mut found = Vec::with_capacity(texts.len());
        for batch in texts.chunks(TOGETHER) {
            let mut probes: Vec<_> = batch.iter().map(|text| self.id_probe(text.as_bytes())).collect();
            for _ in 0..ID_ROUNDS {
                for probe in probes.iter().flatten() {
                    prefetch(self.order, probe.guess * 4);
                }
                for probe in probes.iter().flatten().filter(|probe| probe.low < probe.high) {
                    let row = self.number_at(probe.guess)? * ROW;
                    prefetch(self.rows, row + 16);
                    prefetch(self.rows, row + ROW - 1);
                }
                for probe in probes.iter_mut().flatten() {
                    self.refine_id(probe)?;
                }
            }
            for probe in probes {
                found.push(probe.map_or(Ok(None), |probe| self.finish_id(probe))?);
            }
        }
        Ok(found)
    }

    /// None for what is no raw UID of this deployment, or of a kind of which there is none.
    fn id_probe(&self, text: &[u8]) -> Option<IdProbe> {
        let (metadata, key) = id_of(text, self.environment)?;
        let &Group { begin, end, .. } = self.directory.groups.iter().find(|group| group.metadata == metadata)?;
        let size = end - begin;
        let guess = (begin + scaled(leading_of(&key), size)).min(end - 1);
        Some(IdProbe { key, low: begin, high: end, guess, size, end })
    }

    /// One step nearer.
    fn refine_id(&self, probe: &mut IdProbe) -> Result<(), Damaged> {
        if probe.low >= probe.high {
            return Ok(());
        }
        let here = &self.row_at(probe.guess)?[16..32];
        let (wanted, found) = (leading_of(&probe.key), leading_of(here));
        let step = scaled(wanted.abs_diff(found), probe.size) + 1;
        if *here < probe.key[..] {
            probe.low = probe.guess + 1;
            probe.guess = probe.guess.saturating_add(step);
        } else {
            // The first of several equal ids is sought.
            probe.high = probe.guess;
            probe.guess = probe.guess.saturating_sub(step);
        }
        if probe.low < probe.high {
            probe.guess = probe.guess.clamp(probe.low, probe.high - 1);
        }
        Ok(())
    }

    fn finish_id(&self, mut probe: IdProbe) -> Result<Option<u64>, Damaged> {
        let mut steps = 0;
        while probe.low < probe.high {
            if steps >= ID_GUESSES {
                probe.guess = probe.low + (probe.high - probe.low) / 2;
            }
            self.refine_id(&mut probe)?;
            steps += 1;
        }
        let mut earliest: Option<u64> = None;
        for place in probe.low..probe.end {
            let row = self.row_at(place)?;
            if row[16..32] != probe.key {
                break;
            }
            let at = seconds(row);
            earliest = Some(earliest.map_or(at, |known| known.min(at)));
        }
        Ok(earliest)
    }

    fn number_at(&self, place: usize) -> Result<usize, Damaged> {
        let number = u32::from_le_bytes(self.order[place * 4..place * 4 + 4].try_into().unwrap_or_default());
        if (number as usize) < self.size {
            Ok(number as usize)
        } else {
            Err(Damaged)
        }
    }

    fn row_at(&self, place: usize) -> Result<&'a [u8], Damaged> {
        self.number_at(place).map(|number| self.row(number))
    }
}

/// Metadata byte and id key: the order of the look-up by id.
pub fn id_key(row: &[u8]) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = row[39];
    key[1..].copy_from_slice(&row[16..32]);
    key
}

/// The first eight bytes as a number: where a key lies among evenly spread ones.
fn leading_of(key: &[u8]) -> u64 {
    u64::from_be_bytes(key[..8].try_into().unwrap_or_default())
}

fn seconds(row: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..7].copy_from_slice(&row[32..39]);
    u64::from_le_bytes(bytes)
}

fn scaled(part: u64, size: usize) -> usize {
    ((u128::from(part) * size as u128) >> 64) as usize
}

fn lower_bound(size: usize, mut before: impl FnMut(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Metadata byte and key under which a raw UID is found; None when it is none of this deployment.
fn id_of(text: &[u8], environment: u8) -> Option<(u8, [u8; 16])> {
    if let Some(data) = decode_exact::<32>(text) {
        return Some((0, data[..16].try_into().ok()?));
    }
    let data: [u8; 33] = decode_exact(text)?;
    let metadata = data[0] | LONG_ID;
    let low = metadata & 0x3F;
    let first = match metadata >> 6 {
        3 => 0x80 | low,
        _ if low & 0x20 != 0 && environment == INTEG => 0x40 | low,
        _ => low,
    };
    (first == data[0]).then(|| data[16..32].try_into().ok()).flatten().map(|key| (metadata, key))
}
