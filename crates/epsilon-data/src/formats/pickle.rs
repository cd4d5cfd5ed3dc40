//! Python pickles of label vectors and label lists, read without running anything: a pickle is a program for a small
//! stack machine, and this machine knows numbers, text, lists, dictionaries, and how NumPy builds arrays. Whatever else a
//! pickle asks to call is refused by name.
//!
//! Protocols 2 to 5, written by Python 2 or 3. Texts and the bytes of arrays stay in the mapped file until they are asked for.
//! A pickle may come from anybody: what it makes takes a bounded multiple of its size, at most about 64 bytes for each of its
//! own, and every operation costs about the same, whatever it works on.

pub mod operations;

use crate::files;
use crate::files::Mapped;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the file for each value that it builds: Python writes no list, number or text in fewer, and keeps a single `None`,
/// `True`, `False` and `()`, as this machine does. This bounds memory by the file's size.
const BYTES_A_VALUE: usize = 2;

/// Values that any file may build, however small it is.
const VALUES_OF_ANY: usize = 1024;

/// Dimensions of an array; those of label vectors have two.
const MOST_DIMENSIONS: usize = 8;

/// Arguments of a call; NumPy's have four at most.
const MOST_ARGUMENTS: usize = 8;

/// How often the bytes of a file may be given out as names, which may be one and the same text many times over.
const MOST_REPEATED: usize = 16;

/// Why a pickle cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// It is damaged, or asks for more than numbers, text and arrays need.
    #[error("{path}, byte {byte}: {reason}")]
    Damaged {
        /// The pickle.
        path: PathBuf,
        /// How far it was read.
        byte: u64,
        /// What is wrong.
        reason: String,
    },
    /// It holds something else than what is asked for.
    #[error("{path}: {reason}")]
    Form {
        /// The pickle.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Whether a file begins like a pickle of protocol 2 to 5.
pub fn is_pickle(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    files::open(path, u64::MAX)?
        .take(2)
        .read_to_end(&mut start)?;
    Ok(is_start(&start))
}

/// Whether bytes begin like a pickle of protocol 2 to 5.
pub fn is_start(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// Reads a list of texts: a list, a tuple or an array of them.
///
/// # Errors
/// An unreadable file, a pickle that is damaged or asks for more than it may, and one that holds something else.
pub fn read_strings(path: &Path) -> Result<Vec<String>, PickleError> {
    let pickle = Pickle::read(path)?;
    pickle
        .strings(pickle.root)
        .ok_or_else(|| pickle.form("holds no list of names"))
}

/// Where a value is kept.
type Id = u32;

/// Bytes of the file, or made from it.
#[derive(Debug, Clone)]
enum Bytes {
    InFile(Range<usize>),
    Made(Arc<[u8]>),
}

/// What a pickle may ask to call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    /// `numpy.core.multiarray._reconstruct`: an empty array, filled by BUILD.
    Reconstruct,
    /// `numpy.core.multiarray.scalar`
    Scalar,
    /// `numpy.core.numeric._frombuffer`: an array from bytes.
    FromBuffer,
    /// `numpy.ndarray`, as an argument only.
    NdArray,
    /// `numpy.dtype`
    Dtype,
    /// `_codecs.encode`: how Python 3 writes bytes in protocol 2.
    Encode,
    /// `collections.OrderedDict`
    OrderedDict,
}

#[derive(Debug, Clone)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// UTF-8 as Python writes it; checked when it is used.
    Text(Range<usize>),
    Bytes(Bytes),
    List(Vec<Id>),
    Tuple(Box<[Id]>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    Dtype(Dtype),
    Array(Box<Array>),
}

// The bound on memory counts on it.
const _: () = assert!(size_of::<Value>() <= 32);

/// Where every machine has the values that are the same wherever they stand.
const NONE: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;
const EMPTY: Id = 3;

/// A place of the memo where nothing was kept.
const NOTHING: Id = Id::MAX;

/// Type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Dtype {
    /// `f` float, `i` and `u` whole numbers, `U` and `S` text, `O` any value.
    kind: u8,
    /// Bytes of an element.
    size: usize,
    big_endian: bool,
}

#[derive(Debug, Clone)]
struct Array {
    shape: Vec<usize>,
    dtype: Dtype,
    /// Whether the first index runs fastest.
    fortran: bool,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    /// Not yet built.
    Missing,
    Bytes(Bytes),
    /// The list of the elements.
    Objects(Id),
}

/// A pickle that has been read.
pub struct Pickle {
    path: PathBuf,
    map: Mapped,
    values: Vec<Value>,
    root: Id,
}

/// Vectors of a pickle.
pub enum Vectors {
    /// Each with its word.
    Named(Vec<(String, Place)>),
    /// Matrices of one vector a row.
    Matrices(Vec<Vec<Place>>),
}

/// Where a vector lies.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// A row of a two-dimensional array.
    Row(Id, usize),
    /// A list, a tuple or a one-dimensional array.
    Whole(Id),
}

impl Pickle {
    /// Reads a pickle.
    pub fn read(path: &Path) -> Result<Self, PickleError> {
        let failed = |reason| PickleError::Read {
            path: path.into(),
            reason,
        };
        let map = Mapped::open(path).map_err(failed)?;
        let mut machine = Machine::new(&map);
        let root = machine.run().map_err(|reason| PickleError::Damaged {
            path: path.into(),
            byte: machine.place as u64,
            reason,
        })?;
        let values = machine.values;
        Ok(Self {
            path: path.into(),
            map,
            values,
            root,
        })
    }

    fn form(&self, reason: &str) -> PickleError {
        PickleError::Form {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn bytes<'a>(&'a self, bytes: &'a Bytes) -> &'a [u8] {
        match bytes {
            Bytes::InFile(range) => &self.map[range.clone()],
            Bytes::Made(bytes) => bytes,
        }
    }

    fn text(&self, id: Id) -> Option<&str> {
        let bytes = match self.value(id) {
            Value::Text(range) => &self.map[range.clone()],
            Value::Bytes(bytes) => self.bytes(bytes),
            _ => return None,
        };
        std::str::from_utf8(bytes).ok()
    }

    /// An array of bytes, of text or numbers.
    fn array(&self, id: Id) -> Option<(&Array, &Bytes)> {
        let Value::Array(array) = self.value(id) else {
            return None;
        };
        match &array.data {
            Data::Bytes(bytes) => Some((array, bytes)),
            _ => None,
        }
    }

    fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) => Some(items),
            Value::Tuple(items) => Some(items),
            Value::Array(array) => match (&array.data, &array.shape[..]) {
                (Data::Objects(items), [_]) => match self.value(*items) {
                    Value::List(items) => Some(items),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// Bytes of names that may be given out.
    fn allowance(&self) -> usize {
        self.map.len().saturating_mul(MOST_REPEATED)
    }

    /// A text as a string of its own, paid from the allowance.
    fn name(&self, id: Id, allowance: &mut usize) -> Option<String> {
        let text = self.text(id)?;
        *allowance = allowance.checked_sub(text.len())?;
        Some(text.to_string())
    }

    fn strings(&self, id: Id) -> Option<Vec<String>> {
        if let Some(items) = self.items(id) {
            let mut allowance = self.allowance();
            let items = items.iter();
            return items.map(|&item| self.name(item, &mut allowance)).collect();
        }
        let (Array { shape, dtype, .. }, bytes) = self.array(id)?;
        if shape.len() != 1 || dtype.size == 0 {
            return None;
        }
        let cells = self.bytes(bytes).chunks_exact(dtype.size);
        cells.map(|cell| fixed_text(cell, *dtype)).collect()
    }

    /// The vectors, whatever holds them.
    ///
    /// Understood are a dictionary from word to vector, a pair of words and vectors, one matrix (an array or a list of
    /// vectors), and a list or tuple of several arrays.
    pub fn vectors(&self) -> Result<Vectors, PickleError> {
        if let Value::Dict(entries) = self.value(self.root) {
            let mut allowance = self.allowance();
            let named = entries.iter().map(|&(key, vector)| {
                Some((self.name(key, &mut allowance)?, Place::Whole(vector)))
            });
            let named = named.collect::<Option<_>>();
            return named.map(Vectors::Named).ok_or_else(|| {
                self.form(
                    "a dictionary with keys that are no text, or are longer than the file in all",
                )
            });
        }
        if let Some(rows) = self.rows(self.root) {
            return Ok(Vectors::Matrices(vec![rows]));
        }
        if let Some(items) = self.items(self.root) {
            if let [words, vectors] = items
                && let (Some(words), Some(rows)) = (self.strings(*words), self.rows(*vectors))
            {
                if words.len() != rows.len() {
                    return Err(self.form("another number of words than of vectors"));
                }
                return Ok(Vectors::Named(words.into_iter().zip(rows).collect()));
            }
            // Each row has bytes of its own in the file, unless one array stands there several times.
            let mut rows = 0;
            let matrices = items.iter().map(|&item| {
                let matrix = self.rows(item)?;
                rows += matrix.len();
                (rows <= self.map.len()).then_some(matrix)
            });
            if let Some(all) = matrices.collect::<Option<Vec<_>>>()
                && !all.is_empty()
            {
                return Ok(Vectors::Matrices(all));
            }
        }
        Err(self.form(
            "holds no label vectors: no array, list of arrays, or dictionary from word to vector",
        ))
    }

    /// The rows of a matrix.
    fn rows(&self, id: Id) -> Option<Vec<Place>> {
        if let Some((array, bytes)) = self.array(id) {
            let &[rows, _] = &array.shape[..] else {
                return None;
            };
            // Of a shape of (2^40, 0) there is no byte.
            let is_matrix =
                matches!(array.dtype.kind, b'f' | b'i' | b'u') && !self.bytes(bytes).is_empty();
            return is_matrix.then(|| (0..rows).map(|row| Place::Row(id, row)).collect());
        }
        let items = self.items(id)?;
        let is_vector = |item: &&Id| match self.value(**item) {
            Value::Array(array) => {
                array.shape.len() == 1 && matches!(array.dtype.kind, b'f' | b'i' | b'u')
            }
            _ => self
                .items(**item)
                .and_then(|values| values.first())
                .is_some_and(|&value| matches!(self.value(value), Value::Float(_) | Value::Int(_))),
        };
        let all = !items.is_empty() && items.iter().all(|item| is_vector(&item));
        all.then(|| items.iter().map(|&item| Place::Whole(item)).collect())
    }

    /// Values of a vector.
    pub fn numbers(&self, place: Place) -> Result<Vec<f32>, PickleError> {
        let (id, row) = match place {
            Place::Row(id, row) => (id, Some(row)),
            Place::Whole(id) => (id, None),
        };
        let numbers = match self.value(id) {
            Value::Array(array) => self.array_row(array, row),
            Value::List(_) | Value::Tuple(_) => {
                let number = |item: &Id| match self.value(*item) {
                    Value::Float(value) => Some(*value as f32),
                    Value::Int(value) => Some(*value as f32),
                    _ => None,
                };
                let items = self.items(id).unwrap_or_default();
                items.iter().map(number).collect()
            }
            _ => None,
        };
        numbers.ok_or_else(|| self.form("a vector that is not a list or an array of numbers"))
    }

    fn array_row(&self, array: &Array, row: Option<usize>) -> Option<Vec<f32>> {
        let Data::Bytes(bytes) = &array.data else {
            return None;
        };
        let (first, step, count) = match (row, array.shape.as_slice()) {
            (None, &[count]) => (0, 1, count),
            (Some(row), &[_, count]) if !array.fortran => (row * count, 1, count),
            (Some(row), &[rows, count]) => (row, rows, count),
            _ => return None,
        };
        let (bytes, size) = (self.bytes(bytes), array.dtype.size);
        let cell = |i: usize| {
            let start = (first + i * step) * size;
            array.dtype.number(bytes.get(start..start + size)?)
        };
        (0..count).map(cell).collect()
    }
}

impl Dtype {
    /// From NumPy's short name, such as `f4`.
    fn parse(name: &str) -> Option<Self> {
        let (order, rest) = match name.as_bytes().first()? {
            order @ (b'<' | b'>' | b'|' | b'=') => (*order, &name[1..]),
            _ => (b'=', name),
        };
        let kind = *rest.as_bytes().first()?;
        let size: usize = rest.get(1..)?.parse().ok()?;
        let size = match kind {
            b'f' if matches!(size, 2 | 4 | 8) => size,
            b'i' | b'u' if matches!(size, 1 | 2 | 4 | 8) => size,
            b'U' => size.checked_mul(4)?,
            b'S' | b'O' | b'b' => size,
            _ => return None,
        };
        Some(Self {
            kind,
            size,
            big_endian: order == b'>',
        })
    }

    fn number(self, cell: &[u8]) -> Option<f32> {
        let mut bytes = [0; 8];
        let low = bytes.get_mut(..cell.len())?;
        low.copy_from_slice(cell);
        if self.big_endian {
            low.reverse();
        }
        let bits = u64::from_le_bytes(bytes);
        Some(match (self.kind, self.size) {
            (b'f', 2) => half::f16::from_bits(bits as u16).to_f32(),
            (b'f', 4) => f32::from_bits(bits as u32),
            (b'f', 8) => f64::from_bits(bits) as f32,
            (b'i', 1) => f32::from(bits as i8),
            (b'i', 2) => f32::from(bits as i16),
            (b'i', 4) => bits as i32 as f32,
            (b'i', 8) => bits as i64 as f32,
            (b'u', 1..=8) => bits as f32,
            _ => return None,
        })
    }
}

/// A cell of an array of texts, which zeros fill up.
fn fixed_text(cell: &[u8], dtype: Dtype) -> Option<String> {
    let text = match dtype.kind {
        b'S' => std::str::from_utf8(cell).ok()?.to_string(),
        b'U' => {
            let code = |c: &[u8]| {
                let code = [c[0], c[1], c[2], c[3]];
                let code = if dtype.big_endian {
                    u32::from_be_bytes(code)
                } else {
                    u32::from_le_bytes(code)
                };
                char::from_u32(code)
            };
            cell.chunks_exact(4).map(code).collect::<Option<String>>()?
        }
        _ => return None,
    };
    Some(text.trim_end_matches('\0').to_string())
}

/// The stack machine. Values refer to each other by number, so that no pickle can nest deeper than a stack is.
struct Machine<'a> {
    file: &'a [u8],
    /// The byte that is read next.
    place: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack where a MARK was set.
    marks: Vec<usize>,
    memo: Vec<Id>,
    /// Bytes made so far.
    made: usize,
}

impl<'a> Machine<'a> {
    fn new(file: &'a [u8]) -> Self {
        Self {
            file,
            place: 0,
            values: vec![
                Value::None,
                Value::Bool(false),
                Value::Bool(true),
                Value::Tuple(Box::new([])),
            ],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            made: 0,
        }
    }

    fn run(&mut self) -> Result<Id, String> {
        loop {
            let code = self.take(1)?.start;
            match self.file[code] {
                b'.' => return self.pop(),
                code => self.step(code)?,
            }
        }
    }

    /// Stack, memo and calls; [`Machine::literal`] and [`Machine::container`] have the other operations.
    fn step(&mut self, code: u8) -> Result<(), String> {
        match code {
            0x80 => {
                let protocol = self.number(1)?;
                if !(2..=5).contains(&protocol) {
                    return Err(format!("protocol {protocol}; 2 to 5 are read"));
                }
            }
            // FRAME: the length of what follows.
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'q' => {
                let place = self.number(1)? as usize;
                self.put(place)?;
            }
            b'r' => {
                let place = self.number(4)? as usize;
                self.put(place)?;
            }
            0x94 => self.put(self.memo.len())?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.function(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) =
                    (self.value(module), self.value(name))
                else {
                    return Err("a function whose name is no text".into());
                };
                let (module, name) = (module.clone(), name.clone());
                self.function(module, name)?;
            }
            b'R' => self.call()?,
            b'b' => self.build()?,
            b'N' | b'J' | b'K' | b'M' | b'G' | b'X' | b'T' | b'B' | b'U' | b'C' => {
                self.literal(code)?;
            }
            0x88..=0x8a | 0x8c..=0x8e | 0x96 => self.literal(code)?,
            other => self.container(other)?,
        }
        Ok(())
    }

    /// A number, a text, bytes.
    fn literal(&mut self, code: u8) -> Result<(), String> {
        match code {
            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b'J' => {
                let value = self.number(4)? as u32 as i32;
                self.push(Value::Int(value.into()))?;
            }
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            0x8a => {
                let length = self.number(1)? as usize;
                let bytes = self.take(length)?;
                let value = long(&self.file[bytes]).ok_or("a whole number beyond 64 bits")?;
                self.push(Value::Int(value))?;
            }
            b'G' => {
                let bytes = self.take(8)?;
                let bytes: [u8; 8] = self.file[bytes].try_into().map_err(|_| "a cut number")?;
                self.push(Value::Float(f64::from_be_bytes(bytes)))?;
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'T' | b'B' => self.bytes(4)?,
            b'U' | b'C' => self.bytes(1)?,
            // 0x8e and 0x96.
            _ => self.bytes(8)?,
        }
        Ok(())
    }

    /// A list, a tuple, a dictionary, and what is put into one.
    fn container(&mut self, code: u8) -> Result<(), String> {
        match code {
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.stack.push(EMPTY),
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items.into()))?;
            }
            code @ 0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0x84..code {
                    items.insert(0, self.pop()?);
                }
                self.push(Value::Tuple(items.into()))?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(items)?;
            }
            other => {
                return Err(format!(
                    "the operation {other:#04x}, which label vectors do not need; it is refused"
                ));
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<Range<usize>, String> {
        let end = self
            .place
            .checked_add(count)
            .filter(|&end| end <= self.file.len());
        let end = end.ok_or("the file ends here; it is cut off")?;
        let range = self.place..end;
        self.place = end;
        Ok(range)
    }

    /// A whole number of `bytes` bytes, the low one first.
    fn number(&mut self, bytes: usize) -> Result<u64, String> {
        let range = self.take(bytes)?;
        Ok(self.file[range]
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<Range<usize>, String> {
        let rest = &self.file[self.place..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("a line that does not end")?;
        let range = self.take(length)?;
        self.take(1)?;
        Ok(range)
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        let most = VALUES_OF_ANY + self.file.len() / BYTES_A_VALUE;
        if self.values.len() == most || self.values.len() == NOTHING as usize {
            return Err("more values than Python writes in a file of this size".into());
        }
        self.values.push(value);
        self.stack.push(self.values.len() as Id - 1);
        Ok(())
    }

    fn int(&mut self, bytes: usize) -> Result<(), String> {
        let value = self.number(bytes)?;
        self.push(Value::Int(value as i64))
    }

    fn sized(&mut self, bytes: usize) -> Result<Range<usize>, String> {
        let length = self.number(bytes)?;
        self.take(usize::try_from(length).map_err(|_| "a text longer than memory")?)
    }

    fn text(&mut self, bytes: usize) -> Result<(), String> {
        let range = self.sized(bytes)?;
        self.push(Value::Text(range))
    }

    fn bytes(&mut self, bytes: usize) -> Result<(), String> {
        let range = self.sized(bytes)?;
        self.push(Value::Bytes(Bytes::InFile(range)))
    }

    /// The lowest place of the stack that may be taken: what lies below a MARK belongs to another.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(|| "nothing to take".into()),
            false => Err("an operation without its operands".into()),
        }
    }

    fn top(&self) -> Result<Id, String> {
        let top = self
            .stack
            .last()
            .filter(|_| self.stack.len() > self.floor());
        top.copied()
            .ok_or_else(|| "an operation without its operands".into())
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let height = self.marks.pop().ok_or("an operation without its mark")?;
        Ok(self.stack.split_off(height))
    }

    fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(list) => list.extend(items),
            _ => return Err("items for what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Result<(), String> {
        let dict = self.top()?;
        match &mut self.values[dict as usize] {
            Value::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            _ => return Err("entries for what is no dictionary".into()),
        }
        Ok(())
    }

    fn get(&mut self, bytes: usize) -> Result<(), String> {
        let place = self.number(bytes)? as usize;
        let id = self.memo.get(place).filter(|&&id| id != NOTHING);
        let id = id.ok_or_else(|| format!("the value {place}, which was not kept"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn put(&mut self, place: usize) -> Result<(), String> {
        let id = self.top()?;
        // Python numbers what it keeps one by one.
        if place > self.values.len() {
            return Err(format!("a value kept as number {place}"));
        }
        if self.memo.len() <= place {
            self.memo.resize(place + 1, NOTHING);
        }
        self.memo[place] = id;
        Ok(())
    }

    fn function(&mut self, module: Range<usize>, name: Range<usize>) -> Result<(), String> {
        let text = |range: Range<usize>| String::from_utf8_lossy(&self.file[range]).into_owned();
        let (module, name) = (text(module), text(name));
        let numpy = module.replacen("numpy._core", "numpy.core", 1);
        let function = match (numpy.as_str(), name.as_str()) {
            ("numpy.core.multiarray", "_reconstruct") => Function::Reconstruct,
            ("numpy.core.multiarray", "scalar") => Function::Scalar,
            ("numpy.core.numeric", "_frombuffer") => Function::FromBuffer,
            ("numpy", "ndarray") => Function::NdArray,
            ("numpy", "dtype") => Function::Dtype,
            ("_codecs", "encode") => Function::Encode,
            ("collections", "OrderedDict") => Function::OrderedDict,
            _ => {
                return Err(format!(
                    "it asks to run `{module}.{name}`; nothing of a pickle is run, and label vectors do not need it"
                ));
            }
        };
        self.push(Value::Function(function))
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = match self.value(arguments) {
            Value::Tuple(arguments) if arguments.len() <= MOST_ARGUMENTS => arguments.clone(),
            _ => return Err("arguments that are no tuple of a few".into()),
        };
        let Value::Function(function) = *self.value(function) else {
            return Err("it calls what is no function".into());
        };
        let value = self
            .result(function, &arguments)
            .ok_or("arguments that NumPy would not write")?;
        self.push(value)
    }

    fn result(&mut self, function: Function, arguments: &[Id]) -> Option<Value> {
        let argument = |i: usize| arguments.get(i).map(|&id| self.value(id));
        Some(match function {
            Function::NdArray => return None,
            Function::OrderedDict => Value::Dict(Vec::new()),
            Function::Dtype => Value::Dtype(Dtype::parse(self.short(argument(0)?)?)?),
            Function::Reconstruct => Value::Array(Box::new(Array {
                shape: Vec::new(),
                dtype: Dtype::parse("f4")?,
                fortran: false,
                data: Data::Missing,
            })),
            Function::Encode => {
                let made = self.made + self.raw(argument(0)?)?.len();
                // Each text of a file is turned into bytes once, by a file that Python wrote.
                if made > self.file.len() {
                    return None;
                }
                let text = std::str::from_utf8(self.raw(argument(0)?)?).ok()?;
                let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok());
                let bytes: Arc<[u8]> = bytes.collect::<Option<_>>()?;
                self.made = made;
                Value::Bytes(Bytes::Made(bytes))
            }
            Function::Scalar => {
                let Value::Dtype(dtype) = argument(0)? else {
                    return None;
                };
                match argument(1)? {
                    Value::Bytes(bytes) => {
                        let cell = self.of(bytes).get(..dtype.size)?;
                        Value::Float(dtype.number(cell)?.into())
                    }
                    _ => return None,
                }
            }
            Function::FromBuffer => {
                let (Value::Bytes(bytes), Value::Dtype(dtype)) = (argument(0)?, argument(1)?)
                else {
                    return None;
                };
                let fortran = self.raw(argument(3)?)? == b"F";
                Value::Array(self.array(argument(2)?, *dtype, fortran, bytes)?)
            }
        })
    }

    fn of<'b>(&'b self, bytes: &'b Bytes) -> &'b [u8] {
        match bytes {
            Bytes::InFile(range) => &self.file[range.clone()],
            Bytes::Made(bytes) => bytes,
        }
    }

    /// The bytes of a text.
    fn raw<'b>(&'b self, value: &'b Value) -> Option<&'b [u8]> {
        match value {
            Value::Text(range) => Some(&self.file[range.clone()]),
            Value::Bytes(bytes) => Some(self.of(bytes)),
            _ => None,
        }
    }

    /// A text of a few letters, such as the name of a type.
    fn short<'b>(&'b self, value: &'b Value) -> Option<&'b str> {
        let bytes = self.raw(value).filter(|bytes| bytes.len() <= 32)?;
        std::str::from_utf8(bytes).ok()
    }

    fn shape(&self, value: &Value) -> Option<Vec<usize>> {
        let Value::Tuple(items) = value else {
            return None;
        };
        let size = |id: &Id| match self.value(*id) {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        (items.len() <= MOST_DIMENSIONS).then(|| items.iter().map(size).collect())?
    }

    /// An array whose bytes are as many as its shape and type need.
    fn array(
        &self,
        shape: &Value,
        dtype: Dtype,
        fortran: bool,
        bytes: &Bytes,
    ) -> Option<Box<Array>> {
        let shape = self.shape(shape)?;
        let length = shape
            .iter()
            .try_fold(dtype.size, |length, &size| length.checked_mul(size))?;
        (length == self.of(bytes).len() && dtype.kind != b'O').then(|| {
            Box::new(Array {
                shape,
                dtype,
                fortran,
                data: Data::Bytes(bytes.clone()),
            })
        })
    }

    /// BUILD: gives a type its byte order, or an array its content.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let target = self.top()?;
        let built = self
            .built(target, state)
            .ok_or("a state that NumPy would not write")?;
        self.values[target as usize] = built;
        Ok(())
    }

    fn built(&self, target: Id, state: Id) -> Option<Value> {
        let Value::Tuple(state) = self.value(state) else {
            return None;
        };
        let part = |i: usize| state.get(i).map(|&id| self.value(id));
        match self.value(target) {
            Value::Dtype(dtype) => Some(Value::Dtype(Dtype {
                big_endian: self.raw(part(1)?)? == b">",
                ..*dtype
            })),
            Value::Array(_) => {
                let Value::Dtype(dtype) = part(2)? else {
                    return None;
                };
                let fortran = matches!(part(3)?, Value::Bool(true) | Value::Int(1));
                match part(4)? {
                    Value::Bytes(bytes) => self
                        .array(part(1)?, *dtype, fortran, bytes)
                        .map(Value::Array),
                    Value::List(listed) => {
                        let shape = self.shape(part(1)?)?;
                        let count = shape
                            .iter()
                            .try_fold(1usize, |count, &size| count.checked_mul(size))?;
                        (count == listed.len()).then(|| {
                            Value::Array(Box::new(Array {
                                shape,
                                dtype: *dtype,
                                fortran,
                                data: Data::Objects(state[4]),
                            }))
                        })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// A whole number in two's complement, the low byte first.
fn long(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) {
        0xff
    } else {
        0
    };
    let mut whole = [sign; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(whole))
}
