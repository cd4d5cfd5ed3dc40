//! Where tokens are read from: a store on disk, arrays in memory, or some rows of either.

use std::borrow::Cow;

use super::TokenStore;

/// Tokens `[N, D]` and a global vector of each of some images.
///
/// ```
/// use epsilon_vision::tokens::{Pooling, TokenArrays, TokenSource};
///
/// // Two images of two tokens, three wide; the global vector is their mean.
/// let values = [1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 4.0, 2.0, 0.0];
/// let images = TokenArrays::pooled(&values, [2, 2, 3], Pooling::Mean)?;
/// assert_eq!((images.images(), images.tokens_per_image(), images.dim(), images.global_dim()), (2, 2, 3, 3));
/// let (tokens, global) = images.read_rows(&[1]);
/// assert_eq!(tokens, values[6..]);
/// assert_eq!(global, [2.0, 1.0, 0.0]);
/// # Ok::<(), epsilon_vision::tokens::ArrayError>(())
/// ```
pub trait TokenSource: Sync {
    /// Number of images.
    fn images(&self) -> usize;

    /// N, the tokens of an image.
    fn tokens_per_image(&self) -> usize;

    /// D, the width of a token.
    fn dim(&self) -> usize;

    /// Width of a global vector.
    fn global_dim(&self) -> usize;

    /// Reads the tokens of one image, `[N, D]`.
    ///
    /// # Panics
    /// When there is no such row or `out` has another length than `N * D`.
    fn read_tokens(&self, row: usize, out: &mut [f32]);

    /// Reads the global vector of one image, [`TokenSource::global_dim`] values.
    ///
    /// # Panics
    /// When there is no such row or `out` has another length.
    fn read_global(&self, row: usize, out: &mut [f32]);

    /// Tokens `[rows, N, D]` and global vectors `[rows, global_dim]` of some images.
    ///
    /// # Panics
    /// When there is no such row.
    fn read_rows(&self, rows: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let (size, width) = (self.tokens_per_image() * self.dim(), self.global_dim());
        let mut tokens = vec![0.0; rows.len() * size];
        let mut global = vec![0.0; rows.len() * width];
        let out = tokens
            .chunks_exact_mut(size)
            .zip(global.chunks_exact_mut(width));
        for (&row, (tokens, global)) in rows.iter().zip(out) {
            self.read_tokens(row, tokens);
            self.read_global(row, global);
        }
        (tokens, global)
    }
}

impl TokenSource for TokenStore {
    fn images(&self) -> usize {
        self.len()
    }

    fn tokens_per_image(&self) -> usize {
        TokenStore::tokens_per_image(self)
    }

    fn dim(&self) -> usize {
        TokenStore::dim(self)
    }

    fn global_dim(&self) -> usize {
        TokenStore::global_dim(self)
    }

    fn read_tokens(&self, row: usize, out: &mut [f32]) {
        TokenStore::read_tokens(self, row, out);
    }

    fn read_global(&self, row: usize, out: &mut [f32]) {
        TokenStore::read_global(self, row, out);
    }
}

/// What stands for an image as a whole where only its tokens are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of its tokens.
    #[default]
    Mean,
    /// Its first token, as a transformer's class token, which is then none of the tokens.
    First,
}

impl Pooling {
    /// Every one with its name.
    pub const NAMES: [(&'static str, Self); 2] = [("mean", Self::Mean), ("first", Self::First)];
}

/// Arrays that hold no images' features.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayError {
    /// A size of 0, or a number of values that does not fit the sizes.
    #[error("{what}: {found} values, where the shape {shape:?} wants {}", shape.iter().product::<usize>())]
    Shape {
        /// Which array: `tokens` or `global vectors`.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Its values.
        found: usize,
    },
    /// A shape with a size of 0, or one token alone that is to be taken as the global vector.
    #[error("{what}: the shape {shape:?} leaves no values; give at least one {wanted}")]
    Empty {
        /// Which array.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// What is missing.
        wanted: &'static str,
    },
    /// A value that is not a finite number.
    #[error("{what}: image {image} has a value that is not finite")]
    NotFinite {
        /// Which array.
        what: &'static str,
        /// The image, from 0.
        image: usize,
    },
    /// A row that is not there.
    #[error("row {row} of {images} images")]
    Row {
        /// The row asked for.
        row: usize,
        /// How many there are.
        images: usize,
    },
}

/// Features of images in memory, borrowed.
#[derive(Debug, Clone)]
pub struct TokenArrays<'a> {
    images: usize,
    tokens_per_image: usize,
    dim: usize,
    global_dim: usize,
    tokens: &'a [f32],
    /// Values before each image's tokens that are none of them.
    before: usize,
    global: Cow<'a, [f32]>,
}

impl<'a> TokenArrays<'a> {
    /// Tokens `[images, N, D]` and global vectors `[images, G]`, row-major.
    ///
    /// # Errors
    /// [`ArrayError`].
    pub fn new(
        tokens: &'a [f32],
        [images, count, dim]: [usize; 3],
        global: &'a [f32],
        width: usize,
    ) -> Result<Self, ArrayError> {
        check("tokens", tokens, &[images, count, dim])?;
        check("global vectors", global, &[images, width])?;
        Ok(Self {
            images,
            tokens_per_image: count,
            dim,
            global_dim: width,
            tokens,
            before: 0,
            global: global.into(),
        })
    }

    /// Images that are one vector each, `[images, D]`: it is their one token and their global vector.
    ///
    /// # Errors
    /// [`ArrayError`].
    pub fn global(values: &'a [f32], [images, dim]: [usize; 2]) -> Result<Self, ArrayError> {
        check("global vectors", values, &[images, dim])?;
        Ok(Self {
            images,
            tokens_per_image: 1,
            dim,
            global_dim: dim,
            tokens: values,
            before: 0,
            global: values.into(),
        })
    }

    /// Tokens `[images, N, D]` alone; `pooling` says what their global vector is.
    ///
    /// # Errors
    /// [`ArrayError`]; one token an image where the first is not to be one of them.
    pub fn pooled(
        tokens: &'a [f32],
        [images, count, dim]: [usize; 3],
        pooling: Pooling,
    ) -> Result<Self, ArrayError> {
        let shape = [images, count, dim];
        check("tokens", tokens, &shape)?;
        let first = pooling == Pooling::First;
        if first && count == 1 {
            return Err(ArrayError::Empty {
                what: "tokens",
                shape: shape.into(),
                wanted: "token beside the first, which stands for the image as a whole",
            });
        }
        let of_image = |tokens: &[f32]| match pooling {
            Pooling::First => tokens[..dim].to_vec(),
            Pooling::Mean => mean(tokens, dim),
        };
        let global: Vec<f32> = tokens
            .chunks_exact(count * dim)
            .flat_map(of_image)
            .collect();
        Ok(Self {
            images,
            tokens_per_image: count - usize::from(first),
            dim,
            global_dim: dim,
            tokens,
            before: if first { dim } else { 0 },
            global: global.into(),
        })
    }
}

/// The mean of some tokens of this width.
fn mean(tokens: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dim];
    for token in tokens.chunks_exact(dim) {
        let both = sums.iter_mut().zip(token);
        both.for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = (tokens.len() / dim) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// Whether these are finite values of that shape.
fn check(what: &'static str, values: &[f32], shape: &[usize]) -> Result<(), ArrayError> {
    let empty = |wanted| ArrayError::Empty {
        what,
        shape: shape.into(),
        wanted,
    };
    if shape[0] == 0 {
        return Err(empty("image"));
    }
    if shape.contains(&0) {
        return Err(empty("value an image"));
    }
    let size = shape[1..]
        .iter()
        .try_fold(1_usize, |n, &side| n.checked_mul(side));
    let all = size.and_then(|size| size.checked_mul(shape[0]));
    let (Some(size), true) = (size, all == Some(values.len())) else {
        return Err(ArrayError::Shape {
            what,
            shape: shape.into(),
            found: values.len(),
        });
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(ArrayError::NotFinite {
            what,
            image: at / size,
        }),
        None => Ok(()),
    }
}

impl TokenSource for TokenArrays<'_> {
    fn images(&self) -> usize {
        self.images
    }

    fn tokens_per_image(&self) -> usize {
        self.tokens_per_image
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn global_dim(&self) -> usize {
        self.global_dim
    }

    fn read_tokens(&self, row: usize, out: &mut [f32]) {
        let size = self.tokens_per_image * self.dim;
        let from = row * (self.before + size) + self.before;
        out.copy_from_slice(&self.tokens[from..from + size]);
    }

    fn read_global(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.global[row * self.global_dim..][..self.global_dim]);
    }
}

/// Some of the images of a source, in an order of one's own; an image may be there more than once.
pub struct TokenRows<'a> {
    source: &'a dyn TokenSource,
    rows: Vec<usize>,
}

impl<'a> TokenRows<'a> {
    /// These rows of a source.
    ///
    /// # Errors
    /// [`ArrayError::Row`] for one that is not there.
    pub fn new(source: &'a dyn TokenSource, rows: Vec<usize>) -> Result<Self, ArrayError> {
        let images = source.images();
        match rows.iter().find(|&&row| row >= images) {
            Some(&row) => Err(ArrayError::Row { row, images }),
            None => Ok(Self { source, rows }),
        }
    }
}

impl TokenSource for TokenRows<'_> {
    fn images(&self) -> usize {
        self.rows.len()
    }

    fn tokens_per_image(&self) -> usize {
        self.source.tokens_per_image()
    }

    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn global_dim(&self) -> usize {
        self.source.global_dim()
    }

    fn read_tokens(&self, row: usize, out: &mut [f32]) {
        self.source.read_tokens(self.rows[row], out);
    }

    fn read_global(&self, row: usize, out: &mut [f32]) {
        self.source.read_global(self.rows[row], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(result: Result<T, ArrayError>) -> String {
        result.err().expect("refused").to_string()
    }

    #[test]
    fn a_first_token_that_stands_for_the_image_is_no_token() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let images = TokenArrays::pooled(&values, [2, 3, 2], Pooling::First).unwrap();
        assert_eq!((images.tokens_per_image(), images.global_dim()), (2, 2));
        let (tokens, global) = images.read_rows(&[1, 0]);
        assert_eq!(tokens, [8.0, 9.0, 10.0, 11.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(global, [6.0, 7.0, 0.0, 1.0]);
        let alone = TokenArrays::pooled(&values, [6, 1, 2], Pooling::First);
        assert!(said(alone).contains("beside the first"));
    }

    #[test]
    fn rows_in_an_order_of_ones_own() {
        let values = [1.0, 2.0, 3.0];
        let images = TokenArrays::global(&values, [3, 1]).unwrap();
        let rows = TokenRows::new(&images, vec![2, 0, 2]).unwrap();
        assert_eq!(rows.images(), 3);
        assert_eq!(rows.read_rows(&[0, 1, 2]).0, [3.0, 1.0, 3.0]);
        let beyond = TokenRows::new(&images, vec![3]).map(|_| ());
        assert_eq!(said(beyond), "row 3 of 3 images");
    }

    #[test]
    fn unsound_arrays_are_named() {
        let values = [1.0, f32::NAN, 0.0, 0.0];
        let wrong = said(TokenArrays::global(&values, [2, 2]));
        assert_eq!(
            wrong,
            "global vectors: image 0 has a value that is not finite"
        );
        let wrong = said(TokenArrays::global(&values, [3, 2]));
        assert!(wrong.contains("4 values") && wrong.contains("6"), "{wrong}");
        assert!(said(TokenArrays::global(&[], [0, 2])).contains("at least one image"));
        assert!(said(TokenArrays::global(&[], [2, 0])).contains("value an image"));
        let two = TokenArrays::new(&values[2..], [2, 1, 1], &values[..1], 1);
        assert!(said(two).contains("global vectors: 1 values"));
    }
}
