//! Bucket ids: a prefix and a Hashids text of nine characters or more.

use crate::json;

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890";
const SEPARATORS: &str = "cfhistuCFHISTU";
const GUARDS: usize = 4;
const LENGTH: usize = 9;
/// What separators and guards leave of the alphabet.
const LOTTERY: usize = 44;

pub struct BucketIds {
    prefix: String,
    plain: bool,
    guards: Vec<u8>,
    lottery: [u8; LOTTERY],
    /// By lottery character: the alphabet, and the one that fills up short texts.
    alphabets: Vec<([u8; LOTTERY], [u8; LOTTERY])>,
}

impl BucketIds {
    pub fn new(prefix: &str, secret: &str) -> Self {
        let secret: Vec<u32> = secret.chars().map(u32::from).collect();
        let mut shuffled: Vec<u8> = ALPHABET.bytes().filter(|&byte| !SEPARATORS.as_bytes().contains(&byte)).collect();
        shuffle(&mut shuffled, &secret);
        let mut lottery = [0; LOTTERY];
        lottery.copy_from_slice(&shuffled[GUARDS..]);
        let codes: Vec<u32> = lottery.iter().copied().map(u32::from).collect();
        let alphabets = lottery
            .iter()
            .map(|&first| {
                let salt: Vec<u32> =
                    [u32::from(first)].iter().chain(&secret).chain(&codes).take(LOTTERY).copied().collect();
                let mut alphabet = lottery;
                shuffle(&mut alphabet, &salt);
                let own: Vec<u32> = alphabet.iter().copied().map(u32::from).collect();
                let mut filling = alphabet;
                shuffle(&mut filling, &own);
                (alphabet, filling)
            })
            .collect();
        let plain = json::is_plain(prefix.as_bytes());
        BucketIds { prefix: prefix.to_owned(), plain, guards: shuffled[..GUARDS].to_vec(), lottery, alphabets }
    }

    /// Append the id of a bucket, prefix first.
    pub fn write(&self, number: u32, out: &mut Vec<u8>) {
        let checksum = number as usize % 100;
        let (alphabet, filling) = &self.alphabets[checksum % LOTTERY];
        // Room for one guard before; at most six digits follow the lottery character.
        let mut text = [0u8; 24];
        let (mut start, mut end) = (1, 1);
        let mut digits = [0u8; 8];
        let (mut rest, mut count) = (number as usize, 0);
        loop {
            digits[count] = alphabet[rest % LOTTERY];
            rest /= LOTTERY;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        text[end] = self.lottery[checksum % LOTTERY];
        end += 1;
        for &digit in digits[..count].iter().rev() {
            text[end] = digit;
            end += 1;
        }
        if end - start < LENGTH {
            start -= 1;
            text[start] = self.guards[(checksum + text[start + 1] as usize) % GUARDS];
        }
        if end - start < LENGTH {
            text[end] = self.guards[(checksum + text[start + 2] as usize) % GUARDS];
            end += 1;
        }
        out.extend_from_slice(self.prefix.as_bytes());
        let length = end - start;
        if length >= LENGTH {
            out.extend_from_slice(&text[start..end]);
            return;
        }
        // The text between the two halves of the filling, cut to the middle nine characters.
        let mut whole = [0u8; LOTTERY + LENGTH];
        whole[..LOTTERY / 2].copy_from_slice(&filling[LOTTERY / 2..]);
        whole[LOTTERY / 2..][..length].copy_from_slice(&text[start..end]);
        whole[LOTTERY / 2 + length..][..LOTTERY / 2].copy_from_slice(&filling[..LOTTERY / 2]);
        out.extend_from_slice(&whole[(LOTTERY + length - LENGTH) / 2..][..LENGTH]);
    }

    /// Whether the prefix stands in a JSON string as it is.
    pub fn plain(&self) -> bool {
        self.plain
    }
}

fn shuffle(alphabet: &mut [u8], salt: &[u32]) {
    if salt.is_empty() {
        return;
    }
    let (mut at, mut total) = (0usize, 0usize);
    for last in (1..alphabet.len()).rev() {
        at %= salt.len();
        let code = salt[at] as usize;
        total += code;
        alphabet.swap(last, (code + at + total) % last);
        at += 1;
    }
}
