//! One part: a command that says on its lines what it has done.

use super::figures::Figures;
use crate::tools::workspace;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A command, and what people call it.
pub struct Part {
    name: &'static str,
    command: Command,
}

/// A part that has run.
#[derive(Clone)]
pub struct Done {
    /// What people call it.
    pub name: &'static str,
    /// How long it took.
    pub seconds: f32,
    /// What it said.
    pub figures: Figures,
}

impl Part {
    /// A program with its arguments.
    pub fn new(name: &'static str, program: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).current_dir(workspace()).stdin(Stdio::null()).stdout(Stdio::piped());
        Part { name, command }
    }

    /// Runs it to its end; its lines go on to standard error, so that whoever waits sees it live. Its status is not asked:
    /// a part that found something says so in its figures, and one that could not run says none.
    fn run(mut self) -> Result<Done, String> {
        let (name, began) = (self.name, Instant::now());
        let mut child = self.command.spawn().map_err(|e| format!("{name}: {e}"))?;
        let mut figures = Figures::default();
        for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
            let line = line.map_err(|e| format!("{name}: {e}"))?;
            eprintln!("{name}: {line}");
            figures.read(&line);
        }
        let status = child.wait().map_err(|e| format!("{name}: {e}"))?;
        let seconds = began.elapsed().as_secs_f32();
        let unexplained = !status.success() && figures.broken().is_empty();
        if figures.is_empty() || unexplained {
            return Err(format!(
                "{name}: expected figures that explain its end, found {status} and {figures:?}"
            ));
        }
        Ok(Done { name, seconds, figures })
    }
}

/// One after the other.
pub fn in_turn(parts: Vec<Part>) -> Result<Vec<Done>, String> {
    parts.into_iter().map(Part::run).collect()
}
