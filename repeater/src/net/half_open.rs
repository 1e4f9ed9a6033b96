//! Incoming connections that have not shaken hands: bounded, the oldest gives way (row B6).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(super) struct HalfOpen {
    inner: Arc<Mutex<Inner>>,
    max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<(u64, CancellationToken)>,
    next: u64,
}

/// A place among them.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    evict: CancellationToken,
    inner: Arc<Mutex<Inner>>,
}

impl HalfOpen {
    pub(super) fn new(max: usize) -> Self {
        Self {
            inner: Arc::default(),
            max,
        }
    }

    pub(super) fn enter(&self) -> Ticket {
        let mut inner = self.inner.lock();
        if inner.waiting.len() >= self.max
            && let Some((_, oldest)) = inner.waiting.pop_front()
        {
            oldest.cancel();
            metrics::counter!("btslave_half_open_evicted_total").increment(1);
        }
        inner.next += 1;
        let (id, evict) = (inner.next, CancellationToken::new());
        inner.waiting.push_back((id, evict.clone()));
        Ticket {
            id,
            evict,
            inner: Arc::clone(&self.inner),
        }
    }
}

impl Ticket {
    pub(super) async fn evicted(&self) {
        self.evict.cancelled().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.inner.lock();
        if let Ok(at) = inner.waiting.binary_search_by_key(&self.id, |(id, _)| *id) {
            inner.waiting.remove(at);
        }
    }
}
