//! Real browsers, driven by WebDriver over plain HTTP.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

use crate::common::{DEADLINE, free_port, wait_until};

/// A browser takes long to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Which browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chromium,
    Firefox,
}

impl Kind {
    /// The driver's variable and where it is without that.
    fn driver(self) -> (&'static str, &'static str) {
        match self {
            Self::Chromium => ("CHROMEDRIVER", "/usr/bin/chromedriver"),
            Self::Firefox => ("GECKODRIVER", "geckodriver"),
        }
    }

    fn capabilities(self) -> Value {
        let browser = match self {
            Self::Chromium => json!({
                "browserName": "chrome",
                "goog:chromeOptions": { "args": [
                    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                    "--no-first-run", "--disable-background-networking",
                    "--disable-component-update", "--disable-sync",
                ] },
            }),
            // Firefox gathers no candidates on loopback, which is all that a
            // machine without a network has, unless it is told to.
            Self::Firefox => json!({
                "browserName": "firefox",
                "moz:firefoxOptions": { "args": ["-headless"], "prefs": {
                    "media.peerconnection.ice.loopback": true,
                    "media.peerconnection.ice.obfuscate_host_addresses": false,
                } },
            }),
        };
        json!({ "capabilities": { "alwaysMatch": browser } })
    }
}

/// A driver's process, ended with the test.
struct Driver {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Driver {
    fn start(kind: Kind, dir: &Path) -> Self {
        let (variable, default) = kind.driver();
        let program = std::env::var_os(variable).unwrap_or_else(|| default.into());
        let log = dir.join(format!("{kind:?}.log"));
        let file = File::create(&log).unwrap();
        let port = free_port();
        let mut command = Command::new(&program);
        command.arg(format!("--port={port}"));
        if kind == Kind::Firefox {
            // Its default is the same for all.
            command.arg(format!("--websocket-port={}", free_port()));
        }
        let child = command
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| {
                let program = program.display();
                panic!(
                    "{program} does not start ({error}): run cargo xtask test, or set {variable}"
                )
            });
        let driver = Self { child, port, log };
        wait_until("the browser's driver", DEADLINE, || {
            driver
                .ask("GET", "/status", None)
                .is_ok_and(|status| status["ready"] == true)
        });
        driver
    }

    /// One command; what it answers, or the error in words.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .build()
            .new_agent();
        let request = Request::builder()
            .method(method)
            .header("content-type", "application/json")
            .uri(format!("http://127.0.0.1:{}{path}", self.port));
        let answered = match body {
            Some(body) => agent.run(request.body(body.to_string()).unwrap()),
            None => agent.run(request.body(()).unwrap()),
        };
        let mut response = answered.map_err(|error| error.to_string())?;
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        let mut answer: Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let value = answer["value"].take();
        if response.status().is_success() {
            Ok(value)
        } else {
            Err(format!("{}: {}", value["error"], value["message"]))
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It ends a browser that it still has, if it is asked to end.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read(&self.log).unwrap_or_default();
            eprintln!("---- {}", self.log.display());
            eprintln!("{}", String::from_utf8_lossy(&said));
        }
    }
}

/// A browser with a profile of its own, closed at the end of the test.
pub(crate) struct Browser {
    driver: Driver,
    session: String,
}

impl Browser {
    /// Starts it; what it and its driver leave behind is in the directory.
    pub(crate) fn start(kind: Kind, dir: &Path) -> Self {
        let driver = Driver::start(kind, dir);
        let asked = kind.capabilities();
        let opened = driver.ask("POST", "/session", Some(&asked));
        let opened = opened.unwrap_or_else(|error| panic!("{kind:?} does not start: {error}"));
        let id = opened["sessionId"].as_str().unwrap();
        let session = format!("/session/{id}");
        Self { driver, session }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let path = format!("{}{path}", self.session);
        let answer = self.driver.ask(method, &path, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, Some(body))
    }

    /// Opens a URL in a new tab.
    pub(crate) fn open(&self, url: &str) -> Tab<'_> {
        let made = self.post("/window/new", &json!({ "type": "tab" }));
        let handle = made["handle"].as_str().unwrap().to_owned();
        let tab = Tab {
            browser: self,
            handle,
        };
        tab.switch();
        self.post("/url", &json!({ "url": url }));
        tab
    }

    /// The process that started all others of this browser.
    pub(crate) fn process(&self) -> u32 {
        self.driver.child.id()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.ask("DELETE", &self.session, None);
    }
}

/// A page in a tab of a browser.
pub(crate) struct Tab<'a> {
    browser: &'a Browser,
    handle: String,
}

impl Tab<'_> {
    fn switch(&self) {
        let handle = json!({ "handle": self.handle });
        self.browser.post("/window", &handle);
    }

    /// Loads its page anew.
    pub(crate) fn reload(&self) {
        self.switch();
        self.browser.post("/refresh", &json!({}));
    }

    /// Closes it, as its user would.
    pub(crate) fn close(self) {
        self.switch();
        let left = self.browser.ask("DELETE", "/window", None);
        // A driver takes no commands without a window, and one was there
        // before any tab.
        self.browser.post("/window", &json!({ "handle": left[0] }));
    }

    /// Runs the body of an asynchronous function with these `args`; what it
    /// returns, or its error in words.
    pub(crate) fn run(&self, body: &str, args: &[&str]) -> Result<Value, String> {
        self.switch();
        let script = format!(
            "const args = arguments[0], done = arguments[1];
            (async () => {{ {body} }})().then(
                (returned) => done({{ returned }}),
                (error) => done({{ error: `${{error.code}}: ${{error.message}}` }}));"
        );
        let script = json!({ "script": script, "args": [args] });
        let mut result = self.browser.post("/execute/async", &script);
        match result["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(result["returned"].take()),
        }
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn command(&self, name: &str, params: &Value) {
        self.switch();
        let command = json!({ "cmd": name, "params": params });
        self.browser.post("/goog/cdp/execute", &command);
    }

    /// Keeps a picture of the page for those who want to see it.
    pub(crate) fn screenshot(&self, file: &Path) {
        self.switch();
        let picture = self.browser.ask("GET", "/screenshot", None);
        let picture = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(file, picture).unwrap();
    }
}
