//! A running `epsilon serve` and what to ask it with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::World;

/// A server, stopped when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens: name and port.
    pub address: String,
    agent: ureq::Agent,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub text: String,
    pub retry_after: String,
    pub policy: String,
    pub cache: String,
    pub bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// A form of parts: name, file name (none for a text), value. Its content type and its bytes.
pub(crate) fn form(parts: &[(&str, &str, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "a-line-that-no-part-holds";
    let mut body = Vec::new();
    for (name, file, value) in parts {
        let file = match file.is_empty() {
            true => String::new(),
            false => format!("; filename=\"{file}\""),
        };
        body.extend(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
            )
            .bytes(),
        );
        body.extend_from_slice(value);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

impl Server {
    /// `epsilon serve` with these arguments, at a free port.
    pub(crate) fn start(world: &World, arguments: &str) -> Self {
        Self::start_on(world, "127.0.0.1:0", arguments)
    }

    /// The same, listening on this address.
    pub(crate) fn start_on(world: &World, listen: &str, arguments: &str) -> Self {
        Self::of(world, &format!("--model {arguments} --listen {listen}"))
    }

    /// `epsilon serve` for a library, at a free port.
    pub(crate) fn of_library(world: &World, arguments: &str) -> Self {
        Self::of(
            world,
            &format!("--library {arguments} --listen 127.0.0.1:0"),
        )
    }

    fn of(world: &World, arguments: &str) -> Self {
        Self::started(world.command(&format!("serve {arguments}")))
    }

    /// What this command starts.
    pub(crate) fn started(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_string();
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let config = config.timeout_global(Some(Duration::from_secs(60)));
        Self {
            child,
            address,
            agent: config.build().new_agent(),
        }
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        reply(self.agent.get(self.url(path)).call())
    }

    pub(crate) fn with_token(&self, path: &str, token: &str) -> Reply {
        let request = self.agent.get(self.url(path));
        reply(
            request
                .header("Authorization", format!("Bearer {token}"))
                .call(),
        )
    }

    pub(crate) fn post(&self, path: &str, (kind, body): &(String, Vec<u8>)) -> Reply {
        self.post_as(kind, path, body)
    }

    pub(crate) fn post_as(&self, kind: &str, path: &str, body: &[u8]) -> Reply {
        let request = self.agent.post(self.url(path));
        reply(request.header("Content-Type", kind).send(body))
    }

    /// The answer to a request as it is written.
    pub(crate) fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until there is something, half a minute at most.
pub(crate) fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn reply(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let mut response = answer.unwrap();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value
            .map_or("", |value| value.to_str().unwrap())
            .to_string()
    };
    let (retry_after, policy) = (header("retry-after"), header("content-security-policy"));
    let cache = header("cache-control");
    let bytes = response.body_mut().read_to_vec().unwrap();
    Reply {
        status: response.status().as_u16(),
        retry_after,
        policy,
        cache,
        text: String::from_utf8_lossy(&bytes).into_owned(),
        bytes,
    }
}
