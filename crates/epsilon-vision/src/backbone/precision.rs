//! The precision of a network's large products, as users and files name it.

use epsilon_kernels::linear::Arithmetic;
use epsilon_kernels::{Bf16Instructions, Int8Instructions, cpu};
use serde::{Deserialize, Serialize};

use super::BackboneError;

/// What a network's large products are computed in. Sums, and everything between the products, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision, on every CPU.
    #[default]
    F32,
    /// bf16 values. It needs AVX-512 with bf16, or a GPU that computes in it.
    Bf16,
    /// Half precision, on a GPU that computes in it.
    F16,
    /// Linear maps in bytes: weights scaled by output, activations by token, after a transform that spreads large values; attention,
    /// and the first blocks of a transformer, in bf16, or in f32 where the CPU has no bf16. It needs AVX2, or Arm's dot product of
    /// bytes.
    Int8,
}

impl Precision {
    /// Whether this is [`Precision::F32`], which files that do not name their precision were made in.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// The arithmetic of this precision.
    ///
    /// # Errors
    /// [`BackboneError::Cpu`] when `EPSILON_CPU` is wrong, [`BackboneError::Precision`] when the CPU lacks the instructions.
    pub(super) fn arithmetic(self) -> Result<Arithmetic, BackboneError> {
        let level = cpu::level()?;
        let lacks = |needs| BackboneError::Precision {
            precision: self,
            needs,
            level,
        };
        match self {
            Self::F32 => Ok(Arithmetic::F32),
            Self::Bf16 => Bf16Instructions::find()
                .map(Arithmetic::Bf16)
                .ok_or_else(|| lacks("AVX-512 with bf16")),
            Self::F16 => Err(lacks("a GPU that has it, and --device")),
            Self::Int8 => Int8Instructions::find()
                .map(Arithmetic::Int8)
                .ok_or_else(|| lacks("AVX2, or Arm's dot product of bytes")),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}
