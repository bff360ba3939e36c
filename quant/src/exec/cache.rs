//! Values kept between runs, by the key of their content, under a memory cap.

use std::collections::HashMap;
use std::sync::Mutex;

use super::Value;
use super::keys::Key;

/// A cache of node values. Shared by all runs of an engine; safe to use from several threads.
#[derive(Debug)]
pub struct ActivationCache {
    cap: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    /// Work to make it again per byte it holds; cheap ones go first.
    worth: u64,
    used: u64,
}

impl ActivationCache {
    /// A cache of at most `cap` bytes.
    pub fn new(cap: usize) -> Self {
        Self { cap, inner: Mutex::default() }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The cap in bytes.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic elsewhere cannot leave the map half-changed in a way that matters: entries are whole values.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: Key) -> Option<Value> {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        inner.entries.get_mut(&key).map(|entry| {
            entry.used = clock;
            entry.value.clone()
        })
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.lock().entries.contains_key(&key)
    }

    /// Keeps `values` (key, value, work to make it again).
    pub(super) fn put(&self, values: impl IntoIterator<Item = (Key, Value, u64)>) {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        for (key, value, work) in values {
            let bytes = value.len() * size_of::<f32>();
            let worth = work / (bytes as u64).max(1);
            if inner.entries.insert(key, Entry { value, worth, used: clock }).is_none() {
                inner.bytes += bytes;
            }
        }
        if inner.bytes > self.cap {
            inner.evict(self.cap - self.cap / 4);
        }
    }
}

impl Inner {
    /// Drops entries, the longest unused run first and within it the cheapest, until `target` bytes are left.
    fn evict(&mut self, target: usize) {
        let mut order: Vec<_> = self.entries.iter().map(|(k, e)| (e.used, e.worth, *k)).collect();
        order.sort_unstable();
        for (_, _, key) in order {
            if self.bytes <= target {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes = self.bytes.saturating_sub(entry.value.len() * size_of::<f32>());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_holds_and_new_values_stay() {
        let cache = ActivationCache::new(4000);
        for key in 0..100 {
            cache.put([(key, Value::new(vec![100], vec![key as f32; 100]), 1)]);
            assert!(cache.bytes() <= 4000);
        }
        assert!(cache.get(99).is_some());
        assert!(cache.get(0).is_none());
    }

    #[test]
    fn of_one_run_the_dear_values_stay() {
        let cache = ActivationCache::new(1000);
        let value = || Value::new(vec![100], vec![0.0; 100]);
        cache.put([(1, value(), 1_000_000), (2, value(), 1), (3, value(), 1)]);
        assert!(cache.get(1).is_some());
        assert!(cache.get(2).is_none() || cache.get(3).is_none());
    }
}
