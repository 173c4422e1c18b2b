//! The table.

use crate::row::Row;

/// Highest ratio of the relay's CPU per forwarded packet to the floor's.
pub const LIMIT: f64 = 2.5;

/// The table's head.
pub fn head(seconds: u64) {
    println!(
        "CPU us per forwarded packet of the relay process, {seconds} s a row, {} packets/s of about 1,200 bytes,\n\
         AEAD_AES_128_GCM; floor: a bare program that seals and sends the same. Limit of the ratio: {LIMIT}.\n",
        crate::pace::PACKETS_PER_SECOND
    );
    println!(
        "{:>7} {:>5} | {:>6} {:>6} {:>6} {:>5} | {:>9} | {:>7} {:>7} | {:>9} | {:>5} {:>7} {:>6}",
        "players",
        "burst",
        "relay",
        "user",
        "floor",
        "ratio",
        "pkts/call",
        "p50 us",
        "p99 us",
        "KiB/play",
        "load%",
        "dropped",
        "lost"
    );
}

/// One line; whether it is within the limit.
pub fn line(row: &Row) -> bool {
    let ratio = row.relay_us / row.floor_us;
    let within = ratio <= LIMIT;
    println!(
        "{:>7} {:>5} | {:>6.2} {:>6.2} {:>6.2} {:>5.2} | {:>9.1} | {:>7} {:>7} | {:>9} | {:>5} {:>7} {:>6}{}",
        row.players,
        row.burst,
        row.relay_us,
        row.relay_user_us,
        row.floor_us,
        ratio,
        row.packets_per_call,
        row.load.latency_p50_us,
        row.load.latency_p99_us,
        row.memory_per_player_bytes / 1024,
        row.load.cpu_percent,
        row.load.dropped,
        row.lost,
        if within { "" } else { "  over the limit" },
    );
    within
}
