//! The parts of an SGX quote (version 3) that name the enclave. The report body lies behind a header of 48 bytes.

const BODY: usize = 48;
const MR_ENCLAVE: usize = BODY + 64;
const MR_SIGNER: usize = BODY + 128;
const PRODUCT_ID: usize = BODY + 256;
const SVN: usize = BODY + 258;
const REPORT_DATA: usize = BODY + 320;
pub const SHORTEST: usize = BODY + 384;

#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub mr_enclave: String,
    pub mr_signer: String,
    pub product_id: u16,
    pub svn: u16,
    pub size: usize,
}

/// Reads the identity; the quote must be over `report_data`.
pub fn identify(quote: &[u8], report_data: &[u8; 64]) -> Result<Identity, String> {
    if quote.len() < SHORTEST {
        return Err(format!("the quote has {} bytes, too few for a report", quote.len()));
    }
    if u16::from_le_bytes([quote[0], quote[1]]) != 3 {
        return Err("the quote is not of version 3".into());
    }
    if &quote[REPORT_DATA..REPORT_DATA + 64] != report_data {
        return Err("the quote is over other report data than asked for".into());
    }
    Ok(Identity {
        mr_enclave: upper_hex(&quote[MR_ENCLAVE..MR_ENCLAVE + 32]),
        mr_signer: upper_hex(&quote[MR_SIGNER..MR_SIGNER + 32]),
        product_id: u16::from_le_bytes([quote[PRODUCT_ID], quote[PRODUCT_ID + 1]]),
        svn: u16::from_le_bytes([quote[SVN], quote[SVN + 1]]),
        size: quote.len(),
    })
}

impl Identity {
    /// The five lines that are compared with what is registered.
    pub fn lines(&self) -> String {
        format!(
            "MRENCLAVE   = {}\nMRSIGNER    = {}\nPRODUCT ID  = {}\nSEC VERSION = {}\nQUOTE SIZE  = {}\n",
            self.mr_enclave, self.mr_signer, self.product_id, self.svn, self.size
        )
    }

    pub fn json(&self) -> String {
        format!(
            "{{\"mr_enclave\":\"{}\",\"mr_signer\":\"{}\",\"product_id\":{},\"svn\":{},\"quote_size\":{}}}\n",
            self.mr_enclave.to_lowercase(),
            self.mr_signer.to_lowercase(),
            self.product_id,
            self.svn,
            self.size
        )
    }
}

pub fn upper_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// 64 bytes of hex digits, shorter input padded with zeros on the right.
pub fn parse_report_data(text: &str) -> Result<[u8; 64], String> {
    if text.len() > 128 || !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("--report-data takes up to 64 bytes in hex".into());
    }
    let mut data = [0u8; 64];
    for (at, slot) in data.iter_mut().enumerate().take(text.len() / 2) {
        *slot = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|error| error.to_string())?;
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut quote = vec![0u8; SHORTEST + 10];
        quote[0] = 3;
        quote[MR_ENCLAVE] = 0xAB;
        quote[MR_SIGNER + 31] = 0xCD;
        quote[PRODUCT_ID..PRODUCT_ID + 4].copy_from_slice(&[2, 3, 2, 0]);
        quote[REPORT_DATA] = 9;
        quote
    }

    fn data() -> [u8; 64] {
        parse_report_data("09").unwrap()
    }

    #[test]
    fn prints_the_five_lines() {
        let lines = identify(&sample(), &data()).unwrap().lines();
        let rows: Vec<&str> = lines.lines().collect();
        assert_eq!(rows[0], format!("MRENCLAVE   = AB{}", "0".repeat(62)));
        assert_eq!(rows[1], format!("MRSIGNER    = {}CD", "0".repeat(62)));
        assert_eq!(&rows[2..], ["PRODUCT ID  = 770", "SEC VERSION = 2", "QUOTE SIZE  = 442"]);
    }

    #[test]
    fn refuses_what_is_no_answer_to_the_question() {
        assert!(identify(&sample(), &[0; 64]).is_err());
        assert!(identify(&sample()[..SHORTEST - 1], &data()).is_err());
        let mut other = sample();
        other[0] = 4;
        assert!(identify(&other, &data()).is_err());
    }

    #[test]
    fn reads_report_data() {
        assert!(parse_report_data("0").is_err());
        assert!(parse_report_data("zz").is_err());
        assert!(parse_report_data(&"00".repeat(65)).is_err());
        assert_eq!(parse_report_data("ff00ff").unwrap()[..4], [255, 0, 255, 0]);
    }
}
