//! Products of short numbers in 32-bit words along the summed dimension: two bf16 values, four bytes, or two 16-bit whole numbers
//! where bytes have no instruction of their own. One loop over tiles, with a [`Dot`] for each set of instructions.
//!
//! Bytes without sign on the left and with sign on the right, exactly: `vpdpbusd` (VNNI) and `sdot` (Arm) add up fours of
//! products in 32 bits. AVX2's `vpmaddubsw` adds up pairs in 16 bits and saturates at products of 255 and 127; to keep it
//! exact takes a sign moved from one side to the other, and then a widening, four instructions for 32 products. `vpmaddwd`, on
//! numbers that are 16 bits wide already, needs as many and no care.

use std::ops::Range;

use pulp::Simd;
use pulp::bytemuck::cast_slice_mut;

use crate::cpu::{Bf16Instructions, Int8, Int8Instructions, vectorised};
use crate::finish::Writer;
use crate::panels::{PANEL, Panels, Step, parts};

/// The left side of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left<'a> {
    /// Row `r` begins at `words[r * stride]`.
    Rows {
        /// All rows.
        words: &'a [u32],
        /// Words from the start of a row to that of the next.
        stride: usize,
    },
    /// The columns of panels.
    Panels(&'a Panels<u32>),
}

/// Takes the sums of a product, a piece of a row at a time.
pub(crate) trait Output {
    /// `sums` holds the columns in order, and more lanes than columns at the last panel's end.
    fn write<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]);
}

impl Output for Writer<'_> {
    #[inline(always)]
    fn write<S: Simd>(&mut self, simd: S, row: usize, columns: Range<usize>, sums: &mut [S::f32s]) {
        Writer::write(self, simd, row, columns, sums);
    }
}

/// Gives the sums of `left . right`, pairs of bf16 values, `rows` rows of them, to `output`.
///
/// # Panics
/// When the left side has fewer words than the product reads.
pub(crate) fn multiply_bf16<O: Output>(
    cpu: Bf16Instructions,
    left: Left,
    rows: usize,
    right: &Panels<u32>,
    output: &mut O,
) {
    let product = Product {
        left,
        rows,
        right,
        starts: &[],
    };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `cpu` exists only where the instructions do.
    unsafe {
        x86::bf16(x86::Bf16(cpu.simd), product, output);
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (product, output);
        match cpu.never {}
    }
}

/// Bytes with sign, the right side of a product.
#[derive(Debug)]
pub(crate) struct ByteMatrix {
    cpu: Int8,
    panels: Panels<u32>,
    /// Where the sums of each column begin; empty for 0.
    starts: Vec<i32>,
}

impl ByteMatrix {
    /// A matrix `[depth, columns]`, where `byte(column, place)` is in -127..=127.
    pub(crate) fn new(
        cpu: Int8Instructions,
        depth: usize,
        columns: usize,
        byte: impl Fn(usize, usize) -> i8,
    ) -> Self {
        let (cpu, wide) = (cpu.0, cpu.0.values());
        let mut panels = Panels::default();
        panels.fill_columns(depth.div_ceil(wide), columns, |column, steps| {
            let byte = &byte;
            steps.map(move |step| {
                let values = wide * step..depth.min(wide * (step + 1));
                cpu.right_word(values.map(|place| byte(column, place)))
            })
        });
        // What `left_word` takes away from every byte of the left.
        let sum = |column| {
            (0..depth)
                .map(|place| i32::from(byte(column, place)))
                .sum::<i32>()
        };
        let starts = match cpu.takes_signs() {
            true => (0..columns).map(|column| 128 * sum(column)).collect(),
            false => Vec::new(),
        };
        Self {
            cpu,
            panels,
            starts,
        }
    }

    /// Gives the sums of `left . self` to `output`. `words` holds rows as [`encode_bytes`] makes them, `stride` words apart.
    ///
    /// # Panics
    /// When the left side has fewer words than the product reads.
    #[allow(
        unused_unsafe,
        reason = "an architecture may have no way but the portable one"
    )]
    pub(crate) fn multiply<O: Output>(
        &self,
        words: &[u32],
        stride: usize,
        rows: usize,
        output: &mut O,
    ) {
        let left = Left::Rows { words, stride };
        let product = Product {
            left,
            rows,
            right: &self.panels,
            starts: &self.starts,
        };
        // SAFETY: a variant of `Int8` exists only where its instructions do.
        unsafe {
            match self.cpu {
                Int8::Portable => product.run::<Portable, PANEL, 1, O>(Portable, output),
                #[cfg(target_arch = "x86_64")]
                Int8::Avx2(simd) => x86::pairs_256(x86::Pairs256(simd), product, output),
                #[cfg(target_arch = "x86_64")]
                Int8::AvxVnni(simd) => x86::fours_256(x86::Fours256(simd), product, output),
                #[cfg(target_arch = "x86_64")]
                Int8::Avx512(simd) => x86::pairs_512(x86::Pairs512(simd), product, output),
                #[cfg(target_arch = "x86_64")]
                Int8::Avx512Vnni(simd) => x86::fours_512(x86::Fours512(simd), product, output),
                #[cfg(target_arch = "aarch64")]
                Int8::Dotprod(simd) => arm::fours(arm::Fours(simd), product, output),
            }
        }
    }
}

impl Int8 {
    /// Values of a word.
    pub(crate) fn values(self) -> usize {
        match self {
            Self::Portable => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) | Self::Avx512(_) => 2,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) | Self::Avx512Vnni(_) => 4,
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod(_) => 4,
        }
    }

    /// Whether bytes of the left side have signs, too: they are less by 128 then, and the sums begin accordingly.
    fn takes_signs(self) -> bool {
        #[cfg(target_arch = "aarch64")]
        return matches!(self, Self::Dotprod(_));
        #[cfg(not(target_arch = "aarch64"))]
        false
    }

    fn right_word(self, values: impl Iterator<Item = i8>) -> u32 {
        let bits = 32 / self.values();
        let mask = u32::MAX >> (32 - bits);
        let parts = values
            .zip(0..)
            .map(|(value, place)| (i32::from(value) as u32 & mask) << (bits * place));
        parts.fold(0, |word, part| word | part)
    }
}

/// Writes `x` as words of bytes `q` with `x = low + step q` to the nearest, and gives `[step, low]`: the range from the
/// smallest to the largest value in 255 steps. The bytes are the same for all instructions, however they are laid out. What the
/// last word has to spare is left as it is, and counts for nothing. Values that are not finite make `low` not a number.
///
/// # Panics
/// When there are not as many words as `x` fills.
pub(crate) fn encode_bytes(cpu: Int8Instructions, x: &[f32], words: &mut [u32]) -> [f32; 2] {
    assert_eq!(words.len(), x.len().div_ceil(cpu.0.values()));
    let flip = if cpu.0.takes_signs() { 0x80 } else { 0 };
    match cpu.0.values() {
        2 => encode_pairs(x, cast_slice_mut(words)),
        _ => encode_fours(x, cast_slice_mut(words), flip),
    }
}

vectorised! {
    fn encode_pairs(x: &[f32], out: &mut [u16]) -> [f32; 2] {
        let scale = ByteScale::of(x);
        for (out, &x) in out.iter_mut().zip(x) {
            *out = u16::from(scale.byte(x));
        }
        [scale.step, scale.low]
    }
}

vectorised! {
    /// The bytes with some of their bits flipped.
    fn encode_fours(x: &[f32], out: &mut [u8], flip: u8) -> [f32; 2] {
        let scale = ByteScale::of(x);
        for (out, &x) in out.iter_mut().zip(x) {
            *out = scale.byte(x) ^ flip;
        }
        [scale.step, scale.low]
    }
}

/// How a row becomes bytes.
struct ByteScale {
    step: f32,
    low: f32,
    inverse: f32,
}

impl ByteScale {
    #[inline(always)]
    fn of(x: &[f32]) -> Self {
        let [low, high] = range(x);
        let width = high - low;
        // A row of equal values is its `low`; so is one that is not finite, and stays so.
        let (step, inverse) = match width >= f32::MIN_POSITIVE * 255.0 {
            true => (width / 255.0, 255.0 / width),
            false => (0.0, 0.0),
        };
        Self { step, low, inverse }
    }

    #[inline(always)]
    fn byte(&self, x: f32) -> u8 {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
        let shifted = (x - self.low) * self.inverse + ROUND;
        let whole = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        whole.clamp(0, 255) as u8
    }
}

/// Smallest and largest value; not a number when one is not finite.
#[inline(always)]
fn range(x: &[f32]) -> [f32; 2] {
    // Many of each, so that one need not wait for the one before it.
    const LANES: usize = 32;
    let (mut lows, mut highs) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut finite = [0.0f32; LANES];
    let mut take = |place: usize, x: f32| {
        lows[place] = lesser(lows[place], x);
        highs[place] = greater(highs[place], x);
        finite[place] += x * 0.0;
    };
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for (place, &x) in x.iter().enumerate() {
            take(place, x);
        }
    }
    for (place, &x) in rest.iter().enumerate() {
        take(place, x);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for place in 0..half {
            lows[place] = lesser(lows[place], lows[place + half]);
            highs[place] = greater(highs[place], highs[place + half]);
            finite[place] += finite[place + half];
        }
        half /= 2;
    }
    [lows[0] + finite[0], highs[0] + finite[0]]
}

/// One instruction, which `f32::min` is not, for what it does where a value is not a number.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Writes `x` as words of bf16 values, rounded to the nearest; an odd last value is paired with zero. Subnormal values
/// become zero, as the product takes them.
///
/// # Panics
/// When there are not as many words as pairs.
pub(crate) fn encode_bf16(cpu: Bf16Instructions, x: &[f32], words: &mut [u32]) {
    assert_eq!(words.len(), x.len().div_ceil(2));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `cpu` exists only where the instructions do.
    unsafe {
        let _ = cpu.simd;
        x86::encode_bf16(x, words);
    }
    #[cfg(not(target_arch = "x86_64"))]
    match cpu.never {}
}

/// How some instructions multiply words and add the products up, a register at a time. A value of it proves that the CPU has
/// them. All methods must be inlined into a function that has them, too.
trait Dot: Copy {
    /// What sums are written with.
    type Simd: Simd;
    /// As many words or sums as `Simd` has f32 values.
    type Register: Copy;
    fn simd(self) -> Self::Simd;
    /// The same word, or sum, everywhere.
    fn splat(self, word: u32) -> Self::Register;
    /// A register's words of a step.
    fn load(self, step: &Step<u32>, register: usize) -> Self::Register;
    /// `sum + left . right`, word by word.
    fn dot(
        self,
        sum: Self::Register,
        left: Self::Register,
        right: Self::Register,
    ) -> Self::Register;
    fn floats(self, sum: Self::Register) -> <Self::Simd as Simd>::f32s;
}

/// What is multiplied. The sums of column `c` begin at `starts[c]`, or at 0.
#[derive(Clone, Copy)]
struct Product<'a> {
    left: Left<'a>,
    rows: usize,
    right: &'a Panels<u32>,
    starts: &'a [i32],
}

impl Product<'_> {
    /// In tiles of up to `ROWS` rows and `VECTORS` registers of a panel's columns.
    #[inline(always)]
    fn run<D: Dot, const VECTORS: usize, const ROWS: usize, O: Output>(
        self,
        dot: D,
        output: &mut O,
    ) {
        let (steps, lanes) = (self.right.steps(), D::Simd::F32_LANES);
        for (columns, panel) in self.right.iter() {
            for (first, columns) in parts(columns, VECTORS * lanes) {
                let starts = std::array::from_fn(
                    #[inline(always)]
                    |v| self.start(dot, columns.start + v * lanes),
                );
                let mut row = 0;
                while row < self.rows {
                    // A left side in panels: no tile may cross them.
                    let (left, step, apart, most) = match self.left {
                        Left::Rows { words, stride } => (&words[row * stride..], 1, stride, ROWS),
                        Left::Panels(panels) => {
                            let place = row / PANEL * steps * PANEL + row % PANEL;
                            let words = &panels.words()[place..];
                            (words, PANEL, 1, ROWS.min(PANEL - row % PANEL))
                        }
                    };
                    let count = most.min(self.rows - row);
                    let tile = Tile {
                        panel,
                        first: first / lanes,
                        left,
                        step,
                        apart,
                    };
                    macro_rules! write {
                        ($($rows:literal)*) => {
                            match count {
                                $($rows if $rows <= ROWS => {
                                    let sums = tile.sums::<D, VECTORS, $rows>(dot, &starts);
                                    for (r, sums) in sums.into_iter().enumerate() {
                                        let mut floats = sums.map(#[inline(always)] |sum| dot.floats(sum));
                                        output.write(dot.simd(), row + r, columns.clone(), &mut floats);
                                    }
                                })*
                                _ => unreachable!("a tile has 1 to 12 rows"),
                            }
                        };
                    }
                    write!(1 2 3 4 5 6 7 8 9 10 11 12);
                    row += count;
                }
            }
        }
    }

    /// The sums of a register's columns, from one on, before anything is added.
    #[inline(always)]
    fn start<D: Dot>(&self, dot: D, column: usize) -> D::Register {
        match self.starts.get(column..) {
            None | Some([]) => dot.splat(0),
            Some(starts) => {
                let mut step = Step([0; PANEL]);
                for (to, start) in step.0.iter_mut().zip(starts) {
                    *to = *start as u32;
                }
                dot.load(&step, 0)
            }
        }
    }
}

/// Registers of a panel of the right side from `first` on, and rows of the left: word `s` of row `r` is
/// `left[r * apart + s * step]`.
struct Tile<'a> {
    panel: &'a [Step<u32>],
    first: usize,
    left: &'a [u32],
    step: usize,
    apart: usize,
}

impl Tile<'_> {
    #[inline(always)]
    fn sums<D: Dot, const VECTORS: usize, const ROWS: usize>(
        &self,
        dot: D,
        starts: &[D::Register; VECTORS],
    ) -> [[D::Register; VECTORS]; ROWS] {
        let (step, apart) = (self.step, self.apart);
        if let Some(last) = self.panel.len().checked_sub(1) {
            let last = last.checked_mul(step);
            let place = (ROWS - 1).checked_mul(apart).zip(last);
            let place = place.and_then(|(row, word)| row.checked_add(word));
            assert!(place.is_some_and(|place| place < self.left.len()));
        }
        let mut sums = [*starts; ROWS];
        for (s, words) in self.panel.iter().enumerate() {
            let mut right = *starts;
            for (v, right) in right.iter_mut().enumerate() {
                *right = dot.load(words, self.first + v);
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the largest of these places was asserted to lie inside `left`.
                let left = unsafe { *self.left.get_unchecked(r * apart + s * step) };
                let left = dot.splat(left);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = dot.dot(*sum, left, right);
                }
            }
        }
        sums
    }
}

/// Pairs of 16-bit numbers in plain code.
#[derive(Clone, Copy)]
struct Portable;

impl Dot for Portable {
    type Simd = pulp::Scalar;
    type Register = i32;

    #[inline(always)]
    fn simd(self) -> pulp::Scalar {
        pulp::Scalar
    }

    #[inline(always)]
    fn splat(self, word: u32) -> i32 {
        word as i32
    }

    #[inline(always)]
    fn load(self, step: &Step<u32>, register: usize) -> i32 {
        step.0[register] as i32
    }

    #[inline(always)]
    fn dot(self, sum: i32, left: i32, right: i32) -> i32 {
        let low = i32::from(left as i16) * i32::from(right as i16);
        sum + low + (left >> 16) * (right >> 16)
    }

    #[inline(always)]
    fn floats(self, sum: i32) -> f32 {
        sum as f32
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use pulp::x86::{V3, V4};
    use pulp::{f32x8, f32x16};

    use super::{Dot, Output, Product};
    use crate::panels::Step;

    /// `Dot` for a register of 256 or 512 bits, and the function that it runs in.
    macro_rules! dot {
        ($function:ident: $name:ident($simd:ident), $features:literal, $register:ident, $floats:ident, $lanes:literal,
            $vectors:literal x $rows:literal, $splat:ident, |$sum:ident, $left:ident, $right:ident| $dot:expr, |$whole:ident| $cast:expr) => {
            #[derive(Clone, Copy)]
            pub(super) struct $name(pub(super) $simd);

            impl Dot for $name {
                type Simd = $simd;
                type Register = $register;

                #[inline(always)]
                fn simd(self) -> $simd {
                    self.0
                }

                #[inline(always)]
                fn splat(self, word: u32) -> $register {
                    // SAFETY: a value of this type exists only where the instructions do.
                    unsafe { $splat(word as i32) }
                }

                #[inline(always)]
                fn load(self, step: &Step<u32>, register: usize) -> $register {
                    let (registers, _) = step.0.as_chunks::<$lanes>();
                    // SAFETY: any bits are words.
                    unsafe { transmute(registers[register]) }
                }

                #[inline(always)]
                fn dot(self, $sum: $register, $left: $register, $right: $register) -> $register {
                    // SAFETY: as above.
                    unsafe { $dot }
                }

                #[inline(always)]
                fn floats(self, $whole: $register) -> $floats {
                    // SAFETY: as above, and both have as many bits, any of which are f32 values.
                    unsafe { transmute($cast) }
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn $function<O: Output>(dot: $name, product: Product, output: &mut O) {
                product.run::<$name, $vectors, $rows, O>(dot, output);
            }
        };
    }

    // Registers of columns times rows: the sums fill the registers, 16 of AVX2 and 32 of AVX-512, but for a step's words and a
    // product.
    dot!(pairs_256: Pairs256(V3), "avx2,fma", __m256i, f32x8, 8, 2 x 6, _mm256_set1_epi32,
        |sum, left, right| _mm256_add_epi32(sum, _mm256_madd_epi16(left, right)), |sum| _mm256_cvtepi32_ps(sum));
    dot!(fours_256: Fours256(V3), "avx2,fma,avxvnni", __m256i, f32x8, 8, 2 x 6, _mm256_set1_epi32,
        |sum, left, right| _mm256_dpbusd_avx_epi32(sum, left, right), |sum| _mm256_cvtepi32_ps(sum));
    dot!(pairs_512: Pairs512(V4), "avx512f,avx512bw,avx512dq,avx512vl", __m512i, f32x16, 16, 2 x 12, _mm512_set1_epi32,
        |sum, left, right| _mm512_add_epi32(sum, _mm512_madd_epi16(left, right)), |sum| _mm512_cvtepi32_ps(sum));
    dot!(fours_512: Fours512(V4), "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", __m512i, f32x16, 16, 2 x 12, _mm512_set1_epi32,
        |sum, left, right| _mm512_dpbusd_epi32(sum, left, right), |sum| _mm512_cvtepi32_ps(sum));
    dot!(bf16: Bf16(V4), "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", __m512i, f32x16, 16, 2 x 12, _mm512_set1_epi32,
        |sum, left, right| {
            // Any bits are bf16 values.
            let [left, right]: [__m512bh; 2] = transmute([left, right]);
            _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sum), left, right))
        }, |sum| sum);

    /// The mask of the first `count` lanes of 16.
    fn lanes(count: usize) -> u16 {
        ((1u32 << count.min(16)) - 1) as u16
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn encode_bf16(x: &[f32], words: &mut [u32]) {
        for (x, words) in x.chunks(32).zip(words.chunks_mut(16)) {
            let (low, high) = (x.as_ptr(), x.as_ptr().wrapping_add(16));
            // SAFETY: the masks let only values of `x` be read and only `words` be written; any bits are words.
            unsafe {
                let low = _mm512_maskz_loadu_ps(lanes(x.len()), low);
                let high = _mm512_maskz_loadu_ps(lanes(x.len().saturating_sub(16)), high);
                let pairs: __m512i = transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), lanes(words.len()), pairs);
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;
    use std::arch::asm;
    use std::mem::transmute;

    use pulp::aarch64::Neon;
    use pulp::f32x4;

    use super::{Dot, Output, Product};
    use crate::panels::Step;

    /// Fours of bytes with sign.
    #[derive(Clone, Copy)]
    pub(super) struct Fours(pub(super) Neon);

    impl Dot for Fours {
        type Simd = Neon;
        type Register = int32x4_t;

        #[inline(always)]
        fn simd(self) -> Neon {
            self.0
        }

        #[inline(always)]
        fn splat(self, word: u32) -> int32x4_t {
            // SAFETY: every aarch64 has NEON.
            unsafe { vdupq_n_s32(word as i32) }
        }

        #[inline(always)]
        fn load(self, step: &Step<u32>, register: usize) -> int32x4_t {
            let (registers, _) = step.0.as_chunks::<4>();
            // SAFETY: any bits are words.
            unsafe { transmute(registers[register]) }
        }

        #[inline(always)]
        fn dot(self, mut sum: int32x4_t, left: int32x4_t, right: int32x4_t) -> int32x4_t {
            // SAFETY: a value of this type exists only where the instruction does, which changes nothing but `sum`. Its name in
            // `std::arch`, `vdotq_s32`, is not stable.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {left:v}.16b, {right:v}.16b",
                    sum = inlateout(vreg) sum,
                    left = in(vreg) left,
                    right = in(vreg) right,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            sum
        }

        #[inline(always)]
        fn floats(self, sum: int32x4_t) -> f32x4 {
            // SAFETY: as in `splat`; both are four values of f32.
            unsafe { transmute(vcvtq_f32_s32(sum)) }
        }
    }

    #[target_feature(enable = "neon,dotprod")]
    pub(super) fn fours<O: Output>(dot: Fours, product: Product, output: &mut O) {
        product.run::<Fours, 4, 6, O>(dot, output);
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::cap::at_every_level;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Keeps the sums as `[rows, columns]`.
    struct Keep {
        columns: usize,
        sums: Vec<f32>,
    }

    impl Output for Keep {
        fn write<S: Simd>(
            &mut self,
            simd: S,
            row: usize,
            columns: Range<usize>,
            sums: &mut [S::f32s],
        ) {
            let out = &mut self.sums[row * self.columns..][columns];
            for (sum, out) in sums.iter().zip(out.chunks_mut(S::F32_LANES)) {
                simd.partial_store_f32s(out, *sum);
            }
        }
    }

    /// Whole numbers that are the same as bytes.
    fn bytes_as_floats(bytes: &[u8]) -> Vec<f32> {
        bytes.iter().map(|&byte| f32::from(byte)).collect()
    }

    /// The sums of `left [m, depth] . right [n, depth]'` at the current level. Every row of `left` has a 0 and a 255.
    fn product_of_bytes(left: &[u8], right: &[i8], [m, depth, n]: [usize; 3]) -> Vec<f32> {
        let cpu = Int8Instructions(Int8::current());
        let words = depth.div_ceil(cpu.0.values());
        let mut encoded = vec![u32::MAX; m * (words + 1)];
        for (row, out) in left.chunks(depth).zip(encoded.chunks_mut(words + 1)) {
            let scale = encode_bytes(cpu, &bytes_as_floats(row), &mut out[..words]);
            assert_eq!(scale, [1.0, 0.0]);
        }
        let matrix = ByteMatrix::new(cpu, depth, n, |column, place| right[column * depth + place]);
        let mut keep = Keep {
            columns: n,
            sums: vec![f32::NAN; m * n],
        };
        matrix.multiply(&encoded, words + 1, m, &mut keep);
        keep.sums
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn products_of_bytes_of_any_size(m in 1usize..40, depth in 2usize..90, n in 1usize..80, seed: u32) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state ^ (state >> 13)) >> 8
            };
            let mut left: Vec<u8> = (0..m * depth).map(|_| next() as u8).collect();
            for row in left.chunks_mut(depth) {
                row[..2].copy_from_slice(&[255, 0]);
            }
            let right: Vec<i8> = (0..n * depth).map(|_| (next() as i8).max(-127)).collect();
            let expected: Vec<f32> = (0..m * n).map(|at| {
                let (left, right) = (&left[at / n * depth..], &right[at % n * depth..]);
                let products = left.iter().zip(right).take(depth);
                products.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>() as f32
            }).collect();
            for (level, sums) in at_every_level(|| product_of_bytes(&left, &right, [m, depth, n])) {
                prop_assert_eq!(&sums, &expected, "{}", level);
            }
        }

        #[test]
        fn bytes_are_the_nearest_steps(count in 1usize..100, scale in 1e-3f32..1e3, shift in -5f32..5.0) {
            let x: Vec<f32> = wave(count, 0.7).iter().map(|x| x * scale + shift).collect();
            let found = at_every_level(|| {
                let cpu = Int8Instructions(Int8::current());
                let (wide, flip) = (cpu.0.values(), if cpu.0.takes_signs() { 128 } else { 0 });
                let mut words = vec![u32::MAX; count.div_ceil(wide)];
                let scale = encode_bytes(cpu, &x, &mut words);
                let bytes: Vec<u8> = words.iter()
                    .flat_map(|word| word.to_le_bytes().into_iter().step_by(4 / wide))
                    .map(|byte| byte ^ flip)
                    .collect();
                (scale, bytes[..count].to_vec())
            });
            let ([step, low], bytes) = &found[0].1;
            for (x, q) in x.iter().zip(bytes) {
                let back = low + step * f32::from(*q);
                prop_assert!((back - x).abs() <= 0.501 * step + 1e-5 * x.abs(), "{back} for {x}, step {step}");
            }
            for (level, other) in &found[1..] {
                prop_assert_eq!(other, &found[0].1, "{}", level);
            }
        }

        #[test]
        fn pairs_round_to_the_nearest(count in 0usize..100) {
            let Some(cpu) = Bf16Instructions::find() else { return Ok(()); };
            let x = wave(count, 0.7);
            let mut words = vec![u32::MAX; count.div_ceil(2)];
            encode_bf16(cpu, &x, &mut words);
            for (pair, word) in x.chunks(2).zip(&words) {
                let [a, b] = [pair[0], *pair.get(1).unwrap_or(&0.0)].map(|x| u32::from(bf16::from_f32(x).to_bits()));
                prop_assert_eq!(*word, a | (b << 16));
            }
        }
    }

    /// The largest products, two and four of which overflow 16 bits and would saturate in `vpmaddubsw`.
    #[test]
    fn the_largest_products_are_exact() {
        let mut left = [255; 300];
        left[7] = 0;
        for byte in [127i8, -127] {
            let right = [byte; 300];
            for (level, sums) in at_every_level(|| product_of_bytes(&left, &right, [1, 300, 1])) {
                assert_eq!(sums, [f32::from(byte) * 255.0 * 299.0], "{level}");
            }
        }
    }

    #[test]
    fn equal_and_infinite_values_as_bytes() {
        at_every_level(|| {
            let cpu = Int8Instructions(Int8::current());
            let mut words = vec![0; 5usize.div_ceil(cpu.0.values())];
            assert_eq!(encode_bytes(cpu, &[-3.0; 5], &mut words), [0.0, -3.0]);
            if !cpu.0.takes_signs() {
                assert!(words.iter().all(|word| *word == 0));
            }
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for place in 0..5 {
                    let mut x = [1.0; 5];
                    x[place] = bad;
                    assert!(encode_bytes(cpu, &x, &mut words)[1].is_nan());
                }
            }
        });
    }
}
