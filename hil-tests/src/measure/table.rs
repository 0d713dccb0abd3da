//! Rows, printed as Markdown for people and kept as JSON for programs. A column is named once, for both.

use serde_json::{Map, Value, json};

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// Its key in JSON.
    pub key: &'static str,
}

/// What stands in one place of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words: to the left.
    Text(String),
    /// A number, of so many decimals, and what stands behind it.
    Number(f64, usize, &'static str),
    /// What was not measured, and why: a word for the table.
    Missing(&'static str),
}

/// Columns and rows.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows.
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column, in their order.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// For people. A column is set to the right where it has a number in any row.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.columns.iter().map(|column| column.heading.to_owned()).collect());
        let number = |at: usize| self.rows.iter().any(|row| matches!(row.get(at), Some(Cell::Number(..))));
        let sides = (0..self.columns.len()).map(|at| if number(at) { "--:" } else { "---" });
        out.push_str(&format!("|{}|\n", sides.collect::<Vec<_>>().join("|")));
        for row in &self.rows {
            out.push_str(&line(row.iter().map(Cell::markdown).collect()));
        }
        out
    }

    /// For programs: an object for each row. What was not measured is null, and why stands under the key with `_why` behind.
    pub fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let mut object = Map::new();
            for (Column { key, .. }, cell) in self.columns.iter().zip(row) {
                if let Cell::Missing(why) = cell {
                    object.insert(format!("{key}_why"), json!(why));
                }
                object.insert((*key).to_owned(), cell.json());
            }
            Value::Object(object)
        };
        Value::Array(self.rows.iter().map(object).collect())
    }
}

impl Cell {
    /// Words.
    pub fn text(words: impl Into<String>) -> Cell {
        Cell::Text(words.into())
    }

    /// A whole number.
    pub fn whole(number: u64) -> Cell {
        Cell::Number(number as f64, 0, "")
    }

    fn markdown(&self) -> String {
        match self {
            Cell::Text(words) => words.replace('|', "\\|"),
            Cell::Number(number, decimals, behind) => {
                let text = format!("{number:.decimals$}");
                let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(w, r)| (w, Some(r)));
                let rest = rest.map(|rest| format!(".{rest}")).unwrap_or_default();
                format!("{}{rest}{behind}", thousands(whole))
            }
            Cell::Missing(why) => (*why).to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Text(words) => json!(words),
            Cell::Number(number, 0, _) => json!(*number as i64),
            Cell::Number(number, ..) => json!(number),
            Cell::Missing(_) => Value::Null,
        }
    }
}

/// Digits in groups of three.
fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut out = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_the_same_for_people_and_for_programs() {
        let columns =
            [Column { heading: "method", key: "method" }, Column { heading: "bytes", key: "bytes" }];
        let mut table = Table::new(&columns);
        table.row(vec![Cell::text("a|b"), Cell::whole(1_234_567)]);
        table.row(vec![Cell::text("c"), Cell::Number(999.25, 1, " s")]);
        table.row(vec![Cell::text("d"), Cell::Missing("not here")]);
        let expected =
            "| method | bytes |\n|---|--:|\n| a\\|b | 1,234,567 |\n| c | 999.2 s |\n| d | not here |\n";
        assert_eq!(table.markdown(), expected);
        assert_eq!(
            table.json(),
            json!([
                {"method": "a|b", "bytes": 1_234_567}, {"method": "c", "bytes": 999.25},
                {"method": "d", "bytes": null, "bytes_why": "not here"}
            ])
        );
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        let cases = ["0", "999", "1000", "-1000", "1234567"].map(thousands);
        assert_eq!(cases, ["0", "999", "1,000", "-1,000", "1,234,567"]);
    }
}
