//! Building the opt-out index in the file that will be mapped: the rows are sorted where they lie.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use memmap2::MmapMut;

use crate::optouts::{id_key, Index, HEADER, MAGIC, ROW};

const ENTRY: usize = 72;
const CHUNK: usize = ENTRY * 8192;
const BUCKETS: usize = 1 << 16;

pub enum Failure {
    Io(io::Error),
    /// The file of that number has a size that is no multiple of an entry.
    Size(usize, u64),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// Write the index of all entries of the files and all rows of the indices; returns the number of rows.
pub fn build(files: &[PathBuf], indices: &[Index<'_>], out_path: &Path, environment: u8) -> Result<usize, Failure> {
    let known = indices.iter().map(|index| index.size).sum::<usize>();
    let mut most = known as u64;
    for (number, file) in files.iter().enumerate() {
        let size = std::fs::metadata(file)?.len();
        if size % ENTRY as u64 != 0 {
            return Err(Failure::Size(number, size));
        }
        most += size / ENTRY as u64;
    }
    let most = usize::try_from(most).ok().filter(|&most| most <= u32::MAX as usize);
    let most = most.ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG))?;
    let out = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(out_path)?;
    let reserved = HEADER + most * (ROW + 4);
    reserve(&out, reserved)?;
    // SAFETY: the file was made by this process under a name that nobody else opens before it is whole.
    let mut map = unsafe { MmapMut::map_mut(&out)? };
    let rows = &mut map[HEADER..HEADER + most * ROW];
    let (copied, fresh) = rows.split_at_mut(known * ROW);
    let mut at = 0;
    for index in indices {
        copied[at..at + index.rows().len()].copy_from_slice(index.rows());
        at += index.rows().len();
    }
    let read = known + fill(files, fresh)?;
    let rows = sort_rows(&mut rows[..read * ROW]);
    finish(&mut map[..HEADER + rows * (ROW + 4)], rows, environment);
    drop(map);
    out.set_len((HEADER + rows * (ROW + 4)) as u64)?;
    Ok(rows)
}

/// Header and order of an index whose rows are in their place.
fn finish(index: &mut [u8], rows: usize, environment: u8) {
    let (head, order) = index.split_at_mut(HEADER + rows * ROW);
    order_by_id(&head[HEADER..], order);
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&(rows as u64).to_le_bytes());
    head[16] = environment;
}

/// Space that is there for certain: a mapped file on a full disk would end the process.
fn reserve(out: &File, size: usize) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    match unsafe { libc::posix_fallocate(out.as_raw_fd(), 0, size as libc::off_t) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn fill(files: &[PathBuf], rows: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    let mut chunk = vec![0; CHUNK];
    for file in files {
        let mut stream = File::open(file)?;
        let mut held = 0;
        loop {
            let length = stream.read(&mut chunk[held..])?;
            if length == 0 {
                break;
            }
            held += length;
            let whole = held - held % ENTRY;
            for entry in chunk[..whole].chunks_exact(ENTRY) {
                if entry[..32] == [0; 32] || entry[..32] == [0xFF; 32] {
                    continue;
                }
                // A file that grew meanwhile counts as it was measured.
                let Some(row) = rows.get_mut(count * ROW..(count + 1) * ROW) else { break };
                row[..16].copy_from_slice(&entry[..16]);
                let id = if entry[71] >> 6 == 0 { 32 } else { 47 };
                row[16..32].copy_from_slice(&entry[id..id + 16]);
                row[32..40].copy_from_slice(&entry[64..72]);
                count += 1;
            }
            chunk.copy_within(whole..held, 0);
            held -= whole;
        }
    }
    Ok(count)
}

/// Sort the rows where they are and drop equal ones; returns how many are left.
fn sort_rows(bytes: &mut [u8]) -> usize {
    let (rows, _) = bytes.as_chunks_mut::<ROW>();
    let leading =
        |row: &[u8; ROW]| u64::from_be_bytes([row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]]);
    rows.sort_unstable_by(|one, other| leading(one).cmp(&leading(other)).then_with(|| one.cmp(other)));
    let mut kept = 0;
    for at in 0..rows.len() {
        if at == 0 || rows[at] != rows[kept - 1] {
            rows[kept] = rows[at];
            kept += 1;
        }
    }
    kept
}

/// Row numbers ascending by id key, equal ones by row number.
fn order_by_id(rows: &[u8], order: &mut [u8]) {
    let (rows, _) = rows.as_chunks::<ROW>();
    let (order, _) = order.as_chunks_mut::<4>();
    let bucket_of = |key: &[u8; 17]| usize::from(key[1]) << 8 | usize::from(key[2]);
    // By metadata byte (few are in use), then by two bytes of the id, then by sorting what is left in place.
    let mut of_metadata = [0usize; 256];
    for row in rows {
        of_metadata[usize::from(row[39])] += 1;
    }
    let mut begin = 0;
    for (metadata, &count) in of_metadata.iter().enumerate() {
        if count == 0 {
            continue;
        }
        let mut starts = vec![0u32; BUCKETS + 1];
        for row in rows.iter().filter(|row| usize::from(row[39]) == metadata) {
            starts[bucket_of(&id_key(row)) + 1] += 1;
        }
        for bucket in 0..BUCKETS {
            starts[bucket + 1] += starts[bucket];
        }
        let part = &mut order[begin..begin + count];
        let mut next = starts.clone();
        for (number, row) in rows.iter().enumerate().filter(|(_, row)| usize::from(row[39]) == metadata) {
            let place = &mut next[bucket_of(&id_key(row))];
            part[*place as usize] = (number as u32).to_le_bytes();
            *place += 1;
        }
        let mut keyed: Vec<([u8; 17], [u8; 4])> = Vec::new();
        for bucket in 0..BUCKETS {
            let members = &mut part[starts[bucket] as usize..starts[bucket + 1] as usize];
            if members.len() < 2 {
                continue;
            }
            let key_of = |number: &[u8; 4]| id_key(&rows[u32::from_le_bytes(*number) as usize]);
            if members.len() > rows.len() / 16 + 4096 {
                // An uneven spread of ids: no second copy of the keys, at the price of time.
                members.sort_unstable_by_key(|number| (key_of(number), u32::from_le_bytes(*number)));
                continue;
            }
            keyed.clear();
            keyed.extend(members.iter().map(|number| (key_of(number), *number)));
            // Members arrive in row order, which a stable sort keeps.
            keyed.sort_by_key(|one| one.0);
            for (member, (_, number)) in members.iter_mut().zip(&keyed) {
                *member = *number;
            }
        }
        begin += count;
    }
}

/// The index of rows in any order.
pub fn pack(rows: &[u8], environment: u8) -> Vec<u8> {
    let mut index = vec![0; HEADER];
    index.extend_from_slice(rows);
    let count = sort_rows(&mut index[HEADER..]);
    index.resize(HEADER + count * ROW, 0);
    index.resize(HEADER + count * (ROW + 4), 0);
    finish(&mut index, count, environment);
    index
}
