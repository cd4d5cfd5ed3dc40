//! `epsilon_zsl.metrics`: figures under a named protocol, their bootstrap and comparison, as objects with attributes.

use epsilon::experiment::{Figures, figures};
use epsilon::recipe::EvaluationSettings;
use epsilon_metrics::{
    Chosen, MetricsError, Over, Request, Resampled, Resampling, bootstrap_table, differences,
    evaluate_table, resample,
};
use numpy::{IntoPyArray, PyArray1};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors::{exception, raise};
use crate::metrics::measure;
use crate::tables::{Labels, Scores, with_table};

/// The rules of an evaluation under a name.
#[pyclass(frozen, eq, module = "epsilon_zsl.metrics")]
#[derive(Clone, PartialEq)]
pub(crate) struct Protocol(epsilon_metrics::Protocol);

#[pymethods]
impl Protocol {
    /// The published protocol of a name; or, where rules are given, another one under a name of its own, with the rules of `base`
    /// otherwise.
    #[new]
    #[pyo3(signature = (name, *, base=None, k=None, **rules))]
    fn new(
        name: &str,
        base: Option<&str>,
        k: Option<Ks>,
        rules: Option<std::collections::BTreeMap<String, String>>,
    ) -> PyResult<Self> {
        let named =
            |name| epsilon_metrics::Protocol::named(name).map_err(|error| exception(&error));
        if base.is_none() && k.is_none() && rules.is_none() {
            return named(name).map(Self);
        }
        let base = named(base.unwrap_or("epsilon"))?;
        let wrong =
            |error: serde_json::Error| raise("MetricsError", format!("protocol {name:?}: {error}"));
        let mut settings = serde_json::to_value(base.settings()).map_err(wrong)?;
        for (rule, choice) in rules.unwrap_or_default() {
            settings[rule.replace('_', "-")] = Value::String(choice);
        }
        let settings = serde_json::from_value(settings).map_err(wrong)?;
        let ks = k.map_or_else(|| base.ks().to_vec(), |Ks(ks)| ks);
        let own = epsilon_metrics::Protocol::new(name, settings, &ks);
        own.map(Self).map_err(|error| exception(&error))
    }

    /// Names of the published protocols.
    #[staticmethod]
    fn names(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, epsilon_metrics::Protocol::NAMES)
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Its rules in one sentence.
    #[getter]
    fn rules(&self) -> String {
        self.0.settings().to_string()
    }

    /// The K of its tables.
    #[getter]
    fn k(&self) -> Vec<usize> {
        self.0.ks().to_vec()
    }

    fn __repr__(&self) -> String {
        format!("Protocol({:?})", self.0.name())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let Self(of) = self;
        reduced(py, "Protocol", &(of.name(), of.settings(), of.ks()))
    }
}

/// The K of a protocol of one's own.
struct Ks(Vec<usize>);

impl<'py> FromPyObject<'_, 'py> for Ks {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        given.extract().map(Self).map_err(|_| {
            let message = format!("k: {given:?} is no list of whole numbers, such as [3, 5]");
            raise("MetricsError", message)
        })
    }
}

/// A protocol, or the name of a published one.
pub(crate) struct ProtocolOf(pub(crate) epsilon_metrics::Protocol);

impl<'py> FromPyObject<'_, 'py> for ProtocolOf {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(protocol) = given.cast::<Protocol>() {
            return Ok(Self(protocol.get().0.clone()));
        }
        let named = epsilon_metrics::Protocol::named(given.extract()?);
        named.map(Self).map_err(|error| exception(&error))
    }
}

/// Precision, recall and F1 of the top K.
#[pyclass(frozen, eq, get_all, module = "epsilon_zsl.metrics")]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TopK {
    k: usize,
    precision: f64,
    recall: f64,
    f1: f64,
}

impl From<&epsilon_metrics::TopK> for TopK {
    fn from(top: &epsilon_metrics::TopK) -> Self {
        Self {
            k: top.k,
            precision: top.precision,
            recall: top.recall,
            f1: top.f1,
        }
    }
}

#[pymethods]
impl TopK {
    fn __repr__(&self) -> String {
        let Self {
            k,
            precision,
            recall,
            f1,
        } = self;
        format!("TopK(k={k}, precision={precision:?}, recall={recall:?}, f1={f1:?})")
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        reduced(py, "TopK", self)
    }
}

/// Standard error and 95 % interval of an mAP.
#[pyclass(frozen, eq, get_all, module = "epsilon_zsl.metrics")]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    resamples: usize,
    seed: u64,
    standard_error: f64,
    low: f64,
    high: f64,
}

impl From<epsilon_metrics::Bootstrap> for Bootstrap {
    fn from(of: epsilon_metrics::Bootstrap) -> Self {
        Self {
            resamples: of.resamples,
            seed: of.seed,
            standard_error: of.standard_error,
            low: of.low,
            high: of.high,
        }
    }
}

#[pymethods]
impl Bootstrap {
    fn __repr__(&self) -> String {
        let Self {
            standard_error,
            low,
            high,
            ..
        } = self;
        format!("Bootstrap(standard_error={standard_error:?}, low={low:?}, high={high:?})")
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        reduced(py, "Bootstrap", self)
    }
}

/// How far a row is from the reference.
#[pyclass(frozen, eq, get_all, module = "epsilon_zsl.metrics")]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Difference {
    map: f64,
    difference: f64,
    low: f64,
    high: f64,
    p: f64,
    p_holm: f64,
}

#[pymethods]
impl Difference {
    fn __repr__(&self) -> String {
        let Self {
            difference,
            low,
            high,
            p_holm,
            ..
        } = self;
        format!(
            "Difference(difference={difference:?}, low={low:?}, high={high:?}, p_holm={p_holm:?})"
        )
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        reduced(py, "Difference", self)
    }
}

/// Figures of one set of labels.
#[pyclass(frozen, module = "epsilon_zsl.metrics")]
#[derive(Clone)]
pub(crate) struct Evaluation(epsilon_metrics::Evaluation);

#[pymethods]
impl Evaluation {
    /// Name of the protocol.
    #[getter]
    fn protocol(&self) -> &str {
        &self.0.protocol
    }

    /// The rules, and what was done to the scores, in one sentence.
    #[getter]
    fn rules(&self) -> String {
        self.0.rules()
    }

    /// Images of the table.
    #[getter]
    fn images_total(&self) -> usize {
        self.0.images_total
    }

    /// Images that the protocol keeps.
    #[getter]
    fn images_kept(&self) -> usize {
        self.0.images_kept
    }

    /// Mean number of positives of the images kept.
    #[getter]
    fn positives_per_image(&self) -> f64 {
        self.0.positives_per_image
    }

    /// Labels that the mAP averages.
    #[getter]
    fn labels_averaged(&self) -> usize {
        self.0.labels_averaged
    }

    /// Mean average precision.
    #[getter]
    fn map(&self) -> f64 {
        self.0.map
    }

    /// Standard error and interval of the mAP, where they were asked for.
    #[getter]
    fn bootstrap(&self) -> Option<Bootstrap> {
        self.0.bootstrap.map(Bootstrap::from)
    }

    /// Over all labels together, at each K.
    #[getter]
    fn top_k(&self) -> Vec<TopK> {
        self.0.top_k.iter().map(TopK::from).collect()
    }

    /// Means over the labels, at each K.
    #[getter]
    fn top_k_by_label(&self) -> Vec<TopK> {
        self.0.top_k_by_label.iter().map(TopK::from).collect()
    }

    /// Mean rank of the lowest positive.
    #[getter]
    fn coverage_error(&self) -> f64 {
        self.0.coverage_error
    }

    /// Share of pairs in the wrong order.
    #[getter]
    fn ranking_loss(&self) -> f64 {
        self.0.ranking_loss
    }

    /// Columns of the labels.
    #[getter]
    fn columns<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.of_labels(py, |label| label.column as i64)
    }

    /// Positive images of each label.
    #[getter]
    fn positives<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.of_labels(py, |label| label.positives as i64)
    }

    /// Images for which each label is known.
    #[getter]
    fn annotated<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.of_labels(py, |label| label.annotated as i64)
    }

    /// Average precision of each label; NaN where the protocol skips it.
    #[getter]
    fn average_precision<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.of_labels(py, |label| label.average_precision.unwrap_or(f64::NAN))
    }

    /// Precision, recall and F1 of each label at each K.
    #[getter]
    fn top_k_of_labels(&self) -> Vec<Vec<TopK>> {
        let labels = self.0.per_label.iter();
        labels
            .map(|label| label.top_k.iter().map(TopK::from).collect())
            .collect()
    }

    /// As JSON, as `epsilon eval --json` prints it.
    fn to_json(&self) -> PyResult<String> {
        json(&self.0)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!(
            "Evaluation(protocol={:?}, map={:?})",
            self.0.protocol, self.0.map
        )
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        reduced(py, "Evaluation", &self.0)
    }
}

impl Evaluation {
    fn of_labels<'py, T: numpy::Element>(
        &self,
        py: Python<'py>,
        of: impl Fn(&epsilon_metrics::LabelFigures) -> T,
    ) -> Bound<'py, PyArray1<T>> {
        self.0
            .per_label
            .iter()
            .map(of)
            .collect::<Vec<T>>()
            .into_pyarray(py)
    }
}

/// Figures of the unseen, the seen and all labels.
#[pyclass(frozen, module = "epsilon_zsl.metrics")]
pub(crate) struct SplitEvaluation(epsilon_metrics::SplitEvaluation);

#[pymethods]
impl SplitEvaluation {
    /// The unseen labels among themselves.
    #[getter]
    fn zsl(&self) -> Evaluation {
        Evaluation(self.0.zsl.clone())
    }

    /// The seen labels among themselves.
    #[getter]
    fn seen(&self) -> Evaluation {
        Evaluation(self.0.seen.clone())
    }

    /// All labels together.
    #[getter]
    fn gzsl(&self) -> Evaluation {
        Evaluation(self.0.gzsl.clone())
    }

    /// Harmonic mean of the seen and the unseen mAP.
    #[getter]
    fn harmonic_map(&self) -> f64 {
        self.0.harmonic_map
    }

    /// As JSON, as `epsilon eval --json` prints it.
    fn to_json(&self) -> PyResult<String> {
        json(&self.0)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        let epsilon_metrics::SplitEvaluation {
            zsl, seen, gzsl, ..
        } = &self.0;
        format!(
            "SplitEvaluation(protocol={:?}, zsl={:?}, seen={:?}, gzsl={:?}, harmonic_map={:?})",
            gzsl.protocol, zsl.map, seen.map, gzsl.map, self.0.harmonic_map
        )
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        reduced(py, "SplitEvaluation", &self.0)
    }
}

fn json(figures: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(figures).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// What pickle calls to have a value again: a function, and the class and the values that it gets.
type Reduced<'py> = (Bound<'py, PyAny>, (&'static str, String));

fn reduced<'py>(
    py: Python<'py>,
    class: &'static str,
    of: &impl Serialize,
) -> PyResult<Reduced<'py>> {
    let restore = py.import("epsilon_zsl.metrics")?.getattr("_restore")?;
    Ok((restore, (class, json(of)?)))
}

/// The value of a class that was [`reduced`].
#[pyfunction(name = "metrics_restore")]
pub(crate) fn restore(py: Python<'_>, kind: &str, values: &str) -> PyResult<Py<PyAny>> {
    match kind {
        "Protocol" => {
            let (name, settings, ks): (String, _, Vec<usize>) = read(values)?;
            // No protocol of one's own has the name of a published one.
            let protocol = epsilon_metrics::Protocol::named(&name)
                .or_else(|_| epsilon_metrics::Protocol::new(&name, settings, &ks));
            Protocol(protocol.map_err(|error| exception(&error))?).into_py_any(py)
        }
        "TopK" => read::<TopK>(values)?.into_py_any(py),
        "Bootstrap" => read::<Bootstrap>(values)?.into_py_any(py),
        "Difference" => read::<Difference>(values)?.into_py_any(py),
        "Evaluation" => Evaluation(read(values)?).into_py_any(py),
        "SplitEvaluation" => SplitEvaluation(read(values)?).into_py_any(py),
        _ => Err(raise("MetricsError", format!("there is no class {kind:?}"))),
    }
}

fn read<T: serde::de::DeserializeOwned>(values: &str) -> PyResult<T> {
    serde_json::from_str(values).map_err(|error| raise("MetricsError", error.to_string()))
}

/// Figures of seen and unseen columns, or of all columns where there are no unseen ones.
#[pyfunction(name = "metrics_evaluate")]
#[allow(
    clippy::too_many_arguments,
    reason = "those of the function of Python, which have names there"
)]
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    preds: Scores<'_>,
    target: Labels<'_>,
    protocol: ProtocolOf,
    seen: Vec<usize>,
    unseen: Vec<usize>,
    k: Option<Vec<usize>>,
    bootstrap: usize,
    standardise: &str,
    centre_labels: bool,
    ignore_index: Option<i64>,
) -> PyResult<Bound<'py, PyAny>> {
    let standardise = standardise
        .parse()
        .map_err(|error| raise("MetricsError", error))?;
    let (seen_count, all) = (seen.len(), seen.len() + unseen.len());
    let columns = [seen, unseen].concat();
    let ks = k.unwrap_or_else(|| fitting(protocol.0.ks(), all));
    let settings = EvaluationSettings {
        k_zsl: fitting(&ks, all - seen_count),
        k_gzsl: ks,
        bootstrap,
        standardise,
        centre_labels,
        ..EvaluationSettings::default()
    };
    let of_columns = columns.clone();
    let measured = measure(py, (&preds, &target), ignore_index, |table| {
        with_table!(table, table => {
            let chosen = Chosen::new(table, of_columns)?;
            figures(&chosen, seen_count, &[protocol.0], &settings)
        })
    })?;
    // One protocol has one result.
    let split = match measured.into_iter().next() {
        Some(Figures::Seen(one)) => return Ok(Bound::new(py, placed(*one, &columns))?.into_any()),
        Some(Figures::Split(split)) => *split,
        Some(Figures::Anchored(anchored)) => anchored.split,
        None => return Err(exception(&MetricsError::NoColumns)),
    };
    let of = |evaluation| placed(evaluation, &columns).0;
    let split = SplitEvaluation(epsilon_metrics::SplitEvaluation {
        zsl: of(split.zsl),
        seen: of(split.seen),
        gzsl: of(split.gzsl),
        harmonic_map: split.harmonic_map,
    });
    Ok(Bound::new(py, split)?.into_any())
}

/// The K that do not exceed the number of labels.
fn fitting(ks: &[usize], labels: usize) -> Vec<usize> {
    ks.iter().copied().filter(|&k| k <= labels).collect()
}

/// An evaluation of chosen columns, its labels by their places in the array.
fn placed(mut evaluation: epsilon_metrics::Evaluation, columns: &[usize]) -> Evaluation {
    for label in &mut evaluation.per_label {
        label.column = columns[label.column];
    }
    Evaluation(evaluation)
}

/// Figures of some columns under a protocol at some K.
#[pyfunction(name = "metrics_evaluate_columns")]
pub(crate) fn evaluate_columns(
    py: Python<'_>,
    preds: Scores<'_>,
    target: Labels<'_>,
    protocol: ProtocolOf,
    columns: Vec<usize>,
    k: Vec<usize>,
    ignore_index: Option<i64>,
) -> PyResult<Evaluation> {
    let request = Request {
        columns: &columns,
        protocol: &protocol.0,
        ks: &k,
    };
    let mut all = measure(
        py,
        (&preds, &target),
        ignore_index,
        |table| with_table!(table, table => evaluate_table(table, &[request])),
    )?;
    Ok(Evaluation(all.remove(0)))
}

/// Bootstrap of the mAP over images.
#[pyfunction(name = "metrics_bootstrap")]
#[allow(
    clippy::too_many_arguments,
    reason = "those of the function of Python, which have names there"
)]
pub(crate) fn bootstrap(
    py: Python<'_>,
    preds: Scores<'_>,
    target: Labels<'_>,
    protocol: ProtocolOf,
    columns: Vec<usize>,
    resamples: usize,
    seed: u64,
    ignore_index: Option<i64>,
) -> PyResult<Bootstrap> {
    let request = Request {
        columns: &columns,
        protocol: &protocol.0,
        ks: &[],
    };
    let mut all = measure(
        py,
        (&preds, &target),
        ignore_index,
        |table| with_table!(table, table => bootstrap_table(table, &[request], resamples, seed)),
    )?;
    Ok(all.remove(0).into())
}

/// The mAP of several arrays of scores on the same resamples, and their differences from one of them.
#[pyfunction(name = "metrics_paired_bootstrap")]
#[allow(
    clippy::too_many_arguments,
    reason = "those of the function of Python, which have names there"
)]
pub(crate) fn paired_bootstrap(
    py: Python<'_>,
    preds: Vec<Scores<'_>>,
    target: Labels<'_>,
    reference: usize,
    protocol: ProtocolOf,
    columns: Vec<usize>,
    labels: bool,
    resamples: usize,
    seed: u64,
    ignore_index: Option<i64>,
) -> PyResult<Vec<Difference>> {
    let request = Request {
        columns: &columns,
        protocol: &protocol.0,
        ks: &[],
    };
    let over = if labels { Over::Labels } else { Over::Images };
    let resampling = Resampling {
        over,
        resamples,
        seed,
    };
    let row = |scores: &Scores<'_>| {
        measure(
            py,
            (scores, &target),
            ignore_index,
            |table| with_table!(table, table => resample(table, request, &resampling)),
        )
    };
    let rows: Vec<Resampled> = preds.iter().map(row).collect::<PyResult<_>>()?;
    let found = differences(&rows.iter().collect::<Vec<_>>(), reference);
    let found = found.map_err(|error| exception(&error))?;
    let of_row = |(row, found): (&Resampled, epsilon_metrics::Difference)| Difference {
        map: row.map,
        difference: found.difference,
        low: found.low,
        high: found.high,
        p: found.p,
        p_holm: found.p_holm,
    };
    Ok(rows.iter().zip(found).map(of_row).collect())
}
