//! The values of a matrix, read where they lie in a weight file until they are laid out for a device.

use std::ops::{Deref, Range};
use std::sync::Arc;

use epsilon_data::files::Mapped;
use rayon::prelude::*;

/// Values that are checked at once.
const CHECKED: usize = 1 << 16;

/// Values in f32, row by row: in memory, or in a mapped file, which then must not be changed while they live.
///
/// ```
/// use epsilon_vision::backbone::Values;
///
/// let values = Values::from(vec![1.0, 2.0]);
/// assert_eq!(values.iter().sum::<f32>(), 3.0);
/// ```
#[derive(Clone, Debug)]
pub struct Values(Held);

#[derive(Clone, Debug)]
enum Held {
    Memory(Vec<f32>),
    File(Part),
}

/// A part of a mapped file. Its physical memory goes back to the system when it is not needed any more.
#[derive(Clone, Debug)]
struct Part {
    map: Arc<Mapped>,
    range: Range<usize>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.map.release(self.range.clone());
    }
}

impl Values {
    /// Those in a part of a mapped file, the low byte first; `None` where they do not lie as they do in memory.
    pub(super) fn mapped(map: Arc<Mapped>, range: Range<usize>) -> Option<Self> {
        let in_place = bytemuck::try_cast_slice::<u8, f32>(map.get(range.clone())?).is_ok();
        let found = cfg!(target_endian = "little") && in_place;
        found.then(|| Self(Held::File(Part { map, range })))
    }

    /// Whether none is infinite or not a number.
    pub(super) fn are_finite(&self) -> bool {
        let finite = |part: &[f32]| part.iter().fold(true, |all, value| all & value.is_finite());
        self.par_chunks(CHECKED).all(finite)
    }

    /// The values in memory, to change them.
    pub fn to_mut(&mut self) -> &mut [f32] {
        if let Held::File(_) = &self.0 {
            self.0 = Held::Memory(self.to_vec());
        }
        match &mut self.0 {
            Held::Memory(values) => values,
            Held::File(_) => &mut [],
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Held::Memory(values) => values,
            Held::File(part) => bytemuck::cast_slice(&part.map[part.range.clone()]),
        }
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self(Held::Memory(values))
    }
}

impl From<Values> for Vec<f32> {
    fn from(values: Values) -> Self {
        match values.0 {
            Held::Memory(values) => values,
            Held::File(_) => values.to_vec(),
        }
    }
}

impl FromIterator<f32> for Values {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        Vec::from_iter(values).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 2 MiB, so that it is mapped, and its values from `first` on.
    fn from(first: usize) -> (tempfile::TempDir, Option<Values>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values");
        let bytes: Vec<u8> = (0..1 << 19)
            .flat_map(|x| (x as f32).to_le_bytes())
            .collect();
        std::fs::write(&path, bytes).unwrap();
        let map = Arc::new(Mapped::open(&path).unwrap());
        let range = first..map.len() - 4 + first % 4;
        (folder, Values::mapped(map, range))
    }

    #[test]
    fn values_of_a_file_and_of_memory_are_the_same() {
        let (_folder, values) = from(8);
        let mut values = values.unwrap();
        let copy: Vec<f32> = values.clone().into();
        assert_eq!((copy.len(), copy[0], copy[1]), ((1 << 19) - 3, 2.0, 3.0));
        assert_eq!(*values, *copy);
        values.to_mut()[0] = 7.0;
        assert_eq!((values[0], values[1]), (7.0, 3.0));
        let (_folder, values) = from(0);
        assert_eq!(values.unwrap()[1], 1.0);
    }

    #[test]
    fn values_that_do_not_lie_on_a_words_boundary_are_not_read_in_place() {
        assert!(from(2).1.is_none());
    }

    #[test]
    fn one_value_that_is_not_finite_is_found_wherever_it_is() {
        let mut values = Values::from(vec![0.0; 3 * CHECKED + 5]);
        assert!(values.are_finite());
        for at in [0, CHECKED, 3 * CHECKED + 4] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values.to_mut()[at] = bad;
                assert!(!values.are_finite());
            }
            values.to_mut()[at] = 0.0;
        }
    }
}
