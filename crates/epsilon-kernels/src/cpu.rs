//! The one place that asks the CPU which instruction sets it has. Everything else in this crate runs on what [`arch`] and
//! [`Instructions::find`] return; both answers are cached.

use pulp::Arch;

/// The widest instruction set of this CPU: AVX-512, AVX2 with FMA or the portable baseline on x86-64, NEON on aarch64.
#[inline]
pub(crate) fn arch() -> Arch {
    let arch = Arch::new();
    #[cfg(test)]
    let arch = cap::lower(arch);
    arch
}

/// Proof that this CPU multiplies short numbers: AVX-512 with bf16 and VNNI, as Intel's from Sapphire Rapids and AMD's
/// from Zen 4 on.
#[derive(Clone, Copy, Debug)]
pub struct Instructions {
    #[cfg(target_arch = "x86_64")]
    pub(crate) simd: pulp::x86::V4,
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) never: std::convert::Infallible,
}

impl Instructions {
    /// `None` where they are missing.
    pub fn find() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let Arch::V4(simd) = arch() else { return None };
            (has!("avx512bf16") && has!("avx512vnni")).then_some(Self { simd })
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// Defines a function over slices that the compiler vectorises, in one clone per instruction set. The body reads the
/// constant `FMA`: whether fused multiply-add is one instruction.
macro_rules! vectorised {
    ($(#[$meta:meta])* $visible:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "slices and their strides")]
        $visible fn $name($($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, dead_code, reason = "not every body reads FMA")]
            fn body<const FMA: bool>($($arg: $type),*) $body
            match $crate::cpu::arch() {
                #[cfg(target_arch = "x86_64")]
                pulp::Arch::V4(simd) => simd.vectorize(#[inline(always)] || body::<true>($($arg),*)),
                #[cfg(target_arch = "x86_64")]
                pulp::Arch::V3(simd) => simd.vectorize(#[inline(always)] || body::<true>($($arg),*)),
                _ => body::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    };
}
pub(crate) use vectorised;

/// For tests: the same kernels with fewer instructions.
#[cfg(test)]
pub(crate) mod cap {
    use std::cell::Cell;

    use pulp::Arch;

    /// Instruction sets, each with those before it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) enum Level {
        Portable,
        Avx2,
        Best,
    }

    thread_local! {
        static LEVEL: Cell<Level> = const { Cell::new(Level::Best) };
    }

    pub(super) fn lower(arch: Arch) -> Arch {
        match (LEVEL.get(), arch) {
            (Level::Best, arch) => arch,
            #[cfg(target_arch = "x86_64")]
            (Level::Portable, _) => Arch::Scalar,
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, Arch::V4(simd)) => Arch::V3(*simd),
            (_, arch) => arch,
        }
    }

    /// The result of `work` on this thread with each level, the portable one first.
    pub(crate) fn at_every_level<T>(work: impl Fn() -> T) -> Vec<(Level, T)> {
        let at = |level| {
            LEVEL.set(level);
            let result = work();
            LEVEL.set(Level::Best);
            (level, result)
        };
        [Level::Portable, Level::Avx2, Level::Best].map(at).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_cap_takes_instructions_away() {
        let levels = cap::at_every_level(|| (arch(), Instructions::find().is_some()));
        assert!(matches!(levels[0].1, (Arch::Scalar, false)));
        assert!(!matches!(levels[1].1.0, Arch::V4(_)) && !levels[1].1.1);
        assert_eq!(levels[2].1.1, Instructions::find().is_some());
    }
}
