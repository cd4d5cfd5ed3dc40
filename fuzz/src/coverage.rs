//! Which edges of the program an input has reached, and which numbers it was compared with. `fuzz/run` compiles all code, third-party
//! crates too, with LLVM's counters for edges and its calls before comparisons; these are what they call. In an ordinary build
//! nothing calls them, nothing is counted, and inputs are changed at random alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Where the counters lie: start and end of each range.
static COUNTERS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Pairs of numbers that were compared of late, the latest over the earliest.
const PAIRS: usize = 1 << 10;
static COMPARED: [[AtomicU64; 2]; PAIRS] = [const { [const { AtomicU64::new(0) }; 2] }; PAIRS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Called before `main` by every part of the program that has counters.
///
/// # Safety
/// The range holds counters that live as long as the program.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let range = (start as usize, end as usize);
    if let Ok(mut counters) = COUNTERS.lock()
        && !counters.contains(&range)
    {
        counters.push(range);
    }
}

// No comparison of its own may stand here: it would call this again.
fn compared(a: impl Into<u64>, b: impl Into<u64>) {
    // Two threads may take the same place: a pair is lost, and nobody waits for a bus.
    let next = NEXT.load(Relaxed);
    NEXT.store(next.wrapping_add(1), Relaxed);
    let pair = &COMPARED[next & (PAIRS - 1)];
    pair[0].store(a.into(), Relaxed);
    pair[1].store(b.into(), Relaxed);
}

macro_rules! comparisons {
    ($($name:ident $number:ty),*) => {
        $(
            /// Called before two numbers are compared.
            #[unsafe(no_mangle)]
            pub(crate) extern "C" fn $name(a: $number, b: $number) {
                compared(a, b);
            }
        )*
    };
}

comparisons!(
    __sanitizer_cov_trace_cmp2 u16, __sanitizer_cov_trace_cmp4 u32, __sanitizer_cov_trace_cmp8 u64,
    __sanitizer_cov_trace_const_cmp2 u16, __sanitizer_cov_trace_const_cmp4 u32, __sanitizer_cov_trace_const_cmp8 u64
);

// Bytes are guessed soon enough, and a switch has its edges.
/// Called before two bytes are compared.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __sanitizer_cov_trace_cmp1(_: u8, _: u8) {}
/// Called before a byte is compared with a constant.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __sanitizer_cov_trace_const_cmp1(_: u8, _: u8) {}
/// Called before a switch.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __sanitizer_cov_trace_switch(_: u64, _: *const u64) {}

/// A pair of numbers that were compared of late.
pub(crate) fn pair(which: u64) -> (u64, u64) {
    let pair = &COMPARED[which as usize & (PAIRS - 1)];
    (pair[0].load(Relaxed), pair[1].load(Relaxed))
}

/// The edges reached until now, each with how often in classes (1, 2, 3, 4-7, ...).
pub(crate) struct Reached {
    /// Eight counters in each, to be passed over at once where all are zero.
    words: Vec<&'static [AtomicU64]>,
    classes: Vec<[u8; 8]>,
    /// Edges reached at all.
    pub edges: usize,
}

impl Reached {
    pub(crate) fn new() -> Self {
        let counters = COUNTERS.lock().map(|all| all.clone()).unwrap_or_default();
        let mut words = Vec::new();
        for (start, end) in counters {
            // SAFETY: the compiler's counters, which live as long as the program and are bytes that anybody may write.
            let bytes =
                unsafe { std::slice::from_raw_parts(start as *const AtomicU8, end - start) };
            // A few at the ends that share no word with others are not looked at.
            // SAFETY: every pattern of bits is a number.
            let (_, middle, _) = unsafe { bytes.align_to::<AtomicU64>() };
            words.push(middle);
        }
        let count = words.iter().copied().map(<[AtomicU64]>::len).sum();
        Self {
            classes: vec![[0; 8]; count],
            words,
            edges: 0,
        }
    }

    /// Edges that the program has; 0 where it was built without counters.
    pub(crate) fn all(&self) -> usize {
        8 * self.classes.len()
    }

    /// Takes up what was counted since the last look; whether any of it is new.
    pub(crate) fn look(&mut self) -> bool {
        let mut new = false;
        let words = self.words.iter().copied().flatten();
        for (word, classes) in words.zip(&mut self.classes) {
            if word.load(Relaxed) == 0 {
                continue;
            }
            let counts = word.swap(0, Relaxed).to_ne_bytes();
            for (count, class) in counts.into_iter().zip(classes) {
                let bit = match count {
                    0 => continue,
                    1..=3 => 1 << (count - 1),
                    4..=7 => 8,
                    8..=15 => 16,
                    16..=31 => 32,
                    32..=127 => 64,
                    128.. => 128,
                };
                if *class & bit == 0 {
                    self.edges += usize::from(*class == 0);
                    *class |= bit;
                    new = true;
                }
            }
        }
        new
    }
}
