//! The one place that chooses instructions. [`Level`] is what the CPU has and the environment variable `EPSILON_CPU` lets
//! through; everything else in this crate runs on what follows from it: `arch`, [`Bf16Instructions`], [`Int8Instructions`].

use std::str::FromStr;
use std::sync::OnceLock;

use pulp::Arch;

/// The environment variable that caps the instructions.
pub const VARIABLE: &str = "EPSILON_CPU";

/// A set of instructions that kernels are written for. Those of one architecture hold all of those before them that have
/// kernels of their own, except `avx2-vnni`, whose instructions the later ones replace by wider ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// What every CPU of the architecture has; SSE2 on x86-64. There is none on aarch64, which begins at `neon`.
    Baseline,
    /// AVX2 with FMA: Intel from Haswell, AMD from Zen on.
    Avx2,
    /// AVX2 and AVX-VNNI, which multiplies bytes: Intel from Alder Lake, AMD from Zen 5 on.
    Avx2Vnni,
    /// AVX-512 F, BW, CD, DQ and VL: Intel's Skylake-X.
    Avx512,
    /// AVX-512 with VNNI, which multiplies bytes: Intel's Cascade Lake and Ice Lake.
    Avx512Vnni,
    /// AVX-512 with VNNI and bf16: Intel's Sapphire Rapids, AMD from Zen 4 on.
    Avx512Bf16,
    /// NEON, on every aarch64.
    Neon,
    /// NEON with the dot product of bytes: Apple's, Arm's from Cortex-A76 and Neoverse N1 on.
    NeonDotprod,
}

/// `EPSILON_CPU` asks for what cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// No level has this name.
    #[error("{VARIABLE}={value:?} is no instruction set: this CPU has {}", names())]
    Unknown {
        /// What the variable holds.
        value: String,
    },
    /// The CPU, or the architecture that the program was built for, lacks the level.
    #[error(
        "{VARIABLE}={level}: this CPU lacks these instructions; it has {}",
        names()
    )]
    Missing {
        /// The level asked for.
        level: Level,
    },
}

/// The names of the levels of this CPU, for errors.
fn names() -> String {
    let names: Vec<&str> = Level::available().map(Level::name).collect();
    names.join(", ")
}

impl Level {
    /// All levels, those of each architecture in rising order.
    pub const ALL: [Self; 8] = [
        Self::Baseline,
        Self::Avx2,
        Self::Avx2Vnni,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Avx512Bf16,
        Self::Neon,
        Self::NeonDotprod,
    ];

    /// Its name in `EPSILON_CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx2Vnni => "avx2-vnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
        }
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let (v3, v4) = (pulp::x86::V3::try_new(), pulp::x86::V4::try_new());
            match self {
                Self::Baseline => true,
                Self::Avx2 => v3.is_some(),
                Self::Avx2Vnni => v3.is_some() && has!("avxvnni"),
                Self::Avx512 => v4.is_some(),
                Self::Avx512Vnni => v4.is_some() && has!("avx512vnni"),
                Self::Avx512Bf16 => v4.is_some() && has!("avx512vnni") && has!("avx512bf16"),
                Self::Neon | Self::NeonDotprod => false,
            }
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Self::Neon => true,
            Self::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            _ => false,
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Self::Baseline
        }
    }

    /// The levels of this CPU, in rising order.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|level| level.is_available())
    }

    /// The highest level of this CPU.
    pub fn detected() -> Self {
        Self::available().next_back().unwrap_or(Self::Baseline)
    }

    /// The level that the kernels use: that of `EPSILON_CPU`, or else the highest one. Where `EPSILON_CPU` is wrong, the kernels
    /// use the highest one; a program asks [`level`] first and ends there.
    ///
    /// ```
    /// use epsilon_kernels::cpu::Level;
    ///
    /// assert!(Level::current().is_available());
    /// println!("{}", Level::current());
    /// ```
    pub fn current() -> Self {
        #[cfg(test)]
        if let Some(level) = cap::LEVEL.get() {
            return level;
        }
        chosen().level
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = CpuError;

    /// The level of a name that this CPU has.
    fn from_str(name: &str) -> Result<Self, CpuError> {
        let level = Self::ALL.into_iter().find(|level| level.name() == name);
        let level = level.ok_or_else(|| CpuError::Unknown { value: name.into() })?;
        match level.is_available() {
            true => Ok(level),
            false => Err(CpuError::Missing { level }),
        }
    }
}

/// The level that the kernels use, for a program to ask at its start. `EPSILON_CPU` is read once; empty is as good as not set.
///
/// # Errors
/// [`CpuError`] when `EPSILON_CPU` names no level or one that this CPU lacks.
pub fn level() -> Result<Level, CpuError> {
    match &chosen().error {
        None => Ok(Level::current()),
        Some(error) => Err(error.clone()),
    }
}

/// What a process has chosen, once.
struct Chosen {
    level: Level,
    arch: Arch,
    error: Option<CpuError>,
}

fn chosen() -> &'static Chosen {
    static CHOSEN: OnceLock<Chosen> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let asked = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let asked = asked.map(|value| value.to_string_lossy().parse());
        let (level, error) = match asked {
            None => (Level::detected(), None),
            Some(Ok(level)) => (level, None),
            Some(Err(error)) => (Level::detected(), Some(error)),
        };
        Chosen {
            level,
            arch: arch_of(level),
            error,
        }
    })
}

/// The instructions for f32 that the level has.
#[inline]
pub(crate) fn arch() -> Arch {
    #[cfg(test)]
    if let Some(level) = cap::LEVEL.get() {
        return arch_of(level);
    }
    chosen().arch
}

fn arch_of(level: Level) -> Arch {
    #[cfg(target_arch = "x86_64")]
    return match (level, Arch::new()) {
        (Level::Baseline, _) => Arch::Scalar,
        (Level::Avx2 | Level::Avx2Vnni, Arch::V4(simd)) => Arch::V3(*simd),
        (_, arch) => arch,
    };
    #[cfg(not(target_arch = "x86_64"))]
    Arch::new()
}

/// Proof that the CPU multiplies bf16 values, and that the level lets it: `avx512-bf16`.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Instructions {
    #[cfg(target_arch = "x86_64")]
    pub(crate) simd: pulp::x86::V4,
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) never: std::convert::Infallible,
}

impl Bf16Instructions {
    /// `None` where they are missing.
    pub fn find() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return match (Level::current(), arch()) {
            (Level::Avx512Bf16, Arch::V4(simd)) => Some(Self { simd }),
            _ => None,
        };
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// Proof that the CPU multiplies short whole numbers faster than f32, and how the level lets it.
#[derive(Clone, Copy, Debug)]
pub struct Int8Instructions(pub(crate) Int8);

/// The ways to multiply bytes without sign by such with sign. All of them give the same sums.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Int8 {
    /// Plain code, from pairs of 16-bit numbers.
    Portable,
    /// `vpmaddwd`: pairs of 16-bit numbers.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// `vpdpbusd` in 256 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(pulp::x86::V3),
    /// `vpmaddwd` in 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// `vpdpbusd` in 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(pulp::x86::V4),
    /// `sdot`, which takes signs on both sides.
    #[cfg(target_arch = "aarch64")]
    Dotprod(pulp::aarch64::Neon),
}

impl Int8Instructions {
    /// `None` where no way to multiply bytes is faster than f32.
    pub fn find() -> Option<Self> {
        match Int8::current() {
            Int8::Portable => None,
            faster => Some(Self(faster)),
        }
    }
}

impl Int8 {
    /// That of the level.
    pub(crate) fn current() -> Self {
        match (Level::current(), arch()) {
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, Arch::V3(simd)) => Self::Avx2(simd),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2Vnni, Arch::V3(simd)) => Self::AvxVnni(simd),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Arch::V4(simd)) => Self::Avx512(simd),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512Vnni | Level::Avx512Bf16, Arch::V4(simd)) => Self::Avx512Vnni(simd),
            #[cfg(target_arch = "aarch64")]
            (Level::NeonDotprod, Arch::Neon(simd)) => Self::Dotprod(simd),
            _ => Self::Portable,
        }
    }
}

/// Defines a function over slices that the compiler vectorises, in one clone per instruction set. The body reads the
/// constant `FMA`: whether fused multiply-add is one instruction.
macro_rules! vectorised {
    ($(#[$meta:meta])* $visible:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "slices and their strides")]
        $visible fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, dead_code, reason = "not every body reads FMA")]
            fn body<const FMA: bool>($($arg: $type),*) $(-> $result)? $body
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

    use super::{Level, chosen};

    thread_local! {
        pub(super) static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
    }

    /// The result of `work` on this thread at each level that this CPU has and `EPSILON_CPU` lets through, the lowest first.
    pub(crate) fn at_every_level<T>(work: impl Fn() -> T) -> Vec<(Level, T)> {
        let highest = chosen().level;
        let beyond = Level::available()
            .position(|level| level == highest)
            .map_or(0, |at| at + 1);
        let at = |level| {
            LEVEL.set(Some(level));
            let result = work();
            LEVEL.set(None);
            (level, result)
        };
        Level::available().take(beyond).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_takes_instructions_away() {
        let found =
            cap::at_every_level(|| (Level::current(), arch(), Bf16Instructions::find().is_some()));
        assert_eq!(found.last().unwrap().0, chosen().level);
        for (level, (current, arch, bf16)) in found {
            assert_eq!(current, level);
            assert_eq!(bf16, level == Level::Avx512Bf16);
            #[cfg(target_arch = "x86_64")]
            match level {
                Level::Baseline => assert!(matches!(arch, Arch::Scalar)),
                Level::Avx2 | Level::Avx2Vnni => assert!(matches!(arch, Arch::V3(_))),
                _ => assert!(matches!(arch, Arch::V4(_))),
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = arch;
        }
    }

    #[test]
    fn names_are_read_back_and_others_refused() {
        for level in Level::ALL {
            let read = level.name().parse::<Level>();
            match level.is_available() {
                true => assert_eq!(read, Ok(level)),
                false => assert_eq!(read, Err(CpuError::Missing { level })),
            }
        }
        let wrong = "AVX9".parse::<Level>().unwrap_err();
        let lowest = Level::available().next().unwrap();
        assert!(
            wrong
                .to_string()
                .starts_with("EPSILON_CPU=\"AVX9\" is no instruction set"),
            "{wrong}"
        );
        assert!(wrong.to_string().contains(lowest.name()), "{wrong}");
    }

    /// What the process was started with, as `.ci/cpus` starts it.
    #[test]
    fn the_environment_is_heeded() {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => assert_eq!(Level::current().name(), name),
            _ => assert_eq!(Level::current(), Level::detected()),
        }
        assert_eq!(level(), Ok(Level::current()));
    }
}
