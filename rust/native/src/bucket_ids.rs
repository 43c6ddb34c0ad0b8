//! Bucket ids: a prefix and a Hashids text of nine characters or more.

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890";
const SEPARATORS: &str = "cfhistuCFHISTU";
const GUARDS: usize = 4;
const LENGTH: usize = 9;

pub struct BucketIds {
    prefix: String,
    guards: Vec<u8>,
    lottery: Vec<u8>,
    /// By lottery character: the alphabet, and the one that fills up short texts.
    alphabets: Vec<(Vec<u8>, Vec<u8>)>,
}

impl BucketIds {
    pub fn new(prefix: &str, secret: &str) -> Self {
        let secret: Vec<u32> = secret.chars().map(u32::from).collect();
        let mut shuffled: Vec<u8> = ALPHABET.bytes().filter(|&byte| !SEPARATORS.as_bytes().contains(&byte)).collect();
        shuffle(&mut shuffled, &secret);
        let lottery = shuffled[GUARDS..].to_vec();
        let codes: Vec<u32> = lottery.iter().copied().map(u32::from).collect();
        let alphabets = lottery
            .iter()
            .map(|&first| {
                let salt: Vec<u32> =
                    [u32::from(first)].iter().chain(&secret).chain(&codes).take(lottery.len()).copied().collect();
                let mut alphabet = lottery.clone();
                shuffle(&mut alphabet, &salt);
                let own: Vec<u32> = alphabet.iter().copied().map(u32::from).collect();
                let mut filling = alphabet.clone();
                shuffle(&mut filling, &own);
                (alphabet, filling)
            })
            .collect();
        BucketIds { prefix: prefix.to_owned(), guards: shuffled[..GUARDS].to_vec(), lottery, alphabets }
    }

    /// Append the id of a bucket, prefix first.
    pub fn write(&self, number: u32, out: &mut Vec<u8>) {
        let size = self.lottery.len();
        let checksum = number as usize % 100;
        let (alphabet, filling) = &self.alphabets[checksum % size];
        // Room for one guard before; at most six digits follow the lottery character.
        let mut text = [0u8; 24];
        let (mut start, mut end) = (1, 1);
        let mut digits = [0u8; 8];
        let (mut rest, mut count) = (number as usize, 0);
        loop {
            digits[count] = alphabet[rest % size];
            rest /= size;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        text[end] = self.lottery[checksum % size];
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
        let half = size / 2;
        let skipped = (size + length - LENGTH) / 2;
        let whole = filling[half..].iter().chain(&text[start..end]).chain(&filling[..half]);
        out.extend(whole.skip(skipped).take(LENGTH));
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
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
