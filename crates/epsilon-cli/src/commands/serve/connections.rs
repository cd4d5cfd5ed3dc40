//! The server's connections: how many there are, which one makes room, and how long each may be silent.
//!
//! Every connection has a place in one table. It waits while no request of its is worked on or answered: before its first head,
//! within a head, and between requests. When the table is full, the connection that has waited for longest is closed; so
//! silent clients, however many, keep nobody out. Where none waits, the reserve answers for the server's health alone.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep};

use super::limits::{HEAD_BYTES, HEAD_TIME, HEADERS, RESERVED, patience};
use super::metrics::Metrics;

/// Marks requests on connections of the reserve.
#[derive(Clone, Copy)]
pub(super) struct Reserved;

/// All connections.
pub(super) struct Connections {
    most: usize,
    /// Time for a head, and for the time between requests.
    head: Duration,
    /// Time for reading an answer.
    answer: Duration,
    metrics: Metrics,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Entry>,
}

struct Entry {
    task: AbortHandle,
    /// Since when it waits for a request.
    waits: Option<Instant>,
}

impl Table {
    /// Closes the connection that has waited for longest, if any waits.
    fn close_oldest(&mut self) {
        let waiting = self.open.iter();
        let waiting = waiting.filter_map(|(number, entry)| Some((entry.waits?, *number)));
        if let Some((_, number)) = waiting.min()
            && let Some(entry) = self.open.remove(&number)
        {
            entry.task.abort();
        }
    }
}

impl Connections {
    /// At most this many at once, for requests that may take `timeout`.
    pub(super) fn new(most: usize, timeout: Duration, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            most,
            head: patience(timeout).min(HEAD_TIME),
            answer: patience(timeout),
            metrics,
            table: Mutex::default(),
        })
    }

    /// Answers connections until `stop`; then finishes what has begun.
    pub(super) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        router: Router,
        stop: impl Future<Output = ()>,
    ) {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            match accepted {
                Ok((stream, _)) => self.admit(stream, router.clone(), graceful.watcher()),
                // Mostly a client that has gone again. If the system has no files left, one may be free after a while.
                Err(_) => {
                    self.table().close_oldest();
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
        drop(listener);
        for entry in self.table().open.values() {
            if entry.waits.is_some() {
                entry.task.abort();
            }
        }
        graceful.shutdown().await;
    }

    /// Gives a connection a place and answers it, or closes it.
    fn admit(self: &Arc<Self>, stream: TcpStream, router: Router, watcher: Watcher) {
        let mut table = self.table();
        if table.open.len() >= self.most {
            self.metrics.crowded.inc();
            table.close_oldest();
        }
        let reserved = table.open.len() >= self.most;
        if table.open.len() >= self.most + RESERVED {
            return;
        }
        table.next += 1;
        let place = Arc::new(Place {
            number: table.next,
            answered: AtomicBool::new(false),
            connections: self.clone(),
        });
        // The task may end at once; it takes itself out of the table, which is locked until it stands there.
        let task = tokio::spawn(place.clone().answer(stream, router, watcher, reserved));
        let entry = Entry {
            task: task.abort_handle(),
            waits: Some(Instant::now()),
        };
        table.open.insert(place.number, entry);
        self.metrics.connections.set(table.open.len() as i64);
        // Before `place`, which may be the last handle by now and then locks the table itself.
        drop(table);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the table; it goes with the connection.
struct Place {
    number: u64,
    /// Whether an answer is being written.
    answered: AtomicBool,
    connections: Arc<Connections>,
}

impl Place {
    /// Answers the requests of a connection.
    async fn answer(
        self: Arc<Self>,
        stream: TcpStream,
        router: Router,
        watcher: Watcher,
        reserved: bool,
    ) {
        let socket = Socket {
            stream,
            place: self.clone(),
            late: None,
        };
        let head = self.connections.head;
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            self.waits(None);
            if reserved {
                request.extensions_mut().insert(Reserved);
            }
            let (place, answer) = (self.clone(), router.call(request));
            async move {
                let answer = answer.await;
                place.answered.store(true, Ordering::Relaxed);
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(socket), service);
        // Whatever ends it, the client is gone or is no honest one.
        let _ = watcher.watch(connection).await;
    }

    /// Since when it waits for a request; None while one is worked on.
    fn waits(&self, since: Option<Instant>) {
        if let Some(entry) = self.connections.table().open.get_mut(&self.number) {
            entry.waits = since;
        }
    }

    /// All that was to be written is written.
    fn flushed(&self) {
        if self.answered.swap(false, Ordering::Relaxed) {
            self.waits(Some(Instant::now()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        table.open.remove(&self.number);
        let open = table.open.len();
        self.connections.metrics.connections.set(open as i64);
    }
}

/// A connection's socket. An answer must be written within a time from when the client first keeps it waiting.
struct Socket {
    stream: TcpStream,
    place: Arc<Place>,
    late: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// What came of writing, or that it takes too long.
    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let time = self.place.connections.answer;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(time)));
        late.as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.timed(cx, written)
    }

    /// Answers are then written from where they lie, which is what the budget of answers counts.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls it when nothing is left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.late = None;
            self.place.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
