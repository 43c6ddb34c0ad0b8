//! Occlum's `/dev/sgx`: quote size by request 7, the quote by request 8.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

const DEVICE: &str = "/dev/sgx";
const GET_SIZE: libc::c_ulong = 0x8004_7307;
const GENERATE: libc::c_ulong = 0xC018_7308;
const LARGEST: u32 = 1 << 20;
const ATTEMPTS: u32 = 20;

#[repr(C)]
struct Generation {
    report_data: *const u8,
    quote_size: *mut u32,
    quote: *mut u8,
}

/// A quote over `report_data`. A busy quoting enclave is asked again, once a second.
pub fn quote(report_data: &[u8; 64]) -> Result<Vec<u8>, String> {
    let device = File::open(DEVICE).map_err(|error| format!("{DEVICE} cannot be opened: {error}"))?;
    let mut size: u32 = 0;
    // SAFETY: request 7 writes one u32.
    request("the quote's size", || unsafe { libc::ioctl(device.as_raw_fd(), GET_SIZE as _, &mut size) })?;
    if size == 0 || size > LARGEST {
        return Err(format!("{DEVICE} names a quote size of {size} bytes"));
    }
    let mut quote = vec![0u8; size as usize];
    let generation = Generation { report_data: report_data.as_ptr(), quote_size: &mut size, quote: quote.as_mut_ptr() };
    // SAFETY: the three buffers live until the call is over and have the sizes that request 8 expects.
    request("the quote", || unsafe { libc::ioctl(device.as_raw_fd(), GENERATE as _, &generation) })?;
    Ok(quote)
}

fn request(what: &str, mut call: impl FnMut() -> libc::c_int) -> Result<(), String> {
    for attempt in 1.. {
        if call() == 0 {
            return Ok(());
        }
        let error = Error::last_os_error();
        let busy = matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN));
        if error.kind() == ErrorKind::Interrupted || (busy && attempt < ATTEMPTS) {
            sleep(Duration::from_secs(u64::from(busy)));
            continue;
        }
        return Err(format!(
            "{DEVICE} gave an error for {what}: {error}; the code 0xE0xx that the container printed says why"
        ));
    }
    unreachable!("the loop returns")
}
