//! Splitting work over the current rayon pool; nothing is split on a one-thread pool or for small work.

use rayon::prelude::*;

/// Work (in elements touched) below which a task is not worth handing to another thread.
const MIN_TASK: usize = 32 * 1024;

/// How many items of `cost` elements each belong in one task, for `items` items.
pub(crate) fn items_per_task(items: usize, cost: usize) -> usize {
    let threads = rayon::current_num_threads();
    let total = items.saturating_mul(cost.max(1));
    if threads == 1 || total < 2 * MIN_TASK {
        return items.max(1);
    }
    let tasks = (total / MIN_TASK).clamp(1, threads * 4);
    items.div_ceil(tasks).max(1)
}

/// Calls `work(first_row, rows)` on groups of whole rows of `data`; `cost` is the work per row in elements.
pub(crate) fn for_rows(data: &mut [f32], row: usize, cost: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if data.is_empty() || row == 0 {
        return;
    }
    let per_task = items_per_task(data.len() / row, cost);
    if per_task * row >= data.len() {
        work(0, data);
    } else {
        data.par_chunks_mut(per_task * row)
            .enumerate()
            .for_each(|(task, chunk)| work(task * per_task, chunk));
    }
}

/// Calls `work(offset, chunk)` on chunks of `data`, for element-wise kernels.
pub(crate) fn for_chunks(data: &mut [f32], cost: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    for_rows(data, 1, cost, work);
}

/// Calls `work` for each index below `count`; `cost` is the work per index in elements.
pub(crate) fn for_indices(count: usize, cost: usize, work: impl Fn(usize) + Sync + Send) {
    let per_task = items_per_task(count, cost);
    if per_task >= count {
        (0..count).for_each(work);
    } else {
        (0..count).into_par_iter().with_min_len(per_task).for_each(work);
    }
}
