//! The packed salt table: reading and building. The layout is that of `uid2.bulk.salt_table`.

use crate::memory::prefetch;
use crate::normal::{decode_exact, encode, HASH_TEXT};

const MAGIC: &[u8; 8] = b"uid2slt1";
const HEADER: usize = 64;
const HOT: [usize; 2] = [48, 72];
const COLD: [usize; 2] = [36, 64];
const SALT: u8 = 1;
const KEY: u8 = 2;
const ODD: u8 = 0x80;
const TIME_LIMIT: i64 = 1 << 48;
const LARGEST_KEY_ID: i64 = 0xFF_FFFF;

/// The damaged place of a table, or a row that must be left to the reference.
#[derive(Debug)]
pub struct Damaged;

/// Where everything is in a buffer whose length has been checked.
pub struct Layout {
    pub rows: usize,
    kind: usize,
    hot: usize,
    cold: usize,
    odd: usize,
    odd_count: usize,
    text: usize,
    text_length: usize,
}

/// What a raw UID is made of.
pub enum Material {
    /// Base64 of 32 bytes.
    Exact([u8; HASH_TEXT]),
    Text(Vec<u8>),
    Key(Box<KeyMaterial>),
}

pub struct KeyMaterial {
    pub id: u32,
    pub key: Vec<u8>,
    pub salt: Vec<u8>,
}

impl Layout {
    pub fn of(data: &[u8]) -> Option<Self> {
        if data.len() < HEADER || &data[..8] != MAGIC {
            return None;
        }
        let small = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap_or_default());
        let large = |at: usize| usize::try_from(u64::from_le_bytes(data[at..at + 8].try_into().unwrap_or_default()));
        let layout = Layout {
            rows: small(8) as usize,
            kind: small(12) as usize,
            hot: large(16).ok()?,
            cold: large(24).ok()?,
            odd: large(32).ok()?,
            odd_count: small(40) as usize,
            text: large(44).ok()?,
            text_length: small(52) as usize,
        };
        let within = |at: usize, length: usize| at.checked_add(length).is_some_and(|end| end <= data.len());
        let whole = layout.kind < 2
            && within(layout.text, layout.text_length)
            && within(layout.hot, layout.rows * HOT[layout.kind])
            && within(layout.cold, layout.rows * COLD[layout.kind])
            && within(layout.odd, layout.odd_count * 12);
        whole.then_some(layout)
    }
}

/// One row; the sources of both raw UIDs are read on demand.
pub struct Row<'a> {
    hot: &'a [u8],
    cold: &'a [u8],
    odd: Option<ParsedRow>,
}

#[derive(Clone, Copy)]
pub struct Table<'a> {
    pub data: &'a [u8],
    pub layout: &'a Layout,
}

impl<'a> Table<'a> {
    /// Fetch both parts of a row; either may lie across two cache lines.
    pub fn prefetch(&self, row: usize) {
        let layout = self.layout;
        for (begin, length) in [(layout.hot, HOT[layout.kind]), (layout.cold, COLD[layout.kind])] {
            prefetch(self.data, begin + row * length);
            prefetch(self.data, begin + row * length + length - 1);
        }
    }

    pub fn row(&self, row: usize) -> Result<Row<'a>, Damaged> {
        let layout = self.layout;
        let (hot_length, cold_length) = (HOT[layout.kind], COLD[layout.kind]);
        let hot = layout.hot + row * hot_length;
        let cold = layout.cold + row * cold_length;
        let hot = &self.data[hot..hot + hot_length];
        let cold = &self.data[cold..cold + cold_length];
        let odd = if self.flags(hot) & ODD != 0 { Some(self.odd_row(row)?) } else { None };
        Ok(Row { hot, cold, odd })
    }

    fn flags(&self, hot: &[u8]) -> u8 {
        hot[if self.layout.kind == 0 { 44 } else { 71 }]
    }

    /// When a row was updated, epoch milliseconds, without the rest of the row.
    pub fn last_updated(&self, row: usize) -> Result<i64, Damaged> {
        let length = HOT[self.layout.kind];
        let at = self.layout.hot + row * length;
        let hot = &self.data[at..at + length];
        if self.flags(hot) & ODD != 0 {
            return Ok(self.odd_row(row)?.last_updated);
        }
        Ok(time(hot, if self.layout.kind == 0 { 32 } else { 59 }))
    }

    fn odd_row(&self, wanted: usize) -> Result<ParsedRow, Damaged> {
        let layout = self.layout;
        let entry = |place: usize| {
            let at = layout.odd + place * 12;
            let number = |at: usize| u32::from_le_bytes(self.data[at..at + 4].try_into().unwrap_or_default()) as usize;
            (number(at), number(at + 4), number(at + 8))
        };
        let (mut low, mut high) = (0, layout.odd_count);
        while low < high {
            let middle = (low + high) / 2;
            if entry(middle).0 < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low >= layout.odd_count {
            return Err(Damaged);
        }
        let (row, offset, length) = entry(low);
        let end = offset.checked_add(length).filter(|&end| end <= self.data.len()).ok_or(Damaged)?;
        if row != wanted {
            return Err(Damaged);
        }
        parse_line(&self.data[offset..end]).ok_or(Damaged)
    }
}

fn time(row: &[u8], at: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&row[at..at + 6]);
    i64::from_le_bytes(bytes)
}

fn base64_text(salt: &[u8]) -> [u8; HASH_TEXT] {
    let mut text = [0; HASH_TEXT];
    encode(salt, &mut text);
    text
}

impl Row<'_> {
    fn with_keys(&self) -> bool {
        self.hot.len() == HOT[1]
    }

    fn flags(&self) -> u8 {
        self.hot[if self.with_keys() { 71 } else { 44 }]
    }

    pub fn last_updated(&self) -> i64 {
        match &self.odd {
            Some(row) => row.last_updated,
            None => time(self.hot, if self.with_keys() { 59 } else { 32 }),
        }
    }

    pub fn refresh_from(&self) -> i64 {
        match &self.odd {
            Some(row) => row.refresh_from,
            None => time(self.hot, if self.with_keys() { 65 } else { 38 }),
        }
    }

    pub fn bucket_number(&self) -> u32 {
        match &self.odd {
            Some(row) => row.id,
            None => {
                let at = self.cold.len() - 4;
                u32::from_le_bytes(self.cold[at..].try_into().unwrap_or_default())
            }
        }
    }

    pub fn current(&self) -> Option<Material> {
        match &self.odd {
            Some(row) => row.current.material(),
            None => slot(self.flags() & 3, self.hot),
        }
    }

    pub fn previous(&self) -> Option<Material> {
        match &self.odd {
            Some(row) => row.previous.material(),
            None => slot(self.flags() >> 2 & 3, self.cold),
        }
    }
}

fn slot(kind: u8, part: &[u8]) -> Option<Material> {
    let with_keys = part.len() == HOT[1] || part.len() == COLD[1];
    match kind {
        SALT => Some(Material::Exact(base64_text(if with_keys { &part[24..56] } else { &part[..32] }))),
        KEY if with_keys => {
            let mut key = vec![0; 32];
            key.copy_from_slice(&{
                let mut text = [0; HASH_TEXT];
                encode(&part[..24], &mut text);
                <[u8; 32]>::try_from(&text[..32]).unwrap_or_default()
            });
            let id = u32::from_le_bytes([part[56], part[57], part[58], 0]);
            Some(Material::Key(Box::new(KeyMaterial { id, key, salt: base64_text(&part[24..56]).to_vec() })))
        }
        _ => None,
    }
}

/// A salt and the three key columns as texts; empty ones are None.
#[derive(Default)]
struct ParsedSlot {
    salt: Option<String>,
    key: Option<(u32, String, Option<String>)>,
}

impl ParsedSlot {
    fn material(&self) -> Option<Material> {
        if let Some(salt) = &self.salt {
            return Some(Material::Text(salt.as_bytes().to_vec()));
        }
        let (id, key, salt) = self.key.as_ref()?;
        Some(Material::Key(Box::new(KeyMaterial {
            id: *id,
            key: key.as_bytes().to_vec(),
            salt: salt.clone().unwrap_or_default().into_bytes(),
        })))
    }
}

struct ParsedRow {
    id: u32,
    last_updated: i64,
    refresh_from: i64,
    current: ParsedSlot,
    previous: ParsedSlot,
}

/// The characters the reference strips from a column.
fn is_white_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

fn parse_line(line: &[u8]) -> Option<ParsedRow> {
    let text = std::str::from_utf8(line).ok()?;
    let mut columns = [""; 11];
    let mut count = 0;
    for (place, column) in text.split(',').enumerate() {
        if let Some(kept) = columns.get_mut(place) {
            *kept = column.trim_matches(is_white_space);
        }
        count = place + 1;
    }
    if count < 9 {
        return None;
    }
    let given = |place: usize| (!columns[place].is_empty()).then(|| columns[place].to_owned());
    Some(ParsedRow {
        id: integer(columns[0], 0, i64::from(i32::MAX))? as u32,
        last_updated: integer(columns[1], i64::MIN, i64::MAX)?,
        refresh_from: integer(columns[3], i64::MIN, i64::MAX)?,
        current: ParsedSlot { salt: given(2), key: key_columns(&columns, 5, count)? },
        previous: ParsedSlot { salt: given(4), key: key_columns(&columns, 8, count)? },
    })
}

type KeyColumns = Option<(u32, String, Option<String>)>;

/// None when the columns are wrong, Some(None) when they hold no key.
fn key_columns(columns: &[&str; 11], first: usize, count: usize) -> Option<KeyColumns> {
    if columns[first].is_empty() {
        return Some(None);
    }
    if count <= first + 1 {
        return None;
    }
    if columns[first + 1].is_empty() {
        return Some(None);
    }
    if count <= first + 2 {
        return None;
    }
    let id = integer(columns[first], 0, LARGEST_KEY_ID)? as u32;
    let salt = (!columns[first + 2].is_empty()).then(|| columns[first + 2].to_owned());
    Some(Some((id, columns[first + 1].to_owned(), salt)))
}

fn integer(text: &str, least: i64, largest: i64) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = text.parse().ok()?;
    let value = i64::try_from(value).ok()?;
    (least..=largest).contains(&value).then_some(value)
}

/// The packed table of a salt file; `texts` is the JSON of its last part. Err: the first row that is wrong.
pub fn pack(data: &[u8], texts: &[u8]) -> Result<Vec<u8>, usize> {
    let mut lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let kind = usize::from(lines.iter().any(|line| may_hold_keys(line)));
    let cold_at = HEADER + lines.len() * HOT[kind];
    let odd_at = cold_at + lines.len() * COLD[kind];
    let mut table = Vec::with_capacity(odd_at + texts.len() + 4096);
    table.resize(odd_at, 0);
    let mut odd: Vec<(usize, &[u8])> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let row = parse_line(line).ok_or(number)?;
        let (hot_part, cold_part) = table[HEADER..].split_at_mut(cold_at - HEADER);
        let hot = &mut hot_part[number * HOT[kind]..][..HOT[kind]];
        let cold = &mut cold_part[number * COLD[kind]..][..COLD[kind]];
        if pack_row(&row, kind, hot, cold).is_none() {
            hot.fill(0);
            cold.fill(0);
            hot[if kind == 0 { 44 } else { 71 }] = ODD;
            odd.push((number, line));
        }
    }
    let mut offset = odd_at + 12 * odd.len();
    for (number, line) in &odd {
        for value in [*number, offset, line.len()] {
            table.extend_from_slice(&u32::try_from(value).map_err(|_| *number)?.to_le_bytes());
        }
        offset += line.len();
    }
    for (_, line) in &odd {
        table.extend_from_slice(line);
    }
    table.extend_from_slice(texts);
    table[..8].copy_from_slice(MAGIC);
    for (at, value) in [(8, lines.len()), (12, kind), (40, odd.len()), (52, texts.len())] {
        table[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    for (at, value) in [(16, HEADER), (24, cold_at), (32, odd_at), (44, offset)] {
        table[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
    }
    Ok(table)
}

fn may_hold_keys(line: &[u8]) -> bool {
    let held = |column: &[u8]| column.iter().any(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'));
    line.split(|&byte| byte == b',').enumerate().any(|(place, column)| (place == 5 || place == 8) && held(column))
}

/// None when a value cannot be kept exactly.
fn pack_row(row: &ParsedRow, kind: usize, hot: &mut [u8], cold: &mut [u8]) -> Option<()> {
    let times = [row.last_updated, row.refresh_from];
    if !times.iter().all(|time| (0..TIME_LIMIT).contains(time)) {
        return None;
    }
    let current = pack_slot(&row.current, kind, hot)?;
    let previous = pack_slot(&row.previous, kind, cold)?;
    let at = if kind == 0 { 32 } else { 59 };
    for (place, time) in times.iter().enumerate() {
        hot[at + 6 * place..at + 6 * place + 6].copy_from_slice(&time.to_le_bytes()[..6]);
    }
    hot[at + 12] = current | previous << 2;
    let number = cold.len() - 4;
    cold[number..].copy_from_slice(&row.id.to_le_bytes());
    Some(())
}

fn pack_slot(slot: &ParsedSlot, kind: usize, part: &mut [u8]) -> Option<u8> {
    match (&slot.salt, &slot.key) {
        (None, None) => Some(0),
        (Some(salt), None) => {
            let salt: [u8; 32] = decode_exact(salt.as_bytes())?;
            part[if kind == 0 { 0..32 } else { 24..56 }].copy_from_slice(&salt);
            Some(SALT)
        }
        (None, Some((id, key, salt))) if kind == 1 => {
            part[..24].copy_from_slice(&decode_exact::<24>(key.as_bytes())?);
            part[24..56].copy_from_slice(&decode_exact::<32>(salt.as_deref()?.as_bytes())?);
            part[56..59].copy_from_slice(&id.to_le_bytes()[..3]);
            Some(KEY)
        }
        _ => None,
    }
}
