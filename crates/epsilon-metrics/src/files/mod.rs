//! Tables of scores and labels in files, so that any program's scores can be measured: `.npy`, `.safetensors` and `.csv`.
//!
//! A table is images x labels. A CSV file names both itself: its first line holds the labels' names, its first column
//! the images'. Beside `scores.npy` and `scores.safetensors` names stand in `scores.images.txt` and `scores.labels.txt`,
//! one a line. Where scores and labels both have names, they are matched by name, otherwise by place.

mod csv;
mod error;
mod format;
mod frame;
mod joined;
mod labels;
mod layout;
mod names;
mod npy;
mod numbers;
mod order;
mod scores;
mod write;

pub use error::FileError;
pub use joined::{Joined, Zero};
pub use labels::LabelTable;
pub use scores::ScoreTable;
pub use write::{write_per_label, write_scores};
