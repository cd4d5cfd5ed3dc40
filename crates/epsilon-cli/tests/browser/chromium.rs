//! Headless Chromium, driven over its DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Keys that are held, as the protocol has them.
pub(crate) const CTRL: u32 = 2;
pub(crate) const SHIFT: u32 = 8;

/// How long anything on a page may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page, closed when dropped.
pub(crate) struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    calls: u64,
    /// What pages complained of on their consoles.
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// `None`, said in a line, where Chromium is not installed.
    pub(crate) fn start() -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let installed = |name: &&str| Command::new(name).arg("--version").output().is_ok();
        let Some(name) = names.iter().find(|name| installed(name)) else {
            println!("skipped: Chromium is not installed");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new(name)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = wait("Chromium tells its port", || {
            let text = std::fs::read_to_string(profile.path().join("DevToolsActivePort")).ok()?;
            text.lines().next()?.parse::<u16>().ok()
        });
        let address = wait("Chromium has a page", || {
            let list = ureq::get(format!("http://127.0.0.1:{port}/json/list")).call();
            let list = list.ok()?.body_mut().read_to_string().ok()?;
            let pages: Value = serde_json::from_str(&list).ok()?;
            let page = pages
                .as_array()?
                .iter()
                .find(|page| page["type"] == "page")?;
            Some(page["webSocketDebuggerUrl"].as_str()?.to_string())
        });
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(address, stream).unwrap();
        let mut browser = Self {
            child,
            socket,
            calls: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol and waits for its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let call = json!({"id": id, "method": method, "params": parameters});
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let message = self.socket.read().unwrap();
            let Message::Text(text) = message else {
                continue;
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            self.listen(&message);
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn listen(&mut self, message: &Value) {
        let parameters = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => &parameters["exceptionDetails"],
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                &parameters["entry"]["text"]
            }
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => {
                &parameters["args"]
            }
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }

    /// What pages have complained of since the last time.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.evaluate("0");
        std::mem::take(&mut self.complaints)
    }

    /// Makes the window so wide, in pixels.
    pub(crate) fn width(&mut self, width: u32) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Opens a page, and waits until all of it is there.
    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.until(&format!(
            "location.href.startsWith({:?}) && document.readyState === 'complete'",
            url.trim_end_matches('/')
        ));
    }

    /// The value of an expression on the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", parameters);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression on the page is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.evaluate(&format!("Boolean({expression})")) != true {
            let page = || "document.body && document.body.innerText".to_string();
            if start.elapsed() > PATIENCE {
                let page = self.evaluate(&page());
                panic!("never: {expression}\non {page}\n{:?}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Drops files onto the middle of an element, as a mouse does.
    pub(crate) fn drop_files(&mut self, selector: &str, files: &[PathBuf]) {
        let middle = format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let middle = self.evaluate(&middle);
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let data = json!({"items": [], "files": files, "dragOperationsMask": 1});
        for kind in ["dragEnter", "dragOver", "drop"] {
            let event = json!({"type": kind, "x": middle[0], "y": middle[1], "data": data});
            self.call("Input.dispatchDragEvent", event);
        }
    }

    /// Types a text into an element.
    pub(crate) fn write(&mut self, selector: &str, text: &str) {
        self.evaluate(&format!("document.querySelector({selector:?}).focus()"));
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Presses a key, as `Tab`, `Enter`, `ArrowDown` or `a`.
    pub(crate) fn press(&mut self, key: &str) {
        self.press_with(0, key);
    }

    /// Presses a key with others held: [`CTRL`], [`SHIFT`].
    pub(crate) fn press_with(&mut self, held: u32, key: &str) {
        // Windows' numbers of keys (https://w3c.github.io/uievents/#fixed-virtual-key-codes).
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            " " => (32, " "),
            "PageUp" => (33, ""),
            "PageDown" => (34, ""),
            "End" => (35, ""),
            "Home" => (36, ""),
            "ArrowLeft" => (37, ""),
            "ArrowUp" => (38, ""),
            "ArrowRight" => (39, ""),
            "ArrowDown" => (40, ""),
            letter => (u32::from(letter.as_bytes()[0].to_ascii_uppercase()), letter),
        };
        let text = if held & CTRL > 0 { "" } else { text };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code, "modifiers": held,
            });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Clicks on the middle of an element, with keys held.
    pub(crate) fn click(&mut self, selector: &str, held: u32) {
        let place = format!(
            "(() => {{ const element = document.querySelector({selector:?}); \
             element.scrollIntoView({{block: 'nearest', behavior: 'instant'}}); \
             const box = element.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let place = self.evaluate(&place);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1, "modifiers": held,
            });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Scrolls as a finger does: from a place on the screen by so many pixels, at a speed in pixels a second.
    pub(crate) fn scroll(&mut self, x: u32, y: u32, by: i32, speed: u32) {
        let gesture = json!({
            "x": x, "y": y, "yDistance": by, "speed": speed, "gestureSourceType": "mouse", "preventFling": true,
        });
        self.call("Input.synthesizeScrollGesture", gesture);
    }

    /// Whether the person in front of it prefers dark pages.
    pub(crate) fn dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Whether the page can be read without scrolling sideways.
    pub(crate) fn fits(&mut self) -> bool {
        self.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth",
        ) == true
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
