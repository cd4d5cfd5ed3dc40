//! The CPU's inner loops: matrix products in f32, bf16 and int8, element-wise functions over rows in cache, and a scan over
//! bytes. Instruction sets are found at run time.

pub mod avx512;
pub mod bf16;
pub mod matrix;
pub mod packed;
pub mod rows;
pub mod scan;
pub mod vector;
