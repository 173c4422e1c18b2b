//! Tables for a terminal.

/// Columns as wide as their widest cell, two spaces between them.
pub fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |cells: [&str; COLUMNS]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(line(head)).chain(body).collect()
}

/// A table, or, of no rows, a sentence that says so.
pub fn table_or<const COLUMNS: usize>(
    none: &str,
    head: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> String {
    if rows.is_empty() { format!("{none}\n") } else { table(head, rows) }
}

#[cfg(test)]
mod tests {
    use super::{table, table_or};

    #[test]
    fn columns_line_up_and_no_line_ends_in_spaces() {
        let rows = [["relay-1".to_owned(), "ok".to_owned()], ["r".to_owned(), "suspect".to_owned()]];
        assert_eq!(table(["NODE", "HEALTH"], &rows), "NODE     HEALTH\nrelay-1  ok\nr        suspect\n");
    }

    #[test]
    fn an_empty_list_is_a_sentence() {
        assert_eq!(table_or("There is no room.", ["ROOM"], &[]), "There is no room.\n");
        assert_eq!(table_or("There is no room.", ["ROOM"], &[["demo".to_owned()]]), "ROOM\ndemo\n");
    }
}
