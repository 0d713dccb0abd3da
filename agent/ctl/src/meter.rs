//! How far long work has come: a bar on a terminal, plain lines elsewhere, nothing when asked to be quiet.
//! It all goes to standard error, so that standard output holds results alone.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A terminal gets a bar, anything else gets lines.
    Auto,
    /// Nobody.
    Nobody,
}

/// Bytes done, of how many.
pub struct Meter {
    label: String,
    total: Option<u64>,
    done: u64,
    begun: Instant,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant, tenths: u64 },
    Nothing,
}

impl Meter {
    /// Starts; `total` is not known for what comes through a pipe.
    pub fn start(audience: Audience, label: impl Into<String>, total: Option<u64>) -> Self {
        let label = label.into();
        let shown = match audience {
            Audience::Nobody => Shown::Nothing,
            Audience::Auto if std::io::stderr().is_terminal() => Shown::Bar(bar(&label, total)),
            Audience::Auto => Shown::Lines { last: Instant::now(), tenths: 0 },
        };
        Meter { label, total, done: 0, begun: Instant::now(), shown }
    }

    /// So many bytes are done now.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines { last, tenths } => {
                let now_tenths = self.total.map_or(0, |total| done.saturating_mul(10) / total.max(1));
                let due = last.elapsed();
                if (now_tenths > *tenths && due >= LINE_LEAST) || due >= LINE_MOST {
                    (*last, *tenths) = (Instant::now(), now_tenths);
                    eprintln!("{}: {}", self.label, so_far(done, self.total));
                }
            }
            Shown::Nothing => {}
        }
    }

    /// So many bytes more are done.
    pub fn add(&mut self, bytes: u64) {
        self.set(self.done + bytes);
    }

    /// Ends, and says how long it took.
    pub fn finish(self) -> Duration {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
        self.begun.elapsed()
    }
}

fn bar(label: &str, total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let (bar, style) = match total {
        Some(total) => (
            ProgressBar::with_draw_target(Some(total), target),
            "{msg} [{wide_bar}] {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}",
        ),
        None => (
            ProgressBar::with_draw_target(None, target),
            "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}",
        ),
    };
    // The templates above are constants; were one wrong, the plain bar would do.
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("=> ")).with_message(label.to_owned())
}

fn so_far(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => {
            let percent = done.saturating_mul(100) / total.max(1);
            format!("{} of {} ({percent} %)", size(done), size(total))
        }
        None => size(done),
    }
}

/// Bytes for people: `640.0 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{value:.1} {unit}")
}

/// Lines come at each tenth, but not faster than this,
const LINE_LEAST: Duration = Duration::from_secs(1);
/// and at least this often.
const LINE_MOST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_written_for_people() {
        #[rustfmt::skip]
        let cases = [
            (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"), (671_088_640, "640.0 MiB"), (3 << 40, "3.0 TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }
}
