//! `epsilon_zsl.metrics`: figures of arrays of scores and labels.

use epsilon::errors::explain;
use epsilon_metrics::{
    Average, Binned, Curve, Decisions, Figure, LabelRanking, MetricsError, even_thresholds,
    multilabel_auroc, multilabel_average_precision, multilabel_precision_recall_curve,
};
use numpy::{IntoPyArray, PyArray1};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::errors::{Raised, exception, raise};
use crate::tables::{AnyTable, Given, Labels, Scores, with_table};
use crate::work::work;

impl Raised for MetricsError {
    fn class(&self) -> &'static str {
        "MetricsError"
    }
}

/// Runs a metric on the table of two arrays, without the global lock; Ctrl-C stops it.
pub(crate) fn measure<T: Send>(
    py: Python<'_>,
    (scores, labels): (&Scores<'_>, &Labels<'_>),
    ignore_index: Option<i64>,
    metric: impl FnOnce(&AnyTable<'_>) -> Result<T, MetricsError> + Send,
) -> PyResult<T> {
    let given = Given::new(scores, labels, ignore_index)?;
    let measured = work(py, |stop| {
        let table = given.table(stop)?;
        metric(&table).map_err(|error| explain(&error))
    })?;
    measured.map_err(|message| raise("MetricsError", message))
}

/// The average of a name; `None` is "none".
fn average_of(name: Option<&str>) -> PyResult<Average> {
    let average = name.unwrap_or("none").parse();
    average.map_err(|error: MetricsError| exception(&error))
}

/// A number, or an array with one for each label.
fn result(py: Python<'_>, figure: Figure) -> PyResult<Py<PyAny>> {
    match figure {
        Figure::One(value) => value.into_py_any(py),
        Figure::Each(values) => values.into_pyarray(py).into_py_any(py),
    }
}

/// Where the precision-recall and ROC curves have their points.
#[derive(FromPyObject)]
pub(crate) enum Thresholds {
    Even(usize),
    These(Vec<f64>),
}

impl Thresholds {
    fn list(self) -> Vec<f64> {
        match self {
            Self::Even(count) => even_thresholds(count),
            Self::These(thresholds) => thresholds,
        }
    }
}

/// Average precision of the labels.
#[pyfunction(name = "metrics_average_precision")]
pub(crate) fn average_precision(
    py: Python<'_>,
    preds: Scores<'_>,
    target: Labels<'_>,
    average: Option<&str>,
    thresholds: Option<Thresholds>,
    ignore_index: Option<i64>,
) -> PyResult<Py<PyAny>> {
    let average = average_of(average)?;
    let thresholds = thresholds.map(Thresholds::list);
    let figure = measure(py, (&preds, &target), ignore_index, |table| {
        with_table!(table, table => match &thresholds {
            Some(thresholds) => Ok(Binned::new(table, thresholds)?.average_precision(average)),
            None => multilabel_average_precision(table, average),
        })
    })?;
    result(py, figure)
}

/// Area under the ROC curve of the labels.
#[pyfunction(name = "metrics_auroc")]
pub(crate) fn auroc(
    py: Python<'_>,
    preds: Scores<'_>,
    target: Labels<'_>,
    average: Option<&str>,
    thresholds: Option<Thresholds>,
    ignore_index: Option<i64>,
) -> PyResult<Py<PyAny>> {
    let average = average_of(average)?;
    let thresholds = thresholds.map(Thresholds::list);
    let figure = measure(py, (&preds, &target), ignore_index, |table| {
        with_table!(table, table => match &thresholds {
            Some(thresholds) => Ok(Binned::new(table, thresholds)?.auroc(average)),
            None => multilabel_auroc(table, average),
        })
    })?;
    result(py, figure)
}

/// Precision, recall and thresholds of a curve.
type Points<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
);

/// Precision-recall curve of each label.
#[pyfunction(name = "metrics_precision_recall_curve")]
pub(crate) fn precision_recall_curve<'py>(
    py: Python<'py>,
    preds: Scores<'_>,
    target: Labels<'_>,
    thresholds: Option<Thresholds>,
    ignore_index: Option<i64>,
) -> PyResult<Vec<Points<'py>>> {
    let thresholds = thresholds.map(Thresholds::list);
    let curves = measure(py, (&preds, &target), ignore_index, |table| {
        with_table!(table, table => match &thresholds {
            Some(thresholds) => Ok(Binned::new(table, thresholds)?.curves()),
            None => multilabel_precision_recall_curve(table),
        })
    })?;
    let arrays = |curve: Curve| {
        (
            curve.precision.into_pyarray(py),
            curve.recall.into_pyarray(py),
            curve.thresholds.into_pyarray(py),
        )
    };
    Ok(curves.into_iter().map(arrays).collect())
}

/// Coverage error, ranking loss and ranking average precision of the images.
#[pyfunction(name = "metrics_label_ranking")]
pub(crate) fn label_ranking(
    py: Python<'_>,
    preds: Scores<'_>,
    target: Labels<'_>,
    ignore_index: Option<i64>,
) -> PyResult<(f64, f64, f64)> {
    let ranking = measure(
        py,
        (&preds, &target),
        ignore_index,
        |table| with_table!(table, table => LabelRanking::new(table)),
    )?;
    Ok((
        ranking.coverage_error,
        ranking.ranking_loss,
        ranking.average_precision,
    ))
}

/// A figure of what is predicted at a threshold; `beta` and `zero_division` for those that know them.
#[pyfunction(name = "metrics_decision")]
#[allow(
    clippy::too_many_arguments,
    reason = "those of the functions of Python, which have names there"
)]
pub(crate) fn decision(
    py: Python<'_>,
    which: &str,
    preds: Scores<'_>,
    target: Labels<'_>,
    threshold: f64,
    average: Option<&str>,
    ignore_index: Option<i64>,
    beta: f64,
    zero_division: f64,
) -> PyResult<Py<PyAny>> {
    let average = average_of(average)?;
    let decisions = measure(
        py,
        (&preds, &target),
        ignore_index,
        |table| with_table!(table, table => Decisions::new(table, threshold)),
    )?;
    let figure = match which {
        "precision" => decisions.precision(average, zero_division),
        "recall" => decisions.recall(average, zero_division),
        "f-score" => decisions.f_score(beta, average, zero_division),
        "accuracy" => decisions.accuracy(average),
        "hamming-distance" => decisions.hamming_distance(average),
        _ => Figure::One(decisions.exact_match()),
    };
    result(py, figure)
}
