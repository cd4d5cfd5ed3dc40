//! What a picture may cost: its size and its file's, and the memory that all decoders share.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::ImageError;

/// Memory that any picture may need, however small its file.
const ALWAYS: u64 = 192 << 20;
/// Bytes of memory that each byte of a file may ask for beyond [`ALWAYS`]. Photographs need a few hundred at most; what asks for
/// more was made to.
const EACH: u64 = 1_000;

/// What a file may ask for before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest width times height; checked from the header, before any pixel is decoded.
    pub max_pixels: u64,
    /// Longest side, in pixels; checked from the header as well. The memory and the work of resizing grow with each side by
    /// itself, so a bound on their product alone bounds neither.
    pub max_side: u32,
    /// Largest file, in bytes.
    pub max_file_bytes: u64,
}

impl Default for Limits {
    /// 100 million pixels, 65,535 pixels a side (the longest that a JPEG can have), 256 MiB.
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_side: 65_535,
            max_file_bytes: 256 << 20,
        }
    }
}

impl Limits {
    /// The usual limits but for pictures of up to so many million pixels, whose files may have three bytes a pixel where that is
    /// more than usual.
    ///
    /// ```
    /// let limits = epsilon_vision::image::Limits::megapixels(200);
    /// assert_eq!((limits.max_pixels, limits.max_file_bytes), (200_000_000, 600_000_000));
    /// ```
    pub fn megapixels(count: u32) -> Self {
        let usual = Self::default();
        let max_pixels = u64::from(count) * 1_000_000;
        Self {
            max_pixels,
            max_file_bytes: usual.max_file_bytes.max(3 * max_pixels),
            ..usual
        }
    }

    /// Whether a picture of this width and height may be decoded, or held.
    ///
    /// # Errors
    /// [`ImageError::TooManyPixels`] and [`ImageError::TooLong`].
    pub fn check_size(&self, path: &Path, (width, height): (u32, u32)) -> Result<(), ImageError> {
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(ImageError::TooManyPixels {
                path: path.into(),
                width,
                height,
                limit: self.max_pixels,
            });
        }
        if width.max(height) > self.max_side {
            return Err(ImageError::TooLong {
                path: path.into(),
                width,
                height,
                limit: self.max_side,
            });
        }
        Ok(())
    }

    /// Whether one may be decoded in `need` bytes of memory from a file of `file` bytes.
    pub(super) fn check(
        &self,
        path: &Path,
        (width, height): (u32, u32),
        need: u64,
        file: usize,
    ) -> Result<(), ImageError> {
        self.check_size(path, (width, height))?;
        if need > ALWAYS.max(EACH.saturating_mul(file as u64)) {
            return Err(ImageError::Disproportionate {
                path: path.into(),
                width,
                height,
                file: file as u64,
                need,
            });
        }
        Ok(())
    }
}

/// Memory that the decoders of a process use together unless told otherwise: 1 GiB.
const TOGETHER: u64 = 1 << 30;

/// The memory that the decoders of this process use.
static DECODING: Budget = Budget::of(TOGETHER);

/// Sets how much memory the decoders of this process may use together, in bytes; 1 GiB unless it is called. A picture waits
/// until what it needs, estimated from its header, is free; one that needs more than all of it is decoded alone.
pub fn set_decode_memory(bytes: u64) {
    let mut state = DECODING.lock();
    state.all = bytes;
    DECODING.changed.notify_all();
}

/// Waits until a decoder may use `need` bytes beside the others; they are free again when what is returned is dropped. Whoever
/// came first goes first, so that a large picture is not overtaken for ever.
pub(super) fn wait_for_memory(need: u64) -> Permit<'static> {
    DECODING.wait(need)
}

/// Memory in use, and who waits for more.
struct Budget {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    all: u64,
    used: u64,
    /// Who has asked so far, and who of them is next.
    asked: u64,
    next: u64,
}

/// The right to use memory, until it is dropped.
pub(super) struct Permit<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    const fn of(all: u64) -> Self {
        Self {
            state: Mutex::new(State {
                all,
                used: 0,
                asked: 0,
                next: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// The numbers are right even if a thread panicked while it held them.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, need: u64) -> Permit<'_> {
        let mut state = self.lock();
        let place = state.asked;
        state.asked += 1;
        let fits = |state: &State| state.used == 0 || state.used.saturating_add(need) <= state.all;
        while state.next != place || !fits(&state) {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.next += 1;
        state.used = state.used.saturating_add(need);
        self.changed.notify_all();
        Permit {
            budget: self,
            bytes: need,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.used = state.used.saturating_sub(self.bytes);
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a12_decoders_share_their_memory() {
        let (budget, used, most) = (Budget::of(100), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, used, most) = (&budget, &used, &most);
                scope.spawn(move || {
                    for turn in 0..100 {
                        // One in some is larger than all there is: it goes alone.
                        let need = match (thread + turn) % 13 {
                            0 => 150,
                            share => 10 * share,
                        };
                        let permit = budget.wait(need);
                        let now = used.fetch_add(need, Ordering::SeqCst) + need;
                        assert!(now <= 100 || now == need, "{now} of 100 in use");
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        used.fetch_sub(need, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 150);
        assert_eq!(budget.lock().used, 0);
    }
}
