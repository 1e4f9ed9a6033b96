//! A stranger's piece that others were faster with is given up while it is being fetched, when what it will bring is
//! less than what is still to come of it: copies × size < left.

/// A piece being fetched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LateFacts {
    /// Its yield now, copies.
    pub copies: f64,
    /// Its length, bytes.
    pub size: u64,
    /// What is still to come of it, bytes.
    pub left: u64,
}

/// It is not worth its rest.
#[must_use]
pub fn too_late(facts: LateFacts) -> bool {
    facts.copies * (facts.size as f64) < facts.left as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_goes_when_its_rest_costs_more_than_it_brings() {
        let late = |copies, left| {
            too_late(LateFacts {
                copies,
                size: 100,
                left,
            })
        };
        assert!(late(0.0, 1) && late(0.5, 60));
        assert!(!late(0.5, 40) && !late(0.0, 0) && !late(2.0, 100));
    }
}
