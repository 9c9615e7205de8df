//! Load at a given rate, open loop: each request has its moment, whether earlier ones have been answered or not, and its
//! delay counts from that moment. So a server that stands still for a second shows it in a second's requests, not in
//! one of each connection.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How a run went.
#[derive(Debug, Default)]
pub struct Paced {
    /// From each accepted request's moment to its answer, in µs, sorted.
    pub delays_us: Vec<i64>,
    /// Requests that were refused.
    pub refused: u64,
    /// From the first moment to the last answer.
    pub wall: Duration,
}

/// Offers `per_second` requests for as long as `offered`, over `connections`, each a thread with what `connect` gives it.
/// `send` is told the request's number, and answers whether it was accepted.
pub fn offer<C>(
    connections: usize,
    per_second: f64,
    offered: Duration,
    connect: impl Fn() -> Result<C> + Sync,
    send: impl Fn(&mut C, u64) -> Result<bool> + Sync,
) -> Result<Paced> {
    let requests = (per_second * offered.as_secs_f64()) as u64;
    let began = Instant::now();
    let share = |connection: usize| -> Result<Paced> {
        let (mut client, mut paced) = (connect()?, Paced::default());
        for request in (connection as u64..requests).step_by(connections) {
            let due = began + Duration::from_secs_f64(request as f64 / per_second);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if send(&mut client, request)? {
                paced.delays_us.push(due.elapsed().as_micros() as i64);
            } else {
                paced.refused += 1;
            }
        }
        Ok(paced)
    };
    let mut all = Paced::default();
    thread::scope(|scope| {
        let share = &share;
        let threads: Vec<_> = (0..connections).map(|connection| scope.spawn(move || share(connection))).collect();
        for thread in threads {
            let Ok(ended) = thread.join() else { bail!("a client panicked") };
            let Paced { delays_us, refused, .. } = ended?;
            all.delays_us.extend(delays_us);
            all.refused += refused;
        }
        Ok(())
    })?;
    all.wall = began.elapsed();
    all.delays_us.sort_unstable();
    Ok(all)
}
