//! Threads for many samples: each runs whole samples alone, so results and taps do not depend on how many there
//! are.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::ExecError;

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
        let (sender, receiver) = crossbeam_channel::bounded(self.pools.len() * 2);
        std::thread::scope(|scope| {
            for pool in &self.pools {
                let (sender, next, work) = (sender.clone(), &next, &work);
                scope.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= count {
                            break;
                        }
                        if sender.send((i, pool.install(|| work(i)))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut outcome = Ok(());
            for (i, result) in &receiver {
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
