//! TensorBoard event files: a training's loss and rate at every step, its validation mAP after every epoch.
//!
//! The format is TensorFlow's: records of a length, its checksum, a message `Event` in protocol buffers, its checksum
//! (`tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto`).

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use epsilon::training::Event;
use prost::Message;

/// Prefix of the names of event files, which TensorBoard expects.
const NAME: &str = "events.out.tfevents";
/// Suffix of the files written by this program.
const ENDING: &str = ".epsilon";
/// The status `START` of `SessionLog`.
const START: i32 = 1;

/// The fields of the message `Event` that are used here.
#[derive(Message)]
struct Record {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<SessionLog>,
}

#[derive(Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Scalar>,
}

#[derive(Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    // A number in a `oneof` of the original: it is written also where it is 0.
    #[prost(float, optional, tag = "2")]
    value: Option<f32>,
}

#[derive(Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The event file of one training.
pub(crate) struct Events {
    path: PathBuf,
    file: BufWriter<File>,
    step: usize,
}

impl Events {
    /// Creates an event file in the folder, which is created if missing. Files of an earlier training are removed, unless it is
    /// resumed.
    pub(crate) fn create(folder: &Path, resume: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        if !resume {
            forget(folder).with_context(|| folder.display().to_string())?;
        }
        let time = now();
        let path = folder.join(format!("{NAME}.{}{ENDING}", (1e6 * time) as u64));
        let file = File::create_new(&path).with_context(|| path.display().to_string())?;
        let mut events = Self {
            path,
            file: BufWriter::new(file),
            step: 0,
        };
        events.write(Record {
            file_version: Some("brain.Event:2".into()),
            ..Record::default()
        })?;
        Ok(events)
    }

    /// Writes the values of an event.
    pub(crate) fn tell(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Step {
                done,
                loss,
                learning_rate,
                ..
            } => {
                self.step = *done;
                self.scalars(&[
                    ("train/loss", *loss),
                    ("train/learning rate", *learning_rate),
                ])
            }
            Event::Epoch(record) => {
                let map = record.validation_map;
                let map = map.map(|map| ("validation/mAP", 100.0 * map));
                let speed = ("train/images per second", record.images_per_second);
                self.scalars(&[Some(speed), map].into_iter().flatten().collect::<Vec<_>>())?;
                self.file.flush().with_context(|| self.name())
            }
            // The session start makes readers discard later steps that an interrupted training may have written.
            Event::Resumed { done, .. } => {
                self.step = *done;
                self.write(Record {
                    session: Some(SessionLog { status: START }),
                    ..Record::default()
                })
            }
            _ => Ok(()),
        }
    }

    fn scalars(&mut self, values: &[(&str, f64)]) -> anyhow::Result<()> {
        let scalar = |(tag, value): &(&str, f64)| Scalar {
            tag: (*tag).into(),
            value: Some(*value as f32),
        };
        self.write(Record {
            summary: Some(Summary {
                values: values.iter().map(scalar).collect(),
            }),
            ..Record::default()
        })
    }

    fn write(&mut self, record: Record) -> anyhow::Result<()> {
        let record = Record {
            wall_time: now(),
            step: self.step as i64,
            ..record
        };
        frame(&mut self.file, &record.encode_to_vec()).with_context(|| self.name())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// One record: length, its checksum, bytes, their checksum.
fn frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = (bytes.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&checksum(&length).to_le_bytes())?;
    out.write_all(bytes)?;
    out.write_all(&checksum(bytes).to_le_bytes())
}

/// CRC-32C, masked as the format wants it.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xA282_EAD8)
}

/// Removes the event files that we wrote into this folder.
fn forget(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(NAME) && name.ends_with(ENDING) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What TensorBoard's own Python package makes of the same record.
    #[test]
    fn a_record_is_framed_as_tensorflow_does() {
        let record = Record {
            wall_time: 1.5,
            step: 7,
            summary: Some(Summary {
                values: vec![Scalar {
                    tag: "a".into(),
                    value: Some(0.0),
                }],
            }),
            ..Record::default()
        };
        let mut out = Vec::new();
        frame(&mut out, &record.encode_to_vec()).unwrap();
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "1700000000000000e7cef81e09000000000000f83f10072a0a0a080a016115000000004f2169a5"
        );
    }
}
