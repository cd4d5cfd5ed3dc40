//! What an error says together with its causes.

use std::error::Error;

/// The message of an error and of its causes, outermost first, without repetition: most messages of these crates include their cause.
///
/// ```
/// use epsilon_data::errors::explain;
/// use epsilon_data::labels::read_names;
///
/// let error = read_names("none.txt".as_ref()).unwrap_err();
/// let said = explain(&error);
/// assert_eq!(said.matches("none.txt").count(), 1);
/// ```
pub fn explain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !said.contains(&message) {
            said = format!("{said}: {message}");
        }
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Layer {
        said: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn a_cause_is_said_once() {
        let layer = |said, source: Option<Layer>| Layer {
            said,
            source: source.map(Box::new),
        };
        let chain = layer("reading a: b", Some(layer("b", Some(layer("c", None)))));
        assert_eq!(explain(&chain), "reading a: b: c");
        assert_eq!(explain(&layer("alone", None)), "alone");
    }
}
