//! Plain-text tables of metrics. A table names its protocol, its rules, what was done to the scores, and the numbers of images and labels; fractions
//! are displayed in percent.

use std::fmt;

use crate::evaluation::{Evaluation, SplitEvaluation};
use crate::top_k::TopK;

/// Width at which the rules of a protocol are wrapped.
const WIDTH: usize = 78;

/// One column of metrics under the name and rules of the protocol.
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_protocol(f, self)?;
        write_table(f, &figures(&[("", self)]))
    }
}

/// ZSL, seen and GZSL side by side under the name and rules of the protocol.
impl fmt::Display for SplitEvaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_protocol(f, &self.gzsl)?;
        let splits = [
            ("ZSL", &self.zsl),
            ("seen", &self.seen),
            ("GZSL", &self.gzsl),
        ];
        write_table(f, &figures(&splits))?;
        let harmonic = percent(self.harmonic_map);
        write!(
            f,
            "\nharmonic mean of the seen and the unseen (ZSL) mAP: {harmonic} %"
        )
    }
}

/// A table of `(name, metrics)` of several methods, one per row, in the form of published tables: mAP and F1 at each K of
/// ZSL, then of GZSL, then the harmonic mean of the seen and ZSL mAP, all in percent. The name and rules of the first
/// method's protocol stand above it.
///
/// ```
/// use epsilon_metrics::{Labels, MethodComparison, Protocol, Scores, evaluate_splits};
///
/// let labels = Labels::new(&[1, -1, -1, 1], 2, 2)?;
/// let protocol = Protocol::named("lesa-nus")?;
/// let good = Scores::new(&[0.9, 0.1, 0.2, 0.8], 2, 2)?;
/// let bad = Scores::new(&[0.1, 0.9, 0.8, 0.2], 2, 2)?;
/// let good = evaluate_splits(good, labels, 1, &protocol, &[1], &[1])?;
/// let bad = evaluate_splits(bad, labels, 1, &protocol, &[1], &[1])?;
///
/// let table = MethodComparison(&[("good", &good), ("bad", &bad)]).to_string();
/// assert!(table.starts_with("protocol lesa-nus"));
/// // ZSL mAP and F1@1, GZSL mAP and F1@1, harmonic mean.
/// let cells: Vec<&str> = table.lines().last().unwrap_or("").split_whitespace().collect();
/// assert_eq!(cells, ["bad", "50.0", "66.7", "50.0", "0.0", "50.0"]);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MethodComparison<'a>(pub &'a [(&'a str, &'a SplitEvaluation)]);

impl fmt::Display for MethodComparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, first)) = self.0.first() else {
            return Ok(());
        };
        write_protocol(f, &first.gzsl)?;
        let mut head = vec![String::new()];
        for (split, figures) in [("ZSL", &first.zsl), ("GZSL", &first.gzsl)] {
            head.push(format!("{split} mAP"));
            head.extend(figures.top_k.iter().map(|t| format!("F1@{}", t.k)));
        }
        head.push("harmonic".into());
        let mut table = vec![head];
        for (name, method) in self.0 {
            let mut row = vec![(*name).to_string()];
            for (figures, columns) in [(&method.zsl, &first.zsl), (&method.gzsl, &first.gzsl)] {
                row.push(map(figures));
                let f1 = columns.top_k.iter().map(|t| at_k(figures, t.k, |t| t.f1));
                row.extend(f1);
            }
            row.push(percent(method.harmonic_map));
            table.push(row);
        }
        write_table(f, &table)
    }
}

/// A comparison of protocols on the same scores: the rules of every protocol, then one table per part (`ZSL`, `GZSL`,
/// ...) with one protocol per row. A row holds the numbers of images, positives and labels and the metrics in percent;
/// the last row holds the difference between the largest and the smallest value of each metric.
///
/// ```
/// use epsilon_metrics::{Labels, Protocol, Protocols, Scores, evaluate};
///
/// // mAP 1/2 without image 1, which has no positive, and 1/4 with it.
/// let scores = Scores::new(&[0.6, 0.5, 0.9, 0.1], 2, 2)?;
/// let labels = Labels::new(&[1, -1, -1, -1], 2, 2)?;
/// let epsilon = evaluate(scores, labels, &[0, 1], &Protocol::epsilon(), &[])?;
/// let lesa_nus = evaluate(scores, labels, &[0, 1], &Protocol::lesa_nus(), &[])?;
/// let text = Protocols(&[("all labels", vec![&epsilon, &lesa_nus])]).to_string();
/// let rows: Vec<&str> = text.lines().rev().collect();
/// assert!(rows[2].starts_with("epsilon") && rows[2].ends_with("50.0"));
/// assert!(rows[1].starts_with("lesa-nus") && rows[1].ends_with("25.0"));
/// assert!(rows[0].starts_with("furthest apart") && rows[0].ends_with("25.0"));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Protocols<'a>(pub &'a [(&'a str, Vec<&'a Evaluation>)]);

impl fmt::Display for Protocols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last part has the rules of all labels, from which those of ZSL may differ.
        let rules = self.0.last().map_or(&[][..], |(_, first)| &first[..]);
        for evaluation in rules {
            write_protocol(f, evaluation)?;
        }
        for (place, (part, evaluations)) in self.0.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            write_table(f, &by_protocol(part, evaluations))?;
        }
        Ok(())
    }
}

/// One row per protocol; the first row is the heading, the last one the largest difference of each metric.
fn by_protocol(part: &str, evaluations: &[&Evaluation]) -> Vec<Vec<String>> {
    let named: Vec<(&str, &Evaluation)> = evaluations.iter().map(|e| ("", *e)).collect();
    let ks = ks(&named);
    let heads = ["images kept", "positives", "labels", "mAP"];
    let mut head = vec![part.to_string()];
    head.extend(heads.map(String::from));
    for k in &ks {
        head.extend(["P", "R", "F1"].map(|figure| format!("{figure}@{k}")));
    }
    let mut table = vec![head];
    let figures: [fn(&TopK) -> f64; 3] = [|t| t.precision, |t| t.recall, |t| t.f1];
    for evaluation in evaluations {
        let mut row = vec![evaluation.protocol.clone()];
        row.push(format!(
            "{} of {}",
            evaluation.images_kept, evaluation.images_total
        ));
        row.push(format!("{:.2}", evaluation.positives_per_image));
        row.push(evaluation.averaged());
        row.push(map(evaluation));
        for &k in &ks {
            row.extend(figures.map(|figure| at_k(evaluation, k, figure)));
        }
        table.push(row);
    }
    let mut last = vec!["furthest apart".into(), String::new(), String::new()];
    last.extend([String::new(), apart(evaluations.iter().map(|e| e.map))]);
    for &k in &ks {
        let at = |e: &&Evaluation| e.top_k.iter().find(|t| t.k == k).copied();
        let found: Vec<TopK> = evaluations.iter().filter_map(at).collect();
        last.extend(figures.map(|figure| apart(found.iter().map(figure))));
    }
    table.push(last);
    table
}

/// The largest value minus the smallest.
fn apart(figures: impl Iterator<Item = f64>) -> String {
    let (low, high) = figures.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), figure| {
        (low.min(figure), high.max(figure))
    });
    percent((high - low).max(0.0))
}

/// Rows of metrics with one column per evaluation; the first row is the heading.
fn figures(evaluations: &[(&str, &Evaluation)]) -> Vec<Vec<String>> {
    let row = |name: String, cell: &dyn Fn(&Evaluation) -> String| -> Vec<String> {
        let cells = evaluations.iter().map(|(_, e)| cell(e));
        std::iter::once(name).chain(cells).collect()
    };
    let heading = evaluations.iter().map(|(name, _)| (*name).to_string());
    let mut table = vec![std::iter::once(String::new()).chain(heading).collect()];
    table.push(row("images kept".into(), &|e| {
        format!("{} of {}", e.images_kept, e.images_total)
    }));
    table.push(row("positives per image".into(), &|e| {
        format!("{:.2}", e.positives_per_image)
    }));
    table.push(row("labels averaged".into(), &|e| e.averaged()));
    table.push(row("mAP (%)".into(), &map));
    for k in ks(evaluations) {
        table.push(row(format!("P@{k} (%)"), &|e| at_k(e, k, |t| t.precision)));
        table.push(row(format!("R@{k} (%)"), &|e| at_k(e, k, |t| t.recall)));
        table.push(row(format!("F1@{k} (%)"), &|e| at_k(e, k, |t| t.f1)));
    }
    table.push(row("coverage error".into(), &|e| {
        format!("{:.1}", e.coverage_error)
    }));
    table.push(row("ranking loss (%)".into(), &|e| percent(e.ranking_loss)));
    table
}

/// The K of all evaluations, ascending, each once.
fn ks(evaluations: &[(&str, &Evaluation)]) -> Vec<usize> {
    let top_k = evaluations.iter().flat_map(|(_, e)| &e.top_k);
    let mut ks: Vec<usize> = top_k.map(|t| t.k).collect();
    ks.sort_unstable();
    ks.dedup();
    ks
}

fn map(evaluation: &Evaluation) -> String {
    let map = percent(evaluation.map);
    match &evaluation.bootstrap {
        Some(b) => format!("{map} \u{b1} {}", percent(b.standard_error)),
        None => map,
    }
}

/// The metric in percent, or a dash if the evaluation does not have this K.
fn at_k(evaluation: &Evaluation, k: usize, figure: impl Fn(&TopK) -> f64) -> String {
    let found = evaluation.top_k.iter().find(|t| t.k == k);
    found.map_or_else(|| "-".into(), |t| percent(figure(t)))
}

fn percent(fraction: f64) -> String {
    format!("{:.1}", 100.0 * fraction)
}

fn write_protocol(f: &mut fmt::Formatter<'_>, evaluation: &Evaluation) -> fmt::Result {
    writeln!(f, "protocol {}", evaluation.protocol)?;
    let mut line = String::new();
    for word in evaluation.rules().split(' ') {
        if line.len() + word.len() + 3 > WIDTH {
            writeln!(f, " {line}")?;
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(f, " {line}")
}

/// Names flush left, metrics flush right, a rule under the heading; no newline at the end.
fn write_table(f: &mut fmt::Formatter<'_>, table: &[Vec<String>]) -> fmt::Result {
    let widths = widths(table);
    let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    for (i, row) in table.iter().enumerate() {
        let titled = row.iter().any(|cell| !cell.is_empty());
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            line += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        match (i, titled) {
            (0, true) => write!(f, "\n{line}\n{}", "-".repeat(total))?,
            (0, false) => write!(f, "\n{}", "-".repeat(total))?,
            _ => write!(f, "\n{}", line.trim_end())?,
        }
    }
    Ok(())
}

/// Width of each column in characters.
fn widths(table: &[Vec<String>]) -> Vec<usize> {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bootstrap, Labels, Protocol, Scores, evaluate, evaluate_splits};

    fn split() -> SplitEvaluation {
        let scores: Vec<f32> = (0..20).map(|i| (i * 7 % 20) as f32).collect();
        let labels = [
            1, -1, 1, -1, 1, -1, 1, 1, -1, -1, 0, -1, 1, 1, 1, -1, 1, -1, 0, -1,
        ];
        let scores = Scores::new(&scores, 5, 4).unwrap();
        let labels = Labels::new(&labels, 5, 4).unwrap();
        let protocol = Protocol::named("lesa-nus").unwrap();
        evaluate_splits(scores, labels, 2, &protocol, &[1], &[1, 3]).unwrap()
    }

    #[test]
    fn the_split_table_is_aligned_and_complete() {
        let mut split = split();
        split.zsl.bootstrap = Some(Bootstrap {
            resamples: 100,
            seed: 0,
            standard_error: 0.0123,
            low: 0.0,
            high: 1.0,
        });
        let text = split.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "protocol lesa-nus");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        let at = |name: &str| *lines.iter().find(|line| line.starts_with(name)).unwrap();
        let end = at("images kept").chars().count();
        for name in ["positives per image", "labels averaged", "mAP", "F1@3"] {
            assert_eq!(at(name).chars().count(), end, "{text}");
        }
        assert!(at("images kept").ends_with("5 of 5"));
        assert!(at("mAP").contains("\u{b1} 1.2"));
        // K = 3 exceeds the two unseen and the two seen labels.
        let dashes = at("F1@3").split_whitespace().filter(|w| *w == "-");
        assert_eq!(dashes.count(), 2, "{text}");
        assert!(text.ends_with('%'));
    }

    #[test]
    fn one_evaluation_prints_one_column() {
        let scores = Scores::new(&[0.9, 0.1], 2, 1).unwrap();
        let labels = Labels::new(&[1, -1], 2, 1).unwrap();
        let protocol = Protocol::named("epsilon").unwrap();
        let text = evaluate(scores, labels, &[0], &protocol, &[1])
            .unwrap()
            .to_string();
        assert!(text.contains("images with a positive label"), "{text}");
        assert!(text.contains("\nimages kept          1 of 2\n"), "{text}");
        assert!(text.contains("\nF1@1 (%)              100.0\n"), "{text}");
        assert!(text.ends_with("\nranking loss (%)        0.0"), "{text}");
    }

    #[test]
    fn methods_compare_in_rows() {
        let split = split();
        let text = MethodComparison(&[("Epsilon", &split), ("chance", &split)]).to_string();
        let rows: Vec<&str> = text
            .lines()
            .skip_while(|l| !l.contains("ZSL mAP"))
            .collect();
        assert_eq!(rows.len(), 4, "{text}");
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!(rows[2].split_whitespace().count(), 7, "{text}");
        assert_eq!(MethodComparison(&[]).to_string(), "");
    }
}
