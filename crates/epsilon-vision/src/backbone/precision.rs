//! The precision of a network's large products, as users and files name it.

use epsilon_kernels::Instructions;
use epsilon_kernels::linear::Arithmetic;
use serde::{Deserialize, Serialize};

use super::BackboneError;

/// What a network's large products are computed in. Sums, and everything between the products, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision, on every CPU.
    #[default]
    F32,
    /// bf16 values. It needs AVX-512 with bf16.
    Bf16,
    /// Linear maps in bytes: weights scaled by output, activations by token; attention, and the first blocks of a
    /// transformer, in bf16. It needs AVX-512 with VNNI and bf16.
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
    /// [`BackboneError::Precision`] when the CPU lacks the instructions.
    pub(super) fn arithmetic(self) -> Result<Arithmetic, BackboneError> {
        let short = || Instructions::find().ok_or(BackboneError::Precision { precision: self });
        Ok(match self {
            Self::F32 => Arithmetic::F32,
            Self::Bf16 => Arithmetic::Bf16(short()?),
            Self::Int8 => Arithmetic::Int8(short()?),
        })
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}
