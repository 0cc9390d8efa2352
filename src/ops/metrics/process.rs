//! What the operating system reports about this process. Values that it does not report are left out.

use std::fmt;

use super::scrape::ScrapeWriter;
use super::table;

/// Writes the metrics of the process.
pub(super) fn write(page: &mut ScrapeWriter<'_>) -> fmt::Result {
    let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        page.one(table::PROCESS_CPU, (stat.utime + stat.stime) as f64 / ticks)?;
        page.one(table::PROCESS_MEMORY, (stat.rss * procfs::page_size()) as f64)?;
        if let Ok(boot) = procfs::boot_time_secs() {
            page.one(table::PROCESS_START, boot as f64 + stat.starttime as f64 / ticks)?;
        }
    }
    if let Ok(fds) = process.fd_count() {
        page.one(table::PROCESS_FDS, fds as f64)?;
    }
    Ok(())
}
