//! Groups of near points in the plane.

/// Iterations after which a grouping is taken as it is.
const MOST_ITERATIONS: usize = 300;
/// Groupings from different seeds of which the best is kept.
const STARTS: u64 = 4;

/// Points in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// The group of every point.
    pub labels: Vec<usize>,
    /// The mean of every group.
    pub centroids: Vec<[f64; 2]>,
    /// The sum of the squared distances of the points from their group's mean.
    pub inertia: f64,
}

/// At most `groups` groups of small inertia: Lloyd's iterations from the best of a few k-means++ seedings (Arthur and
/// Vassilvitskii, 2007). The same points give the same groups.
pub fn cluster(points: &[[f64; 2]], groups: usize) -> Clusters {
    let groups = groups.clamp(1, points.len().max(1));
    let starts = (0..STARTS).map(|start| cluster_from(points, seeds(points, groups, start)));
    let best = starts.reduce(|best, next| if next.inertia < best.inertia { next } else { best });
    best.unwrap_or_else(|| Clusters { labels: Vec::new(), centroids: Vec::new(), inertia: 0.0 })
}

/// Lloyd's iterations from given means until no point changes its group. A group that loses all its points starts again
/// at the point furthest from its mean.
pub fn cluster_from(points: &[[f64; 2]], mut centroids: Vec<[f64; 2]>) -> Clusters {
    let mut labels = vec![usize::MAX; points.len()];
    for _ in 0..MOST_ITERATIONS {
        let mut changed = false;
        for (label, point) in labels.iter_mut().zip(points) {
            let nearest = nearest(point, &centroids).0;
            changed |= *label != nearest;
            *label = nearest;
        }
        if !changed {
            break;
        }
        let mut sums = vec![[0.0; 3]; centroids.len()];
        for (&label, point) in labels.iter().zip(points) {
            let sum = &mut sums[label];
            *sum = [sum[0] + point[0], sum[1] + point[1], sum[2] + 1.0];
        }
        let empty: Vec<usize> = (0..sums.len()).filter(|&group| sums[group][2] == 0.0).collect();
        let mut far: Vec<(f64, usize)> = Vec::new();
        if !empty.is_empty() {
            far = points.iter().enumerate().map(|(i, point)| (nearest(point, &centroids).1, i)).collect();
            far.sort_by(|a, b| b.0.total_cmp(&a.0));
        }
        for (centroid, [x, y, count]) in centroids.iter_mut().zip(&sums) {
            if *count > 0.0 {
                *centroid = [x / count, y / count];
            }
        }
        for (group, (distance, point)) in empty.into_iter().zip(far) {
            if distance > 0.0 {
                centroids[group] = points[point];
            }
        }
    }
    let inertia = points.iter().map(|point| nearest(point, &centroids).1).sum();
    Clusters { labels, centroids, inertia }
}

fn squared_distance(a: &[f64; 2], b: &[f64; 2]) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

/// The first nearest mean, and its squared distance.
fn nearest(point: &[f64; 2], centroids: &[[f64; 2]]) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (i, centroid) in centroids.iter().enumerate() {
        let distance = squared_distance(point, centroid);
        if distance < best.1 {
            best = (i, distance);
        }
    }
    best
}

/// Points far from each other: each with a probability proportional to its squared distance from those before.
fn seeds(points: &[[f64; 2]], groups: usize, start: u64) -> Vec<[f64; 2]> {
    let mut random = Random(start);
    let Some(first) = points.get((random.next() * points.len() as f64) as usize) else { return Vec::new() };
    let mut seeds = vec![*first];
    let mut distances: Vec<f64> = points.iter().map(|point| squared_distance(point, first)).collect();
    while seeds.len() < groups {
        let mut rest = random.next() * distances.iter().sum::<f64>();
        let passes = |distance: &f64| {
            rest -= distance;
            rest < 0.0
        };
        // With nothing left at a distance there are fewer different points than groups.
        let Some(next) = distances.iter().position(passes) else { break };
        seeds.push(points[next]);
        for (distance, point) in distances.iter_mut().zip(points) {
            *distance = distance.min(squared_distance(point, &points[next]));
        }
    }
    seeds
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// In `[0, 1)`.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_groups_are_found() {
        let points: Vec<[f64; 2]> =
            (0..60).map(|i| [f64::from(i % 3) * 10.0 + f64::from(i) * 0.01, f64::from(i % 3)]).collect();
        let found = cluster(&points, 3);
        for (i, label) in found.labels.iter().enumerate() {
            assert_eq!(*label, found.labels[i % 3]);
        }
        assert!(found.inertia < 3.0, "{}", found.inertia);
        assert_eq!(found, cluster(&points, 3));
    }

    #[test]
    fn fewer_points_than_groups_are_no_problem() {
        assert!(cluster(&[], 4).labels.is_empty());
        assert_eq!(cluster(&[[1.0, 2.0]; 5], 4).inertia, 0.0);
        let three = [[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]];
        let found = cluster(&three, 8);
        assert_eq!((found.inertia, found.centroids.len()), (0.0, 3));
    }

    #[test]
    fn a_group_without_points_starts_again() {
        let points = [[0.0, 0.0], [0.1, 0.0], [9.0, 0.0], [9.1, 0.0]];
        let found = cluster_from(&points, vec![[0.0, 0.0], [500.0, 0.0]]);
        assert!(found.inertia < 0.02, "{found:?}");
    }
}
