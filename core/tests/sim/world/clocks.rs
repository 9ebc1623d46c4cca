//! Clocks of the wall that differ, and one that is wrong.

use roundelay_core::status::Class;

use super::World;

/// How far clocks differ.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// How far each is ahead or behind at most, in milliseconds.
    pub skew_ms: u64,
    /// How far one is ahead, or behind, that is wrong; zero: none is.
    pub wrong_ms: i64,
}

impl Clocks {
    /// Set to each other, nearly.
    pub const SET: Self = Self {
        skew_ms: 1000,
        wrong_ms: 0,
    };
}

impl World {
    /// Adds a computer whose clock is as far ahead or behind as any.
    pub fn add_skewed(&mut self, class: Class) -> usize {
        let span = self.skew_ms as i64;
        let skew = self.random.between(0, 2 * self.skew_ms) as i64 - span;
        self.add(class, skew)
    }

    /// Chooses a computer whose clock will go wrong, if none is.
    pub fn choose_wrong(&mut self) {
        let alive: Vec<usize> = self.alive().map(|(index, _)| index).collect();
        if self.wrong.is_none()
            && let Some(index) = self.random.pick(&alive)
        {
            self.wrong = Some((index, self.processes[index].clock_skew_ms));
        }
    }

    /// The clock of that one goes wrong.
    pub fn set_wrong(&mut self, ahead_ms: i64) {
        if let Some((index, _)) = self.wrong {
            self.log(|| format!("the clock of p{index} goes wrong by {ahead_ms} ms"));
            self.processes[index].clock_skew_ms = ahead_ms;
        }
    }

    /// It is set right.
    pub fn set_right(&mut self) {
        if let Some((index, skew)) = self.wrong.take() {
            self.log(|| format!("the clock of p{index} is set right"));
            self.processes[index].clock_skew_ms = skew;
        }
    }

    /// Whether it is this one's clock that is wrong, or will be.
    pub fn is_wrong(&self, index: usize) -> bool {
        self.wrong.is_some_and(|(wrong, _)| wrong == index)
    }
}
