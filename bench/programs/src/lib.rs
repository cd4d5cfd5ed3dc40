//! What the bench programs share: their arguments, the memory they took, and a training step on random tokens.

pub mod step;

use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;

/// The result of anything here.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Arguments as `bench/*.py` gives them: `--name value` and `--serve`.
pub struct Arguments {
    values: BTreeMap<String, String>,
    /// Whether to work by lines on stdin.
    pub serve: bool,
}

impl Arguments {
    /// The process's arguments, each of which must be one of `known`.
    pub fn read(known: &[&str]) -> Outcome<Self> {
        let mut arguments = Self {
            values: BTreeMap::new(),
            serve: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--serve" {
                arguments.serve = true;
                continue;
            }
            let name = word.strip_prefix("--").filter(|name| known.contains(name));
            let name = name.ok_or_else(|| {
                format!(
                    "`{word}`: expected --serve or one of --{}",
                    known.join(", --")
                )
            })?;
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a value"))?;
            arguments.values.insert(name.into(), value);
        }
        Ok(arguments)
    }

    /// The value of `--name`, or `default`.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Outcome<T> {
        match self.values.get(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| format!("--{name} {value}: not such a value").into()),
        }
    }
}

/// The process's largest resident memory so far, in 10^6 bytes, as Linux counts it.
pub fn peak_rss_mb() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .ok_or("/proc/self/status has no VmHWM")?;
    Ok(kibibytes.trim().parse::<f64>()? * 1024.0 / 1e6)
}
