//! Line charts as SVG, in a colour-blind safe palette.

use anyhow::anyhow;
use plotters::prelude::*;

/// The colours of Okabe and Ito's palette with enough contrast on white.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// A line of a chart.
pub(super) struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines over the same axes, with a text alternative for screen readers.
pub(super) fn lines(title: &str, [x, y]: [&str; 2], series: &[Series]) -> anyhow::Result<String> {
    let points = || series.iter().flat_map(|series| &series.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = points().map(of).filter(|v| v.is_finite());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        let room = ((high - low) * 0.05).max(1e-6);
        (low - room)..(high + room)
    };
    let mut svg = String::new();
    draw(&mut svg, [x, y], series, range(|p| p.0), range(|p| p.1))
        .map_err(|error| anyhow!("{title}: {error}"))?;
    let words: Vec<String> = series.iter().filter_map(Series::in_words).collect();
    let label = super::page::escape(&format!("{title}: {y} over {x}. {}", words.join(" ")));
    let opening = format!("<svg role=\"img\" aria-label=\"{label}\" ");
    Ok(svg.replacen("<svg ", &opening, 1))
}

impl Series {
    fn in_words(&self) -> Option<String> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        Some(format!(
            "{}: from {:.4} to {:.4}.",
            self.name, first.1, last.1
        ))
    }
}

fn draw(
    svg: &mut String,
    [x, y]: [&str; 2],
    series: &[Series],
    across: std::ops::Range<f64>,
    up: std::ops::Range<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (640, 340)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(across, up)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x)
        .y_desc(y)
        .draw()?;
    for (place, series) in series.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(
                series.points.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(series.name.as_str())
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2))
            });
    }
    // The legend goes to the corner that the lines leave free: falling lines start at the left, rising ones end at the right.
    let rises = |series: &Series| {
        series
            .points
            .last()?
            .1
            .partial_cmp(&series.points.first()?.1)
    };
    let rising = series
        .iter()
        .filter_map(rises)
        .filter(|o| o.is_gt())
        .count();
    let position = if 2 * rising > series.len() {
        SeriesLabelPosition::LowerRight
    } else {
        SeriesLabelPosition::UpperRight
    };
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .draw()?;
    root.present()?;
    Ok(())
}
