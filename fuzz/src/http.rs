//! The server: the program itself, in this process, and one request to it as it is written.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::driver::WAIT;

/// A server, started when it is first asked.
pub(crate) struct Server {
    /// Whether it serves a library.
    library: bool,
    address: OnceLock<String>,
}

/// `epsilon serve --model`.
pub(crate) static PREDICTOR: Server = Server::new(false);
/// `epsilon serve --library`.
pub(crate) static LIBRARY: Server = Server::new(true);

impl Server {
    const fn new(library: bool) -> Self {
        Self {
            library,
            address: OnceLock::new(),
        }
    }

    fn address(&self, beside: &Path) -> &str {
        self.address.get_or_init(|| {
            // Its own folder, which stays: that of the input is emptied.
            let folder = beside.with_extension("served");
            fs::create_dir_all(&folder).expect("a folder in the temporary one");
            let model = crate::root().join("fuzz/seeds/model/bundle.safetensors");
            let model = model.to_string_lossy().into_owned();
            let what = match self.library {
                true => {
                    tagged(&folder, &model);
                    ["--library".into(), folder.to_string_lossy().into_owned()]
                }
                false => ["--model".into(), model],
            };
            // A port that was free a moment ago.
            let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            let address = address.expect("a free port").to_string();
            let mut arguments = ["epsilon", "serve", "--listen", &address, "--timeout", "9"]
                .map(Into::into)
                .to_vec();
            arguments.extend(what.map(Into::into));
            std::thread::spawn(move || {
                let code = epsilon_cli::run_program(arguments);
                eprintln!("the server has ended: {code}");
                std::process::abort();
            });
            let start = Instant::now();
            while TcpStream::connect(&address).is_err() {
                assert!(
                    start.elapsed() < Duration::from_secs(60),
                    "the server does not start"
                );
                std::thread::sleep(Duration::from_millis(10));
            }
            address
        })
    }
}

/// Tags three pictures, in a process of its own: the program sets up the process that it runs in.
fn tagged(folder: &Path, model: &str) {
    for entry in fs::read_dir(crate::root().join("fuzz/seeds/photos"))
        .expect("the pictures")
        .flatten()
    {
        fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("epsilon").arg("tag").arg(folder);
    command
        .args(["--model", model, "--top", "2"])
        .stdout(std::process::Stdio::null());
    assert!(
        command.status().is_ok_and(|status| status.success()),
        "the pictures are tagged"
    );
}

/// Sends a request and waits for the answer: nobody waits long, and nothing is an error of the server's own.
pub(crate) fn ask(at: &Path, server: &Server) {
    let request = fs::read(at.join("request")).unwrap_or_default();
    let mut stream = TcpStream::connect(server.address(at)).expect("the server takes connections");
    let patience = Some(WAIT);
    stream.set_read_timeout(patience).expect("a socket");
    stream.set_write_timeout(patience).expect("a socket");
    // It may refuse, and close, before it has read all.
    let _ = stream.write_all(&request);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.take(1 << 24).read_to_end(&mut answer) {
        let late = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
        assert!(!late.contains(&error.kind()), "no answer in {WAIT:?}");
    }
    let status = answer
        .split(|&byte| byte == b' ')
        .nth(1)
        .unwrap_or_default();
    assert!(status != b"500", "{}", String::from_utf8_lossy(&answer));
}

/// States the true length of a request's body, where its head states one.
pub(crate) fn counted(bytes: Vec<u8>) -> Vec<u8> {
    let find = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part);
    let (Some(end), Some(field)) = (find(b"\r\n\r\n"), find(b"Content-Length: ")) else {
        return bytes;
    };
    let digits = field + b"Content-Length: ".len();
    let Some(line) = bytes[digits..].windows(2).position(|two| two == b"\r\n") else {
        return bytes;
    };
    if digits + line > end {
        return bytes;
    }
    let length = (bytes.len() - end - 4).to_string();
    [&bytes[..digits], length.as_bytes(), &bytes[digits + line..]].concat()
}
