#![doc = include_str!("../README.md")]

pub mod attention;
mod avx512;
pub mod bf16;
mod cpu;
pub mod finish;
#[cfg(test)]
mod levels;
pub mod linear;
pub mod matrix;
pub mod packed;
mod panels;
pub mod rows;
pub mod scan;
pub mod vector;

pub use crate::cpu::Instructions;
