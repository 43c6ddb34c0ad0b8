//! The bulk work of `uid2.bulk` in native code. Every call answers as the Python reference does or leaves the request to
//! it; no call keeps the interpreter's lock while it works.

mod bucket_ids;
mod bucket_list;
mod json;
mod mapping;
mod memory;
mod normal;
mod optout_build;
mod optouts;
mod salts;
mod uids;

use std::path::PathBuf;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use bucket_ids::BucketIds;
use mapping::{Options, Refusal, Tables};
use normal::Hash;
use optouts::{Directory, Index};
use salts::{Layout, Table};
use uids::Manner;

/// The bytes of a Python object, which stays alive and in place as long as this does.
struct Bytes {
    _buffer: PyBuffer<u8>,
    start: *const u8,
    length: usize,
}

// SAFETY: the buffer is exported and never changed while exported; the tables are immutable by contract.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("the buffer is not contiguous"));
        }
        let (start, length) = (buffer.buf_ptr() as *const u8, buffer.len_bytes());
        Ok(Bytes { _buffer: buffer, start, length })
    }

    fn get(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: the exported buffer has `length` bytes at `start` until it is released, when this is dropped.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

#[pyclass(frozen)]
struct SaltTable {
    bytes: Bytes,
    layout: Layout,
    first_level_salt: Vec<u8>,
    bucket_ids: BucketIds,
}

impl SaltTable {
    fn table(&self) -> Table<'_> {
        Table { data: self.bytes.get(), layout: &self.layout }
    }
}

#[pymethods]
impl SaltTable {
    #[new]
    fn new(buffer: &Bound<'_, PyAny>, first_level_salt: &str, id_prefix: &str, id_secret: &str) -> PyResult<Self> {
        let bytes = Bytes::of(buffer)?;
        let layout = Layout::of(bytes.get()).ok_or_else(|| PyValueError::new_err("not a packed salt table"))?;
        let bucket_ids = BucketIds::new(id_prefix, id_secret);
        Ok(SaltTable { bytes, layout, first_level_salt: first_level_salt.as_bytes().to_vec(), bucket_ids })
    }

    /// The JSON array of the buckets updated at or after a time, None when a row must be read by the reference.
    fn list_buckets<'py>(&self, py: Python<'py>, since: i64) -> Option<Bound<'py, PyBytes>> {
        let list = py.detach(|| bucket_list::write(self.table(), &self.bucket_ids, since)).ok()?;
        Some(PyBytes::new(py, &list))
    }

    /// Least and greatest last update, None when a row must be read by the reference or there is none.
    fn last_updated_range(&self, py: Python<'_>) -> Option<(i64, i64)> {
        py.detach(|| bucket_list::range(self.table())).ok().flatten()
    }
}

#[pyclass(frozen)]
struct OptOutIndex {
    bytes: Bytes,
    directory: Directory,
}

impl OptOutIndex {
    fn index(&self) -> PyResult<Index<'_>> {
        let index = Index::of(self.bytes.get()).map(|index| index.with(&self.directory));
        index.ok_or_else(|| PyValueError::new_err("not a packed opt-out index"))
    }
}

fn kept(indices: &Bound<'_, PyList>) -> PyResult<Vec<Py<OptOutIndex>>> {
    indices.iter().map(|index| Ok(index.cast_into()?.unbind())).collect()
}

fn opened(kept: &[Py<OptOutIndex>]) -> PyResult<Vec<Index<'_>>> {
    kept.iter().map(|index| index.get().index()).collect()
}

fn damaged(_: optouts::Damaged) -> PyErr {
    PyValueError::new_err("the packed opt-out index is damaged")
}

#[pymethods]
impl OptOutIndex {
    #[new]
    fn new(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut index = OptOutIndex { bytes: Bytes::of(buffer)?, directory: Directory::default() };
        index.directory = index.index()?.directory().map_err(damaged)?;
        Ok(index)
    }

    fn timestamp_of_hash(&self, flh: &[u8]) -> PyResult<u64> {
        let flh = flh.try_into().map_err(|_| PyValueError::new_err("a first-level hash has 32 bytes"))?;
        Ok(self.index()?.timestamp_of_hash(flh))
    }

    /// Of hashes one after the other.
    fn timestamps_of_hashes(&self, py: Python<'_>, hashes: &[u8]) -> PyResult<Vec<u64>> {
        let (hashes, rest) = hashes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(PyValueError::new_err("first-level hashes have 32 bytes each"));
        }
        let index = self.index()?;
        Ok(py.detach(|| index.timestamps_of_hashes(hashes)))
    }

    /// Hashes that have an entry before a time in epoch seconds.
    fn hashes_before(&self, py: Python<'_>, seconds: u64) -> PyResult<usize> {
        let index = self.index()?;
        Ok(py.detach(|| index.hashes_before(seconds)))
    }

    /// Those of the rows of 40 bytes for whose hash and id there is no time from theirs less the tolerance on.
    fn missing_rows<'py>(&self, py: Python<'py>, rows: &[u8], tolerance: u64) -> PyResult<Bound<'py, PyBytes>> {
        let (rows, rest) = rows.as_chunks::<{ optouts::ROW }>();
        if !rest.is_empty() {
            return Err(PyValueError::new_err("rows have 40 bytes each"));
        }
        let index = self.index()?;
        let missing = py.detach(|| index.missing(rows, tolerance));
        Ok(PyBytes::new(py, &missing))
    }

    fn timestamp_of_id(&self, text: &str) -> PyResult<Option<u64>> {
        self.index()?.timestamp_of_id(text.as_bytes()).map_err(damaged)
    }

    fn timestamps_of_ids(&self, py: Python<'_>, texts: Vec<String>) -> PyResult<Vec<Option<u64>>> {
        let index = self.index()?;
        py.detach(|| index.timestamps_of_ids(&texts)).map_err(damaged)
    }
}

type Answered<'py> = (Bound<'py, PyBytes>, [[u64; 4]; 4], [u64; 3]);

/// Problem, field, position.
type Refused = (&'static str, &'static str, i64);

/// The answer or the refusal of a request; neither when the reference must answer it.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
#[pyo3(signature = (body, v3_shape, salts, optouts, fresh, always, never, scope, environment, identity_v3, phone_support, now))]
fn map_request<'py>(
    py: Python<'py>,
    body: &[u8],
    v3_shape: bool,
    salts: &Bound<'py, SaltTable>,
    optouts: &Bound<'py, PyList>,
    fresh: &[u8],
    always: &[u8],
    never: &[u8],
    scope: u8,
    environment: u8,
    identity_v3: bool,
    phone_support: bool,
    now: i64,
) -> PyResult<(Option<Answered<'py>>, Option<Refused>)> {
    let salts = salts.get();
    let kept = kept(optouts)?;
    let indices = opened(&kept)?;
    let (always, never) = (named(always)?, named(never)?);
    let fresh = fresh.as_chunks::<32>().0;
    if salts.layout.rows == 0 || scope > 1 || environment > 2 {
        return Ok((None, None));
    }
    let outcome = py.detach(|| {
        let manner = Manner { scope, identity_type: 0, environment, identity_v3 };
        let options = Options { v3_shape, manner, phone_support, now, always: &always, never: &never };
        let tables = Tables {
            salts: salts.table(),
            first_level_salt: &salts.first_level_salt,
            bucket_ids: &salts.bucket_ids,
            optouts: &indices,
            fresh,
        };
        mapping::map_request(body, &tables, &options)
    });
    Ok(match outcome {
        Ok(answer) => (Some((PyBytes::new(py, &answer.body), answer.counts, answer.versions)), None),
        Err(Refusal::Problem(problem, field, position)) => (None, Some((problem.name(), field, position))),
        Err(Refusal::Rare) => (None, None),
    })
}

/// Identity type and first-level hash, 33 bytes each.
fn named(data: &[u8]) -> PyResult<Vec<(u8, Hash)>> {
    let (entries, rest) = data.as_chunks::<33>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err("test identities have 33 bytes each"));
    }
    entries.iter().map(|entry| Ok((entry[0], entry[1..].try_into()?))).collect()
}

/// The packed table and -1, or nothing and the number of the first row that is wrong.
#[pyfunction]
fn pack_salts<'py>(py: Python<'py>, data: &[u8], texts: &[u8]) -> (Option<Bound<'py, PyBytes>>, i64) {
    match py.detach(|| salts::pack(data, texts)) {
        Ok(table) => (Some(PyBytes::new(py, &table)), -1),
        Err(row) => (None, row as i64),
    }
}

/// The number of rows, or the number and size of the file whose size is wrong.
#[pyfunction]
fn build_optout_index(
    py: Python<'_>,
    files: Vec<PathBuf>,
    indices: &Bound<'_, PyList>,
    out_path: PathBuf,
    environment: u8,
) -> PyResult<(usize, Option<(usize, u64)>)> {
    let kept = kept(indices)?;
    let indices = opened(&kept)?;
    match py.detach(|| optout_build::build(&files, &indices, &out_path, environment)) {
        Ok(rows) => Ok((rows, None)),
        Err(optout_build::Failure::Size(file, size)) => Ok((0, Some((file, size)))),
        Err(optout_build::Failure::Io(error)) => Err(PyOSError::new_err((error.raw_os_error(), error.to_string()))),
    }
}

/// The index of rows of 40 bytes.
#[pyfunction]
fn pack_optout_rows<'py>(py: Python<'py>, rows: &[u8], environment: u8) -> PyResult<Bound<'py, PyBytes>> {
    if !rows.len().is_multiple_of(optouts::ROW) || environment > 2 {
        return Err(PyValueError::new_err("rows have 40 bytes each"));
    }
    let index = py.detach(|| optout_build::pack(rows, environment));
    Ok(PyBytes::new(py, &index))
}

#[pymodule]
fn uid2_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add("INTERFACE", 2)?;
    module.add_class::<SaltTable>()?;
    module.add_class::<OptOutIndex>()?;
    module.add_function(wrap_pyfunction!(map_request, module)?)?;
    module.add_function(wrap_pyfunction!(pack_salts, module)?)?;
    module.add_function(wrap_pyfunction!(build_optout_index, module)?)?;
    module.add_function(wrap_pyfunction!(pack_optout_rows, module)?)
}
