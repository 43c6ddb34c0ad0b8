//! Requests as the reference reads them: strict JSON, C comments skipped, the last of several equal names wins.
//!
//! What the reference renders or refuses in a way of its own (very deep documents, numbers that are no small whole
//! ones) is reported as `Rare`; the caller then leaves the whole request to the reference.

/// Why a document is not read.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    Invalid,
    Rare,
}

const MAX_DEPTH: u32 = 100;
const MAX_DIGITS: usize = 18;

/// A text of the body or, where it had to be rewritten, of the arena.
#[derive(Clone, Copy)]
pub struct Text {
    start: u32,
    len: u32,
    rewritten: bool,
}

/// One element of an array.
#[derive(Clone, Copy)]
pub enum Element {
    Text(Text),
    Null,
    /// An array or object.
    Nested,
    /// A number whose text only the reference knows.
    Number,
}

pub enum Value {
    Null,
    Array(Vec<Element>),
    Other,
}

pub const FIELDS: [&str; 4] = ["email", "email_hash", "phone", "phone_hash"];

/// The members of a request that count.
pub struct Document {
    arena: Vec<u8>,
    pub fields: [Option<Value>; 4],
    pub empty: bool,
    pub other_names: bool,
}

impl Document {
    /// The bytes of a text of `body`, the buffer the document was read from; always UTF-8.
    pub fn text<'a>(&'a self, body: &'a [u8], text: Text) -> &'a [u8] {
        let source = if text.rewritten { &self.arena[..] } else { body };
        &source[text.start as usize..(text.start + text.len) as usize]
    }
}

/// The document and, when comments had to be removed, the text that its `Text`s belong to.
pub fn parse(body: &[u8]) -> Result<(Document, Option<Vec<u8>>), Trouble> {
    if body.len() > u32::MAX as usize / 2 {
        return Err(Trouble::Rare);
    }
    match read(body) {
        Err(Trouble::Invalid) if may_hold_comments(body) => {
            let plain = without_comments(body);
            read(&plain).map(|document| (document, Some(plain)))
        }
        other => other.map(|document| (document, None)),
    }
}

fn may_hold_comments(body: &[u8]) -> bool {
    body.windows(2).any(|pair| pair == b"/*" || pair == b"//")
}

fn without_comments(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len());
    let mut at = 0;
    // A string or comment without an end makes the document invalid; what follows is kept as it is.
    while at < body.len() {
        let end = match (body[at], body.get(at + 1)) {
            (b'"', _) => match string_end(body, at) {
                Some(end) => end,
                None => break,
            },
            (b'/', Some(b'*')) => match body[at + 2..].windows(2).position(|pair| pair == b"*/") {
                Some(length) => {
                    plain.push(b' ');
                    at += 2 + length + 2;
                    continue;
                }
                None => break,
            },
            (b'/', Some(b'/')) => {
                let rest = &body[at..];
                plain.push(b' ');
                at += rest.iter().position(|&byte| byte == b'\n' || byte == b'\r').unwrap_or(rest.len());
                continue;
            }
            _ => at + 1,
        };
        plain.extend_from_slice(&body[at..end]);
        at = end;
    }
    plain.extend_from_slice(&body[at..]);
    plain
}

fn string_end(body: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while at < body.len() {
        match body[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

fn read(data: &[u8]) -> Result<Document, Trouble> {
    let mut reader = Reader { data, at: 0, arena: Vec::new() };
    let (fields, empty, other_names) = reader.document()?;
    Ok(Document { arena: reader.arena, fields, empty, other_names })
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    arena: Vec<u8>,
}

type Members = ([Option<Value>; 4], bool, bool);

impl Reader<'_> {
    fn document(&mut self) -> Result<Members, Trouble> {
        let mut fields = [None, None, None, None];
        let (mut empty, mut other_names) = (true, false);
        if self.next()? != b'{' {
            return Err(Trouble::Invalid);
        }
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                let name = self.name()?;
                empty = false;
                match FIELDS.iter().position(|field| field.as_bytes() == name) {
                    Some(place) => fields[place] = Some(self.field()?),
                    None => {
                        other_names = true;
                        self.skip(1)?;
                    }
                }
                match self.next()? {
                    b',' => {}
                    b'}' => break,
                    _ => return Err(Trouble::Invalid),
                }
            }
        }
        self.white_space();
        if self.at != self.data.len() {
            return Err(Trouble::Invalid);
        }
        Ok((fields, empty, other_names))
    }

    fn name(&mut self) -> Result<Vec<u8>, Trouble> {
        if self.next()? != b'"' {
            return Err(Trouble::Invalid);
        }
        let text = self.string()?;
        if self.next()? != b':' {
            return Err(Trouble::Invalid);
        }
        let source = if text.rewritten { &self.arena[..] } else { self.data };
        Ok(source[text.start as usize..(text.start + text.len) as usize].to_vec())
    }

    fn field(&mut self) -> Result<Value, Trouble> {
        if self.peek()? != b'[' {
            return Ok(match self.element(1)? {
                Element::Null => Value::Null,
                _ => Value::Other,
            });
        }
        self.at += 1;
        let mut elements = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.element(2)?);
            match self.next()? {
                b',' => {}
                b']' => return Ok(Value::Array(elements)),
                _ => return Err(Trouble::Invalid),
            }
        }
    }

    fn element(&mut self, depth: u32) -> Result<Element, Trouble> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                Ok(Element::Text(self.string()?))
            }
            b'[' | b'{' => self.skip(depth).map(|()| Element::Nested),
            b'n' => self.word(b"null").map(|()| Element::Null),
            b't' => self.word(b"true").map(|()| self.keep(b"true")),
            b'f' => self.word(b"false").map(|()| self.keep(b"false")),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Trouble::Invalid),
        }
    }

    fn skip(&mut self, depth: u32) -> Result<(), Trouble> {
        let open = self.peek()?;
        if open != b'[' && open != b'{' {
            return self.element(depth).map(|_| ());
        }
        if depth > MAX_DEPTH {
            return Err(Trouble::Rare);
        }
        self.at += 1;
        let close = if open == b'[' { b']' } else { b'}' };
        if self.peek()? == close {
            self.at += 1;
            return Ok(());
        }
        loop {
            if open == b'{' {
                self.name()?;
            }
            self.skip(depth + 1)?;
            match self.next()? {
                b',' => {}
                byte if byte == close => return Ok(()),
                _ => return Err(Trouble::Invalid),
            }
        }
    }

    fn keep(&mut self, text: &[u8]) -> Element {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(text);
        Element::Text(Text { start, len: text.len() as u32, rewritten: true })
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Trouble> {
        if !self.data[self.at..].starts_with(word) {
            return Err(Trouble::Invalid);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<Element, Trouble> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        let digits = self.digits()?;
        if digits > 1 && self.data[first] == b'0' {
            return Err(Trouble::Invalid);
        }
        let mut whole = true;
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
            whole = false;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
            whole = false;
        }
        if whole && digits <= MAX_DIGITS {
            let text = self.data[start..self.at].to_vec();
            return Ok(self.keep(if text == b"-0" { b"0" } else { &text }));
        }
        // The limits of long numbers are the reference's.
        let value: f64 =
            std::str::from_utf8(&self.data[start..self.at]).unwrap_or("").parse().map_err(|_| Trouble::Rare)?;
        if value.abs() > 1e300 || self.at - start > 300 {
            return Err(Trouble::Rare);
        }
        Ok(Element::Number)
    }

    fn digits(&mut self) -> Result<usize, Trouble> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return Err(Trouble::Invalid);
        }
        Ok(self.at - start)
    }

    /// A string whose opening quote has been read.
    fn string(&mut self) -> Result<Text, Trouble> {
        let start = self.at;
        let mut ascii = true;
        self.at += plain_length(&self.data[start..]);
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped_string(start),
                Some(byte) if byte >= 0x20 => {
                    ascii &= byte < 0x80;
                    self.at += 1;
                }
                _ => return Err(Trouble::Invalid),
            }
        }
        let text = Text { start: start as u32, len: (self.at - start) as u32, rewritten: false };
        if !ascii && std::str::from_utf8(&self.data[start..self.at]).is_err() {
            return Err(Trouble::Invalid);
        }
        self.at += 1;
        Ok(text)
    }

    fn escaped_string(&mut self, start: usize) -> Result<Text, Trouble> {
        let begin = self.arena.len();
        self.arena.extend_from_slice(&self.data[start..self.at]);
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(byte) if byte >= 0x20 => {
                    self.arena.push(byte);
                    self.at += 1;
                }
                _ => return Err(Trouble::Invalid),
            }
        }
        self.at += 1;
        if std::str::from_utf8(&self.arena[begin..]).is_err() {
            return Err(Trouble::Invalid);
        }
        Ok(Text { start: begin as u32, len: (self.arena.len() - begin) as u32, rewritten: true })
    }

    fn escape(&mut self) -> Result<(), Trouble> {
        let byte = self.byte().ok_or(Trouble::Invalid)?;
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = self.four_hex_digits()?;
                if (0xD800..0xDC00).contains(&code) {
                    if !self.data[self.at..].starts_with(b"\\u") {
                        return Err(Trouble::Invalid);
                    }
                    self.at += 2;
                    let low = self.four_hex_digits()?;
                    if !(0xDC00..0xE000).contains(&low) {
                        return Err(Trouble::Invalid);
                    }
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
                let character = char::from_u32(code).ok_or(Trouble::Invalid)?;
                self.arena.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(Trouble::Invalid),
        };
        self.arena.push(plain);
        Ok(())
    }

    fn four_hex_digits(&mut self) -> Result<u32, Trouble> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| (byte as char).to_digit(16)).ok_or(Trouble::Invalid)?;
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn byte(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn white_space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Result<u8, Trouble> {
        self.white_space();
        self.byte().ok_or(Trouble::Invalid)
    }

    fn next(&mut self) -> Result<u8, Trouble> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }
}

/// A length of text, a multiple of eight, that has only printable ASCII other than quotes and backslashes.
fn plain_length(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bit of some byte is set when one of them is zero; carries make others wrong only beside such a one.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let plain = |eight: &&[u8; 8]| {
        let word = u64::from_le_bytes(**eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        (word & HIGH) | control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) == 0
    };
    text.as_chunks::<8>().0.iter().take_while(plain).count() * 8
}

/// Whether a text stands in a JSON string as it is.
pub fn is_plain(text: &[u8]) -> bool {
    // Every byte is looked at, which the processor does for many at once.
    text.iter().fold(true, |plain, &byte| plain & (byte >= 0x20 && byte != b'"' && byte != b'\\'))
}

/// Append a text as a JSON string, quotes included, escaped as the reference escapes it.
pub fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        for &byte in text {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                8 => out.extend_from_slice(b"\\b"),
                12 => out.extend_from_slice(b"\\f"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..=0x1F => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => out.push(byte),
            }
        }
    }
    out.push(b'"');
}
