//! Working out the groups.

use std::num::NonZero;
use std::thread;

use super::Clusters;
use crate::index::numbers::{from_dot, number};
use crate::index::vectors::{Quantized, Vectors, dot};

/// How often the centres are moved.
const ROUNDS: usize = 6;
/// The vectors a centre is worked out from.
const SAMPLE_PER_CENTRE: usize = 32;

impl Clusters {
    /// Groups the vectors, the same ones always the same way. It works out about as many centres
    /// as the square root of their number, on all cores.
    pub(in crate::index) fn of(vectors: &Vectors) -> Option<Self> {
        let n_rows = vectors.scales.len();
        let with_vector: Vec<usize> = (0..n_rows)
            .filter(|row| vectors.row(*row).is_some())
            .collect();
        let n_centres = with_vector.len().isqrt();
        if n_centres < 2 {
            return None;
        }
        let centres = centres(vectors, &with_vector, n_centres);
        let nearest = in_parts(n_rows, |row| {
            let found = vectors.row(row).map(|(bytes, _)| nearest(&centres, bytes));
            number(found.unwrap_or(0))
        });
        let mut order: Vec<u32> = (0..n_rows).map(number).collect();
        order.sort_by_key(|row| nearest.get(*row as usize).copied());
        let mut slot_of_row = vec![0_u32; n_rows];
        for (slot, row) in order.iter().enumerate() {
            if let Some(place) = slot_of_row.get_mut(*row as usize) {
                *place = number(slot);
            }
        }
        let starts = (0..=centres.len()).map(|centre| {
            let of = |row: &u32| nearest.get(*row as usize).copied().unwrap_or(0);
            number(order.partition_point(|row| of(row) < number(centre)))
        });
        Some(Self {
            starts: starts.collect(),
            scales: centres.iter().map(|centre| centre.scale).collect(),
            bytes: centres.into_iter().flat_map(|c| c.bytes).collect(),
            slot_of_row,
            row_of_slot: order,
        })
    }
}

/// Works out centres from a sample: each is the mean direction of those nearest to it.
fn centres(vectors: &Vectors, rows: &[usize], n_centres: usize) -> Vec<Quantized> {
    let step = (rows.len() / (n_centres * SAMPLE_PER_CENTRE)).max(1);
    let sample: Vec<usize> = rows.iter().copied().step_by(step).collect();
    let firsts = sample.iter().step_by((sample.len() / n_centres).max(1));
    let mut centres: Vec<Quantized> = firsts
        .take(n_centres)
        .filter_map(|row| vectors.row(*row))
        .map(|(bytes, scale)| Quantized {
            bytes: bytes.to_vec(),
            scale,
        })
        .collect();
    for _ in 0..ROUNDS {
        let groups = in_parts(sample.len(), |n| {
            let row = sample.get(n).and_then(|row| vectors.row(*row));
            row.map_or(0, |(bytes, _)| nearest(&centres, bytes))
        });
        let mut sums = vec![vec![0.0_f32; vectors.dimensions]; centres.len()];
        for (group, row) in groups.iter().zip(&sample) {
            let (Some(sum), Some((bytes, scale))) = (sums.get_mut(*group), vectors.row(*row))
            else {
                continue;
            };
            for (sum, byte) in sum.iter_mut().zip(bytes) {
                *sum += f32::from(*byte) * scale;
            }
        }
        for (centre, sum) in centres.iter_mut().zip(&sums) {
            // A centre that nothing is near to stays where it is.
            if let Some(mean) = Quantized::new(sum) {
                *centre = mean;
            }
        }
    }
    centres
}

fn nearest(centres: &[Quantized], bytes: &[i8]) -> usize {
    let mut best = (f32::NEG_INFINITY, 0);
    for (n, centre) in centres.iter().enumerate() {
        let likeness = from_dot(dot(&centre.bytes, bytes)) * centre.scale;
        if likeness > best.0 {
            best = (likeness, n);
        }
    }
    best.1
}

/// Works out a value for each number below `n`, on all cores.
fn in_parts<T: Send>(n: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let n_threads = thread::available_parallelism().map_or(1, NonZero::get);
    let size = n.div_ceil(n_threads).max(1);
    thread::scope(|scope| {
        let parts = (0..n).step_by(size).map(|start| {
            let of = &of;
            let work = move || (start..n.min(start + size)).map(of).collect::<Vec<T>>();
            scope.spawn(work)
        });
        let parts: Vec<_> = parts.collect();
        let joined = parts.into_iter().map(|part| match part.join() {
            Ok(values) => values,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    })
}
