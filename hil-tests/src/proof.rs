//! What was proven, line by line, with the figure that it was proven by. A scene that broke off has a line that says so, and
//! a scene without a line proves nothing.

use std::fmt::{Display, Write as _};

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Proof(Vec<Scene>);

#[derive(Clone, Debug)]
struct Scene {
    number: u8,
    title: &'static str,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    claim: String,
    figure: String,
    holds: bool,
}

impl Proof {
    /// A new scene: what follows belongs to it.
    pub fn scene(&mut self, number: u8, title: &'static str) {
        self.0.push(Scene { number, title, lines: Vec::new() });
    }

    /// Something that has to hold, and what was found.
    pub fn hold(&mut self, claim: impl Display, holds: bool, figure: impl Display) {
        if let Some(scene) = self.0.last_mut() {
            scene.lines.push(Line { claim: claim.to_string(), figure: figure.to_string(), holds });
        }
    }

    /// Something that has to be this.
    pub fn equal<T: Display + PartialEq>(&mut self, claim: impl Display, found: T, expected: T) {
        match found == expected {
            true => self.hold(claim, true, found),
            false => self.hold(claim, false, format!("{found}, expected {expected}")),
        }
    }

    /// The scene broke off.
    pub fn broken(&mut self, why: impl Display) {
        self.hold("the scene is played to its end", false, why);
    }

    /// The first thing that did not hold, with what was found; also that nothing was claimed at all.
    pub fn failed(&self) -> Option<String> {
        let lines = self.0.iter().flat_map(|scene| &scene.lines);
        let first =
            lines.filter(|line| !line.holds).map(|line| format!("{}: {}", line.claim, line.figure)).next();
        first.or_else(|| (!self.holds()).then(|| "nothing was proven".to_owned()))
    }

    /// Did the last scene hold?
    pub fn stands(&self) -> bool {
        self.0.last().is_none_or(Scene::holds)
    }

    /// Did all hold, and was there anything?
    pub fn holds(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(Scene::holds)
    }

    /// As lines for people.
    pub fn table(&self) -> String {
        let lines = self.0.iter().flat_map(|scene| &scene.lines);
        let width = lines.map(|line| line.claim.chars().count()).max().unwrap_or(0);
        let mut table = String::new();
        for Scene { number, title, lines } in &self.0 {
            let _ = writeln!(table, " {number}  {title}"); // a String takes everything
            for Line { claim, figure, holds } in lines {
                let mark = if *holds { "✓" } else { "✗ NOT" };
                let _ = writeln!(table, "    {mark} {claim:width$}  {figure}");
            }
            if lines.is_empty() {
                let _ = writeln!(table, "    ✗ nothing was proven");
            }
        }
        table.trim_end().to_owned()
    }
}

impl Scene {
    fn holds(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_does_not_hold_is_enough_and_a_scene_without_lines_proves_nothing() {
        let mut proof = Proof::default();
        assert!(!proof.holds(), "nothing was played");
        proof.scene(1, "one");
        assert!(!proof.stands() && !proof.holds(), "played, and nothing proven");
        proof.hold("a", true, 1);
        proof.equal("the version", "2", "2");
        assert!(proof.holds());
        proof.scene(2, "two");
        proof.broken("the power went");
        assert!(!proof.holds());
        assert_eq!(proof.failed().unwrap(), "the scene is played to its end: the power went");
        assert_eq!(Proof::default().failed().unwrap(), "nothing was proven");
        let table = proof.table();
        assert!(table.contains(" 1  one\n    ✓ a                               1\n"), "{table}");
        assert!(table.contains("✗ NOT the scene is played to its end  the power went"), "{table}");
    }

    #[test]
    fn what_is_not_as_expected_says_both() {
        let mut proof = Proof::default();
        proof.scene(1, "one");
        proof.equal("the version", "1", "2");
        assert!(proof.table().ends_with("✗ NOT the version  1, expected 2"), "{}", proof.table());
    }
}
