//! Reads and writes tables of scores and labels as `.npy`, `.safetensors` and `.csv` files, so that the output of any
//! program can be evaluated.
//!
//! A table has shape [images, labels]. The first line of a CSV file holds the names of the labels, its first column those
//! of the images. The names of a table `scores.npy` or `scores.safetensors` are read from `scores.images.txt` and
//! `scores.labels.txt` in the same folder, one per line, if these files exist. Rows and columns of scores and labels are
//! matched by name if both have names, otherwise by index.
//!
//! ```rust
//! use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
//! use epsilon_metrics::{Protocol, Request, evaluate_table};
//!
//! let folder = tempfile::tempdir()?;
//! let (scores, labels) = (folder.path().join("scores.csv"), folder.path().join("labels.csv"));
//! std::fs::write(&scores, "image,cat,dog\na.jpg,0.75,0.5\nb.jpg,0.25,0.125\n")?;
//! std::fs::write(&labels, "image,dog,cat\nb.jpg,1,-1\na.jpg,-1,1\n")?; // another order
//!
//! let table = Joined::new(ScoreTable::read(&scores)?, &LabelTable::read(&labels)?, None)?;
//! let request = Request { columns: &[0, 1], protocol: &Protocol::lesa_nus(), ks: &[1] };
//! let evaluation = &evaluate_table(&table, &[request])?[0];
//! assert_eq!(evaluation.per_label[0].average_precision, Some(1.0)); // cat
//! assert_eq!(evaluation.per_label[1].average_precision, Some(0.5)); // dog
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod csv;
mod error;
mod format;
mod frame;
mod joined;
mod labels;
mod layout;
mod names;
mod narrow;
mod npy;
mod numbers;
mod scores;
mod spreadsheet;
mod write;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

pub use error::FileError;
pub use joined::{Joined, Zero};
pub use labels::LabelTable;
pub use scores::ScoreTable;
pub use spreadsheet::text_cell;
pub use write::{write_per_label, write_scores};

/// Opens a regular file for reading; a pipe is refused instead of waited for.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        let problem = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    Ok(file)
}
