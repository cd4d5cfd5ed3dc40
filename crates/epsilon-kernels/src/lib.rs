#![doc = include_str!("../README.md")]
// What AVX-512 alone uses is compiled for other processors, too, and not reached there.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unreachable_code, unused_imports, unused_variables)
)]

pub mod attention;
pub mod bf16;
pub mod cpu;
pub mod finish;
#[cfg(test)]
mod levels;
pub mod linear;
pub mod matrix;
mod mix;
pub mod packed;
mod panels;
pub mod rows;
pub mod scan;
mod transpose;
pub mod vector;
mod words;

pub use crate::cpu::{Bf16Instructions, Int8Instructions, Level};
