//! The ring as a picture: members stand where their ids are, clockwise from
//! the top.

use std::f64::consts::TAU;

use roundelay_core::NodeId;

/// How members are called in the picture, in ring order.
const LABELS: &[u8] = b"123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// What all further members are called.
const FURTHER: char = '*';
/// Half the height of the picture, in lines, at least and at most.
const RADIUS_MIN: usize = 4;
const RADIUS_MAX: usize = 11;

/// The label of a member, by its place in ring order.
pub(super) fn label(place: usize) -> char {
    LABELS.get(place).map_or(FURTHER, |byte| char::from(*byte))
}

/// Draws a circle with a label for each member; in its middle, a word.
/// Members too near to one another move on a little, clockwise.
pub(super) fn draw(members: &[NodeId], middle: &str) -> String {
    let radius = (RADIUS_MIN + members.len() / 6).min(RADIUS_MAX);
    let track = track(radius);
    let mut canvas = vec![vec![' '; 4 * radius + 1]; 2 * radius + 1];
    let mut set = |(row, column): (usize, usize), mark: char| {
        if let Some(cell) = canvas.get_mut(row).and_then(|line| line.get_mut(column)) {
            *cell = mark;
        }
    };
    for cell in &track {
        set(*cell, '.');
    }
    let middle: Vec<char> = middle.chars().take(3 * radius).collect();
    for (index, letter) in middle.iter().enumerate() {
        set((radius, 2 * radius + index - middle.len() / 2), *letter);
    }
    let mut taken = vec![false; track.len()];
    for (place, member) in members.iter().enumerate() {
        let first = (fraction(member) * track.len() as f64) as usize % track.len();
        let mut cells = (first..track.len()).chain(0..first);
        let free = cells.find(|cell| !taken[*cell]);
        // More members than the circle has room for: one hides another.
        let cell = free.unwrap_or(first);
        taken[cell] = true;
        set(track[cell], label(place));
    }
    let lines = canvas.iter().map(|line| line.iter().collect::<String>());
    lines
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// The cells of a circle, row and column, clockwise from the top. A line is
/// about as high as two columns are wide.
fn track(radius: usize) -> Vec<(usize, usize)> {
    let steps = 64 * radius;
    let size = radius as f64;
    let cell = |step: usize| {
        let angle = TAU * step as f64 / steps as f64;
        let row = size - size * angle.cos();
        let column = 2.0 * size + 2.0 * size * angle.sin();
        (row.round() as usize, column.round() as usize)
    };
    let mut track: Vec<(usize, usize)> = (0..steps).map(cell).collect();
    track.dedup();
    if track.first() == track.last() {
        track.pop();
    }
    track
}

/// Where an id stands, of the whole circle.
fn fraction(id: &NodeId) -> f64 {
    let [first, second, third, ..] = *id.as_bytes();
    f64::from(u32::from_be_bytes([0, first, second, third])) / f64::from(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(first: u8) -> NodeId {
        let mut bytes = [0; 32];
        bytes[0] = first;
        NodeId::from_bytes(bytes)
    }

    #[test]
    fn members_stand_clockwise_from_the_top() {
        let picture = draw(&[at(0), at(64), at(128), at(192)], "ring");
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines.len(), 2 * RADIUS_MIN + 1);
        let place = |mark: char| {
            let mut rows = lines.iter().enumerate();
            rows.find_map(|(row, line)| Some((row, line.find(mark)?)))
        };
        assert_eq!(place('1'), Some((0, 2 * RADIUS_MIN)));
        assert_eq!(place('2'), Some((RADIUS_MIN, 4 * RADIUS_MIN)));
        assert_eq!(place('3'), Some((2 * RADIUS_MIN, 2 * RADIUS_MIN)));
        assert_eq!(place('4'), Some((RADIUS_MIN, 0)));
        assert!(lines[RADIUS_MIN].contains("ring"));
    }

    #[test]
    fn neighbours_hide_nobody_while_there_is_room() {
        let members: Vec<NodeId> = (0..40).map(at).collect();
        let picture = draw(&members, "");
        for place in 0..40 {
            assert!(picture.contains(label(place)), "{place}\n{picture}");
        }
        // Far too many for any circle: no more than hidden.
        let many: Vec<NodeId> = (0..=255).cycle().take(2000).map(at).collect();
        assert_eq!(draw(&many, "").lines().count(), 2 * RADIUS_MAX + 1);
        assert!(draw(&[], "empty").contains("empty"));
    }
}
