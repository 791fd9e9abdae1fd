//! Compares two samples of times: Welch's t-test on all values, and on those that are left when the slowest are cropped.
//!
//! The method of dudect (Reparaz, Balasch, Verbauwhede, "Dude, is my code constant time?", DATE 2017): interruptions make
//! calls slower and never faster, so a small difference is visible in the fast part of both samples before it is visible in
//! the whole. The result is the largest |t|.

/// From this |t| on two samples differ (dudect's threshold; one in 100 000 pairs of equal samples is beyond it).
pub const THRESHOLD: f64 = 4.5;

/// The parts of the pooled sample that are compared.
const CROPS: [f64; 6] = [0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

/// How far beyond the threshold the expected t must be so that one measurement finds the difference 974 times in 1 000, and
/// four in a row nine times in ten: that percentile of the normal distribution.
const DETECTION_MARGIN: f64 = 1.95;

/// The comparison of two samples.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// The medians of both samples.
    pub medians: [f64; 2],
    /// The t with the largest |t|. Positive if the second sample is slower.
    pub t: f64,
    /// The smallest shift of the second sample that four measurements in a row would find nine times in ten.
    pub resolution: f64,
}

impl Comparison {
    /// Compares two samples.
    pub fn of(one: &[f64], other: &[f64]) -> Self {
        let medians = [median(one), median(other)];
        Self { medians, t: largest_t(one, other), resolution: resolution(one, other, medians) }
    }

    /// How much slower the second sample is.
    pub fn difference(&self) -> f64 {
        self.medians[1] - self.medians[0]
    }
}

/// The t with the largest |t| of all crops.
fn largest_t(one: &[f64], other: &[f64]) -> f64 {
    let mut pooled: Vec<f64> = one.iter().chain(other).copied().collect();
    pooled.sort_by(f64::total_cmp);
    let of_crop = |crop: &f64| {
        let limit = percentile(&pooled, *crop);
        let cropped = |sample: &[f64]| sample.iter().copied().filter(|time| *time <= limit).collect::<Vec<_>>();
        welch_t(&cropped(one), &cropped(other))
    };
    CROPS.iter().map(of_crop).max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default()
}

/// Welch's t of two samples, whose variances may differ. 0 if a sample has fewer than two values.
fn welch_t(one: &[f64], other: &[f64]) -> f64 {
    let (Some([mean, error]), Some([other_mean, other_error])) = (moments(one), moments(other)) else { return 0.0 };
    let difference = other_mean - mean;
    if difference == 0.0 { 0.0 } else { difference / (error + other_error).sqrt() }
}

/// The mean, and the square of its standard error.
fn moments(sample: &[f64]) -> Option<[f64; 2]> {
    if sample.len() < 2 {
        return None;
    }
    let count = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / count;
    let squares: f64 = sample.iter().map(|time| (time - mean).powi(2)).sum();
    Some([mean, squares / (count - 1.0) / count])
}

/// Found by bisection: shifts the second sample after its median is moved to that of the first.
fn resolution(one: &[f64], other: &[f64], medians: [f64; 2]) -> f64 {
    let found = |shift: f64| {
        let moved: Vec<f64> = other.iter().map(|time| time - medians[1] + medians[0] + shift).collect();
        largest_t(one, &moved) >= THRESHOLD + DETECTION_MARGIN
    };
    let (mut low, mut high) = (0.0, medians[0]);
    // Ten steps: exact to a thousandth of the first median.
    for _ in 0..10 {
        let middle = f64::midpoint(low, high);
        if found(middle) { high = middle } else { low = middle }
    }
    high
}

/// The middle of a sample.
pub(super) fn median(sample: &[f64]) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// The smallest value that is not less than this part of the values of a sorted sample.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times around 1 000 with a long tail of interruptions, deterministic (Knuth's LCG).
    fn noise(seed: u64, count: usize) -> Vec<f64> {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let mut sample = Vec::new();
        for _ in 0..count {
            let normal: f64 = (0..12).map(|_| next()).sum::<f64>() - 6.0;
            let interruption = if next() < 0.02 { 5_000.0 * next() } else { 0.0 };
            sample.push(1_000.0 + 20.0 * normal + interruption);
        }
        sample
    }

    #[test]
    fn welchs_t_equals_the_manual_calculation() {
        // Means 3 and 6, variances 2.5 and 10: 3 / sqrt(2.5/5 + 10/5).
        let t = welch_t(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 4.0, 6.0, 8.0, 10.0]);
        assert!((t - 1.897_366_596).abs() < 1e-9, "{t}");
        // Unequal sizes: means 2 and 6, variances 1 and 20/3: 4 / sqrt(1/3 + 5/3).
        let t = welch_t(&[1.0, 2.0, 3.0], &[3.0, 5.0, 7.0, 9.0]);
        assert!((t - 4.0 / 2.0_f64.sqrt()).abs() < 1e-9, "{t}");
        assert_eq!(welch_t(&[1.0], &[2.0, 3.0]), 0.0, "one value has no variance");
        assert_eq!(welch_t(&[2.0, 2.0], &[2.0, 2.0]), 0.0);
        assert_eq!(welch_t(&[2.0, 2.0], &[3.0, 3.0]), f64::INFINITY);
    }

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.25, 0.5, 0.75, 0.99, 1.0].map(|part| percentile(&sorted, part)), [1.0, 2.0, 3.0, 4.0, 4.0]);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
    }

    #[test]
    fn shifted_sample_is_found_and_an_equal_one_is_not_despite_a_long_tail() {
        for seed in 1..50 {
            let (one, other) = (noise(seed, 1_000), noise(seed + 1_000, 1_000));
            let equal = largest_t(&one, &other);
            assert!(equal.abs() < THRESHOLD, "seed {seed}: {equal}");
            let shifted: Vec<f64> = other.iter().map(|time| time + 10.0).collect();
            let found = largest_t(&one, &shifted);
            assert!(found > THRESHOLD, "seed {seed}: {found}");
            assert!((median(&shifted) - median(&one) - 10.0).abs() < 4.0, "seed {seed}");
            assert!(largest_t(&shifted, &one) < -THRESHOLD, "the sign shows which is slower");
            // Without crops the tail hides the shift.
            assert!(welch_t(&one, &shifted) < THRESHOLD, "seed {seed}: the crop was not needed");
        }
    }

    #[test]
    fn shift_of_the_resolution_is_nearly_always_found() {
        let expected = Comparison::of(&noise(1, 1_000), &noise(1_001, 1_000)).resolution;
        let mut found = 0;
        for seed in 100..200 {
            let shifted: Vec<f64> = noise(seed + 1_000, 1_000).iter().map(|time| time + expected).collect();
            found += usize::from(largest_t(&noise(seed, 1_000), &shifted) > THRESHOLD);
        }
        assert!((92..=100).contains(&found), "a shift of {expected} was found {found} times in 100");
    }
}
