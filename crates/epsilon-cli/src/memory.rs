//! Peak and available memory, where the operating system reports them.

use std::fs;

/// Peak resident memory since [`Peak::start`].
pub(crate) struct Peak(());

impl Peak {
    /// Resets the peak; `None` on systems where this is impossible (Linux supports it).
    pub(crate) fn start() -> Option<Self> {
        // Writing 5 resets the process's high-water mark.
        fs::write("/proc/self/clear_refs", "5").ok().map(Self)
    }

    /// The peak since the start, in 10^6 bytes.
    pub(crate) fn megabytes(&self) -> Option<f64> {
        status("VmHWM:")
    }
}

/// Memory available to processes without swapping, in 10^6 bytes.
pub(crate) fn available() -> Option<f64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    line(&meminfo, "MemAvailable:")
}

/// A field of `/proc/self/status`, in 10^6 bytes.
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
