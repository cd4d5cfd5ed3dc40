//! Clients of `epsilon serve` that ask as fast as they are answered, for `bench/serve.py`: each keeps one connection and sends
//! photographs of a folder in turn. With `--hostile 5`, five of a hundred requests are broken or hostile instead.
//!
//! `--address HOST:PORT --photos FOLDER --clients 16 --seconds 60 --hostile 0`: prints one line of JSON: `photos` that were
//! ranked, answers by status, the median and the 99th percentile of the ranked ones' latency, and `errors`, which are
//! answers of a kind that should not be.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a client has seen.
#[derive(Default)]
struct Seen {
    seconds: Vec<f64>,
    statuses: BTreeMap<u16, usize>,
    errors: Vec<String>,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, usual: &str| -> String {
        let place = arguments.iter().position(|argument| argument == name);
        let value = place.and_then(|place| arguments.get(place + 1));
        value.map_or(usual, String::as_str).to_string()
    };
    let address = value("--address", "127.0.0.1:8090");
    let clients: usize = value("--clients", "16").parse()?;
    let seconds: u64 = value("--seconds", "60").parse()?;
    let hostile: usize = value("--hostile", "0").parse()?;
    let photos = photos(value("--photos", ".").into())?;
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let ask = |client: usize| {
            let (address, photos) = (&address, &photos);
            scope.spawn(move || ask(client, address, photos, hostile, end))
        };
        let asking: Vec<_> = (0..clients).map(ask).collect();
        asking
            .into_iter()
            .map(|client| client.join().unwrap_or_default())
            .collect()
    });
    let took = start.elapsed().as_secs_f64();
    let mut all = Seen::default();
    for one in seen {
        all.seconds.extend(one.seconds);
        all.errors.extend(one.errors);
        for (status, count) in one.statuses {
            *all.statuses.entry(status).or_default() += count;
        }
    }
    all.seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * all.seconds.len() as f64) as usize;
        all.seconds
            .get(place.min(all.seconds.len().saturating_sub(1)))
    };
    println!(
        "{}",
        serde_json::json!({
            "seconds": took,
            "photos": all.seconds.len(),
            "photos_per_second": all.seconds.len() as f64 / took,
            "p50_ms": at(0.5).map(|s| 1e3 * s),
            "p99_ms": at(0.99).map(|s| 1e3 * s),
            "statuses": all.statuses,
            "errors": all.errors.len(),
            "first_errors": all.errors.iter().take(3).collect::<Vec<_>>(),
        })
    );
    Ok(())
}

fn photos(folder: PathBuf) -> Outcome<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|e| e == "jpeg" || e == "jpg"));
    let read: io::Result<Vec<Vec<u8>>> = paths.iter().map(std::fs::read).collect();
    let read = read?;
    match read.is_empty() {
        true => Err(format!("{}: no JPEG file", folder.display()).into()),
        false => Ok(read),
    }
}

fn ask(client: usize, address: &str, photos: &[Vec<u8>], hostile: usize, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut connection = None;
    let mut turn = client * 31;
    while Instant::now() < end {
        turn += 1;
        let photo = &photos[turn % photos.len()];
        let start = Instant::now();
        let answered = if (turn * 37) % 100 < hostile {
            misbehave(turn, address, photo)
        } else {
            let answer = send(&mut connection, address, photo);
            if matches!(answer, Ok(200)) {
                seen.seconds.push(start.elapsed().as_secs_f64());
            }
            answer.map(|status| (status, &[200, 503][..]))
        };
        match answered {
            Ok((status, expected)) => {
                *seen.statuses.entry(status).or_default() += 1;
                if !expected.contains(&status) {
                    seen.errors
                        .push(format!("status {status}, not {expected:?}"));
                }
                if status == 503 {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            Err(error) => {
                connection = None;
                seen.errors.push(error.to_string());
            }
        }
    }
    seen
}

/// Sends a photograph over the client's connection; the answer's status.
fn send(
    connection: &mut Option<BufReader<TcpStream>>,
    address: &str,
    photo: &[u8],
) -> Outcome<u16> {
    let stream = match connection {
        Some(stream) => stream,
        none => none.insert(BufReader::new(TcpStream::connect(address)?)),
    };
    stream.get_mut().write_all(&request(photo, photo.len()))?;
    status(stream)
}

fn request(body: &[u8], length: usize) -> Vec<u8> {
    let mut request = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// Reads an answer whole.
fn status(stream: &mut BufReader<TcpStream>) -> Outcome<u16> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).ok_or("no answer")?.parse()?;
    let mut length = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    io::copy(&mut stream.take(length), &mut io::sink())?;
    Ok(status)
}

/// A request that no honest client sends, over a connection of its own; its answer and those that are right.
fn misbehave(turn: usize, address: &str, photo: &[u8]) -> Outcome<(u16, &'static [u16])> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream
        .get_ref()
        .set_read_timeout(Some(Duration::from_secs(60)))?;
    let (bytes, expected): (Vec<u8>, &[u16]) = match (turn / 3) % 6 {
        0 => (
            request(&photo[..photo.len() / 2], photo.len() / 2),
            &[422, 503],
        ),
        1 => (request(b"not a picture", 13), &[422, 503]),
        2 => (request(b"", 0), &[422, 503]),
        // A header that promises ten thousand million pixels.
        3 => {
            let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
            bomb.extend([
                0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0, 8, 2, 0, 0, 0, 1, 2, 3, 4,
            ]);
            (request(&bomb, bomb.len()), &[422, 503])
        }
        // A body that is promised larger than any may be.
        4 => (request(&[0; 1000], 1 << 40), &[413, 503]),
        // One that goes away in the middle of its body.
        _ => {
            stream
                .get_mut()
                .write_all(&request(&photo[..100], photo.len()))?;
            return Ok((0, &[0]));
        }
    };
    stream.get_mut().write_all(&bytes)?;
    Ok((status(&mut stream)?, expected))
}
