//! The table of a comparison as Markdown, CSV and LaTeX.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use epsilon::comparison::Published;
use epsilon::experiment::{LabelSet, Measure, Resamples};
use epsilon::training::Choose;
use epsilon_data::files;
use epsilon_metrics::TopK;
use epsilon_metrics::files::text_cell;
use serde::Serialize;

use super::marks::{self, Mark};
use super::{Trained, mean};
use crate::commands::mean_and_deviation;

/// A method with all its trainings.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    pub name: String,
    pub published: Option<Published>,
    /// The grid point that was best on the validation images; empty if nothing was tuned.
    pub chosen: String,
    /// The figure that chose, where seen labels were left out for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choose: Option<Choose>,
    /// Every grid point with the figure on the validation images that chose.
    pub tuned: Vec<(String, Option<f64>)>,
    /// One training per seed.
    pub trained: Vec<Trained>,
}

/// A figure in percent over the seeds.
#[derive(Clone, Copy)]
struct Figure {
    mean: f64,
    deviation: f64,
}

impl Line {
    /// The lines of a row's label folds as one: figures over the folds for each seed, means of what was tried.
    pub(super) fn over_folds(lines: Vec<Self>) -> Option<Self> {
        let first = lines.first()?;
        let tuned = first.tuned.iter().enumerate().map(|(point, (label, _))| {
            let values = lines.iter().map(|line| line.tuned[point].1);
            (label.clone(), mean(values))
        });
        let trained = (0..first.trained.len()).map(|seed| {
            let folds = lines.iter().map(|line| line.trained[seed].clone());
            Trained::over_folds(folds.collect())
        });
        Some(Self {
            name: first.name.clone(),
            published: first.published.clone(),
            chosen: first.chosen_over(&lines),
            choose: first.choose,
            tuned: tuned.collect(),
            trained: trained.collect::<Option<_>>()?,
        })
    }

    /// What the folds chose, in the order of what was tried, each with how many of them did, unless all agree.
    fn chosen_over(&self, folds: &[Self]) -> String {
        let chosen = self.tuned.iter().filter_map(|(label, _)| {
            let count = folds.iter().filter(|fold| fold.chosen == *label).count();
            match count {
                0 => None,
                count if count == folds.len() => Some(label.clone()),
                count => Some(format!("{label} ({count} of {} folds)", folds.len())),
            }
        });
        chosen.collect::<Vec<_>>().join("; ")
    }

    /// Whether there is something to tell of what was tried.
    fn was_tuned(&self) -> bool {
        self.tuned.len() > 1 || self.choose.is_some()
    }

    /// The figure that chose, in words.
    fn tuned_by(&self) -> &'static str {
        match self.choose {
            Some(figure) => figure.about(),
            None => "mAP of the seen labels",
        }
    }

    /// How many label folds it has.
    fn folds(&self) -> usize {
        self.trained[0].folds.len()
    }

    /// mAP of each label set that was measured in a label fold, mean over the seeds.
    fn maps_of_fold(&self, fold: usize) -> String {
        let map = |set| {
            mean(
                self.trained
                    .iter()
                    .map(|t| Some(t.folds[fold].figures.part(set)?.map)),
            )
        };
        let maps = LabelSet::ALL.into_iter().filter_map(map);
        let maps: Vec<String> = maps.map(|map| format!("{:.1}", 100.0 * map)).collect();
        maps.join(" / ")
    }

    fn figure(&self, of: impl Fn(&Trained) -> Option<f64>) -> Option<Figure> {
        let values: Option<Vec<f64>> = self.trained.iter().map(of).collect();
        let (mean, deviation) = mean_and_deviation(&values?);
        Some(Figure { mean, deviation })
    }

    /// Its name, and whether the backbone's own classes are part of its scores.
    fn title(&self) -> String {
        match self.trained[0].figures.backbone_classes_known() {
            true => format!("{} (backbone classes known)", self.name),
            false => self.name.clone(),
        }
    }

    /// The name and value of every figure of a label set, at each of `ks`; no value where the set was not measured.
    fn figures_of(&self, set: LabelSet, ks: &[usize]) -> Vec<(String, Option<Figure>)> {
        let map = self.figure(|t| Some(100.0 * t.figures.part(set)?.map));
        let mut all = vec![(format!("{} mAP", set.name()), map)];
        for &k in ks {
            let at = |t: &Trained, value: fn(&TopK) -> f64| {
                let top = t.figures.part(set)?.top_k.iter().find(|top| top.k == k)?;
                Some(100.0 * value(top))
            };
            all.push((
                format!("P@{k}"),
                self.figure(|t| at(t, |top| top.precision)),
            ));
            all.push((format!("R@{k}"), self.figure(|t| at(t, |top| top.recall))));
            all.push((format!("F1@{k}"), self.figure(|t| at(t, |top| top.f1))));
        }
        all
    }

    fn seconds(&self) -> f64 {
        mean_and_deviation(&self.trained.iter().map(|t| t.seconds).collect::<Vec<_>>()).0
    }

    fn peak_mb(&self) -> Option<f64> {
        let peaks: Option<Vec<f64>> = self.trained.iter().map(|t| t.peak_mb).collect();
        peaks.map(|peaks| peaks.into_iter().fold(0.0, f64::max))
    }
}

/// The published figures of a label set: mAP, and F1 at the two K.
type PublishedFigures = fn(&Published) -> (Option<f64>, Option<[f64; 2]>);

/// All lines of a comparison.
pub(super) struct Table<'a>(pub &'a [Line]);

/// How a mark is shown in Markdown: what encloses the best figure, and what follows those that are not told apart from it.
const IN_MARKDOWN: ([&str; 2], &str) = (["**", "**"], " \u{2020}");
const IN_LATEX: ([&str; 2], &str) = (["\\textbf{", "}"], "$^\\dagger$");

impl Table<'_> {
    /// How each line's mAP of a label set stands to the best one's.
    fn marks(&self, set: LabelSet) -> Vec<Mark> {
        let lines = self.0.iter();
        let rows: Vec<Vec<&Resamples>> = lines
            .map(|line| line.trained.iter().map(|t| &t.resamples).collect())
            .collect();
        marks::marks(&rows, Measure::of(set))
    }

    /// Writes `table.md`, `table.csv` and `table.tex` into a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let files = [
            ("table.md", self.markdown().into_bytes()),
            ("table.csv", self.csv()?),
            ("table.tex", self.latex().into_bytes()),
        ];
        for (name, bytes) in files {
            let path = folder.join(name);
            files::write(&path, &bytes).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Tables of the unseen labels, of all labels, of the cost, and of what the grid gave.
    pub(super) fn markdown(&self) -> String {
        let Some(first) = self.0.first() else {
            return String::new();
        };
        // Each row says for itself whether it knows the backbone's classes.
        let mut plain = self.0.iter();
        let plain = plain.find(|line| !line.trained[0].figures.backbone_classes_known());
        let figures = plain.unwrap_or(first).trained[0].figures.seen();
        let mut text = format!(
            "Protocol `{}`: {}. {} test images. Percent, mean over {} {}",
            figures.protocol,
            figures.rules(),
            figures.images_total,
            first.trained.len(),
            match first.trained.len() {
                1 => "seed.",
                _ => "seeds, with the standard deviation over them beside mAP.",
            }
        );
        if first.folds() > 0 {
            let _ = write!(
                text,
                " {} label folds: the figures of the unseen labels rest on every label, in the fold that it is unseen in; all others \
                 are means over the folds.",
                first.folds()
            );
        }
        if let Some(errors) = self.bootstrap_errors() {
            let _ = write!(
                text,
                " Bootstrap over test images: the standard error of one mAP is about {errors}."
            );
        }
        let marked = |set| self.marks(set).contains(&Mark::Best);
        if LabelSet::ALL.into_iter().any(marked) {
            let _ = write!(text, " {}", marks::LEGEND);
        }
        let unseen = self.measured(LabelSet::Unseen);
        if unseen {
            text.push_str("\n\n## Unseen labels\n\n");
            text.push_str(&self.figures(&[LabelSet::Unseen], |p| (p.map, p.f1)));
            text.push_str("\n## Seen labels, and all labels\n\n");
            text.push_str(&self.figures(&[LabelSet::Seen, LabelSet::All], |p| {
                (p.gzsl_map, p.gzsl_f1)
            }));
        } else {
            text.push_str("\n\n## Labels\n\n");
            text.push_str(&self.figures(&[LabelSet::Seen], |p| (p.map, p.f1)));
        }
        if first.folds() > 0 {
            text.push_str("\n## Label folds: mAP of the label sets, ");
            let sets = LabelSet::ALL.into_iter().filter(|&set| self.measured(set));
            text.push_str(&sets.map(LabelSet::name).collect::<Vec<_>>().join(" / "));
            text.push_str("\n\n");
            text.push_str(&self.fold_maps(first.folds()));
        }
        text.push_str(&self.backbone_classes());
        text.push_str("\n## What it took\n\n");
        text.push_str(&self.cost());
        if self.0.iter().any(Line::was_tuned) {
            let figure = self.0.iter().filter(|line| line.was_tuned());
            let mut figures: Vec<&str> = figure.map(Line::tuned_by).collect();
            figures.dedup();
            let _ = write!(
                text,
                "\n## What was tried: {} on the validation images, first seed\n\n",
                figures.join(" or ")
            );
            text.push_str(&self.tuning());
        }
        text
    }

    fn fold_maps(&self, folds: usize) -> String {
        let rows = self.0.iter().map(|line| {
            let cells =
                (0..folds).map(|fold| (format!("fold {}", fold + 1), line.maps_of_fold(fold)));
            let name = ("method".to_string(), line.name.clone());
            std::iter::once(name).chain(cells).collect()
        });
        markdown(rows.collect())
    }

    /// Of the lines that know the backbone's own classes, which unseen labels are among these, and the mAP of the others.
    fn backbone_classes(&self) -> String {
        let lines = self.0.iter().filter_map(|line| {
            let figures = &line.trained[0].figures;
            Some((line, figures.backbone_classes()?))
        });
        let lines: Vec<_> = lines.collect();
        let Some((_, classes)) = lines.first() else {
            return String::new();
        };
        let rows = lines.iter().map(|(line, classes)| {
            let map = |t: &Trained| Some(100.0 * t.figures.backbone_classes()?.others_map?);
            let map = line.figure(map);
            let map = map.map_or("-".into(), |figure| figure.print(true));
            vec![
                ("method".to_string(), line.name.clone()),
                (
                    format!("ZSL mAP of the {} other labels", classes.others),
                    map,
                ),
            ]
        });
        let known = classes.known.join(", ");
        let (count, all) = (classes.known.len(), classes.known.len() + classes.others);
        format!(
            "\n## Backbone classes known\n\nThe scores of these methods use the backbone's own classes. {count} of the {all} \
             unseen labels are among them: {known}.\n\n{}",
            markdown(rows.collect())
        )
    }

    /// Whether any line has figures of a label set.
    fn measured(&self, set: LabelSet) -> bool {
        self.0
            .iter()
            .any(|line| line.trained[0].figures.part(set).is_some())
    }

    /// The K of a label set's figures.
    fn ks(&self, set: LabelSet) -> Vec<usize> {
        let mut lines = self.0.iter();
        let figures = lines.find_map(|line| line.trained[0].figures.part(set));
        figures.map_or_else(Vec::new, |figures| {
            figures.top_k.iter().map(|top| top.k).collect()
        })
    }

    /// The standard error of one training's mAP for lack of test images, by label set, from the last line with all.
    fn bootstrap_errors(&self) -> Option<String> {
        let sets: Vec<LabelSet> = LabelSet::ALL
            .into_iter()
            .filter(|&p| self.measured(p))
            .collect();
        let of = |line: &Line| -> Option<String> {
            let error = |set: &LabelSet| {
                let bootstrap = line.trained[0].figures.part(*set)?.bootstrap.as_ref()?;
                let error = 100.0 * bootstrap.standard_error;
                Some(format!("{error:.1} ({})", set.name()))
            };
            let errors: Option<Vec<String>> = sets.iter().map(error).collect();
            Some(errors?.join(", "))
        };
        self.0.iter().rev().find_map(of)
    }

    fn figures(&self, sets: &[LabelSet], published: PublishedFigures) -> String {
        let any_published = self.0.iter().any(|line| line.published.is_some());
        let marks: Vec<Vec<Mark>> = sets.iter().map(|&set| self.marks(set)).collect();
        let rows = self.0.iter().enumerate().map(|(number, line)| {
            let mut row = vec![("method".to_string(), line.title())];
            for (&set, marks) in sets.iter().zip(&marks) {
                // Beside those of all labels, of the seen ones only the mAP: the published tables have no more.
                let ks = match set {
                    LabelSet::Seen if sets.len() > 1 => Vec::new(),
                    set => self.ks(set),
                };
                let cells = line.figures_of(set, &ks).into_iter().enumerate();
                row.extend(cells.map(|(place, (name, figure))| {
                    let figure = figure.map_or("-".into(), |figure| figure.print(place == 0));
                    let (bold, same) = IN_MARKDOWN;
                    match place {
                        0 => (name, marks[number].print(&figure, bold, same)),
                        _ => (name, figure),
                    }
                }));
            }
            if any_published {
                let (map, f1) = line.published.as_ref().map_or((None, None), published);
                let cell = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
                row.push(("published mAP".into(), cell(map)));
                row.push((
                    "published F1".into(),
                    f1.map_or("-".into(), |[a, b]| format!("{a:.1}, {b:.1}")),
                ));
            }
            row
        });
        markdown(rows.collect())
    }

    fn cost(&self) -> String {
        let rows = self.0.iter().map(|line| {
            let chosen = match line.chosen.as_str() {
                "" => "-",
                chosen => chosen,
            };
            vec![
                ("method".to_string(), line.name.clone()),
                ("parameters".into(), thousands(line.trained[0].parameters)),
                ("training, s".into(), format!("{:.1}", line.seconds())),
                (
                    "peak memory, MB".into(),
                    line.peak_mb().map_or("-".into(), |mb| format!("{mb:.0}")),
                ),
                ("chosen".into(), chosen.into()),
            ]
        });
        markdown(rows.collect())
    }

    fn tuning(&self) -> String {
        let tried = self
            .0
            .iter()
            .flat_map(|line| line.tuned.iter().map(move |point| (line, point)));
        let rows = tried
            .filter(|(line, _)| line.was_tuned())
            .map(|(line, (label, map))| {
                let mark = if *label == line.chosen { "**" } else { "" };
                let map = map.map_or("-".into(), |map| format!("{mark}{:.2}{mark}", 100.0 * map));
                let figure = match line.choose {
                    Some(_) => "validation figure",
                    None => "validation mAP",
                };
                vec![
                    ("method".to_string(), line.name.clone()),
                    ("setting".into(), label.clone()),
                    (figure.into(), map),
                ]
            });
        markdown(rows.collect())
    }

    fn csv(&self) -> anyhow::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let sets = LabelSet::ALL.into_iter().filter(|&set| self.measured(set));
        let sets: Vec<(LabelSet, Vec<Mark>)> = sets.map(|set| (set, self.marks(set))).collect();
        for (number, line) in self.0.iter().enumerate() {
            let mut row = vec![("method".to_string(), text_cell(&line.title()).into_owned())];
            for &(set, ref marks) in &sets {
                let figures = line.figures_of(set, &self.ks(set)).into_iter();
                for (place, (name, figure)) in figures.enumerate() {
                    let name = match place {
                        0 => name,
                        _ => format!("{} {name}", set.name()),
                    };
                    let deviation = format!("{name} s.d.");
                    let print = |value: fn(&Figure) -> f64| {
                        figure
                            .as_ref()
                            .map_or(String::new(), |f| value(f).to_string())
                    };
                    if place == 0 {
                        row.push((format!("{name} to the best"), marks[number].name().into()));
                    }
                    row.push((name, print(|f| f.mean)));
                    row.push((deviation, print(|f| f.deviation)));
                }
            }
            row.push(("seeds".into(), line.trained.len().to_string()));
            if self.0[0].folds() > 0 {
                row.push(("label folds".into(), line.folds().to_string()));
            }
            row.push(("parameters".into(), line.trained[0].parameters.to_string()));
            row.push(("seconds".into(), line.seconds().to_string()));
            let peak = line.peak_mb().map_or(String::new(), |mb| mb.to_string());
            row.push(("peak MB".into(), peak));
            row.push(("chosen".into(), text_cell(&line.chosen).into_owned()));
            if number == 0 {
                writer.write_record(row.iter().map(|(name, _)| name))?;
            }
            writer.write_record(row.iter().map(|(_, value)| value))?;
        }
        Ok(writer.into_inner()?)
    }

    /// One `tabular` in the form of the published tables; it needs the package booktabs.
    fn latex(&self) -> String {
        let Some(first) = self.0.first() else {
            return String::new();
        };
        let sets: &[LabelSet] = match self.measured(LabelSet::Unseen) {
            true => &[LabelSet::Unseen, LabelSet::All],
            false => &[LabelSet::Seen],
        };
        let shown = |line: &Line| {
            let figures = sets.iter().map(|&set| line.figures_of(set, &self.ks(set)));
            figures.collect::<Vec<_>>()
        };
        let marks: Vec<Vec<Mark>> = sets.iter().map(|&set| self.marks(set)).collect();
        let columns = shown(first).concat();
        let mut text = format!(
            "\\begin{{tabular}}{{l{}}}\n\\toprule\n",
            "r".repeat(columns.len())
        );
        let heads: Vec<String> = columns.iter().map(|(name, _)| escape(name)).collect();
        let _ = writeln!(text, "Method & {} \\\\\n\\midrule", heads.join(" & "));
        let (bold, same) = IN_LATEX;
        for (number, line) in self.0.iter().enumerate() {
            let mut cells = Vec::new();
            for (figures, marks) in shown(line).into_iter().zip(&marks) {
                for (place, (_, figure)) in figures.into_iter().enumerate() {
                    let figure = figure.map_or("--".into(), |f| format!("{:.1}", f.mean));
                    cells.push(match place {
                        0 => marks[number].print(&figure, bold, same),
                        _ => figure,
                    });
                }
            }
            let _ = writeln!(
                text,
                "{} & {} \\\\",
                escape(&line.title()),
                cells.join(" & ")
            );
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        text
    }
}

impl Figure {
    fn print(self, with_deviation: bool) -> String {
        match with_deviation && self.deviation > 0.0 {
            true => format!("{:.1} \u{b1} {:.1}", self.mean, self.deviation),
            false => format!("{:.1}", self.mean),
        }
    }
}

/// A Markdown table; its header is the names in the first row, its first column is left-aligned, the others right-aligned.
fn markdown(rows: Vec<Vec<(String, String)>>) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(first.iter().map(|(name, _)| name.as_str()).collect());
    let rules = first
        .iter()
        .enumerate()
        .map(|(place, _)| if place == 0 { "---" } else { "---:" });
    text.push_str(&line(rules.collect()));
    for row in &rows {
        text.push_str(&line(row.iter().map(|(_, value)| value.as_str()).collect()));
    }
    text
}

/// `1,234,567`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_latex_and_numbers_for_people() {
        assert_eq!(escape("A & B_1 50%"), "A \\& B\\_1 50\\%");
        assert_eq!(
            [7, 1234, 1_234_567].map(thousands),
            ["7", "1,234", "1,234,567"]
        );
    }

    #[test]
    fn a_table_has_a_head_and_a_rule() {
        let row = |name: &str| {
            vec![
                ("method".into(), name.to_string()),
                ("mAP".into(), "1.0".into()),
            ]
        };
        let text = markdown(vec![row("a"), row("b")]);
        assert_eq!(
            text,
            "| method | mAP |\n| --- | ---: |\n| a | 1.0 |\n| b | 1.0 |\n"
        );
    }
}
