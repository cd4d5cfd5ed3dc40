//! `epsilon serve`: an HTTP API and a web page for a model.

mod api;
mod engine;
mod guard;
mod metrics;
mod refusal;
mod request;
mod state;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use epsilon_data::files;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use super::keep::KeepArgs;
use super::trained::TrainedArgs;
use crate::{Outcome, console};
use engine::Engine;
use metrics::Metrics;
use state::{About, State};

/// How long a shutdown waits for running requests.
const STOP: Duration = Duration::from_secs(10);
/// Maximum number of photographs decoded or queued at once: enough for two batches.
const PHOTOS: usize = 64;
/// Labels returned for a model without thresholds.
const USUAL: usize = 10;

/// Serve a model over HTTP: /v1/predict, /v1/explain, /v1/labels, /healthz, /metrics, /openapi.json, and a web page at /.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    trained: TrainedArgs,
    /// Address to listen on; port 0 picks a free port.
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// File with a token that requests must send (`Authorization: Bearer TOKEN`).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    keep: KeepArgs,
    /// Maximum size of a request body, in megabytes.
    #[arg(long, default_value_t = 20, value_name = "MB", value_parser = range(1..=4000))]
    max_body: u32,
    /// Maximum number of labels in a request.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = range(1..=100_000))]
    max_labels: u32,
    /// Maximum number of running and queued requests; further ones are refused.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = range(1..=10_000))]
    queue: u32,
    /// Time limit of a request in seconds; it must be sent within a third of it.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = range(1..=3600))]
    timeout: u32,
}

/// Parses an integer in this range.
fn range(range: RangeInclusive<i64>) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(range)
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    args.keep.check()?;
    let token = args.token_file.as_ref().map(|path| {
        let text = files::read_text(path, files::DESCRIPTION)
            .with_context(|| path.display().to_string())?;
        ensure!(
            !text.trim().is_empty(),
            "{}: holds no token",
            path.display()
        );
        Ok(text.trim().to_string())
    });
    let token = token.transpose()?;
    if !args.listen.ip().is_loopback() && token.is_none() {
        console::complain(
            "anybody who reaches this address can use it: --token-file asks for a token",
        );
    }
    let predictor = Arc::new(args.trained.load()?);
    let keep = args.keep.of(predictor.model(), Some(USUAL))?;
    let metrics = Metrics::new();
    let about = About::of(predictor.model());
    let own = Arc::new(predictor.model().own_labels());
    let (engine, worker) = Engine::start(predictor.clone(), metrics.clone());
    let state = Arc::new(State {
        engine,
        predictor,
        own,
        about,
        keep,
        metrics,
        token,
        loopback: Some(args.listen.ip()).filter(IpAddr::is_loopback),
        requests: Arc::new(Semaphore::new(args.queue as usize)),
        photos: Arc::new(Semaphore::new(PHOTOS)),
        decoders: Arc::new(Semaphore::new(rayon::current_num_threads())),
        max_body: (args.max_body as usize) << 20,
        max_labels: args.max_labels as usize,
        timeout: Duration::from_secs(args.timeout.into()),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(state, args.listen))?;
    // The last handle on the engine goes with the runtime's tasks; the worker then ends.
    runtime.shutdown_timeout(STOP);
    worker
        .join()
        .map_err(|_| anyhow::anyhow!("the engine's thread failed"))?;
    Ok(Outcome::Done)
}

/// Serves until the process receives a signal to stop, then finishes running requests.
async fn serve(state: Arc<State>, address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} cannot be listened on"))?;
    console::print(format_args!(
        "listening on http://{}",
        listener.local_addr()?
    ))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, api::routes(state)).with_graceful_shutdown(async {
        // Nobody is left to say stop: that is one, too.
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());
    told_to_stop().await?;
    let _ = stop.send(());
    match tokio::time::timeout(STOP, server).await {
        Ok(ended) => Ok(ended??),
        Err(_) => {
            console::complain("stopped before all requests were answered");
            Ok(())
        }
    }
}

/// Waits for an interrupt (Ctrl-C) or termination signal.
async fn told_to_stop() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (sender, mut stop) = tokio::sync::mpsc::channel(1);
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let (sender, mut signal) = (sender.clone(), signal(kind)?);
            tokio::spawn(async move {
                signal.recv().await;
                let _ = sender.send(()).await;
            });
        }
        stop.recv().await;
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}
