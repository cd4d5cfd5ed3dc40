//! Text in tables that people open with a spreadsheet, which takes some of it for a formula.

use std::borrow::Cow;

/// What a spreadsheet takes for the start of a formula (OWASP, "CSV Injection").
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A text as a cell of a table for people: with `'` before it where a spreadsheet would compute it. Numbers are written as they
/// are.
///
/// ```
/// use epsilon_metrics::files::text_cell;
///
/// assert_eq!(text_cell("beach"), "beach");
/// assert_eq!(text_cell("=HYPERLINK(\"http://example.org\")"), "'=HYPERLINK(\"http://example.org\")");
/// ```
pub fn text_cell(text: &str) -> Cow<'_, str> {
    match text.starts_with(FORMULA) {
        true => Cow::Owned(format!("'{text}")),
        false => Cow::Borrowed(text),
    }
}
