//! `/bin/sgx_quote`: makes one quote and prints which enclave it names.

mod device;
mod quote;

use std::process::exit;

use sha2::{Digest, Sha256};

const NONCE: [u8; 4] = [0, 1, 2, 3];
const USAGE: &str = "usage: sgx_quote [--json | --hex] [--report-data HEX]";

#[derive(Default)]
struct Options {
    json: bool,
    hex: bool,
    report_data: Option<String>,
}

fn main() {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("error: {problem}\n{USAGE}");
            exit(2);
        }
    };
    match answer(&options) {
        Ok(text) => print!("{text}"),
        Err(problem) => {
            eprintln!("Failed to get SGX quote. Errors:\n{problem}");
            exit(1);
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--hex" => options.hex = true,
            "--report-data" => options.report_data = Some(words.next().ok_or("--report-data needs a value")?),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

fn answer(options: &Options) -> Result<String, String> {
    let report_data = match &options.report_data {
        Some(text) => quote::parse_report_data(text)?,
        None => {
            let mut data = [0u8; 64];
            data[..32].copy_from_slice(&Sha256::digest(NONCE));
            data
        }
    };
    let found = device::quote(&report_data)?;
    let identity = quote::identify(&found, &report_data)?;
    let mut text = if options.json { identity.json() } else { identity.lines() };
    if options.hex {
        text += &format!("{}\n", quote::upper_hex(&found).to_lowercase());
    }
    Ok(text)
}
