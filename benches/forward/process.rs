//! What the system says of a process: CPU time, memory, and where it may run.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};

/// CPU time of all threads of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// Exact time on a CPU.
    pub total: Duration,
    /// The part in user space; the kernel samples it in clock ticks, so short measurements are coarse.
    pub user_ratio: f64,
    user_ticks: u64,
    system_ticks: u64,
}

impl Cpu {
    pub fn of(pid: u32) -> Result<Self> {
        let mut total = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path().join("schedstat");
            // A thread may end between the listing and the read.
            let Ok(text) = fs::read_to_string(path) else { continue };
            let nanoseconds = text.split(' ').next().context("schedstat is empty")?.parse()?;
            total += Duration::from_nanos(nanoseconds);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, after_name) = stat.rsplit_once(") ").context("stat has no name")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) else {
            bail!("stat is short: {stat}")
        };
        Ok(Self { total, user_ratio: 0.0, user_ticks: user.parse()?, system_ticks: system.parse()? })
    }

    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        let user_ticks = self.user_ticks - before.user_ticks;
        let system_ticks = self.system_ticks - before.system_ticks;
        let user_ratio = user_ticks as f64 / (user_ticks + system_ticks).max(1) as f64;
        Self { total: self.total.saturating_sub(before.total), user_ratio, user_ticks, system_ticks }
    }
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Lets a process, with all its threads, run on one CPU only.
pub fn pin(pid: u32, cpu: usize) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let tid: i32 = task?.file_name().to_string_lossy().parse()?;
        // SAFETY: `set` is a plain bit set, valid for the size that is passed.
        let outcome = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &set)
        };
        if outcome != 0 {
            bail!("cannot pin thread {tid} to CPU {cpu}: {}", std::io::Error::last_os_error());
        }
    }
    Ok(())
}
