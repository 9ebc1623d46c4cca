//! What processes have used, as the system counts it.

use std::fs;
use std::time::Duration;

/// Processor time of a process so far, user and system. The system counts in
/// hundredths of a second.
pub(super) fn cpu(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which may hold anything, come the fields from the third
    // on; times are the 14th and 15th.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The same to the nanosecond where the system tells that, of the threads that
/// are there: for one that rests and starts none.
pub(super) fn cpu_at_rest(process: u32) -> Duration {
    let of_threads = || {
        let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let times = threads.map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        });
        let sum = times.sum::<Option<u64>>()?;
        (sum > 0).then(|| Duration::from_nanos(sum))
    };
    of_threads().unwrap_or_else(|| cpu(process))
}

/// Resident memory of a process in KiB.
pub(super) fn resident_kib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().next());
    figure.and_then(|figure| figure.parse().ok()).unwrap_or(0.0)
}

/// Bytes and packets that went over loopback so far, of all programs. Each
/// has a head of an Ethernet frame, which no cable sees: it is taken off.
pub(super) fn loopback() -> (u64, u64) {
    const HEAD: u64 = 14;
    let all = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = all.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let mut fields = line.unwrap_or_default().split_whitespace();
    let mut field = || fields.next().and_then(|field| field.parse().ok());
    let (bytes, packets): (u64, u64) = (field().unwrap_or(0), field().unwrap_or(0));
    (bytes.saturating_sub(packets * HEAD), packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        assert!(resident_kib(own) > 500.0);
        let start = std::time::Instant::now();
        let (before, exactly) = (cpu(own), cpu_at_rest(own));
        while cpu(own) == before || cpu_at_rest(own) == exactly {
            assert!(start.elapsed() < Duration::from_secs(30), "no time passes");
        }
    }
}
