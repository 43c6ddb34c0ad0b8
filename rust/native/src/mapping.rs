//! A whole map request: the decrypted document in, the response document out.

use crate::bucket_ids::BucketIds;
use crate::json::{parse, write_string, Document, Element, Trouble, Value, FIELDS};
use crate::normal::{encode, of_email, of_phone, of_supplied_hash, sha256, Hash, HASH_TEXT};
use crate::optouts::Index;
use crate::salts::{Material, Row, Table};
use crate::uids::{raw_uid, Manner, Version};

/// Identifiers that go through the stages together: enough to hide the waits for memory, few enough for the cache.
const BATCH: usize = 32;
const DAY_MS: i128 = 86_400_000;
const PREVIOUS_UID_MS: i128 = 90 * DAY_MS;
const FULL_TABLE: usize = 1 << 20;

pub struct Options<'a> {
    pub v3_shape: bool,
    pub manner: Manner,
    pub phone_support: bool,
    pub now: i64,
    /// (identity type, first-level hash)
    pub always: &'a [(u8, Hash)],
    pub never: &'a [(u8, Hash)],
}

pub struct Tables<'a> {
    pub salts: Table<'a>,
    pub first_level_salt: &'a [u8],
    pub bucket_ids: &'a BucketIds,
    pub optouts: &'a [Index<'a>],
    /// First-level hashes of fresh opt-outs.
    pub fresh: &'a [Hash],
}

impl Tables<'_> {
    fn opted_out(&self, flh: &Hash) -> bool {
        self.optouts.iter().any(|index| index.timestamp_of_hash(flh) > 0) || self.fresh.binary_search(flh).is_ok()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    InvalidJson,
    NotArray,
    NoUsableField,
    EmptyRequest,
    BadFormat,
    NullElement,
}

impl Problem {
    pub fn name(self) -> &'static str {
        match self {
            Problem::InvalidJson => "invalid_json",
            Problem::NotArray => "not_array",
            Problem::NoUsableField => "no_usable_field",
            Problem::EmptyRequest => "empty_request",
            Problem::BadFormat => "bad_format",
            Problem::NullElement => "null_element",
        }
    }
}

pub enum Refusal {
    /// Problem, field, position.
    Problem(Problem, &'static str, i64),
    /// The reference must answer.
    Rare,
}

#[derive(Default)]
pub struct Answer {
    pub body: Vec<u8>,
    /// By field: inputs, mapped, invalid, opted out.
    pub counts: [[u64; 4]; 4],
    /// Versions 2, 3 and 4.
    pub versions: [u64; 3],
}

const INVALID: &str = "invalid identifier";
const OPTED_OUT: &str = "optout";

fn problem<T>(kind: Problem, field: &'static str, position: i64) -> Result<T, Refusal> {
    Err(Refusal::Problem(kind, field, position))
}

pub fn map_request(body: &[u8], tables: &Tables, options: &Options) -> Result<Answer, Refusal> {
    let (document, plain) = match parse(body) {
        Ok(parsed) => parsed,
        Err(Trouble::Rare) => return Err(Refusal::Rare),
        Err(Trouble::Invalid) => return problem(Problem::InvalidJson, "", -1),
    };
    let source = plain.as_deref().unwrap_or(body);
    let run = Run { source, document: &document, tables, options };
    if options.v3_shape {
        run.v3()
    } else {
        run.v2()
    }
}

struct Run<'a> {
    source: &'a [u8],
    document: &'a Document,
    tables: &'a Tables<'a>,
    options: &'a Options<'a>,
}

/// An identifier between the stages.
#[derive(Clone, Copy)]
enum State {
    Invalid,
    OptedOut,
    Hashed(Hash),
}

impl Run<'_> {
    fn v3(&self) -> Result<Answer, Refusal> {
        if self.document.empty {
            return problem(Problem::EmptyRequest, "", -1);
        }
        if self.document.other_names {
            return problem(Problem::BadFormat, "", -1);
        }
        let mut arrays: [&[Element]; 4] = [&[]; 4];
        for (place, value) in self.document.fields.iter().enumerate() {
            arrays[place] = match value {
                None | Some(Value::Null) => &[],
                Some(Value::Other) => return problem(Problem::BadFormat, FIELDS[place], -1),
                Some(Value::Array(elements)) => elements,
            };
            let wrong = arrays[place].iter().position(|element| matches!(element, Element::Null | Element::Nested));
            if let Some(position) = wrong {
                return problem(Problem::BadFormat, FIELDS[place], position as i64);
            }
        }
        let total: usize = arrays.iter().map(|array| array.len()).sum();
        let mut answer = Answer { body: Vec::with_capacity(total * 130 + 128), ..Answer::default() };
        answer.body.extend_from_slice(b"{\"body\":{");
        for (place, array) in arrays.iter().enumerate() {
            if place > 0 {
                answer.body.push(b',');
            }
            write_string(&mut answer.body, FIELDS[place].as_bytes());
            answer.body.extend_from_slice(b":[");
            self.map_field(place, array, &mut answer, &mut Vec::new())?;
            answer.body.push(b']');
        }
        answer.body.extend_from_slice(b"},\"status\":\"success\"}");
        Ok(answer)
    }

    fn v2(&self) -> Result<Answer, Refusal> {
        let mut arrays: Vec<(usize, &[Element])> = Vec::new();
        for (place, value) in self.document.fields.iter().enumerate() {
            if place >= 2 && !self.options.phone_support {
                continue;
            }
            match value {
                None | Some(Value::Null) => {}
                Some(Value::Other) => return problem(Problem::NotArray, FIELDS[place], -1),
                Some(Value::Array(elements)) => arrays.push((place, elements)),
            }
        }
        let mut filled = arrays.iter().filter(|(_, array)| !array.is_empty());
        let chosen = match (filled.next(), filled.next(), arrays.first()) {
            (Some(&only), None, _) => only,
            (None, _, Some(&first)) => first,
            _ => return problem(Problem::NoUsableField, "", -1),
        };
        let (place, array) = chosen;
        if FIELDS[place] != "phone" {
            if let Some(position) = array.iter().position(|element| matches!(element, Element::Null)) {
                return problem(Problem::NullElement, FIELDS[place], position as i64);
            }
        }
        let mut answer = Answer { body: Vec::with_capacity(array.len() * 150 + 128), ..Answer::default() };
        answer.body.extend_from_slice(b"{\"body\":{\"mapped\":[");
        let mut unmapped = Vec::new();
        self.map_field(place, array, &mut answer, &mut unmapped)?;
        answer.body.push(b']');
        if !unmapped.is_empty() {
            answer.body.extend_from_slice(b",\"unmapped\":[");
            answer.body.extend_from_slice(&unmapped);
            answer.body.push(b']');
        }
        answer.body.extend_from_slice(b"},\"status\":\"success\"}");
        Ok(answer)
    }

    fn map_field(
        &self,
        place: usize,
        elements: &[Element],
        answer: &mut Answer,
        unmapped: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let identity_type = (place >= 2) as u8;
        let mut scratch = Vec::with_capacity(64);
        let mut states = [State::Invalid; BATCH];
        let mut first = true;
        answer.counts[place][0] += elements.len() as u64;
        for batch in elements.chunks(BATCH) {
            for (state, element) in states.iter_mut().zip(batch) {
                *state = self.hash(place, element, &mut scratch)?;
            }
            self.look_up(identity_type, &mut states[..batch.len()]);
            for (state, element) in states.iter().zip(batch) {
                let text = match element {
                    Element::Text(text) => Some(self.document.text(self.source, *text)),
                    _ => None,
                };
                let flh = match state {
                    State::Hashed(flh) => flh,
                    State::Invalid | State::OptedOut => {
                        let opted_out = matches!(state, State::OptedOut);
                        answer.counts[place][if opted_out { 3 } else { 2 }] += 1;
                        let reason = if opted_out { OPTED_OUT } else { INVALID };
                        self.write_unmapped(text, reason, &mut first, answer, unmapped);
                        continue;
                    }
                };
                self.write_mapped(identity_type, flh, text.unwrap_or_default(), &mut first, answer)?;
                answer.counts[place][1] += 1;
            }
        }
        Ok(())
    }

    fn hash(&self, place: usize, element: &Element, scratch: &mut Vec<u8>) -> Result<State, Refusal> {
        let text = match element {
            Element::Text(text) => self.document.text(self.source, *text),
            Element::Null => return Ok(State::Invalid),
            Element::Nested | Element::Number => return Err(Refusal::Rare),
        };
        let identity_hash = match place {
            0 => of_email(text, scratch),
            2 => of_phone(text),
            _ => of_supplied_hash(text),
        };
        Ok(match identity_hash {
            None => State::Invalid,
            Some(hash) => State::Hashed(sha256(&[hash.bytes(), self.tables.first_level_salt])),
        })
    }

    fn look_up(&self, identity_type: u8, states: &mut [State]) {
        let (tables, options) = (self.tables, self.options);
        let hashes = states.iter().filter_map(|state| match state {
            State::Hashed(flh) => Some(flh),
            _ => None,
        });
        for flh in hashes.clone() {
            tables.salts.prefetch(bucket_index(flh, tables.salts.layout.rows));
        }
        tables.optouts.iter().for_each(|index| index.prefetch(hashes.clone()));
        for state in states {
            if let State::Hashed(flh) = state {
                let named = (identity_type, *flh);
                let out = tables.opted_out(flh) || options.always.contains(&named);
                if out && !options.never.contains(&named) {
                    *state = State::OptedOut;
                }
            }
        }
    }

    fn write_unmapped(
        &self,
        text: Option<&[u8]>,
        reason: &str,
        first: &mut bool,
        answer: &mut Answer,
        unmapped: &mut Vec<u8>,
    ) {
        if self.options.v3_shape {
            separate(&mut answer.body, first);
            answer.body.extend_from_slice(b"{\"e\":\"");
            answer.body.extend_from_slice(reason.as_bytes());
            answer.body.extend_from_slice(b"\"}");
            return;
        }
        if !unmapped.is_empty() {
            unmapped.push(b',');
        }
        unmapped.extend_from_slice(b"{\"identifier\":");
        match text {
            Some(text) => write_string(unmapped, text),
            None => unmapped.extend_from_slice(b"null"),
        }
        unmapped.extend_from_slice(b",\"reason\":\"");
        unmapped.extend_from_slice(reason.as_bytes());
        unmapped.extend_from_slice(b"\"}");
    }

    fn write_mapped(
        &self,
        identity_type: u8,
        flh: &Hash,
        text: &[u8],
        first: &mut bool,
        answer: &mut Answer,
    ) -> Result<(), Refusal> {
        let (tables, options) = (self.tables, self.options);
        let manner = Manner { identity_type, ..options.manner };
        let mut flh_text = [0; HASH_TEXT];
        encode(flh, &mut flh_text);
        let row = tables.salts.row(bucket_index(flh, tables.salts.layout.rows)).map_err(|_| Refusal::Rare)?;
        let material = row.current().ok_or(Refusal::Rare)?;
        let uid = raw_uid(flh, &flh_text, &material, manner).ok_or(Refusal::Rare)?;
        answer.versions[match uid.version {
            Version::V2 => 0,
            Version::V3 => 1,
            Version::V4 => 2,
        }] += 1;
        separate(&mut answer.body, first);
        let body = &mut answer.body;
        if !options.v3_shape {
            body.extend_from_slice(b"{\"identifier\":");
            write_string(body, text);
            body.extend_from_slice(b",\"advertising_id\":\"");
            body.extend_from_slice(&uid.text());
            body.extend_from_slice(b"\",\"bucket_id\":");
            write_bucket_id(tables.bucket_ids, row.bucket_number(), body);
            body.push(b'}');
            return Ok(());
        }
        body.extend_from_slice(b"{\"u\":\"");
        body.extend_from_slice(&uid.text());
        body.extend_from_slice(b"\",\"p\":");
        match self.previous(&row, flh, &flh_text, manner)? {
            Some(text) => {
                body.push(b'"');
                body.extend_from_slice(&text);
                body.push(b'"');
            }
            None => body.extend_from_slice(b"null"),
        }
        body.extend_from_slice(b",\"r\":");
        let (now, refresh) = (i128::from(options.now), i128::from(row.refresh_from()));
        let refresh = if refresh >= now { refresh } else { (now.div_euclid(DAY_MS) + 1) * DAY_MS };
        write_number(refresh.div_euclid(1000), body);
        body.push(b'}');
        Ok(())
    }

    fn previous(
        &self,
        row: &Row,
        flh: &Hash,
        flh_text: &[u8; HASH_TEXT],
        manner: Manner,
    ) -> Result<Option<[u8; HASH_TEXT]>, Refusal> {
        if i128::from(self.options.now) - i128::from(row.last_updated()) >= PREVIOUS_UID_MS {
            return Ok(None);
        }
        match row.previous() {
            None => Ok(None),
            Some(Material::Key(key)) if key.salt.is_empty() => Ok(None),
            Some(material) => {
                let uid = raw_uid(flh, flh_text, &material, manner).ok_or(Refusal::Rare)?;
                Ok(Some(uid.text()))
            }
        }
    }
}

/// A bucket id as a JSON string.
pub fn write_bucket_id(ids: &BucketIds, number: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(b'"');
    ids.write(number, out);
    if ids.plain() {
        out.push(b'"');
    } else {
        let text = out[start + 1..].to_vec();
        out.truncate(start);
        write_string(out, &text);
    }
}

fn separate(out: &mut Vec<u8>, first: &mut bool) {
    if !*first {
        out.push(b',');
    }
    *first = false;
}

fn write_number(value: i128, out: &mut Vec<u8>) {
    let mut digits = [0u8; 40];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs() as u64;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

fn bucket_index(flh: &Hash, size: usize) -> usize {
    let value = (flh[0] as usize) << 12 | (flh[1] as usize) << 4 | (flh[2] as usize & 0x0F);
    if size == FULL_TABLE {
        value
    } else {
        value % size
    }
}
