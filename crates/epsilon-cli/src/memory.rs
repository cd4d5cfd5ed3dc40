//! The memory that a part of a run takes, where the system tells.

use std::fs;

/// The largest resident memory from here on.
pub struct Peak(());

impl Peak {
    /// Starts anew; `None` where the system cannot (Linux can).
    pub fn start() -> Option<Self> {
        // 5 resets the process's high-water mark.
        fs::write("/proc/self/clear_refs", "5").ok().map(Self)
    }

    /// Megabytes (10^6 bytes) at the highest since the start.
    pub fn megabytes(&self) -> Option<f64> {
        status("VmHWM:")
    }
}

/// What more processes could take before the system swaps, in 10^6 bytes.
pub fn available() -> Option<f64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    line(&meminfo, "MemAvailable:")
}

/// A line of what Linux tells of this process's memory, in 10^6 bytes.
fn status(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    line(&status, name)
}

fn line(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_from_its_start_on() {
        let Some(peak) = Peak::start() else {
            println!("skipped: this system does not tell");
            return;
        };
        let before = peak.megabytes().unwrap();
        let large = std::hint::black_box(vec![1_u8; 200_000_000]);
        let top = peak.megabytes().unwrap();
        assert!(top > before + 150.0, "{before} {top}");
        drop(large);
        // The allocator may keep what was given back, so what a new start begins at is what is resident.
        let again = Peak::start().and_then(|peak| peak.megabytes()).unwrap();
        let resident = status("VmRSS:").unwrap();
        assert!(again < resident + 20.0, "{again} {resident}");
    }
}
