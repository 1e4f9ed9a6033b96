//! The only randomness of a run: splitmix64 from the run's seed.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// 0 to `most` - 1; 0 when `most` is 0.
    pub(crate) fn below(&mut self, most: u32) -> u32 {
        let wide = u128::from(self.next()) * u128::from(most);
        u32::try_from(wide >> 64).unwrap_or(0)
    }

    /// 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponentially distributed with this mean, by the series-free inverse: halvings of a geometric count.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        // -ln(1 - u), by halving: each leading one is worth ln 2, the rest by two terms of its series.
        let bits = self.next();
        let halvings = f64::from(bits.leading_ones());
        let rest = self.unit();
        let log = rest * (0.5 + rest * (0.125 + rest * 0.068));
        mean * (halvings * core::f64::consts::LN_2 + log)
    }
}

/// The finaliser of splitmix64.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_as_said() {
        let mut rng = Rng::new(1);
        let count = 200_000;
        let sum = |draw: &mut dyn FnMut() -> f64| (0..count).map(|_| draw()).sum::<f64>();
        let unit = sum(&mut || rng.unit()) / f64::from(count);
        assert!((unit - 0.5).abs() < 0.01, "{unit}");
        let wait = sum(&mut || rng.exponential(3.0)) / f64::from(count);
        assert!((wait - 3.0).abs() < 0.1, "{wait}");
        let die = sum(&mut || f64::from(rng.below(6))) / f64::from(count);
        assert!((die - 2.5).abs() < 0.05, "{die}");
    }
}
