//! Equal parts of a list of images, so that several machines can share an extraction.

use std::ops::Range;
use std::str::FromStr;

use thiserror::Error;

/// One of several equal parts of a list of images, so that several machines can share an extraction.
///
/// ```
/// use epsilon_vision::tokens::Part;
///
/// let part: Part = "2/4".parse()?;
/// assert_eq!((part.index(), part.of()), (2, 4));
/// assert!("5/4".parse::<Part>().is_err());
/// # Ok::<(), epsilon_vision::tokens::NoPart>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    index: usize,
    of: usize,
}

impl Part {
    /// Part `index`, from 1, `of` so many; `None` where there is no such part.
    pub fn new(index: usize, of: usize) -> Option<Self> {
        (1..=of).contains(&index).then_some(Self { index, of })
    }

    /// Which part, from 1.
    pub fn index(self) -> usize {
        self.index
    }

    /// Of how many.
    pub fn of(self) -> usize {
        self.of
    }

    /// Its own stretch of the list: the parts in their order are the whole.
    pub(super) fn cut<T>(self, items: &[T]) -> &[T] {
        &items[self.stretch(items.len())]
    }

    /// Where in a list of so many images its own stand.
    pub fn stretch(self, images: usize) -> Range<usize> {
        let border = |index: usize| (images as u128 * index as u128 / self.of as u128) as usize;
        border(self.index - 1)..border(self.index)
    }
}

/// A part that is not written as `2/4`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no part: write it as I/N, such as 2/4 for the second of four, with I from 1 to N"
)]
pub struct NoPart(String);

impl FromStr for Part {
    type Err = NoPart;

    fn from_str(text: &str) -> Result<Self, NoPart> {
        let wrong = || NoPart(text.into());
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let number = |digits: &str| digits.parse::<usize>().map_err(|_| wrong());
        let (index, of) = (number(index)?, number(of)?);
        Self::new(index, of).ok_or_else(wrong)
    }
}
