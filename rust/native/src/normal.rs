//! Normal forms and hashes of identifiers.

use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::Engine;
use sha2::digest::generic_array::GenericArray;
use sha2::{compress256, Digest, Sha256};

pub type Hash = [u8; 32];

/// Padding as it must be, unused trailing bits not looked at.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&ALPHABET, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

pub const HASH_TEXT: usize = 44;

const BLOCK: usize = 64;
/// What one buffer of `SHORT` blocks leaves for the message: the mark and the length in bits follow it.
const SHORT: usize = 2;
const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// SHA-256 of the parts one after the other. Messages of up to two blocks, which nearly all are, go to the compression
/// function at once.
#[inline(always)]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > SHORT * BLOCK - 9 {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        return hasher.finalize().into();
    }
    let mut bytes = [0; SHORT * BLOCK];
    let mut at = 0;
    for part in parts {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    bytes[at] = 0x80;
    let blocks = if length > BLOCK - 9 { SHORT } else { 1 };
    bytes[blocks * BLOCK - 8..blocks * BLOCK].copy_from_slice(&(length as u64 * 8).to_be_bytes());
    let mut state = INITIAL;
    let (message, _) = bytes.as_chunks::<BLOCK>();
    if blocks == 1 {
        compress256(&mut state, &[GenericArray::from(message[0])]);
    } else {
        compress256(&mut state, &[GenericArray::from(message[0]), GenericArray::from(message[1])]);
    }
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

/// The 44 characters of 32 or 33 bytes, or 40 to 44 of fewer; says how many were written.
pub fn encode(data: &[u8], to: &mut [u8; HASH_TEXT]) -> usize {
    base64_simd::STANDARD.encode(data, base64_simd::Out::from_slice(to)).len()
}

/// Exactly `N` bytes of canonical base64, else None.
pub fn decode_exact<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != N.div_ceil(3) * 4 {
        return None;
    }
    let mut data = [0u8; 48];
    let length = STANDARD.decode_slice(text, &mut data).ok()?;
    data[..length].try_into().ok()
}

/// The identity hash as base64 text: what the first-level hash is made of.
pub struct HashText {
    text: [u8; HASH_TEXT],
    len: usize,
}

impl HashText {
    pub fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    fn of(data: &[u8]) -> Self {
        let mut text = [0; HASH_TEXT];
        let len = encode(data, &mut text);
        HashText { text, len }
    }
}

pub fn of_email(text: &[u8], scratch: &mut Vec<u8>) -> Option<HashText> {
    let at = text.iter().position(|&byte| byte == b'@')?;
    let (local, domain) = (&text[..at], &text[at + 1..]);
    let trailing = domain.iter().rev().take_while(|&&byte| byte == b' ').count();
    let domain = &domain[..domain.len() - trailing];
    if domain.is_empty() || domain.contains(&b'@') {
        return None;
    }
    let gmail = domain.eq_ignore_ascii_case(b"gmail.com");
    scratch.clear();
    if gmail || local.contains(&b' ') {
        let local = local.split(|&byte| byte == b'+' && gmail).next().unwrap_or_default();
        scratch.extend(local.iter().filter(|&&byte| byte != b' ' && !(gmail && byte == b'.')));
    } else {
        scratch.extend_from_slice(local);
    }
    if scratch.is_empty() {
        return None;
    }
    scratch.push(b'@');
    scratch.extend_from_slice(domain);
    scratch.make_ascii_lowercase();
    Some(HashText::of(&sha256(&[scratch])))
}

pub fn of_phone(text: &[u8]) -> Option<HashText> {
    let digits = text.strip_prefix(b"+")?;
    let valid = (10..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| HashText::of(&sha256(&[text])))
}

pub fn of_supplied_hash(text: &[u8]) -> Option<HashText> {
    match text.len() {
        HASH_TEXT => {
            let mut data = [0u8; 48];
            let length = LENIENT.decode_slice(text, &mut data).ok()?;
            Some(HashText::of(&data[..length]))
        }
        64 => {
            let mut data = [0u8; 32];
            for (byte, pair) in data.iter_mut().zip(text.chunks_exact(2)) {
                let high = (pair[0] as char).to_digit(16)?;
                let low = (pair[1] as char).to_digit(16)?;
                *byte = (high << 4 | low) as u8;
            }
            Some(HashText::of(&data))
        }
        _ => None,
    }
}
