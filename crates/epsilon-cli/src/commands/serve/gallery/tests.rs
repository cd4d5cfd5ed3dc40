//! What the server does while a library keeps it waiting, and what its answers may say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use epsilon::semantic_index::Searchers;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::super::api;
use super::super::connections::Connections;
use super::super::hosts::Hosts;
use super::super::limits::{Budget, READERS};
use super::super::metrics::Metrics;
use super::super::model::{Lazy, Load};
use super::super::state::LookUps;
use super::*;
use crate::commands::keep::KeepArgs;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server without a model.
fn server(address: SocketAddr) -> Arc<State> {
    let metrics = Metrics::new();
    let load: Load = Box::new(|| bail!("a test without a model"));
    let model = Lazy::new(
        load,
        Box::new(|_| true),
        KeepArgs::default(),
        metrics.clone(),
    );
    let permits = |count| Arc::new(Semaphore::new(count));
    Arc::new(State {
        model,
        metrics,
        token: None,
        hosts: Hosts::new(address, Vec::new(), false),
        requests: permits(64),
        photos: permits(1),
        decoders: permits(1),
        explanations: permits(1),
        readers: permits(READERS),
        look_ups: LookUps::new(1),
        bodies: Budget::new(1 << 20),
        answers: Budget::new(1 << 20),
        max_body: 1 << 20,
        max_labels: 1,
        timeout: PATIENCE,
    })
}

/// The library of a folder without photographs.
fn empty(folder: &Path, server: Arc<State>) -> Arc<Gallery> {
    let library = Library::new("model".into(), "identity".into(), folder.into());
    library.write(folder).unwrap();
    let searchers = Searchers::new(crate::ranks::of_job());
    let search = Search::new(folder, Box::new(|| bail!("none")), searchers);
    let gallery = Gallery::open(library, folder.into(), search, Limits::default(), server);
    Arc::new(gallery.unwrap())
}

fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn status(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().into()
}

/// More requests than the runtime has threads wait for a catalog that somebody holds.
#[test]
fn health_is_told_while_the_catalog_is_held() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (server, folder) = (server(address), tempfile::tempdir().unwrap());
    let gallery = empty(folder.path(), server.clone());
    let connections = Connections::new(64, PATIENCE, server.metrics.clone());
    let routes = api::routes(server.clone(), Some(gallery.clone()));
    let held = gallery.catalog.lock().unwrap();
    runtime.spawn(connections.serve(listener, routes, std::future::pending()));
    let likes = ["?like=a.jpg"; 2].map(|query| format!("photos{query}"));
    let others = ["photo?id=a.jpg", "labels", "folders"].map(String::from);
    let paths: Vec<String> = likes.into_iter().chain(others).collect();
    let asked: Vec<TcpStream> = paths
        .iter()
        .map(|path| ask(address, &format!("/v1/library/{path}")))
        .collect();
    // Until all have begun; then they come to the catalog at once.
    while server.requests.available_permits() > 64 - asked.len() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(status(ask(address, "/healthz")), "200");
    drop(held);
    let answers: Vec<String> = asked.into_iter().map(status).collect();
    assert_eq!(answers, ["404", "404", "404", "200", "200"]);
}

#[test]
fn an_error_names_no_folder_of_the_server() {
    for (error, id, said) in [
        ("/srv/a.jpg-set/a.jpg: empty", "a.jpg", "a.jpg: empty"),
        ("/srv/a.jpg: b/a.jpg: empty", "a.jpg", "a.jpg: empty"),
        ("photos/sub/a.jpg: empty", "sub/a.jpg", "sub/a.jpg: empty"),
        ("a.jpg: no: empty", "a.jpg", "a.jpg: no: empty"),
        ("/srv/aa.jpg: empty", "a.jpg", "a.jpg: cannot be read"),
        ("/srv/a.jpg/other: empty", "a.jpg", "a.jpg: cannot be read"),
    ] {
        assert_eq!(reason(error, id), said);
    }
}
