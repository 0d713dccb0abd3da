//! The report for machines, as JUnit's XML is read by CI systems (the schema of Apache Ant's task, with `skipped`): one suite for
//! each board, one test case for each case of a scenario. What was not run is `skipped`, with the reason.

use super::Case;
use crate::scenario::Verdict;
use std::fmt::Write;

/// The document.
pub fn document(cases: &[Case]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let mut boards: Vec<&str> = cases.iter().map(|case| case.board.as_str()).collect();
    boards.dedup();
    for board in boards {
        let of_board: Vec<&Case> = cases.iter().filter(|case| case.board == board).collect();
        let count = |wanted: fn(&Verdict) -> bool| {
            of_board.iter().filter(|case| wanted(&case.played.verdict)).count()
        };
        let failures = count(|verdict| matches!(verdict, Verdict::Failed(_)));
        let skipped = count(|verdict| matches!(verdict, Verdict::NotRun(_)));
        let seconds: f64 = of_board.iter().map(|case| case.played.took.as_secs_f64()).sum();
        // A String takes everything.
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" \
             time=\"{seconds:.3}\">",
            escaped(board),
            of_board.len()
        );
        of_board.iter().for_each(|case| test_case(&mut out, case));
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

fn test_case(out: &mut String, Case { board, played }: &Case) {
    let name = match played.case {
        "" => format!("{} {}", played.number, played.title),
        case => format!("{} {}: {case}", played.number, played.title),
    };
    let (board, name, table) = (escaped(board), escaped(&name), escaped(&played.table));
    let _ = write!(
        out,
        "    <testcase classname=\"{board}\" name=\"{name}\" time=\"{:.3}\">",
        played.took.as_secs_f64()
    );
    let _ = match &played.verdict {
        Verdict::Ok => write!(out, "<system-out>{table}</system-out>"),
        Verdict::NotRun(why) => write!(out, "<skipped message=\"{}\"/>", escaped(why)),
        Verdict::Failed(why) => {
            let short = played.evidence.as_ref();
            let short =
                short.map(|(before, after)| super::evidence::in_short(before, after)).unwrap_or_default();
            write!(out, "<failure message=\"{}\">{table}\n{}</failure>", escaped(why), escaped(&short))
        }
    };
    *out += "</testcase>\n";
}

/// Text for content and for attributes. What XML 1.0 cannot carry at all (a console has it) becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\n' | '\t' => out.push(c),
            '\r' => {}
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::case;
    use super::*;
    use crate::bench::Evidence;

    #[test]
    fn what_was_not_run_is_skipped_and_never_passed() {
        let document = document(&[
            case("qemu/x86-bios", 1, Verdict::Ok),
            case("qemu/x86-bios", 2, Verdict::NotRun("no \"qemu\" <here>".into())),
        ]);
        let suite = "<testsuite name=\"qemu/x86-bios\" tests=\"2\" failures=\"0\" errors=\"0\" skipped=\"1\" time=\"4.000\">";
        assert!(document.contains(suite), "{document}");
        assert!(
            document.contains("<skipped message=\"no &quot;qemu&quot; &lt;here&gt;\"/></testcase>"),
            "{document}"
        );
        assert_eq!(document.matches("<testcase ").count(), document.matches("</testcase>").count());
    }

    #[test]
    fn a_failure_carries_its_claims_and_its_console_and_no_character_that_xml_forbids() {
        let mut failed = case("b", 3, Verdict::Failed("a & b".into()));
        failed.played.table = "✗ NOT a < b".into();
        let console = "\x1b[2J]]>\0 panic\r\n".to_owned();
        failed.played.evidence = Some((Evidence::default(), Evidence { console, environment: vec![] }));
        let document = document(&[failed]);
        assert!(document.contains("<failure message=\"a &amp; b\">✗ NOT a &lt; b\n"), "{document}");
        assert!(document.contains("| \u{fffd}[2J]]&gt;\u{fffd} panic\n"), "{document}");
        assert!(document.chars().all(|c| c == '\n' || c >= ' '), "{document:?}");
    }
}
