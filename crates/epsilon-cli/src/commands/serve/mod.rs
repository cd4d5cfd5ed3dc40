//! `epsilon serve`: an HTTP API and a web page for a model.

mod api;
mod beside;
mod connections;
mod engine;
mod gallery;
mod guard;
mod hosts;
mod limits;
mod metrics;
mod model;
mod refusal;
mod request;
mod state;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use axum::Router;
use epsilon::library::Library;
use epsilon::ranks::Ranks;
use epsilon::semantic_index::{self, Searchers};
use epsilon_data::files;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use super::keep::KeepArgs;
use super::trained::TrainedArgs;
use crate::{Outcome, console};
use connections::Connections;
use gallery::{Gallery, Search};
use hosts::Hosts;
use limits::Budget;
use metrics::Metrics;
use model::{Came, Lazy};
use state::{LookUps, State};

/// Serve a model, or a tagged library, over HTTP: /v1/predict, /v1/explain, /v1/labels, /healthz, /readyz, /metrics, /openapi.json, and a web page at /.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    trained: TrainedArgs,
    /// The library that `epsilon tag` made, or the folder of photographs that it is in: its page takes the place of the one at /. The
    /// model is the library's.
    #[arg(long, value_name = "LIBRARY", conflicts_with_all = ["model", "yes"])]
    library: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free port.
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// File with a token that requests must send (`Authorization: Bearer TOKEN`).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name that the server is reached by, besides those of its address; repeatable. Needed behind a reverse proxy, and off
    /// loopback without a token, where requests to other names are refused.
    #[arg(long, value_name = "NAME", value_parser = hosts::host_name)]
    allow_host: Vec<String>,
    #[command(flatten)]
    keep: KeepArgs,
    /// Maximum number of connections; beyond it those that have been silent for longest are closed.
    #[arg(long, default_value_t = limits::CONNECTIONS, value_name = "N", value_parser = range(1..=100_000))]
    max_connections: u32,
    /// Maximum size of a request body, in megabytes.
    #[arg(long, default_value_t = limits::BODY, value_name = "MB", value_parser = range(1..=4000))]
    max_body: u32,
    /// Maximum number of labels in a request.
    #[arg(long, default_value_t = limits::LABELS, value_name = "N", value_parser = range(1..=100_000))]
    max_labels: u32,
    /// Maximum number of running and queued requests; further ones are refused.
    #[arg(long, default_value_t = limits::QUEUE, value_name = "N", value_parser = range(1..=10_000))]
    queue: u32,
    /// Time limit of a request in seconds; it must be sent, and its answer read, within a third of it each.
    #[arg(long, default_value_t = limits::TIMEOUT, value_name = "SECONDS", value_parser = range(1..=3600))]
    timeout: u32,
}

/// Parses an integer in this range.
fn range(range: RangeInclusive<i64>) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(range)
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    args.keep.check()?;
    let ranks = crate::ranks::of_job();
    ensure!(
        ranks.size() == 1 || args.library.is_some(),
        "several processes serve a tagged library together, by searching in it: give --library, or start one process"
    );
    if let (false, Some(library)) = (ranks.is_first(), &args.library) {
        return assist(library, &*ranks);
    }
    let searchers = Searchers::new(ranks);
    let token = args.token_file.as_deref().map(read_token).transpose()?;
    if !args.listen.ip().is_loopback() && token.is_none() {
        console::complain(
            "anybody who reaches this address can use it: --token-file asks for a token",
        );
    }
    allow_files(args.max_connections as usize + limits::RESERVED + limits::OTHER_FILES)?;
    let metrics = Metrics::new();
    let timeout = Duration::from_secs(args.timeout.into());
    let most = args.max_connections as usize;
    let connections = Connections::new(most, timeout, metrics.clone());
    let (address, limits) = (args.listen, args.trained.limits());
    let library = args.library.as_deref().map(Library::read).transpose()?;
    let trained = Arc::new(args.trained);
    let folder = library.as_ref().map(|(_, folder)| folder.clone());
    let mut model = Lazy::new(
        load(trained.clone(), folder.clone()),
        is_right(folder),
        args.keep,
        metrics.clone(),
    );
    if library.is_none() {
        model.load()?;
    }
    let (engine, worker) = (model.engine(), model.worker());
    let threads = rayon::current_num_threads();
    let state = Arc::new(State {
        model,
        metrics,
        hosts: Hosts::new(address, args.allow_host, token.is_some()),
        token,
        requests: Arc::new(Semaphore::new(args.queue as usize)),
        photos: Arc::new(Semaphore::new(limits::WAITING_PHOTOS)),
        decoders: Arc::new(Semaphore::new(threads)),
        explanations: Arc::new(Semaphore::new(threads)),
        readers: Arc::new(Semaphore::new(limits::READERS)),
        look_ups: LookUps::new(limits::LOOK_UPS),
        bodies: Budget::new(limits::BODIES),
        answers: Budget::new(limits::ANSWERS),
        max_body: (args.max_body as usize) << 20,
        max_labels: args.max_labels as usize,
        timeout,
    });
    let gallery = library.map(|(library, folder)| {
        let words = load_words(trained, folder.clone());
        let search = Search::new(&folder, words, searchers.clone());
        Gallery::open(library, folder, search, limits, state.clone()).map(Arc::new)
    });
    let gallery = gallery.transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if let Some(gallery) = &gallery {
        runtime.spawn(gallery.clone().prepare());
    }
    let routes = api::routes(state, gallery);
    let served = runtime.block_on(serve(address, routes, connections, engine));
    // The last handle on the engine goes with the runtime's tasks; the worker then ends.
    runtime.shutdown_timeout(limits::STOP);
    searchers.dismiss();
    served?;
    let worker = worker.lock().unwrap_or_else(PoisonError::into_inner).take();
    if worker.is_some_and(|worker| worker.join().is_err()) {
        bail!("the engine has failed, as said above: start the server again");
    }
    Ok(Outcome::Done)
}

/// Searches in the library's index with the first rank, which serves, until that ends.
fn assist(library: &Path, ranks: &dyn Ranks) -> anyhow::Result<Outcome> {
    let (_, folder) = Library::read(library)?;
    // A signal to stop goes to all processes: the first one answers what it has begun, which these are needed for.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.spawn(told_to_stop());
    semantic_index::assist(&Library::index(&folder), ranks);
    Ok(Outcome::Done)
}

/// What loads the model: that of the library in this folder, which is read anew because it may be tagged by another model meanwhile.
fn load(trained: Arc<TrainedArgs>, library: Option<PathBuf>) -> model::Load {
    Box::new(move || match &library {
        Some(folder) => trained.load_of(&Library::read(folder)?.0),
        None => trained.load(None),
    })
}

/// What says whether a model is still that of the library. While a library cannot be read, its last model is.
fn is_right(library: Option<PathBuf>) -> model::IsRight {
    Box::new(move |model| {
        let now = library.as_ref().map(|folder| Library::read(folder));
        !matches!(now, Some(Ok((library, _))) if library.identity != model.identity())
    })
}

/// What loads the library's model without its backbone.
fn load_words(trained: Arc<TrainedArgs>, folder: PathBuf) -> gallery::LoadWords {
    // Of a network without training no vectors are made beforehand but that of this word.
    let words = ["photo".to_string()];
    Box::new(move || trained.load_words(&Library::read(&folder)?.0, &words))
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text =
        files::read_text(path, files::DESCRIPTION).with_context(|| path.display().to_string())?;
    let token = text.trim();
    ensure!(!token.is_empty(), "{}: holds no token", path.display());
    Ok(token.into())
}

/// Makes sure that the process may open that many files; connections are files.
fn allow_files(needed: usize) -> anyhow::Result<()> {
    #[cfg(not(unix))]
    let _ = needed;
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let needed = needed as u64;
        if limit.current.is_some_and(|current| current < needed) {
            let raised = Rlimit {
                current: Some(needed),
                ..limit
            };
            let refused = limit.maximum.is_some_and(|maximum| maximum < needed);
            ensure!(
                !refused && setrlimit(Resource::Nofile, raised).is_ok(),
                "that many connections need {needed} open files, and the system allows fewer: raise its limit \
                 (ulimit -n {needed}) or give a smaller --max-connections"
            );
        }
    }
    Ok(())
}

/// Serves until the process receives a signal to stop or the engine has ended, then finishes running requests.
async fn serve(
    address: SocketAddr,
    routes: Router,
    connections: Arc<Connections>,
    engine: Came,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} cannot be listened on"))?;
    console::print(format_args!(
        "listening on http://{}",
        listener.local_addr()?
    ))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(connections.serve(listener, routes, async {
        // Nobody is left to say stop: that is one, too.
        let _ = stopped.await;
    }));
    tokio::select! {
        told = told_to_stop() => told?,
        () = model::ended(engine) => {}
    }
    // Of a dead engine nobody waits for anything: what it held was answered when it died.
    drop(stop);
    match tokio::time::timeout(limits::STOP, server).await {
        Ok(ended) => Ok(ended?),
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

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Engine;
    use tokio::sync::watch;

    #[tokio::test]
    async fn a05_the_server_ends_with_its_engine() {
        let (engine, worker) = Engine::run(|_| panic!("a test of the engine's death"));
        let metrics = Metrics::new();
        let connections = Connections::new(4, Duration::from_secs(3), metrics);
        let address = "127.0.0.1:0".parse().unwrap();
        let came = watch::channel(Some(engine.clone())).1;
        let ended = serve(address, Router::new(), connections, came).await;
        assert!(ended.is_ok() && worker.join().is_err());
        for (code, told) in [
            ("engine", state::alive(Some(&engine))),
            ("engine", state::ready(Some(&engine), &Semaphore::new(1))),
        ] {
            assert_eq!(told.unwrap_err().code, code);
        }
        let (engine, _worker) = Engine::run(|queue| drop(queue.recv()));
        assert!(state::ready(Some(&engine), &Semaphore::new(1)).is_ok());
        let full = state::ready(Some(&engine), &Semaphore::new(0));
        assert_eq!(full.unwrap_err().code, "queue");
    }
}
