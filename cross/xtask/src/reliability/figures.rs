//! What the parts say, line by line, and what it comes to together.
//!
//! ```text
//! figures: stories=29 boards=8 cut_points=… schedules=… effects=… faults=… unbootable=0 …    the simulator
//! mutants: caught 41 of 41                                                                  xtask mutants
//! fuzz: target=state executions=120000 seconds=5 crashes=0                                  agent/fuzz/run, one for each
//! ```

use super::part::Done;
use std::collections::BTreeMap;

/// By name. Of stories, boards and cut points the largest part counts, as all parts live the same ones; all else adds up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures(BTreeMap<String, u64>);

/// What has to be zero, in the words of the simulator, and in ours.
const MUST_BE_ZERO: [(&str, &str); 8] = [
    ("unbootable", "unbootable"),
    ("wrong_group", "wrong group"),
    ("unverified_booted", "unverified booted"),
    ("lost_outcome", "lost outcome"),
    ("floor_fell", "floor fell"),
    ("stuck", "stuck"),
    ("survived", "mutants that survive"),
    ("crashes", "crashes of the fuzzers"),
];

const SAME_IN_ALL_PARTS: [&str; 3] = ["stories", "boards", "cut_points"];

impl Figures {
    /// Reads a line; one that says nothing changes nothing.
    pub fn read(&mut self, line: &str) {
        if let Some(line) = line.strip_prefix("figures: ") {
            pairs(line).for_each(|(name, value)| self.add(name, value));
        } else if let Some((caught, all)) =
            line.strip_prefix("mutants: caught ").and_then(|line| line.split_once(" of "))
            && let (Ok(caught), Ok(all)) = (caught.parse::<u64>(), all.parse::<u64>())
        {
            self.add("caught", caught);
            self.add("mutants", all);
            self.add("survived", all.saturating_sub(caught));
        } else if let Some(line) = line.strip_prefix("fuzz: target=") {
            pairs(line).for_each(|(name, value)| match name {
                "executions" | "crashes" => self.add(name, value),
                "seconds" => self.add("fuzz_seconds", value),
                _ => {}
            });
            self.add("targets", 1);
        }
    }

    /// All parts together.
    pub fn sum(done: &[Done]) -> Self {
        let mut sum = Figures::default();
        for Done { figures, .. } in done {
            for (name, value) in &figures.0 {
                match SAME_IN_ALL_PARTS.contains(&name.as_str()) {
                    true => drop(sum.0.insert(name.clone(), sum.get(name).max(*value))),
                    false => sum.add(name, *value),
                }
            }
        }
        sum
    }

    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is not zero and has to be.
    pub fn broken(&self) -> Vec<String> {
        let broken = MUST_BE_ZERO.iter().filter(|(name, _)| self.get(name) > 0);
        broken.map(|(name, said)| format!("{said}: {}", self.get(name))).collect()
    }

    /// A figure, as it stands in a table; nothing where it was not said.
    pub fn text(&self, name: &str) -> String {
        self.0.get(name).map(|value| grouped(*value)).unwrap_or_default()
    }

    /// The table.
    pub fn print(&self) {
        println!("| what | figure |\n|---|---|");
        let rows = [
            ("stories", "stories"),
            ("boards", "boards"),
            ("cut points", "cut_points"),
            ("schedules run", "schedules"),
            ("effects checked", "effects"),
            ("faults injected", "faults"),
        ];
        for (said, name) in rows {
            println!("| {said} | {} |", self.text(name));
        }
        println!("| mutants caught | {} of {} |", self.get("caught"), self.get("mutants"));
        let hours = self.get("fuzz_seconds") as f64 / 3600.0;
        println!(
            "| fuzz executions | {} ({} targets, {hours:.2} hours) |",
            grouped(self.get("executions")),
            self.get("targets")
        );
        let zeros = MUST_BE_ZERO.iter().take(6);
        let (names, values): (Vec<_>, Vec<_>) =
            zeros.map(|(name, said)| (*said, self.get(name).to_string())).unzip();
        println!("| {} | {} |", names.join(" / "), values.join(" / "));
    }

    /// The same for a program.
    pub fn json(&self, seconds: f32) -> String {
        let figures =
            self.0.iter().map(|(name, value)| format!("  \"{name}\": {value},\n")).collect::<String>();
        format!("{{\n{figures}  \"seconds\": {seconds:.0}\n}}\n")
    }

    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn add(&mut self, name: &str, value: u64) {
        *self.0.entry(name.into()).or_default() += value;
    }
}

fn pairs(line: &str) -> impl Iterator<Item = (&str, u64)> {
    line.split_whitespace().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name, value.parse().ok()?))
    })
}

/// `1234567` as `1,234,567`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Figures {
        let mut figures = Figures::default();
        lines.iter().for_each(|line| figures.read(line));
        figures
    }

    fn done(lines: &[&str]) -> Done {
        Done { name: "a part", seconds: 1.0, figures: read(lines) }
    }

    #[test]
    fn each_parts_line_is_read_and_what_is_none_is_not() {
        assert!(read(&["1,200 lives in 3 s", "figure: stories=1", "mutants: caught them all"]).is_empty());
        let figures = read(&[
            "figures: stories=3 schedules=10 stuck=0",
            "mutants: caught 4 of 5",
            "fuzz: target=state executions=7 seconds=5 crashes=0",
            "fuzz: target=trust executions=8 seconds=5 crashes=1",
        ]);
        for (name, value) in [
            ("schedules", 10),
            ("caught", 4),
            ("survived", 1),
            ("executions", 15),
            ("targets", 2),
            ("fuzz_seconds", 10),
        ] {
            assert_eq!(figures.get(name), value, "{name}");
        }
        assert_eq!(figures.broken(), ["mutants that survive: 1", "crashes of the fuzzers: 1"]);
    }

    #[test]
    fn parts_live_the_same_stories_and_their_schedules_add_up() {
        let parts = [
            done(&["figures: stories=3 schedules=10 stuck=1"]),
            done(&["figures: stories=4 schedules=5 stuck=0"]),
        ];
        let sum = Figures::sum(&parts);
        assert_eq!(["stories", "schedules", "stuck"].map(|name| sum.get(name)), [4, 15, 1]);
        assert_eq!(sum.broken(), ["stuck: 1"]);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([7, 1_000, 123_456, 1_234_567].map(grouped), ["7", "1,000", "123,456", "1,234,567"]);
    }
}
