//! Threads for many samples: each runs whole samples alone, so results and taps do not depend on how many there
//! are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::ExecError;

/// How long a worker goes on before it hands over what it has, and before others that wait for its thread get their
/// turn. Waking a thread costs as much as a small run.
const TURN: Duration = Duration::from_millis(2);

/// A set of worker threads, each its own single-threaded rayon pool.
#[derive(Debug)]
pub struct Workers {
    pools: Vec<rayon::ThreadPool>,
}

impl Workers {
    /// `threads` workers (at least one).
    pub fn new(threads: usize) -> Result<Self, ExecError> {
        let pool = |i: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(move |_| format!("bitloupe-worker-{i}"))
                .build()
                .map_err(|e| ExecError::Threads(e.to_string()))
        };
        Ok(Self { pools: (0..threads.max(1)).map(pool).collect::<Result<_, _>>()? })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.pools.len()
    }

    /// Calls `work(i)` for every `i` below `count`, on all workers, and gives each result to `done` on the
    /// calling thread as it arrives (in any order). Stops handing out work after the first error.
    pub fn for_each<T: Send, E: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T, E> + Sync,
        mut done: impl FnMut(usize, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = crossbeam_channel::bounded(self.pools.len());
        let turn = || {
            let (start, mut found) = (Instant::now(), Vec::new());
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return (found, false);
                }
                let result = work(i);
                let failed = result.is_err();
                found.push((i, result));
                if failed || start.elapsed() >= TURN {
                    return (found, !failed);
                }
            }
        };
        std::thread::scope(|scope| {
            for pool in &self.pools {
                let (sender, turn) = (sender.clone(), &turn);
                scope.spawn(move || {
                    loop {
                        let (found, more) = pool.install(turn);
                        if (!found.is_empty() && sender.send(found).is_err()) || !more {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut outcome = Ok(());
            for (i, result) in receiver.iter().flatten() {
                if outcome.is_ok() {
                    outcome = result.and_then(|value| done(i, value));
                    if outcome.is_err() {
                        next.store(count, Ordering::Relaxed);
                    }
                }
            }
            outcome
        })
    }
}
